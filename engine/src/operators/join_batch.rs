//! `join_batch`: pairs of records of two streams that have the same key, in each batch.

use super::co_group_batch::Side;
use super::emit::Emit;
use super::gather::Gather;
use super::group_by::Grouped;
use crate::batch::Batch;
use crate::batch::slice::TimeSlice;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::marker::PhantomData;
use std::panic::Location;
use tidemill_state::keys::Key;

/// The treatment of a record without a partner in [`Grouped::join_batch`]: [`Inner`], [`Left`],
/// [`Right`] or [`Full`].
pub trait Join: 'static {
    /// A pair.
    type Pair<L: Record, R: Record>: Record;

    /// The pair of these, if there is one.
    fn pair<L: Record, R: Record>(left: Option<L>, right: Option<R>) -> Option<Self::Pair<L, R>>;
}

/// Only pairs: `(L, R)`.
#[derive(Clone, Copy, Debug)]
pub struct Inner;

/// Every record of the left stream: `(L, Option<R>)`.
#[derive(Clone, Copy, Debug)]
pub struct Left;

/// Every record of the right stream: `(Option<L>, R)`.
#[derive(Clone, Copy, Debug)]
pub struct Right;

/// Every record of both streams: `(Option<L>, Option<R>)`, one of them at least.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl Join for Inner {
    type Pair<L: Record, R: Record> = (L, R);

    fn pair<L: Record, R: Record>(left: Option<L>, right: Option<R>) -> Option<(L, R)> {
        left.zip(right)
    }
}

impl Join for Left {
    type Pair<L: Record, R: Record> = (L, Option<R>);

    fn pair<L: Record, R: Record>(left: Option<L>, right: Option<R>) -> Option<(L, Option<R>)> {
        left.map(|left| (left, right))
    }
}

impl Join for Right {
    type Pair<L: Record, R: Record> = (Option<L>, R);

    fn pair<L: Record, R: Record>(left: Option<L>, right: Option<R>) -> Option<(Option<L>, R)> {
        right.map(|right| (left, right))
    }
}

impl Join for Full {
    type Pair<L: Record, R: Record> = (Option<L>, Option<R>);

    fn pair<L: Record, R: Record>(
        left: Option<L>,
        right: Option<R>,
    ) -> Option<(Option<L>, Option<R>)> {
        Some((left, right))
    }
}

impl<'s, K: Key, L: Record + Data, F: FnMut(&L) -> K + 'static> Grouped<'s, K, L, F> {
    /// Gives every pair of a record of this stream and one of `other` that have the same key,
    /// within each batch; `how` says what becomes of those without a partner.
    ///
    /// # Contract
    /// Each pair once, with its key, on the worker that owns that, in no particular order. A key
    /// with n and m records gives n × m pairs, which are made slice by slice: what is behind should
    /// make them fewer. Records of different batches do not meet: for those see
    /// [`Stream::lookup_before`] and [`Stream::lookup_after`].
    ///
    /// ```
    /// # use tidemill_engine::{Left, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let orders = topology.source("orders", io.source::<(u64, String)>("orders")).group_by(|(customer, _)| *customer);
    ///     let names = topology.source("names", io.source::<(u64, String)>("names")).group_by(|(customer, _)| *customer);
    ///     orders.join_batch(names, Left).map(|(_, (order, name))| (order.1, name.map(|name| name.1))).sink("out", io.sink("out"));
    /// });
    /// kit.feed("orders", [(1u64, "tea".to_string()), (2, "milk".to_string())]);
    /// kit.feed("names", [(1u64, "Ada".to_string())]);
    /// kit.step();
    /// let mut out = kit.output::<(String, Option<String>)>("out");
    /// out.sort();
    /// assert_eq!(out, [("milk".to_string(), None), ("tea".to_string(), Some("Ada".to_string()))]);
    /// ```
    #[track_caller]
    pub fn join_batch<J: Join, R: Record + Data, G: FnMut(&R) -> K + 'static>(
        self,
        other: Grouped<'s, K, R, G>,
        how: J,
    ) -> Stream<'s, (K, J::Pair<L, R>)> {
        let _ = how;
        self.co_gathered("join_batch", Location::caller(), other, Joining::<J, L, R>(PhantomData))
    }
}

/// Joins one key's records of the two sides.
struct Joining<J, L, R>(PhantomData<fn(J, L, R)>);

/// The records of a key, and how many of its pairs are given.
struct Joined<L, R> {
    left: Vec<L>,
    right: Vec<R>,
    given: usize,
}

impl<K: Key, J: Join, L: Record + Data, R: Record + Data> Gather<K, Side<L, R>>
    for Joining<J, L, R>
{
    type Slot = Joined<L, R>;
    type Out = (K, J::Pair<L, R>);

    fn begin(&mut self, _: &Batch) -> Joined<L, R> {
        Joined { left: Vec::new(), right: Vec::new(), given: 0 }
    }

    fn add(&mut self, slot: &mut Joined<L, R>, item: Side<L, R>) {
        match item {
            Side::Left(left) => slot.left.push(left),
            Side::Right(right) => slot.right.push(right),
        }
    }

    fn finish(&mut self, key: K, mut slot: Joined<L, R>, emit: &mut Emit<Self::Out>) {
        while give_one::<J, K, L, R>(&key, &mut slot, emit) {}
    }

    fn finish_some(
        &mut self,
        key: K,
        mut slot: Joined<L, R>,
        emit: &mut Emit<Self::Out>,
        slice: &mut TimeSlice,
    ) -> Option<(K, Joined<L, R>)> {
        while give_one::<J, K, L, R>(&key, &mut slot, emit) {
            if slice.is_over() {
                return Some((key, slot));
            }
        }
        None
    }
}

/// Gives the next pair of a key. Returns whether there was one.
fn give_one<J: Join, K: Key, L: Record, R: Record>(
    key: &K,
    slot: &mut Joined<L, R>,
    emit: &mut Emit<(K, J::Pair<L, R>)>,
) -> bool {
    // A side without a record takes part with nothing, once.
    let across = slot.right.len().max(1);
    if slot.given >= slot.left.len().max(1) * across {
        return false;
    }
    let (left, right) = (slot.left.get(slot.given / across), slot.right.get(slot.given % across));
    slot.given += 1;
    emit.records().extend(J::pair(left.cloned(), right.cloned()).map(|pair| (key.clone(), pair)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::Sum;
    use crate::testing::Kit;

    #[test]
    fn a_key_with_many_records_on_both_sides_gives_every_pair_once() {
        let mut kit = Kit::new(|topology, io| {
            let [left, right] = ["left", "right"]
                .map(|name| topology.source(name, io.source::<u64>(name)).group_by(|n| n % 2));
            left.join_batch(right, Inner)
                .map(|(_, (left, right))| left * 1000 + right)
                .aggregate(Sum)
                .sink("sum", io.sink("sum"));
        });
        // 500 and 400 of each key: 400,000 pairs, in many slices.
        kit.feed("left", 0..1000u64);
        kit.feed("right", 0..800u64);
        kit.step();
        let pairs = (0..1000u64).flat_map(|left| {
            (0..800u64)
                .filter(move |right| right % 2 == left % 2)
                .map(move |right| left * 1000 + right)
        });
        assert_eq!(kit.output::<u64>("sum"), [pairs.sum::<u64>()]);
    }

    fn check<J: Join + Copy + Send + Sync + 'static>(
        how: J,
        expected: &[(&str, Option<u64>, Option<u64>)],
    ) where
        J::Pair<(String, u64), (String, u64)>: Sides,
    {
        let mut kit = Kit::with(
            |settings| settings.workers = 2,
            move |topology, io| {
                let [left, right] = ["left", "right"]
                    .map(|name| topology.source(name, io.source::<(String, u64)>(name)));
                let joined = left
                    .group_by(|(key, _)| key.clone())
                    .join_batch(right.group_by(|(key, _)| key.clone()), how);
                joined.map(|(key, pair)| pair.sides(key)).sink("out", io.sink("out"));
            },
        );
        let named = |records: &[(&str, u64)]| {
            records.iter().map(|(key, n)| ((*key).to_string(), *n)).collect::<Vec<_>>()
        };
        kit.feed("left", named(&[("a", 1), ("b", 2), ("b", 3)]));
        kit.feed("right", named(&[("b", 4), ("b", 5), ("c", 6)]));
        kit.step();
        let mut out = kit.output::<(String, Option<u64>, Option<u64>)>("out");
        out.sort();
        let out: Vec<_> = out.iter().map(|(key, left, right)| (&**key, *left, *right)).collect();
        assert_eq!(out, expected);
    }

    trait Sides {
        fn sides(self, key: String) -> (String, Option<u64>, Option<u64>);
    }

    type Half = (String, u64);

    impl Sides for (Half, Half) {
        fn sides(self, key: String) -> (String, Option<u64>, Option<u64>) {
            (key, Some(self.0.1), Some(self.1.1))
        }
    }

    impl Sides for (Half, Option<Half>) {
        fn sides(self, key: String) -> (String, Option<u64>, Option<u64>) {
            (key, Some(self.0.1), self.1.map(|half| half.1))
        }
    }

    impl Sides for (Option<Half>, Half) {
        fn sides(self, key: String) -> (String, Option<u64>, Option<u64>) {
            (key, self.0.map(|half| half.1), Some(self.1.1))
        }
    }

    impl Sides for (Option<Half>, Option<Half>) {
        fn sides(self, key: String) -> (String, Option<u64>, Option<u64>) {
            (key, self.0.map(|half| half.1), self.1.map(|half| half.1))
        }
    }

    #[test]
    fn each_kind_of_join_gives_its_pairs() {
        let (a, c) = (("a", Some(1), None), ("c", None, Some(6)));
        let both =
            [(2, 4), (2, 5), (3, 4), (3, 5)].map(|(left, right)| ("b", Some(left), Some(right)));
        check(Inner, &both);
        check(Left, &[&[a][..], &both].concat());
        check(Right, &[&both[..], &[c]].concat());
        check(Full, &[&[a][..], &both, &[c]].concat());
    }
}
