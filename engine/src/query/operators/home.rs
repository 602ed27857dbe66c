//! The end of a query: what becomes of a request goes to its home, where the answer is made.

use crate::batch::slice::TimeSlice;
use crate::plan::NodeKind;
use crate::query::operators::driver::{ItemOperator, operate, take_waiting};
use crate::query::operators::each::ToHome;
use crate::query::operators::waiting::Waiting;
use crate::query::requests::{Number, Part, Raw, Requests};
use crate::record::Data;
use crate::request::item::{Held, Item};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

/// Brings results home. They are encoded as they come, so that an answer that is too large is found
/// before it is all there.
pub(in crate::query) fn take_home<R: Data, N: Number>(
    results: Requests<'_, R, N>,
    at: &'static Location<'static>,
) {
    let part = results.part.behind(NodeKind::Exchange("answer"), at, &[]);
    let home = ToHome::from(&part);
    let operator = TakeHome { part: part.clone(), is_one: N::ONE };
    let _nothing_behind: Raw<'_, ()> = operate(results.raw, &part, "answer", home, operator);
}

struct TakeHome {
    part: Part,
    is_one: bool,
}

impl<R: Data> ItemOperator<R, ()> for TakeHome {
    fn work(
        &mut self,
        waiting: &mut Waiting<R>,
        slice: &mut TimeSlice,
        _held_up: bool,
        _given: &mut Vec<Item<()>>,
    ) {
        let part = &self.part;
        take_waiting(waiting, slice, |item| {
            let (ticket, weight) = (item.ticket, item.weight);
            let take =
                |item| part.context.in_flight.borrow_mut().take_home(item, part.whole, self.is_one);
            // Writing a result is the user's code too.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| take(item))) {
                take(Item { ticket, weight, held: Held::Failed(part.panicked(panic.as_ref())) });
            }
        });
    }
}
