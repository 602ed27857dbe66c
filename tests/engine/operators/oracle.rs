//! What each operator must give, by plain code over sorted maps: one record after the other, batch
//! by batch.

use super::program::Record;
use std::collections::{BTreeMap, BTreeSet};

/// The records of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) left: Vec<Record>,
    pub(crate) right: Vec<Record>,
}

/// What all batches so far must have given.
#[derive(Default)]
pub(crate) struct Expected {
    outputs: BTreeMap<&'static str, Vec<Vec<u64>>>,
    batches: u64,
    pub(crate) counts: BTreeMap<u8, (u64, u64)>,
    pub(crate) history: BTreeMap<u8, Vec<u64>>,
    pub(crate) table: BTreeMap<u8, u64>,
    pub(crate) last_two: BTreeMap<u8, Vec<u64>>,
    pub(crate) together: BTreeMap<u64, u64>,
    pub(crate) first_and_last: BTreeMap<u8, (Vec<Record>, Vec<Record>)>,
    pub(crate) values: BTreeSet<u64>,
    others: BTreeMap<u8, u64>,
    all: Vec<u64>,
}

fn row(record: &Record) -> Vec<u64> {
    vec![u64::from(record.0), record.1]
}

fn some(value: Option<u64>) -> u64 {
    value.map_or(0, |value| value + 1)
}

fn by_key(records: &[Record]) -> BTreeMap<u8, Vec<u64>> {
    let mut by_key: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    for (key, value) in records {
        by_key.entry(*key).or_default().push(*value);
    }
    by_key
}

impl Expected {
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&'static str, &Vec<Vec<u64>>)> {
        self.outputs.iter().map(|(name, rows)| (*name, rows))
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    pub(crate) fn records(&self) -> u64 {
        self.all.len() as u64
    }

    pub(crate) fn variance(&self) -> f64 {
        let number = self.all.len() as f64;
        let mean = self.all.iter().sum::<u64>() as f64 / number;
        self.all.iter().map(|value| (*value as f64 - mean).powi(2)).sum::<f64>() / number
    }

    fn give(&mut self, name: &'static str, rows: impl IntoIterator<Item = Vec<u64>>) {
        self.outputs.entry(name).or_default().extend(rows);
    }

    /// Takes a batch in.
    pub(crate) fn add(&mut self, group: &Group) {
        let Group { left, right } = group;
        self.of_records(left, right);
        self.of_batches(left);
        self.of_joins(left, right);
        let before = self.counts.clone();
        self.of_states(left);
        self.of_lookups(left, right, &before);
        self.batches += 1;
    }

    fn of_records(&mut self, left: &[Record], right: &[Record]) {
        let rows = || left.iter().map(row);
        let when = |wanted: fn(&Record) -> bool| {
            left.iter().filter(|record| wanted(record)).map(row).collect::<Vec<_>>()
        };
        for name in
            ["map", "main", "shuffle", "partition_by", "partition_with", "global", "batch_global"]
        {
            self.give(name, rows());
        }
        self.give("filter", when(|(_, value)| value % 2 == 0));
        self.give("branch_even", when(|(_, value)| value % 2 == 0));
        self.give("branch_odd", when(|(_, value)| value % 2 == 1));
        self.give("side", when(|(_, value)| *value > 30));
        self.give(
            "filter_map",
            left.iter().filter(|(_, value)| *value >= 20).map(|(_, value)| vec![value - 20]),
        );
        self.give(
            "flat_map",
            left.iter().flat_map(|(key, value)| (0..u64::from(*key)).map(|n| vec![n, *value])),
        );
        self.give("merge", rows().chain(right.iter().map(row)));
        let once: BTreeSet<&Record> = left.iter().collect();
        self.give("broadcast", once.into_iter().map(row));
        self.give("partition_aggregate", [vec![left.len() as u64]]);
    }

    fn of_batches(&mut self, left: &[Record]) {
        let groups = by_key(left);
        let (txid, time) = (self.batches + 1, self.batches);
        self.give(
            "aggregate",
            groups.iter().map(|(key, values)| {
                let bounds = [values.iter().min(), values.iter().max()]
                    .map(|bound| *bound.expect("a key has a value"));
                vec![
                    u64::from(*key),
                    values.len() as u64,
                    values.iter().sum(),
                    bounds[0],
                    bounds[1],
                ]
            }),
        );
        let large: Vec<u64> =
            left.iter().map(|(_, value)| *value).filter(|value| *value > 35).collect();
        self.give("aggregate_all", [vec![large.iter().sum()]]);
        self.give(
            "reduce",
            groups.iter().map(|(key, values)| [vec![u64::from(*key)], values.clone()].concat()),
        );
        self.give("reduce_all", [large]);
        let all: Vec<u64> = left.iter().map(|(_, value)| *value).collect();
        self.give("batch_aggregate", [vec![time], [vec![txid], all].concat()]);
        self.give(
            "batch_aggregate_by",
            groups.iter().flat_map(|(key, values)| {
                let key = u64::from(*key);
                [vec![key, time], [vec![key, txid], values.clone()].concat()]
            }),
        );
        let ranked = |record: &&Record| (record.1, record.0);
        self.give("min_by", left.iter().min_by_key(ranked).map(row));
        self.give("max_by", left.iter().max_by_key(ranked).map(row));
        self.give("first_n", left.iter().take(2).map(row));
        let mut sorted = left.to_vec();
        sorted.sort_by(|one, other| other.cmp(one));
        self.give("top_k", sorted.iter().take(3).map(row));
        sorted.sort_by_key(|record| std::cmp::Reverse((record.1 % 7, *record)));
        self.give("top_k_by", sorted.iter().take(2).map(row));
    }

    fn of_joins(&mut self, left: &[Record], right: &[Record]) {
        let (one, other) = (by_key(left), by_key(right));
        let keys: BTreeSet<u8> = one.keys().chain(other.keys()).copied().collect();
        for key in keys {
            let of = |side: &BTreeMap<u8, Vec<u64>>| side.get(&key).cloned().unwrap_or_default();
            let (lefts, rights) = (of(&one), of(&other));
            let wide = u64::from(key);
            for l in &lefts {
                for r in &rights {
                    self.give("join_inner", [vec![wide, *l, *r]]);
                    self.give("join_left", [vec![wide, *l, r + 1]]);
                    self.give("join_right", [vec![wide, l + 1, *r]]);
                    self.give("join_full", [vec![wide, l + 1, r + 1]]);
                }
            }
            if rights.is_empty() {
                self.give("join_left", lefts.iter().map(|l| vec![wide, *l, 0]));
                self.give("join_full", lefts.iter().map(|l| vec![wide, l + 1, 0]));
            }
            if lefts.is_empty() {
                self.give("join_right", rights.iter().map(|r| vec![wide, 0, *r]));
                self.give("join_full", rights.iter().map(|r| vec![wide, 0, r + 1]));
            }
            self.give(
                "co_group",
                [[vec![wide, lefts.len() as u64], lefts.clone(), rights.clone()].concat()],
            );
        }
    }

    fn of_states(&mut self, left: &[Record]) {
        let before = self.counts.clone();
        for (key, value) in left.iter().copied() {
            let count = self.counts.entry(key).or_default();
            *count = (count.0 + 1, count.1 + value);
            self.history.entry(key).or_default().push(value);
            match value % 3 {
                0 => self.table.remove(&key),
                _ => self.table.insert(key, value),
            };
            if value % 5 == 0 {
                self.last_two.remove(&key);
            } else {
                let values = self.last_two.entry(key).or_default();
                values.push(value);
                values.drain(..values.len().saturating_sub(2));
            }
            let at = self.together.get(&0).copied().unwrap_or(0);
            self.together.insert(1 + (at + u64::from(key)) % 4, value);
            *self.together.entry(0).or_default() += value;
            let (first, last) = self.first_and_last.entry(key).or_default();
            if first.len() < 2 {
                first.push((key, value));
            }
            last.push((key, value));
            last.drain(..last.len().saturating_sub(2));
            self.values.insert(value);
            self.all.push(value);
        }
        let known = self.together.keys().filter(|cell| **cell > 0).count() as u64;
        let moved = vec![self.batches, self.together.values().sum(), known];
        self.give("update_state", [moved]);
        let changed: Vec<Vec<u64>> = by_key(left)
            .keys()
            .map(|key| {
                vec![
                    u64::from(*key),
                    some(before.get(key).map(|old| old.1)),
                    some(self.counts.get(key).map(|new| new.1)),
                ]
            })
            .collect();
        self.give("changes", changed);
    }

    fn of_lookups(&mut self, left: &[Record], right: &[Record], before: &BTreeMap<u8, (u64, u64)>) {
        let found = |counts: &BTreeMap<u8, (u64, u64)>| {
            let rows = right.iter().map(|record| {
                [row(record), vec![some(counts.get(&record.0).map(|count| count.1))]].concat()
            });
            rows.collect::<Vec<_>>()
        };
        self.give("lookup_before", found(before));
        let after = found(&self.counts);
        self.give("lookup_after", after);
        self.give(
            "lookup_external",
            right.iter().map(|record| {
                let square = u64::from(record.0) * u64::from(record.0);
                [row(record), vec![some(record.0.is_multiple_of(2).then_some(square))]].concat()
            }),
        );
        let (lefts, rights) = (by_key(left), by_key(right));
        let old = self.others.clone();
        for (key, values) in &rights {
            *self.others.entry(*key).or_default() += values.iter().sum::<u64>();
        }
        let mut pairs = Vec::new();
        for key in lefts.keys() {
            pairs.extend(
                old.get(key).map(|other| vec![u64::from(*key), self.counts[key].1, *other]),
            );
        }
        for key in rights.keys() {
            pairs.extend(
                self.counts.get(key).map(|count| vec![u64::from(*key), count.1, self.others[key]]),
            );
        }
        self.give("joined_states", pairs);
    }
}
