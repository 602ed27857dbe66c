//! `flat_map_aside`, `try_flat_map_aside`: any number of records for each record, in two streams: a
//! side output.

use super::emit::Emit;
use crate::batch::chunk::{Chunk, Origin};
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::Record;
use std::fmt::Display;
use std::panic::Location;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives what `f` puts into its second argument, and, as a stream of its own, what it puts into
    /// its third: late records, rejected ones, things worth a look.
    ///
    /// # Contract
    /// Both streams keep the order. A panic in `f` is a failure of the record
    /// ([`crate::Topology::on_failure`]): it gives nothing to either.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     let (numbers, others) = topology.source("in", io.source::<String>("in")).flat_map_aside(|text, numbers, others| match text.parse::<u64>() {
    ///         Ok(number) => numbers.push(number),
    ///         Err(_) => others.push(text),
    ///     });
    ///     numbers.sink("numbers", io.sink("numbers"));
    ///     others.sink("others", io.sink("others"));
    /// });
    /// kit.feed("in", ["7", "tide"].map(String::from));
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("numbers"), [7]);
    /// assert_eq!(kit.output::<String>("others"), ["tide"]);
    /// ```
    #[track_caller]
    pub fn flat_map_aside<U: Record, W: Record>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>, &mut Emit<W>) + 'static,
    ) -> (Stream<'s, U>, Stream<'s, W>) {
        self.two_ways("flat_map_aside", Location::caller(), move |record, main, side| {
            f(record, main, side);
            Ok(())
        })
    }

    /// As [`Stream::flat_map_aside`]; an `Err` is a failure of the record, as a panic is, with the
    /// error's text.
    #[track_caller]
    pub fn try_flat_map_aside<U: Record, W: Record, E: Display>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>, &mut Emit<W>) -> Result<(), E> + 'static,
    ) -> (Stream<'s, U>, Stream<'s, W>) {
        self.two_ways("try_flat_map_aside", Location::caller(), move |record, main, side| {
            f(record, main, side).map_err(|error| error.to_string())
        })
    }

    /// An operator with two outputs.
    pub(super) fn two_ways<U: Record, W: Record>(
        self,
        kind: &'static str,
        at: &'static Location<'static>,
        mut f: impl FnMut(T, &mut Emit<U>, &mut Emit<W>) -> Result<(), String> + 'static,
    ) -> (Stream<'s, U>, Stream<'s, W>) {
        let (raw, site) = self.read();
        let site = site.behind(NodeKind::Operator(kind), at, &[]);
        let guard = Guard::new(&site);
        let mut builder = OperatorBuilder::new(kind.to_string(), raw.scope());
        let mut input = builder.new_input(raw, Pipeline);
        let (mut main_output, main) = builder.new_output::<Chunk<U>>();
        let (mut side_output, side) = builder.new_output::<Chunk<W>>();
        builder.build(move |_| {
            move |_frontiers| {
                let (mut main, mut side) = (main_output.activate(), side_output.activate());
                input.for_each(|capability, chunk: &mut Chunk<T>| {
                    let (Some(first), Some(second)) =
                        (capability.retain_least(0), capability.retain_least(1))
                    else {
                        return;
                    };
                    guard.at_batch(Some(*first.time()));
                    let _busy = guard.meter.busy();
                    guard.meter.took(chunk.items.len());
                    let chunk = std::mem::take(chunk);
                    if guard.is_running()
                        && let Some((mut one, mut two)) = split(&guard, chunk, &mut f)
                    {
                        main.give(&first, &mut one);
                        side.give(&second, &mut two);
                    }
                });
            }
        });
        (Stream::at(site.clone(), main), Stream::at(site, side))
    }
}

fn split<T, U, W>(
    guard: &Guard,
    chunk: Chunk<T>,
    mut f: impl FnMut(T, &mut Emit<U>, &mut Emit<W>) -> Result<(), String>,
) -> Option<(Chunk<U>, Chunk<W>)> {
    let Chunk { items, origin } = chunk;
    let (records, mut one, mut two) = (items.len(), Emit::of_record(0), Emit::of_record(0));
    let (mut whole, mut ends) = ((0, 0), (Vec::new(), Vec::new()));
    let set_aside = guard.each(origin.as_ref(), items, |record| {
        // What is there beyond is from a record before, which then failed.
        one.records().truncate(whole.0);
        two.records().truncate(whole.1);
        one.next_record();
        two.next_record();
        f(record, &mut one, &mut two)?;
        let count = |given: usize| {
            u32::try_from(given)
                .map_err(|_| "it gave 2^32 records or more for one chunk of its input")
        };
        let given = (count(one.records().len())?, count(two.records().len())?);
        whole = (one.records().len(), two.records().len());
        ends.0.push(given.0);
        ends.1.push(given.1);
        Ok(())
    })?;
    one.records().truncate(whole.0);
    two.records().truncate(whole.1);
    let origin = origin.map(|origin| origin.without(&set_aside, records));
    let traced = |ends| origin.clone().map(|origin: Origin| origin.through(ends));
    let (first, second) = (traced(ends.0), traced(ends.1));
    Some((
        Chunk { items: std::mem::take(one.records()), origin: first },
        Chunk { items: std::mem::take(two.records()), origin: second },
    ))
}

#[cfg(test)]
mod tests {
    use crate::OnFailure;
    use crate::testing::Kit;

    #[test]
    fn a_record_that_fails_gives_nothing_to_either_stream() {
        let mut kit = Kit::new(|topology, io| {
            topology.on_failure(OnFailure::SKIP);
            let (main, side) = topology.source("in", io.source::<u64>("in")).try_flat_map_aside(
                |n, main, side| {
                    main.push(n);
                    side.push(n * 10);
                    if n % 3 == 0 { Err(format!("{n} is bad")) } else { Ok(()) }
                },
            );
            main.sink("main", io.sink("main"));
            side.sink("side", io.sink("side"));
        });
        kit.feed("in", 1..7u64);
        kit.step();
        assert_eq!(
            (kit.output::<u64>("main"), kit.output::<u64>("side")),
            (vec![1, 2, 4, 5], vec![10, 20, 40, 50])
        );
    }
}
