//! The changes of a migration to the rows of a store.

use super::layout::{position_key, sink_key, state_key};
use super::restored::MIGRATION;
use super::write::StoreWrite;
use super::{Store, family};
use crate::ids::{SourceId, StateId};
use crate::migration::Plan;
use crate::schema::Schema;
use crate::{KeyGroup, Result, fold};

/// One value of a state, as it is stored: the key's group and encoding, and the encoded value.
pub type Row = (KeyGroup, Vec<u8>, Vec<u8>);

impl Store {
    /// Makes these the values of state `id`, whose number is not in use yet, and of no others: what
    /// a start that was cut short has left there goes first. The rows are sorted by group and key,
    /// and each key is there once. Nothing must be committed that is not folded.
    ///
    /// # Errors
    /// Kind TryAgain if the disk fails: the state is not complete then, and must not be recorded.
    pub fn fill(&self, id: StateId, rows: &[Row]) -> Result<()> {
        let mut cleared = StoreWrite::default();
        self.clear_state(&mut cleared, id);
        self.write_synced(cleared)?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut stored = Vec::with_capacity(rows.len());
        for (group, key, value) in rows {
            let mut full = Vec::with_capacity(6 + key.len());
            state_key(id, *group, key, &mut full);
            stored.push((full, value));
        }
        let path = self.dir.join(MIGRATION);
        fold::write_file(
            &path,
            self.folded(),
            stored.iter().map(|(key, value)| (&key[..], &value[..])),
        )?;
        self.ingest(&path)
    }

    /// Puts into a write what lets go of what a migration drops. A state that is new gets its
    /// number now, and must be empty: a start that was cut short may have converted another one
    /// under that number.
    pub(super) fn let_go(
        &self,
        write: &mut StoreWrite,
        schema: &Schema,
        migration: &Plan,
    ) -> Result<()> {
        let before = self.schema()?;
        for id in &migration.states {
            self.clear_state(write, *id);
        }
        for (id, _) in &schema.states {
            let is_known =
                before.topology.is_empty() || before.states.iter().any(|(known, _)| known == id);
            if !is_known && !migration.conversions.iter().any(|conversion| conversion.to == *id) {
                self.clear_state(write, *id);
            }
        }
        for id in &migration.sources {
            let (first, end) = (position_key(*id, "")?, position_key(SourceId(id.0 + 1), "")?);
            write.delete_range_cf(family(&self.db, "positions"), first, end);
        }
        for id in &migration.sinks {
            write.delete_cf(family(&self.db, "meta"), sink_key(*id));
        }
        Ok(())
    }

    fn clear_state(&self, write: &mut StoreWrite, id: StateId) {
        let (mut first, mut end) = (Vec::new(), Vec::new());
        state_key(id, KeyGroup(0), &[], &mut first);
        state_key(StateId(id.0 + 1), KeyGroup(0), &[], &mut end);
        write.delete_range_cf(family(&self.db, "state"), first, end);
    }
}
