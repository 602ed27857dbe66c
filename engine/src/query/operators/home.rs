//! The end of a query: what becomes of a request goes to its home, where the answer is made.

use crate::batch::slice::TimeSlice;
use crate::dataflow::stream::activator;
use crate::plan::NodeKind;
use crate::query::operators::each::{ToHome, Waiting, number_of, take_waiting};
use crate::query::requests::{Number, Requests};
use crate::record::Data;
use crate::request::item::{Held, Item};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Brings results home. They are encoded as they come, so that an answer that is too large is found
/// before it is all there.
pub(in crate::query) fn take_home<R: Data, N: Number>(
    results: Requests<'_, R, N>,
    at: &'static Location<'static>,
) {
    let part = results.part.behind(NodeKind::Exchange("answer"), at, &[]);
    let mut builder = OperatorBuilder::new("answer".to_string(), results.raw.scope());
    let activator = activator(&results.raw, &builder.operator_info());
    let mut input = builder.new_input(results.raw, ToHome::from(&part));
    let mut before = part.before();
    builder.build(move |_| {
        let mut waiting: Waiting<R> = VecDeque::new();
        move |_frontiers| {
            input.for_each(|_, items| waiting.push_back(part.take(items)));
            if waiting.is_empty() {
                return;
            }
            let mut slice = TimeSlice::begin();
            let busy = part.enter();
            take_waiting(&mut waiting, &mut slice, |item| {
                let (ticket, weight) = (item.ticket, item.weight);
                let take =
                    |item| part.context.in_flight.borrow_mut().take_home(item, part.whole, N::ONE);
                // Writing a result is the user's code too.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| take(item))) {
                    take(Item {
                        ticket,
                        weight,
                        held: Held::Failed(part.panicked(panic.as_ref())),
                    });
                }
            });
            drop(busy);
            before.tell(number_of(&waiting));
            if !waiting.is_empty() {
                activator.activate();
            }
        }
    });
}
