//! The writes of a start: a new incarnation, and what the topology is now.

use super::folder::Mode;
use super::layout::sink_key;
use super::write::{StoreWrite, delete_positions, put, put_positions};
use super::{Durability, Store, family, options, read};
use crate::ids::{Position, SinkId, SourceId};
use crate::migration::Plan;
use crate::schema::Schema;
use crate::{CrashPoint, Error, Incarnation, Lineage, Points, Result, Txid};
use std::sync::atomic::Ordering::SeqCst;

impl Store {
    /// Makes a new incarnation durable, before anything else is changed: a crash right after it may
    /// waste one, never reuse one. If the machine may have lost batches of the last run, the store
    /// gets a new lineage in the same write.
    ///
    /// # Errors
    /// Kind TryAgain if the write failed.
    pub fn raise_incarnation(&mut self, points: &Points) -> Result<Incarnation> {
        let mut history: Vec<Incarnation> =
            read::meta(&self.db, "incarnations")?.unwrap_or_default();
        let incarnation = Incarnation {
            counter: history.last().map_or(0, |last| last.counter) + 1,
            nonce: rand::random(),
        };
        history.push(incarnation);
        if self.last.durability == Durability::Process || self.durability == Durability::Process {
            // What the last run left to the operating system may be read from its log without being
            // on the disk. Written out as files it is, so that no synced write of this run follows
            // one that can still be lost. And a log whose last record a kill has cut off is
            // tolerated by a synced run, which keeps it; read to a point in time it would end
            // everything behind it. Written out, it is not read again.
            for name in options::FAMILIES {
                self.db.flush_cf(family(&self.db, name)).map_err(|why| self.write_failed(&why))?;
            }
        }
        if self.last.lost_by_the_machine() {
            self.made.lineage = Lineage(rand::random());
        }
        let mut batch = StoreWrite::default();
        put(&mut batch, family(&self.db, "meta"), b"store", &self.made)?;
        put(&mut batch, family(&self.db, "meta"), b"incarnations", &history)?;
        self.write_synced(batch)?;
        points.reach(CrashPoint::IncarnationWritten)?;
        // After the lineage: the new mode no longer shows that the machine has lost batches. A
        // crash in between draws one lineage more, which does no harm.
        self.folder.set_mode(Mode::running(self.durability))?;
        self.begun.store(true, SeqCst);
        Ok(incarnation)
    }

    /// Records what the topology is now, and lets go of what a migration drops; the sinks whose
    /// markers were claimed for the first time, each at a txid; where partitions begin that do not
    /// begin where they are recorded; and which partitions have ended for good.
    ///
    /// # Errors
    /// Kind TryAgain if the write failed.
    pub fn register(
        &self,
        schema: &Schema,
        migration: &Plan,
        sinks: &[(SinkId, Txid)],
        positions: &[(SourceId, String, Position)],
        retired: &[(SourceId, String)],
    ) -> Result<()> {
        let mut batch = StoreWrite::default();
        self.let_go(&mut batch, schema, migration)?;
        // JSON, so that later versions can add fields.
        let schema = serde_json::to_string(schema)
            .map_err(|why| Error::bug(format!("a schema cannot be written: {why}")))?;
        put(&mut batch, family(&self.db, "meta"), b"schema", &schema)?;
        for (sink, at) in sinks {
            put(&mut batch, family(&self.db, "meta"), sink_key(*sink).as_bytes(), at)?;
        }
        put_positions(&mut batch, family(&self.db, "positions"), positions)?;
        delete_positions(&mut batch, family(&self.db, "positions"), retired)?;
        self.write_synced(batch)
    }
}
