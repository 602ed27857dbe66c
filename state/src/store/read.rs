//! Reading a store: the facts of a start, positions, the log, the outbox, and a state's values in
//! order.

use super::layout::{FOLDED_KEY, log_key, outbox_key, position_key, sink_key, state_key};
use super::{Store, failed, family};
use crate::facts::{SinkRecord, StoreFacts};
use crate::ids::{Position, SinkId, SourceId, StateId, WorkerIndex};
use crate::schema::Schema;
use crate::{Error, KeyGroup, Result, Txid, codec, delta, outbox};
use rocksdb::{DB, Direction, IteratorMode, ReadOptions, Snapshot};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BinaryHeap};

pub(super) fn meta_bytes(db: &DB, key: &str) -> Result<Option<Vec<u8>>> {
    db.get_cf(family(db, "meta"), key).map_err(|why| failed::reading(db.path(), &why))
}

pub(super) fn meta<V: DeserializeOwned>(db: &DB, key: &str) -> Result<Option<V>> {
    meta_bytes(db, key)?
        .map(|bytes| {
            codec::decode(&bytes).map_err(|error| {
                error.while_doing(&format!("reading \"{key}\" of {}", db.path().display()))
            })
        })
        .transpose()
}

pub(super) fn folded(db: &DB) -> Result<Txid> {
    let bytes = db
        .get_pinned_cf(family(db, "state"), FOLDED_KEY)
        .map_err(|why| failed::reading(db.path(), &why))?;
    bytes.map_or(Ok(Txid::NONE), |bytes| codec::decode(&bytes))
}

pub(super) fn schema(store: &Store) -> Result<Schema> {
    let schema: Option<String> = meta(&store.db, "schema")?;
    schema.map_or(Ok(Schema::default()), |text| {
        serde_json::from_str(&text)
            .map_err(|why| Error::damaged(format!("the recorded schema cannot be read: {why}")))
    })
}

pub(super) fn facts(store: &Store) -> Result<StoreFacts> {
    let schema = schema(store)?;
    let mut sinks = Vec::new();
    for (id, sink) in &schema.sinks {
        let mut entries = Vec::new();
        store.read_outbox(*id, Txid::NONE, |txid, prev, _| {
            entries.push((txid, prev));
            Ok(true)
        })?;
        sinks.push(SinkRecord {
            name: sink.name.clone(),
            last: meta(&store.db, &sink_key(*id))?,
            entries,
        });
    }
    Ok(StoreFacts {
        committed: store.committed().txid(),
        folded: store.folded(),
        incarnations: meta(&store.db, "incarnations")?.unwrap_or_default(),
        schema,
        sinks,
    })
}

impl Store {
    /// The recorded position of every partition of a source, by name.
    ///
    /// # Errors
    /// Kind Damaged.
    pub fn positions(&self, source: SourceId) -> Result<BTreeMap<String, Position>> {
        let mut positions = BTreeMap::new();
        let first = position_key(source, "")?;
        let family = family(&self.db, "positions");
        for row in self.db.iterator_cf(family, IteratorMode::From(&first, Direction::Forward)) {
            let (key, value) = row.map_err(|why| failed::reading(&self.dir, &why))?;
            let (of, partition): (SourceId, String) = crate::keys::decode_key(&key)?;
            if of != source {
                break;
            }
            positions.insert(partition, codec::decode(&value)?);
        }
        Ok(positions)
    }

    /// Calls `each` with the committed deltas after `after`, in order of their batches.
    ///
    /// # Errors
    /// Kind Damaged, or what `each` returns.
    pub fn read_log(
        &self,
        after: Txid,
        each: impl FnMut(Txid, WorkerIndex, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.log_rows(after, self.committed().txid(), ReadOptions::default(), each)
    }

    fn log_rows(
        &self,
        after: Txid,
        upto: Txid,
        options: ReadOptions,
        mut each: impl FnMut(Txid, WorkerIndex, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let first = log_key(after.next(), WorkerIndex(0));
        let mode = IteratorMode::From(&first, Direction::Forward);
        for row in self.db.iterator_cf_opt(family(&self.db, "log"), options, mode) {
            let (key, value) = row.map_err(|why| failed::reading(&self.dir, &why))?;
            let (txid, worker) = split_log_key(&key)?;
            if txid > upto {
                break;
            }
            each(txid, worker, &value)?;
        }
        Ok(())
    }

    /// As [`Store::read_log`] for the batches after `after` and up to `upto`, but from the newest
    /// to the oldest.
    pub(crate) fn read_log_back(
        &self,
        after: Txid,
        upto: Txid,
        mut each: impl FnMut(Txid, WorkerIndex, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let last = log_key(upto, WorkerIndex(u32::MAX));
        for row in self
            .db
            .iterator_cf(family(&self.db, "log"), IteratorMode::From(&last, Direction::Reverse))
        {
            let (key, value) = row.map_err(|why| failed::reading(&self.dir, &why))?;
            let (txid, worker) = split_log_key(&key)?;
            if txid <= after {
                break;
            }
            each(txid, worker, &value)?;
        }
        Ok(())
    }

    /// Calls `each` with a sink's unconfirmed entries after `after`, in order: txid, txid of the
    /// entry before, payload; until it returns false.
    ///
    /// # Errors
    /// Kind Damaged, or what `each` returns.
    pub fn read_outbox(
        &self,
        sink: SinkId,
        after: Txid,
        mut each: impl FnMut(Txid, Txid, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(outbox_key(SinkId(sink.0 + 1), Txid::NONE));
        let first = outbox_key(sink, after.next());
        let mode = IteratorMode::From(&first, Direction::Forward);
        for row in self.db.iterator_cf_opt(family(&self.db, "outbox"), options, mode) {
            let (key, value) = row.map_err(|why| failed::reading(&self.dir, &why))?;
            let txid = key.last_chunk::<8>().map(|txid| Txid(u64::from_be_bytes(*txid)));
            let txid =
                txid.ok_or_else(|| Error::damaged("the outbox has a key that is none of its own"))?;
            let (prev, payload) = outbox::decode_entry(&value)?;
            if !each(txid, prev, payload)? {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with what these key groups of these states hold as of the last committed batch:
    /// the folded values, and then, in order, what the log has changed since: state, encoded key,
    /// encoded value or none.
    ///
    /// All of it is as of one moment. A fold beside it, and the trimming of the log after that,
    /// would otherwise fall between the reading of the two, and what was folded meanwhile would be
    /// in neither.
    ///
    /// # Errors
    /// Kind Damaged, or what `each` returns.
    pub fn read_committed(
        &self,
        states: &[StateId],
        groups: impl Fn(KeyGroup) -> bool,
        mut each: impl FnMut(StateId, &[u8], Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let snapshot = self.db.snapshot();
        let (committed, folded) = self.numbers_in(&snapshot)?;
        let as_of_now = || in_snapshot(&snapshot);
        for state in states {
            for group in (0..self.key_groups()).map(KeyGroup).filter(|group| groups(*group)) {
                for row in self.folded_rows(*state, group, as_of_now()) {
                    let (key, value) = row?;
                    each(*state, &key, Some(&value))?;
                }
            }
        }
        self.log_rows(folded, committed, as_of_now(), |_, _, blob| {
            delta::read(blob, |change| {
                let wanted = states.contains(&change.state) && groups(change.group);
                if wanted { each(change.state, change.key, change.value) } else { Ok(()) }
            })
        })
    }

    /// The last committed batch, and the one up to which the log is folded, as a snapshot has them.
    fn numbers_in(&self, snapshot: &Snapshot<'_>) -> Result<(Txid, Txid)> {
        let number = |name, key: &[u8]| {
            let bytes = snapshot
                .get_pinned_cf(family(&self.db, name), key)
                .map_err(|why| failed::reading(&self.dir, &why))?;
            bytes.map_or(Ok(Txid::NONE), |bytes| codec::decode(&bytes))
        };
        Ok((number("meta", b"committed")?, number("state", FOLDED_KEY)?))
    }

    fn folded_rows(
        &self,
        state: StateId,
        group: KeyGroup,
        mut options: ReadOptions,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Box<[u8]>)>> + '_ {
        let (mut first, mut end) = (Vec::new(), Vec::new());
        state_key(state, group, &[], &mut first);
        match group.0.checked_add(1) {
            Some(next) => state_key(state, KeyGroup(next), &[], &mut end),
            None => state_key(StateId(state.0 + 1), KeyGroup(0), &[], &mut end),
        }
        let prefix = first.len();
        options.set_iterate_upper_bound(end);
        // Each row is read a single time, at a start or by a person: it would only push out what is
        // in use.
        options.fill_cache(false);
        options.set_readahead_size(1 << 20);
        let mode = IteratorMode::From(&first, Direction::Forward);
        let rows = self.db.iterator_cf_opt(family(&self.db, "state"), options, mode);
        rows.map(move |row| {
            let (key, value) = row.map_err(|why| failed::reading(&self.dir, &why))?;
            Ok((key[prefix..].to_vec(), value))
        })
    }

    /// The committed value of one key of a state, by its group and encoding.
    ///
    /// # Errors
    /// Kind Damaged.
    pub fn get(&self, state: StateId, group: KeyGroup, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut newer = None;
        self.read_log(self.folded(), |_, _, blob| {
            delta::read(blob, |change| {
                if change.state == state && change.key == key {
                    newer = Some(change.value.map(<[u8]>::to_vec));
                }
                Ok(())
            })
        })?;
        if let Some(now) = newer {
            return Ok(now);
        }
        let mut at = Vec::new();
        state_key(state, group, key, &mut at);
        self.db
            .get_cf(family(&self.db, "state"), &at)
            .map_err(|why| failed::reading(&self.dir, &why))
    }

    /// Calls `each` with a state's committed values in order of their keys, over all key groups:
    /// encoded key, encoded value; until it returns false. Merges the folded values and the log;
    /// keeps the log's newest values in memory.
    ///
    /// # Errors
    /// Kind Damaged, or what `each` returns.
    pub fn scan(
        &self,
        state: StateId,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        // One snapshot for all: a fold in between would move changes from the log, already read, to
        // rows that are read as they were before.
        let snapshot = self.db.snapshot();
        let (committed, folded) = self.numbers_in(&snapshot)?;
        let mut newer: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        self.log_rows(folded, committed, in_snapshot(&snapshot), |_, _, blob| {
            delta::read(blob, |change| {
                if change.state == state {
                    newer.insert(change.key.to_vec(), change.value.map(<[u8]>::to_vec));
                }
                Ok(())
            })
        })?;
        let mut newer = newer.into_iter().peekable();
        let mut groups: Vec<_> = (0..self.key_groups())
            .map(|group| self.folded_rows(state, KeyGroup(group), in_snapshot(&snapshot)))
            .collect();
        let mut heads = BinaryHeap::new();
        for (index, group) in groups.iter_mut().enumerate() {
            if let Some(row) = group.next() {
                let (key, value) = row?;
                heads.push(std::cmp::Reverse((key, index, value)));
            }
        }
        while let Some(std::cmp::Reverse((key, index, value))) = heads.pop() {
            if let Some(row) = groups[index].next() {
                let (key, value) = row?;
                heads.push(std::cmp::Reverse((key, index, value)));
            }
            while let Some((key, value)) = newer.next_if(|(newer, _)| *newer < key) {
                if let Some(value) = value
                    && !each(&key, &value)?
                {
                    return Ok(());
                }
            }
            let now = match newer.next_if(|(newer, _)| *newer == key) {
                Some((_, now)) => now,
                None => Some(value.into_vec()),
            };
            if let Some(now) = now
                && !each(&key, &now)?
            {
                return Ok(());
            }
        }
        for (key, value) in newer {
            if let Some(value) = value
                && !each(&key, &value)?
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads what a snapshot has.
fn in_snapshot(snapshot: &Snapshot<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_snapshot(snapshot);
    options
}

fn split_log_key(key: &[u8]) -> Result<(Txid, WorkerIndex)> {
    match (key.first_chunk::<8>(), key.last_chunk::<4>(), key.len()) {
        (Some(txid), Some(worker), 12) => {
            Ok((Txid(u64::from_be_bytes(*txid)), WorkerIndex(u32::from_be_bytes(*worker))))
        }
        _ => Err(Error::damaged("the log has a key that is none of its own")),
    }
}
