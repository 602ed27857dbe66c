//! The skeleton that the operators of queries share: input waits in a queue, is worked on in time
//! slices, and stops for a while when the operators after this one have too much to do.

use crate::batch::slice::TimeSlice;
use crate::dataflow::stream::activator;
use crate::query::operators::waiting::Waiting;
use crate::query::requests::{Part, Raw};
use crate::record::Record;
use crate::request::backlog::LOOK_AGAIN;
use crate::request::item::Item;
use timely::dataflow::channels::pact::ParallelizationContract;
use timely::dataflow::channels::pushers::OutputSession;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// The most items that travel together: about a slice's work.
const ITEMS_TOGETHER: usize = 512;

/// The work of one operator, without the skeleton around it.
pub(super) trait ItemOperator<T, U>: 'static {
    /// True if it keeps what has come until more has come: it is swept then.
    const KEEPS: bool = false;

    /// Works on the items that wait, and on what is under way, until nothing is left or the slice
    /// is over. Its output goes into `given`.
    ///
    /// With `held_up`, the operators after this one have more to do than they can in a moment: it
    /// may take items up, but gives no more than small results.
    fn work(
        &mut self,
        waiting: &mut Waiting<T>,
        slice: &mut TimeSlice,
        held_up: bool,
        given: &mut Vec<Item<U>>,
    );

    /// Returns whether the operator has something to give although no item waits.
    fn has_more(&self) -> bool {
        false
    }

    /// Drops what belongs to requests that are gone: nothing else would ever complete it.
    fn sweep(&mut self) {}
}

/// Puts an operator behind `raw`.
pub(super) fn operate<'q, T: Record, U: Record, O: ItemOperator<T, U>>(
    raw: Raw<'q, T>,
    part: &Part,
    name: &str,
    pact: impl ParallelizationContract<u64, Vec<Item<T>>>,
    mut operator: O,
) -> Raw<'q, U> {
    let mut builder = OperatorBuilder::new(name.to_string(), raw.scope());
    let info = builder.operator_info();
    let activator_of_this = activator(&raw, &info);
    if O::KEEPS {
        part.context.declared.borrow_mut().sweepers.push(activator(&raw, &info));
    }
    let mut input = builder.new_input(raw, pact);
    let (mut output, raw) = builder.new_output::<Vec<Item<U>>>();
    let (part, mut before) = (part.clone(), part.before());
    builder.build(move |mut capabilities| {
        let capability = capabilities.pop();
        let mut waiting: Waiting<T> = Waiting::new();
        let (mut given, mut given_up) = (Vec::new(), 0);
        move |_frontiers| {
            input.for_each(|_, items| waiting.push(part.take(items)));
            let seen = part.context.shared.hub.live.given_up();
            if seen != given_up {
                given_up = seen;
                operator.sweep();
            }
            let is_idle = waiting.is_empty() && !operator.has_more();
            let Some(capability) = capability.as_ref().filter(|_| !is_idle) else {
                return;
            };
            let held_up = before.is_held_up();
            let mut slice = TimeSlice::begin();
            let busy = part.enter();
            operator.work(&mut waiting, &mut slice, held_up, &mut given);
            drop(busy);
            give(&mut output.activate(), capability, &mut given);
            before.tell(waiting.len());
            if waiting.is_empty() && !operator.has_more() {
                return;
            }
            if held_up {
                activator_of_this.activate_after(LOOK_AGAIN);
            } else {
                activator_of_this.activate();
            }
        }
    });
    raw
}

/// Gives items, in pieces that the next operator can do in a slice.
pub(in crate::query) fn give<T: Record>(
    session: &mut OutputSession<'_, u64, Vec<Item<T>>>,
    capability: &Capability<u64>,
    items: &mut Vec<Item<T>>,
) {
    if items.len() <= ITEMS_TOGETHER {
        session.give(capability, items);
        items.clear();
        return;
    }
    let mut rest = items.drain(..).peekable();
    while rest.peek().is_some() {
        session.give(capability, &mut rest.by_ref().take(ITEMS_TOGETHER).collect());
    }
}

/// Gives one waiting item after the other to `each`, until there are none left or the slice is
/// over.
pub(super) fn take_waiting<T>(
    waiting: &mut Waiting<T>,
    slice: &mut TimeSlice,
    mut each: impl FnMut(Item<T>),
) {
    while !slice.was_over()
        && let Some(items) = waiting.piece()
    {
        while !slice.is_over()
            && let Some(item) = items.next()
        {
            each(item);
        }
    }
}
