//! Pages of a state on one worker: the next rows in the order of the keys.
//!
//! A page needs no order of all keys: one walk over them keeps the smallest. Whoever asks for a
//! second page within a minute gets the keys put in order, so that the pages after it cost what they
//! return. An order that nobody has asked for in a minute is given back.

use crate::batch::slice::TimeSlice;
use crate::ids::StateIndex;
use crate::record::Storable;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidemill_state::hot::{HotMap, Range, Walk};
use tidemill_state::keys::{self, Key};
use tidemill_state::{Result, Txid, codec};
use tokio::sync::oneshot;

/// The number of keys that a page looks at before the worker continues with other work.
const KEYS_AT_ONCE: usize = 256;

/// For this long after its last use an order is kept, and a page is taken for the next one.
const USED_FOR: Duration = Duration::from_secs(60);

/// Encodes a key that is in a state already.
pub(crate) fn encode<K: Key>(key: &K, into: &mut Vec<u8>) {
    keys::encode_key(key, into).expect("it was encoded when it came into the state");
}

/// Encoded keys and values.
pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// The state of a page after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageProgress {
    /// It needs another turn.
    Continues,
    /// It has as many rows as it may have, and there may be more behind them.
    Full,
    /// It has the last row.
    End,
}

/// The next rows of a state on one worker, and whether there may be more.
pub(crate) struct PageOf {
    pub(crate) state: StateIndex,
    pub(crate) range: Range,
    pub(crate) limit: usize,
    /// The number of bytes the rows may still have: the row that goes over it is the last.
    pub(crate) bytes: usize,
    pub(crate) at: Txid,
    pub(crate) rows: Rows,
    pub(crate) way: PageWay,
    pub(crate) reply: oneshot::Sender<Result<(Rows, bool)>>,
}

/// The way to the rows of a page.
#[derive(Default)]
pub(crate) enum PageWay {
    #[default]
    Undecided,
    /// The keys are put in order first, if they are not.
    ByOrder,
    /// All keys are looked at, and the smallest are kept.
    ByWalk(WalkedPage),
}

/// The smallest rows so far of a page that looks at all keys.
#[derive(Default)]
pub(crate) struct WalkedPage {
    walk: Walk,
    smallest: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    /// True if a row of the range was left out.
    has_more: bool,
}

/// The time at which somebody asked for the order of the keys last.
#[derive(Default)]
pub(crate) struct OrderUse(Cell<Option<Instant>>);

impl OrderUse {
    /// Notes a use now. Returns whether there was one within the last minute.
    pub(crate) fn note(&self) -> bool {
        let now = Instant::now();
        let before = self.0.replace(Some(now));
        before.is_some_and(|before| now.saturating_duration_since(before) < USED_FOR)
    }

    /// Returns whether the last use was long ago.
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        self.0.get().is_some_and(|last| now.saturating_duration_since(last) >= USED_FOR)
    }
}

impl PageOf {
    /// Takes turns until the slice is over, and sends the page when it is done. Returns it if it
    /// needs more, and somebody waits for it.
    pub(crate) fn turn_for_a_slice(
        mut self,
        mut turn: impl FnMut(&mut PageOf) -> Result<PageProgress>,
    ) -> Option<PageOf> {
        let mut slice = TimeSlice::begin();
        let progress = loop {
            match turn(&mut self) {
                Ok(PageProgress::Continues) if !slice.was_over() => slice.look(),
                progress => break progress,
            }
        };
        match progress {
            Ok(PageProgress::Continues) => return (!self.reply.is_closed()).then_some(self),
            Ok(done) => drop(self.reply.send(Ok((self.rows, done == PageProgress::Full)))),
            Err(error) => drop(self.reply.send(Err(error))),
        }
        None
    }

    /// Adds the next rows, some of them.
    pub(crate) fn turn<K: Key, V: Storable>(
        &mut self,
        map: &mut HotMap<K, V>,
        order: &OrderUse,
    ) -> Result<PageProgress> {
        if let PageWay::Undecided = self.way {
            let is_next = order.note();
            self.way = if map.is_ordered() || is_next {
                PageWay::ByOrder
            } else {
                PageWay::ByWalk(WalkedPage::default())
            };
        }
        match &mut self.way {
            PageWay::ByWalk(walked) => {
                let bounds = (self.limit, self.bytes);
                if !walked.turn(map, &self.range, self.at, bounds)? {
                    return Ok(PageProgress::Continues);
                }
                let WalkedPage { smallest, has_more, .. } = std::mem::take(walked);
                self.rows = smallest.into_iter().collect();
                Ok(if has_more { PageProgress::Full } else { PageProgress::End })
            }
            _ => self.turn_by_order(map),
        }
    }

    fn turn_by_order<K: Key, V: Storable>(
        &mut self,
        map: &mut HotMap<K, V>,
    ) -> Result<PageProgress> {
        if !map.order(encode::<K>, KEYS_AT_ONCE) {
            return Ok(PageProgress::Continues);
        }
        let PageOf { range, rows, limit, bytes, .. } = self;
        let mut failed = None;
        let on = map.range_at(range, self.at, KEYS_AT_ONCE, |key, _, value| {
            let mut encoded = Vec::new();
            failed = codec::encode(value, &mut encoded).err();
            *bytes = bytes.saturating_sub(key.len() + encoded.len());
            rows.push((key.to_vec(), encoded));
            failed.is_none() && rows.len() < *limit && *bytes > 0
        });
        failed.map_or(Ok(()), Err)?;
        Ok(match on {
            Some(from) if rows.len() < *limit && *bytes > 0 => {
                range.from = from;
                PageProgress::Continues
            }
            Some(_) => PageProgress::Full,
            None => PageProgress::End,
        })
    }
}

impl WalkedPage {
    /// Looks at the next keys. Returns whether those were the last.
    fn turn<K: Key, V: Storable>(
        &mut self,
        map: &HotMap<K, V>,
        range: &Range,
        at: Txid,
        (limit, most_bytes): (usize, usize),
    ) -> Result<bool> {
        let WalkedPage { walk, smallest, bytes, has_more } = self;
        let (mut key, mut failed) = (Vec::new(), None);
        let is_last = map.walk_at(walk, at, KEYS_AT_ONCE, |of, value| {
            key.clear();
            encode(of, &mut key);
            if !range.contains(&key) {
                return true;
            }
            let is_full = smallest.len() >= limit || *bytes >= most_bytes;
            if is_full && smallest.last_key_value().is_some_and(|(last, _)| *last < key) {
                *has_more = true;
                return true;
            }
            let mut encoded = Vec::new();
            failed = codec::encode(value, &mut encoded).err();
            *bytes += key.len() + encoded.len();
            smallest.insert(std::mem::take(&mut key), encoded);
            // As by order: the row that goes over the bytes is the last.
            while let Some(last) = smallest.last_entry() {
                let of_last = last.key().len() + last.get().len();
                if smallest.len() <= limit && *bytes - of_last < most_bytes {
                    break;
                }
                smallest.pop_last();
                *bytes -= of_last;
                *has_more = true;
            }
            failed.is_none()
        });
        failed.map_or(Ok(is_last), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    fn map(number: u64) -> HotMap<u64, String> {
        let mut map = HotMap::new(7, Txid(1));
        // In no order.
        for key in (0..number).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let mut encoded = Vec::new();
            keys::encode_key(&key, &mut encoded).expect("a number is a key");
            map.restore(keys::hash_key(&encoded), key, Some("x".repeat((key % 50) as usize)));
        }
        map
    }

    /// The whole page, and whether there may be more.
    fn page(
        map: &mut HotMap<u64, String>,
        way: PageWay,
        range: &Range,
        most: (usize, usize),
    ) -> (Rows, bool) {
        let (reply, _) = oneshot::channel();
        let (limit, bytes) = most;
        let (state, at, range) = (StateIndex(0), Txid(1), range.clone());
        let mut page = PageOf { state, range, limit, bytes, at, rows: Vec::new(), way, reply };
        let order = OrderUse::default();
        loop {
            match page.turn(map, &order).expect("it can be encoded") {
                PageProgress::Continues => {}
                done => return (page.rows, done == PageProgress::Full),
            }
        }
    }

    #[test]
    fn a_walk_gives_the_rows_that_the_order_gives() {
        let mut map = map(3000);
        let middle = map_key(1 << 63);
        for from in [Bound::Unbounded, Bound::Excluded(middle.clone()), Bound::Included(middle)] {
            for end in [Bound::Unbounded, Bound::Excluded(map_key(u64::MAX - 5))] {
                for most in [(1, 1 << 20), (10, 1 << 20), (1000, 300), (1000, 1), (9999, 1 << 20)] {
                    let range = Range { from: from.clone(), end: end.clone(), ..Range::default() };
                    let walked =
                        page(&mut map, PageWay::ByWalk(WalkedPage::default()), &range, most);
                    assert!(!map.is_ordered(), "a walk orders nothing");
                    let ordered = page(&mut map, PageWay::ByOrder, &range, most);
                    assert_eq!(walked.0, ordered.0, "{range:?} {most:?}");
                    // By order, a page that ends with the last row may say that there may be more.
                    assert!(walked.1 == ordered.1 || !walked.1, "{range:?} {most:?}");
                    assert!(map.take_order().is_some());
                }
            }
        }
    }

    fn map_key(key: u64) -> Vec<u8> {
        let mut encoded = Vec::new();
        keys::encode_key(&key, &mut encoded).expect("a number is a key");
        encoded
    }

    #[test]
    fn the_keys_are_put_in_order_for_the_second_page_alone() {
        let (mut map, order) = (map(1000), OrderUse::default());
        for is_ordered in [false, true, true] {
            let (reply, _) = oneshot::channel();
            let (state, range, at) = (StateIndex(0), Range::default(), Txid(1));
            let (rows, way) = (Vec::new(), PageWay::default());
            let mut page = PageOf { state, range, limit: 3, bytes: 1000, at, rows, way, reply };
            while page.turn(&mut map, &order).expect("it can be encoded") == PageProgress::Continues
            {
            }
            assert_eq!((page.rows.len(), map.is_ordered()), (3, is_ordered));
        }
        assert!(!order.is_unused(Instant::now()));
        assert!(order.is_unused(Instant::now() + USED_FOR));
        assert!(!OrderUse::default().is_unused(Instant::now()), "there is none");
    }
}
