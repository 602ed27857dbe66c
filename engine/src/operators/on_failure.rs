//! `on_failure`: what is done with records at which operators fail.

use crate::dataflow::stream::Stream;
use crate::dataflow::topology::Topology;
use crate::dead_letter::{DeadLetter, DeadLetterSink};
use crate::failure::policy::{DeadLetterTarget, OnFailure, Policy};
use crate::panics::watch_panics;
use crate::plan::NodeKind;
use crate::record::Record;
use crate::sink::Sink;
use std::panic::Location;

impl Topology<'_> {
    /// Says what is done with a record at which an operator fails, for all sources that are
    /// declared after this, and everything behind them.
    ///
    /// # Contract
    /// [`OnFailure::STOP`] unless something else is said. A record that is set aside is in no state
    /// and no output behind that operator, and the rest of the batch commits under the same number;
    /// other branches of the stream, and other pieces that a `flat_map` has made of it, stay. A
    /// closure that sees one record at a time is caught at it. Where a whole batch is seen - a
    /// combiner, a reducer, `update_state` - the records to blame are searched for by halving the
    /// batch, in trials that never commit: at most 200 trials or 30 seconds, then the topology
    /// stops; what is found is left out of the whole batch. A record that fails alone and not among
    /// the others, because it relies on one of them, is not blamed. What fails only together with
    /// others stops it too. A failure that is no record's, such as an external state that is away,
    /// is tried again.
    ///
    /// ```
    /// # use tidemill_engine::{OnFailure, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.on_failure(OnFailure::SKIP);
    ///     topology.source("in", io.source::<u64>("in")).map(|n| 12 / n).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [2u64, 0, 3]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [6, 4]);
    /// ```
    pub fn on_failure(&self, policy: OnFailure) {
        if policy.goes_on() {
            watch_panics();
        }
        *self.context.on_failure.borrow_mut() = policy;
    }

    /// Declares a sink for dead letters, and gives the policy that sends records there: for
    /// [`Topology::on_failure`] and [`Stream::on_failure`].
    ///
    /// # Contract
    /// Each record that is set aside is one [`DeadLetter`], with error, operator, source,
    /// partition, offset and bytes as far as they are known. DeadLetterTarget become durable with
    /// their batch and are published after it, as output is: exactly once, if the sink is. The name
    /// is unique and stays the same.
    ///
    /// ```
    /// # use tidemill_engine::{source::DeadLetter, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.on_failure(topology.dead_letter("bad", io.sink("bad")));
    ///     topology.source("in", io.source::<String>("in")).try_map(|text| text.parse::<u64>()).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", ["7", "seven"].map(String::from));
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [7]);
    /// let letters = kit.output::<DeadLetter>("bad");
    /// assert_eq!((letters[0].offset, letters[0].bytes.as_deref()), (Some(1), Some(&b"seven"[..])));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn dead_letter(&self, name: &str, sink: impl Sink<Item = DeadLetter>) -> OnFailure {
        self.context.plan.borrow_mut().add(
            NodeKind::Sink(name.to_string()),
            Location::caller(),
            &[],
        );
        let (id, sink) = super::sink::declare(&self.context, name, sink);
        self.context.keeps_records.set(true);
        let letters = DeadLetterTarget { id, sink: sink as DeadLetterSink };
        self.context.letters.borrow_mut().push(letters.clone());
        OnFailure(Policy::DeadLetter(letters))
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// Says what is done with a record at which an operator fails, for the operators behind this.
    ///
    /// # Contract
    /// As for [`Topology::on_failure`]. What is behind in the program goes by it, until something
    /// else is said there.
    ///
    /// ```
    /// # use tidemill_engine::{OnFailure, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let parsed = topology.source("in", io.source::<String>("in")).on_failure(OnFailure::SKIP).try_map(|text| text.parse::<u64>());
    ///     parsed.on_failure(OnFailure::STOP).map(|n| n + 1).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", ["7", "seven"].map(String::from));
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [8]);
    /// ```
    #[must_use]
    pub fn on_failure(mut self, policy: OnFailure) -> Stream<'s, T> {
        if policy.goes_on() {
            watch_panics();
        }
        self.site.on_failure = policy;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Kit;

    fn letters(kit: &Kit) -> Vec<(Option<u64>, String)> {
        kit.output::<DeadLetter>("bad")
            .into_iter()
            .map(|letter| (letter.offset, letter.error))
            .collect()
    }

    #[test]
    fn a_bad_record_in_each_operator_is_set_aside_once_and_the_others_are_not() {
        let mut kit = Kit::new(|topology, io| {
            topology.on_failure(topology.dead_letter("bad", io.sink("bad")));
            let bad = |what: &'static str, n: u64, at: u64| assert!(n != at, "{what}");
            topology
                .source("in", io.source::<u64>("in"))
                .map(move |n| {
                    bad("map", n, 0);
                    n
                })
                .flat_map(move |n, out| {
                    out.push(n);
                    bad("flat_map", n, 1);
                    out.push(n);
                })
                .filter(move |n| {
                    bad("filter", *n, 2);
                    true
                })
                .inspect(move |n| bad("inspect", *n, 3))
                .sink("out", io.sink("out"));
        });
        kit.feed("in", 0..6u64);
        kit.step();
        assert_eq!(kit.output::<u64>("out"), [4, 4, 5, 5]);
        let says = |what: &str| format!("panicked: {what}");
        let expected = [
            (0, "map"),
            (1, "flat_map"),
            (2, "filter"),
            (2, "filter"),
            (3, "inspect"),
            (3, "inspect"),
        ];
        let mut seen = letters(&kit);
        seen.sort();
        assert_eq!(seen, expected.map(|(offset, what)| (Some(offset), says(what))));
    }

    #[test]
    fn a_sink_that_refuses_a_record_sets_it_aside() {
        struct Odd;
        impl serde::Serialize for Odd {
            fn serialize<S: serde::Serializer>(
                &self,
                _: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no odd ones"))
            }
        }
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Record(u64, #[serde(serialize_with = "refuse")] bool);
        fn refuse<S: serde::Serializer>(odd: &bool, to: S) -> std::result::Result<S::Ok, S::Error> {
            if *odd { serde::Serialize::serialize(&Odd, to) } else { to.serialize_bool(false) }
        }
        let mut kit = Kit::new(|topology, io| {
            topology.on_failure(topology.dead_letter("bad", io.sink("bad")));
            topology
                .source("in", io.source::<u64>("in"))
                .map(|n| Record(n, n % 2 == 1))
                .sink("out", io.sink("out"));
        });
        kit.feed("in", 0..4u64);
        kit.step();
        assert_eq!(
            kit.output::<Record>("out").iter().map(|record| record.0).collect::<Vec<_>>(),
            [0, 2]
        );
        assert_eq!(
            letters(&kit).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>(),
            [Some(1), Some(3)]
        );
    }
}
