//! `scan`: the keys and values of a state, all of them or a range, from all workers.

use super::broadcast::{Sent, by_address, for_all};
use super::gather::{Leaving, give_in_turn};
use crate::batch::slice::TimeSlice;
use crate::dataflow::state::State;
use crate::plan::NodeKind;
use crate::query::operators::driver::{ItemOperator, operate, take_waiting};
use crate::query::operators::each::{MOST_GATHERED, each_value};
use crate::query::operators::waiting::Waiting;
use crate::query::requests::{Many, Part, Raw, Requests};
use crate::record::{Data, Record, Storable};
use crate::request::item::{Failure, Held, Item, Ticket, give_nothing, give_shared};
use crate::request::weight::Weight;
use crate::table::part::TypedState;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::IntoValues;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use tidemill_state::hot::{Range, Walk};
use tidemill_state::keys::{self, Key};
use timely::dataflow::channels::pact::{Exchange, Pipeline};

/// Which keys of a state a scan gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    prefix: Vec<u8>,
    from: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    limit: Option<usize>,
    wrong: Option<String>,
}

impl Scan {
    /// All keys.
    #[must_use]
    pub fn all() -> Scan {
        Scan {
            prefix: Vec::new(),
            from: Bound::Unbounded,
            end: Bound::Unbounded,
            limit: None,
            wrong: None,
        }
    }

    /// The keys that are texts and begin with this one.
    #[must_use]
    pub fn prefix(text: &str) -> Scan {
        let Range { from, prefix, end } = Range::of_texts(text);
        Scan { prefix, from, end, ..Scan::all() }
    }

    /// The keys that are tuples and whose first parts are these: `Scan::under(&"en")` for keys
    /// `("en", …)`.
    #[must_use]
    pub fn under<P: Serialize>(parts: &P) -> Scan {
        let mut scan = Scan::all();
        let mut prefix = Vec::new();
        scan.wrong = keys::encode_key(parts, &mut prefix).err().map(|why| why.to_string());
        Scan { prefix, ..scan }
    }

    /// The keys in a range, in the order of the keys.
    #[must_use]
    pub fn range<K: Serialize>(range: impl RangeBounds<K>) -> Scan {
        let mut scan = Scan::all();
        let mut bound = |bound: Bound<&K>| {
            bound.map(|key| {
                let mut encoded = Vec::new();
                if let Err(why) = keys::encode_key(key, &mut encoded) {
                    scan.wrong = Some(why.to_string());
                }
                encoded
            })
        };
        let (from, end) = (bound(range.start_bound()), bound(range.end_bound()));
        Scan { from, end, ..scan }
    }

    /// Only the first so many of them, in the order of the keys.
    #[must_use]
    pub fn limit(self, limit: usize) -> Scan {
        Scan { limit: Some(limit), ..self }
    }

    fn is_in_order(&self) -> bool {
        self.limit.is_some()
            || !self.prefix.is_empty()
            || (&self.from, &self.end) != (&Bound::Unbounded, &Bound::Unbounded)
    }
}

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Gives keys and values of `state`: for each record those that `which(&record)` says.
    ///
    /// # Contract
    /// As of the batch that the request reads, each key once. All workers scan what they own, in
    /// slices, so that a long scan keeps nothing waiting. With a [`Scan::limit`] they are the first
    /// in the order of the keys, and come in that order; otherwise in none. The order of the keys
    /// is made when the first scan with a prefix, a range or a limit comes, and takes memory from
    /// then on: about the keys' own size.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, Scan, aggregates::Count, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let counts = topology.source("words", io.source::<String>("words")).group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    ///     topology.query("beginning", |text: Requests<String>| text.scan(&counts, |text| Scan::prefix(text).limit(2)));
    /// });
    /// kit.feed("words", ["tide", "tidal", "mill", "time"].map(String::from));
    /// kit.step();
    /// assert_eq!(kit.ask::<Vec<(String, u64)>>("beginning", &"ti").1, [("tidal".to_string(), 1), ("tide".to_string(), 1)]);
    /// ```
    #[track_caller]
    pub fn scan<K: Key, V: Storable>(
        self,
        state: &State<'_, K, V>,
        which: impl FnMut(&T) -> Scan + 'static,
    ) -> Requests<'q, (K, V)> {
        self.scan_with(state, which, |key, value| Some((key.clone(), value.clone())))
    }

    /// As [`Requests::scan`], but gives the value of `f(&key, &value)` for those for which there is
    /// one: what is not wanted is not copied. A limit counts what is given.
    #[track_caller]
    pub fn scan_with<K: Key, V: Storable, U: Data>(
        self,
        state: &State<'_, K, V>,
        mut which: impl FnMut(&T) -> Scan + 'static,
        f: impl FnMut(&K, &V) -> Option<U> + 'static,
    ) -> Requests<'q, U> {
        let part = self.part.behind(
            NodeKind::Exchange("scan"),
            Location::caller(),
            &[state.changes.site.node],
        );
        let (behind, mut number) = (part.clone(), part.context.index as u64);
        let peers = part.context.shared.peers as u64;
        let scans =
            each_value(self.raw, &part, "scans", Pipeline, move |ticket, weight, record, given| {
                let scan = which(&record);
                if let Some(why) = scan.wrong {
                    return Err(behind.failure(&format!("failed: {why}")));
                }
                number += peers;
                given.push(Item {
                    ticket,
                    weight,
                    held: Held::Value(Wanted { scan, number, whole: weight }),
                });
                Ok(())
            });
        let counted = part.counted();
        let rows = scan_here(for_all(scans, &counted), &counted, Rc::clone(&state.reader), f);
        let raw = in_order(rows, &counted);
        part.away().requests::<U, Many>(raw)
    }
}

/// One scan: with a number of its own, and the weight that all of its rows have together.
#[derive(Clone, Serialize, Deserialize)]
struct Wanted {
    scan: Scan,
    number: u64,
    whole: Weight,
}

/// The output of a scan.
#[derive(Clone, Serialize, Deserialize)]
enum Row<U> {
    /// A row of a scan without a limit.
    Any(U),
    /// A row, or only the weight, of a scan with a limit: which scan, the weight of all of it, its
    /// limit; the encoded key and the row.
    Of(u64, Weight, usize, Option<(Vec<u8>, U)>),
}

/// A scan that has not ended.
struct Scanning {
    ticket: Ticket,
    /// The rest of the scan's weight, and the weight that each slice gives.
    left: Weight,
    of_a_slice: Weight,
    wanted: Wanted,
    at: At,
    /// The number of rows it has given.
    rows: usize,
}

/// The place that a scan has reached.
enum At {
    Walk(Walk),
    Range(Range),
}

/// The number of keys a scan looks at before others have their turn.
const KEYS_AT_ONCE: usize = 256;

fn scan_here<'q, K: Key, V: Storable, U: Data>(
    scans: Raw<'q, Sent<Wanted>>,
    part: &Part,
    state: Rc<TypedState<K, V>>,
    f: impl FnMut(&K, &V) -> Option<U> + 'static,
) -> Raw<'q, Row<U>> {
    let scan = ScanHere { part: part.clone(), state, f, scanning: VecDeque::new() };
    operate(scans, part, "scan", by_address(part), scan)
}

struct ScanHere<K: Key, V: Storable, F> {
    part: Part,
    state: Rc<TypedState<K, V>>,
    f: F,
    scanning: VecDeque<Scanning>,
}

impl<K, V, U, F> ItemOperator<Sent<Wanted>, Row<U>> for ScanHere<K, V, F>
where
    K: Key,
    V: Storable,
    U: Data,
    F: FnMut(&K, &V) -> Option<U> + 'static,
{
    fn work(
        &mut self,
        waiting: &mut Waiting<Sent<Wanted>>,
        slice: &mut TimeSlice,
        held_up: bool,
        given: &mut Vec<Item<Row<U>>>,
    ) {
        let ScanHere { part, state, f, scanning } = self;
        take_waiting(waiting, slice, |Item { ticket, weight, held }| match held {
            Held::Value(sent) => begin(part, ticket, weight, sent.what, scanning, given),
            Held::Nothing => give_nothing(ticket, weight, given),
            Held::Failed(why) => given.push(Item::failed(ticket, weight, why)),
        });
        while !held_up
            && !slice.was_over()
            && let Some(mut next) = scanning.pop_front()
        {
            // In turn: a long scan keeps no short one waiting.
            if part.is_live(next.ticket) && next.step(part, state, f, given) {
                scanning.push_back(next);
            }
            slice.look();
        }
    }

    fn has_more(&self) -> bool {
        !self.scanning.is_empty()
    }
}

fn begin<U>(
    part: &Part,
    ticket: Ticket,
    left: Weight,
    wanted: Wanted,
    scanning: &mut VecDeque<Scanning>,
    given: &mut Vec<Item<Row<U>>>,
) {
    let Some(of_a_slice) = left.of_a_slice() else {
        let why = part.failure(
            "scans for each of too many records: the request's weight cannot be shared any further",
        );
        given.push(Item::failed(ticket, left, why));
        return;
    };
    let at = match &wanted.scan {
        scan if scan.is_in_order() => At::Range(Range {
            from: scan.from.clone(),
            prefix: scan.prefix.clone(),
            end: scan.end.clone(),
        }),
        _ => At::Walk(Walk::default()),
    };
    scanning.push_back(Scanning { ticket, left, of_a_slice, wanted, at, rows: 0 });
}

impl Scanning {
    /// Looks at the next keys. Returns whether there are more.
    fn step<K: Key, V: Storable, U>(
        &mut self,
        part: &Part,
        state: &TypedState<K, V>,
        f: &mut impl FnMut(&K, &V) -> Option<U>,
        given: &mut Vec<Item<Row<U>>>,
    ) -> bool {
        let Scanning { ticket, wanted, at, rows, .. } = self;
        let Wanted { scan, number, whole } = wanted;
        let mut found = Vec::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut map = state.map.borrow_mut();
            if !map.holds(ticket.at) {
                return Err(Failure::NotHeld);
            }
            Ok(match at {
                At::Walk(walk) => !map.walk_at(walk, ticket.at, KEYS_AT_ONCE, |key, value| {
                    found.extend(f(key, value).map(Row::Any));
                    true
                }),
                At::Range(_) if !map.order(crate::table::page::encode::<K>, KEYS_AT_ONCE) => true,
                At::Range(range) => {
                    state.order.note();
                    let limit = scan.limit.unwrap_or(usize::MAX);
                    let on = map.range_at(range, ticket.at, KEYS_AT_ONCE, |encoded, key, value| {
                        if *rows < limit
                            && let Some(row) = f(key, value)
                        {
                            *rows += 1;
                            found.push(match scan.limit {
                                Some(limit) => {
                                    Row::Of(*number, *whole, limit, Some((encoded.to_vec(), row)))
                                }
                                None => Row::Any(row),
                            });
                        }
                        *rows < limit
                    });
                    match on {
                        Some(from) if *rows < limit => {
                            range.from = from;
                            true
                        }
                        _ => false,
                    }
                }
            })
        }));
        let more = match outcome {
            Ok(Ok(more)) => more,
            Ok(Err(why)) => return self.fail(why, given),
            Err(panic) => return self.fail(part.panicked(panic.as_ref()), given),
        };
        if !more {
            if let (true, Some(limit)) = (found.is_empty(), scan.limit) {
                found.push(Row::Of(*number, *whole, limit, None));
            }
            give_shared(self.ticket, self.left, &mut found, given);
        } else if !found.is_empty() {
            let Some(left) = self.left.minus(self.of_a_slice) else {
                return self.fail(part.failure("scans too many keys for one request"), given);
            };
            self.left = left;
            give_shared(self.ticket, self.of_a_slice, &mut found, given);
        }
        more
    }

    fn fail<U>(&self, why: Failure, given: &mut Vec<Item<Row<U>>>) -> bool {
        given.push(Item::failed(self.ticket, self.left, why));
        false
    }
}

/// The rows of a scan with a limit, as they come from all workers.
struct Gathered<U> {
    ticket: Ticket,
    weight: Weight,
    rows: BTreeMap<Vec<u8>, U>,
    /// The number of bytes they have, with those of their keys.
    bytes: usize,
}

/// Puts the rows of scans with a limit in order, at their request's home, and leaves the first of
/// each. The others pass.
fn in_order<'q, U: Data>(rows: Raw<'q, Row<U>>, part: &Part) -> Raw<'q, U> {
    let here = part.context.index as u64;
    let home = Exchange::new(move |item: &Item<Row<U>>| match &item.held {
        Held::Value(Row::Of(..)) => item.ticket.id.home(),
        _ => here,
    });
    let (open, leaving) = (HashMap::new(), VecDeque::new());
    operate(rows, part, "in order", home, InOrder { part: part.clone(), open, leaving })
}

struct InOrder<U> {
    part: Part,
    open: HashMap<u64, Gathered<U>>,
    leaving: VecDeque<Leaving<IntoValues<Vec<u8>, U>>>,
}

impl<U: Data> ItemOperator<Row<U>, U> for InOrder<U> {
    const KEEPS: bool = true;

    fn work(
        &mut self,
        waiting: &mut Waiting<Row<U>>,
        slice: &mut TimeSlice,
        held_up: bool,
        given: &mut Vec<Item<U>>,
    ) {
        let InOrder { part, open, leaving } = self;
        take_waiting(waiting, slice, |item| sort_in(item, part, open, leaving, given));
        give_in_turn(leaving, slice, held_up, given);
    }

    fn has_more(&self) -> bool {
        !self.leaving.is_empty()
    }

    fn sweep(&mut self) {
        self.open.retain(|_, gathered| self.part.is_live(gathered.ticket));
        self.leaving.retain(|leaving| self.part.is_live(leaving.ticket()));
    }
}

/// Takes one row of a scan. Those of one with a limit leave once all of them are there.
fn sort_in<U>(
    Item { ticket, weight, held }: Item<Row<U>>,
    part: &Part,
    open: &mut HashMap<u64, Gathered<U>>,
    leaving: &mut VecDeque<Leaving<IntoValues<Vec<u8>, U>>>,
    given: &mut Vec<Item<U>>,
) {
    match held {
        Held::Value(Row::Any(row)) => given.push(Item { ticket, weight, held: Held::Value(row) }),
        Held::Value(Row::Of(number, whole, limit, row)) if part.is_live(ticket) => {
            let new =
                || Gathered { ticket, weight: Weight::default(), rows: BTreeMap::new(), bytes: 0 };
            let gathered = open.entry(number).or_insert_with(new);
            gathered.weight = gathered.weight.plus(weight);
            let bytes_of = |key: &Vec<u8>| key.len() + size_of::<(Vec<u8>, U)>();
            gathered.bytes += row.as_ref().map_or(0, |(key, _)| bytes_of(key));
            gathered.rows.extend(row);
            if gathered.rows.len() > limit
                && let Some((key, _)) = gathered.rows.pop_last()
            {
                gathered.bytes -= bytes_of(&key);
            }
            if gathered.bytes > MOST_GATHERED {
                // The failure goes home at once, and the rest is dropped there and here.
                open.remove(&number);
                given.push(Item::failed(ticket, weight, part.gathers_too_much()));
            } else if gathered.weight == whole
                && let Some(Gathered { rows, .. }) = open.remove(&number)
            {
                match Leaving::new(part, ticket, whole, rows.into_values()) {
                    Ok(None) => give_nothing(ticket, whole, given),
                    Ok(Some(all)) => leaving.push_back(all),
                    Err(why) => given.push(Item::failed(ticket, whole, why)),
                }
            }
        }
        Held::Value(Row::Of(..)) => {}
        Held::Nothing => give_nothing(ticket, weight, given),
        Held::Failed(why) => given.push(Item::failed(ticket, weight, why)),
    }
}
