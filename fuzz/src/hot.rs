//! Target: the hot map beside sorted maps, one for each batch. Batches are applied, pinned, read by
//! key, walk and range while others are applied, released in pieces, and folded from the deltas
//! that the map's changes make.

use crate::Seed;
use crate::input::ByteReader;
use std::collections::BTreeMap;
use std::ops::Bound;
use tidemill_state::delta::{Before, Section, assemble};
use tidemill_state::hot::{Found, HotMap, Range, TOUCHED_AT_ONCE, Walk};
use tidemill_state::keys::{group_of, hash_key};
use tidemill_state::{KeyGroup, StateId, Txid, codec, fold};

/// The most bytes of an input that are used: a run of so many steps takes a few milliseconds.
const MOST_BYTES: usize = 1 << 10;

/// The number of different keys: few, so that they are removed and put in again.
const KEYS: u8 = 40;

/// The state of the deltas.
const STATE: StateId = StateId(1);

type Model = BTreeMap<u16, u32>;

/// Runs the target: the input is a program of steps.
pub fn run(input: &[u8]) {
    let mut input = ByteReader::new(&input[..input.len().min(MOST_BYTES)]);
    let mut run = HotRun::begin(&mut input);
    while !input.is_empty() {
        run.step(&mut input);
    }
    run.end();
}

/// A batch that is read in steps while others are applied, and the rows that were seen so far.
struct PinnedScan {
    at: u64,
    walk: Walk,
    walked: Model,
    range: Range,
    ranged: Vec<(u16, u32)>,
    ranged_all: bool,
}

struct HotRun {
    map: HotMap<u16, u32>,
    hashing: KeyHash,
    /// The rows as of each batch, from the one that the map began with.
    versions: BTreeMap<u64, Model>,
    newest: u64,
    /// The first batch that must be held.
    released: u64,
    reading: Option<PinnedScan>,
    /// The deltas that are not folded, and what is.
    deltas: BTreeMap<u64, Vec<u8>>,
    folded: (u64, BTreeMap<Vec<u8>, Vec<u8>>),
}

/// The hashes of keys, and the group that all of them are in, if they are in one.
#[derive(Clone, Copy)]
struct KeyHash {
    groups: u16,
    together: Option<KeyGroup>,
    collide: bool,
}

impl KeyHash {
    fn hash(self, key: u16) -> u64 {
        // Some keys of a run share a hash.
        let hash = hash_key(&if self.collide { key / 3 } else { key }.to_be_bytes());
        let groups = u64::from(self.groups);
        self.together.map_or(hash, |group| hash / groups * groups + u64::from(group.0))
    }

    fn group(self, key: u16) -> KeyGroup {
        group_of(self.hash(key), self.groups)
    }
}

fn encode(key: &u16, into: &mut Vec<u8>) {
    *into = key.to_be_bytes().to_vec();
}

impl HotRun {
    /// Makes a map as a start does: from committed rows.
    fn begin(input: &mut ByteReader<'_>) -> HotRun {
        let groups = [1, 4, 7, 256][usize::from(input.below(4))];
        let together = input.flag().then_some(KeyGroup(groups / 2));
        let hashing = KeyHash { groups, together, collide: input.below(4) == 0 };
        let committed = u64::from(input.below(3));
        let mut map = match together {
            None => HotMap::new(groups, Txid(committed)),
            Some(group) => HotMap::together(groups, group, Txid(committed)),
        };
        let mut rows = Model::new();
        for _ in 0..input.below(16) {
            let (key, value) = (u16::from(input.below(KEYS)), value(input));
            map.restore(hashing.hash(key), key, value);
            put(&mut rows, key, value);
        }
        let restored =
            rows.iter().map(|(key, value)| (row_key(hashing.group(*key), *key), encoded(*value)));
        let folded = (committed, restored.collect());
        HotRun {
            map,
            hashing,
            versions: BTreeMap::from([(committed, rows)]),
            newest: committed,
            released: committed,
            reading: None,
            deltas: BTreeMap::new(),
            folded,
        }
    }

    fn step(&mut self, input: &mut ByteReader<'_>) {
        match input.below(8) {
            0..=2 => self.apply(input),
            3 => self.release(input),
            4 => self.look(input),
            5 => self.read_on(input),
            6 => self.range_on(input),
            _ => self.fold(input),
        }
    }

    /// Applies a batch, one by one or several keys at once, and writes its delta.
    fn apply(&mut self, input: &mut ByteReader<'_>) {
        // A batch that changes nothing of a state leaves a gap in it.
        let txid = self.newest + 1 + u64::from(input.below(4) / 3);
        let mut rows = self.versions[&self.newest].clone();
        for gap in self.newest + 1..txid {
            self.versions.insert(gap, rows.clone());
        }
        let changes: Vec<(u16, Option<u32>)> =
            (0..input.below(48)).map(|_| (u16::from(input.below(KEYS)), value(input))).collect();
        if input.flag() {
            for (key, value) in &changes {
                self.map.update(Txid(txid), self.hashing.hash(*key), *key, |into| *into = *value);
            }
        } else {
            for changes in changes.chunks(TOUCHED_AT_ONCE) {
                let mut items = changes
                    .iter()
                    .map(|(key, value)| (self.hashing.hash(*key), *key, *value))
                    .collect();
                self.map.update_all(Txid(txid), &mut items, 0, |_, into, value| *into = value);
                assert!(items.is_empty());
            }
        }
        for (key, value) in changes {
            put(&mut rows, key, value);
        }
        self.write_delta(txid, &rows);
        assert_eq!(self.map.len(), rows.len());
        assert_eq!(self.map.is_empty(), rows.is_empty());
        self.versions.insert(txid, rows);
        self.newest = txid;
    }

    /// Compares the changes of the newest batch with the rows before and after it.
    fn write_delta(&mut self, txid: u64, rows: &Model) {
        let (before, changed) = (&self.versions[&(txid - 1)], self.map.changed_in(Txid(txid)));
        self.map.touch_changes(0..changed);
        let mut section = Section::new(STATE);
        let mut seen = BTreeMap::new();
        for change in self.map.changes(Txid(txid), 0..changed) {
            let key = *change.key;
            assert_eq!((change.old, change.new), (before.get(&key), rows.get(&key)), "key {key}");
            assert_eq!(change.group, self.hashing.group(key));
            assert_eq!(seen.insert(key, ()), None, "key {key} changes once in a batch");
            let named = change.before.map(|(earlier, change)| {
                assert!(earlier < Txid(txid));
                Before { batches: txid - earlier.0, change }
            });
            let value = change.new.map(|value| encoded(*value));
            section.push(change.group, &key.to_be_bytes(), value.as_deref(), named);
        }
        let all = before.keys().chain(rows.keys());
        for key in all.filter(|key| before.get(key) != rows.get(key)) {
            assert!(seen.contains_key(key), "key {key} has changed");
        }
        self.deltas.insert(txid, assemble(&[section]).expect("it is small"));
    }

    /// Releases batches before one that is read, or before the newest.
    fn release(&mut self, input: &mut ByteReader<'_>) {
        let pinned = self.reading.as_ref().map_or(self.newest, |reading| reading.at);
        let upto = self.released.max(pinned.saturating_sub(u64::from(input.below(4))));
        let budget = usize::from(input.below(64)) + 1;
        let all = self.map.release(Txid(upto), budget);
        self.released = upto;
        self.versions.retain(|at, _| *at >= upto.min(self.folded.0));
        assert!((upto..=self.newest).all(|at| self.map.holds(Txid(at))));
        if all && upto == self.newest {
            assert_eq!(self.map.kept_bytes(1), 0, "no old value is kept for a batch released");
        }
    }

    /// Reads some keys, and the number of keys, as of a batch.
    fn look(&mut self, input: &mut ByteReader<'_>) {
        let at = self.held(input);
        let (rows, first) = (&self.versions[&at], u16::from(input.below(KEYS)));
        assert_eq!(self.map.len_at(Txid(at)), rows.len(), "as of {at}");
        for key in first..first + 8 {
            self.is_as_of(at, key);
        }
        let kept = self.map.sample_kept(4).count();
        assert!(kept <= 8 && (kept > 0 || self.map.kept_bytes(0) == 0));
    }

    fn is_as_of(&self, at: u64, key: u16) {
        let found = match self.map.get_at(self.hashing.hash(key), &key, Txid(at)) {
            Found::Value(value) => Some(value),
            Found::Absent => None,
            Found::Cold => panic!("all keys are in memory"),
        };
        assert_eq!(found, self.versions[&at].get(&key), "key {key} as of {at} of {}", self.newest);
    }

    /// A batch that is held: the newest, or one of those before.
    fn held(&self, input: &mut ByteReader<'_>) -> u64 {
        self.newest - u64::from(input.byte()) % (self.newest - self.released + 1)
    }

    fn reading(&mut self, input: &mut ByteReader<'_>) -> PinnedScan {
        let reading = self.reading.take();
        reading.unwrap_or_else(|| PinnedScan {
            at: self.held(input),
            walk: Walk::default(),
            walked: Model::new(),
            range: range(input),
            ranged: Vec::new(),
            ranged_all: false,
        })
    }

    /// Walks on, in no order, through the batch that is pinned.
    fn read_on(&mut self, input: &mut ByteReader<'_>) {
        let mut reading = self.reading(input);
        let (budget, mut most) = (usize::from(input.byte()), usize::from(input.below(16)));
        let done = self.map.walk_at(&mut reading.walk, Txid(reading.at), budget, |key, value| {
            assert_eq!(reading.walked.insert(*key, *value), None, "key {key} comes once");
            most = most.saturating_sub(1);
            most > 0
        });
        if done {
            assert_eq!(reading.walked, self.versions[&reading.at], "walked as of {}", reading.at);
        } else {
            self.reading = Some(reading);
        }
    }

    /// Puts keys in order, and reads on in a range of the batch that is pinned.
    fn range_on(&mut self, input: &mut ByteReader<'_>) {
        let mut reading = self.reading(input);
        let (budget, mut most) = (usize::from(input.byte()), usize::from(input.below(16)));
        if self.map.order(encode, budget) && !reading.ranged_all {
            let at = Txid(reading.at);
            let on = self.map.range_at(&reading.range, at, budget, |encoded, key, value| {
                assert_eq!(encoded, key.to_be_bytes());
                reading.ranged.push((*key, *value));
                most = most.saturating_sub(1);
                most > 0
            });
            match on {
                Some(from) => reading.range.from = from,
                None => {
                    reading.ranged_all = true;
                    self.is_range(&reading);
                }
            }
        }
        self.reading = Some(reading);
    }

    /// Compares the rows of a range with a plain look at every key.
    fn is_range(&self, reading: &PinnedScan) {
        let Range { prefix, end, .. } = &reading.range;
        let is_in = |key: &[u8]| {
            key.starts_with(prefix)
                && match end {
                    Bound::Included(end) => key <= end.as_slice(),
                    Bound::Excluded(end) => key < end.as_slice(),
                    Bound::Unbounded => true,
                }
        };
        let rows = &self.versions[&reading.at];
        let rows = rows.iter().map(|(key, value)| (*key, *value));
        let mut expected: Vec<_> = rows.filter(|(key, _)| is_in(&key.to_be_bytes())).collect();
        // Where it began is overwritten by where it resumes: every row after the first that came.
        let first = reading.ranged.first().map_or(u16::MAX, |(key, _)| *key);
        expected.retain(|(key, _)| *key >= first);
        assert_eq!(reading.ranged, expected, "{:?} as of {}", reading.range, reading.at);
    }

    /// Folds the deltas up to a batch, as the store does.
    fn fold(&mut self, input: &mut ByteReader<'_>) {
        let (from, rows) = &mut self.folded;
        let upto = self.newest - u64::from(input.byte()) % (self.newest - *from + 1);
        let deltas = self.deltas.range((Bound::Excluded(*from), Bound::Included(upto))).rev();
        let deltas = deltas.map(|(txid, delta)| (Txid(*txid), delta.as_slice()));
        let written = fold::rows_of(Txid(*from), deltas).expect("the deltas were written so");
        assert!(written.windows(2).all(|pair| pair[0].0 < pair[1].0), "each key once, in order");
        for (key, value) in written {
            if value.is_empty() {
                rows.remove(&key)
            } else {
                rows.insert(key, value)
            };
        }
        *from = upto;
        let expected = self.versions[&upto]
            .iter()
            .map(|(key, value)| (row_key(self.hashing.group(*key), *key), encoded(*value)));
        assert_eq!(*rows, expected.collect(), "folded up to {upto}");
        self.deltas.retain(|txid, _| *txid > upto);
    }

    /// Reads every batch that is held, and lets go of all.
    fn end(mut self) {
        for at in self.released..=self.newest {
            assert_eq!(self.map.len_at(Txid(at)), self.versions[&at].len(), "as of {at}");
            for key in 0..u16::from(KEYS) {
                self.is_as_of(at, key);
            }
            let (mut walk, mut walked) = (Walk::default(), Model::new());
            while !self.map.walk_at(&mut walk, Txid(at), 100, |key, value| {
                assert_eq!(walked.insert(*key, *value), None, "key {key} comes once");
                true
            }) {}
            assert_eq!(walked, self.versions[&at], "as of {at}");
        }
        if let Some((one, other)) = self.map.alike() {
            assert_ne!(one, other);
            assert_eq!(self.hashing.hash(*one), self.hashing.hash(*other));
        }
        self.fold(&mut ByteReader::new(&[]));
        assert!(self.map.release(Txid(self.newest), usize::MAX));
        assert_eq!(self.map.kept_bytes(1), 0);
        (0..u16::from(KEYS)).for_each(|key| self.is_as_of(self.newest, key));
    }
}

fn value(input: &mut ByteReader<'_>) -> Option<u32> {
    let byte = input.byte();
    (byte >= 80).then_some(u32::from(byte))
}

fn put(rows: &mut Model, key: u16, value: Option<u32>) {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

/// A range with any of its parts; keys have two bytes, of which the first is 0.
fn range(input: &mut ByteReader<'_>) -> Range {
    let bound = |input: &mut ByteReader<'_>| match input.below(4) {
        0 => Bound::Included(vec![0, input.below(KEYS)]),
        1 => Bound::Excluded(vec![0, input.below(KEYS)]),
        _ => Bound::Unbounded,
    };
    let prefix = match input.below(4) {
        0 => vec![0],
        1 => vec![0, input.below(KEYS)],
        _ => vec![],
    };
    Range { from: bound(input), prefix, end: bound(input) }
}

fn encoded(value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(&value, &mut bytes).expect("a number encodes");
    bytes
}

/// The key of a row as it stands in the store: state, group, key.
fn row_key(group: KeyGroup, key: u16) -> Vec<u8> {
    [&STATE.0.to_be_bytes()[..], &group.0.to_be_bytes(), &key.to_be_bytes()].concat()
}

/// Returns programs of steps: batches that overwrite each other, with a walk, a range, folds.
pub fn seeds() -> Vec<Seed> {
    let batch = |first: u8, number: u8, value: u8| {
        let changes = (0..number).flat_map(move |at| [first + at, value]);
        [vec![0, 0, number], changes.collect(), vec![first & 1]].concat()
    };
    let (release, look, walk, range, fold) =
        (vec![3, 0, 63], vec![4, 1, 0], vec![5, 0, 9, 3], vec![6, 0, 2, 2, 2, 255, 4], vec![7, 0]);
    let begin =
        |groups: u8, together: u8, collide: u8| vec![groups, together, collide, 1, 2, 1, 99, 2, 88];
    let program = |begin: Vec<u8>, steps: &[&Vec<u8>]| {
        [&[&begin], steps].concat().into_iter().flatten().copied().collect::<Vec<u8>>()
    };
    let (put, removed, again) = (batch(0, 20, 90), batch(5, 10, 0), batch(0, 30, 100));
    vec![
        ("empty", vec![]),
        ("releases", program(begin(3, 0, 1), &[&put, &removed, &release, &look, &again, &release])),
        ("a-walk", program(begin(1, 0, 1), &[&put, &walk, &removed, &walk, &again, &walk, &walk])),
        ("a-range", program(begin(2, 1, 1), &[&put, &range, &removed, &range, &again, &range])),
        ("folds", program(begin(0, 0, 0), &[&put, &fold, &removed, &again, &fold, &release])),
    ]
}
