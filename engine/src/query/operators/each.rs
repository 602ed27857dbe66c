//! Operators that take one item after the other, where a panic is the failure of one item, and the
//! part of a query that an operator is built for.

use crate::batch::slice::TimeSlice;
use crate::dataflow::meter::Busy;
use crate::panics::failure_message;
use crate::plan::{NodeId, NodeKind};
use crate::query::operators::driver::{ItemOperator, operate};
use crate::query::operators::waiting::Waiting;
use crate::query::requests::{Part, Raw, Requests};
use crate::record::{Data, Record};
use crate::request::backlog::QueueDepth;
use crate::request::item::{Failure, Held, Item, Ticket, give_nothing};
use crate::request::watchdog::WatchGuard;
use crate::request::weight::Weight;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use timely::communication::{Pull, Push};
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::logging::TimelyLogger;
use timely::worker::Worker;

/// Brings each item of a part to its request's home. What is there already stays: it then needs no
/// channel between workers, and no step of its own.
pub(super) struct ToHome {
    there: bool,
}

impl ToHome {
    pub(super) fn from(part: &Part) -> ToHome {
        ToHome { there: part.home }
    }
}

impl<T: Data> ParallelizationContract<u64, Vec<Item<T>>> for ToHome {
    type Pusher = Box<dyn Push<Message<u64, Vec<Item<T>>>>>;
    type Puller = Box<dyn Pull<Message<u64, Vec<Item<T>>>>>;

    fn connect(
        self,
        worker: &Worker,
        identifier: usize,
        address: Rc<[usize]>,
        logging: Option<TimelyLogger>,
    ) -> (Self::Pusher, Self::Puller) {
        if self.there {
            let (pusher, puller) = Pipeline.connect(worker, identifier, address, logging);
            return (Box::new(pusher), Box::new(puller));
        }
        let (pusher, puller) = Exchange::new(|item: &Item<T>| item.ticket.id.home())
            .connect(worker, identifier, address, logging);
        (Box::new(pusher), Box::new(puller))
    }
}

/// Puts an operator behind `raw` that makes of each value what `logic` gives for it: that puts
/// items into its last argument, which together have the weight that it is given, or fails. What is
/// no value is passed on.
pub(super) fn each_value<'q, T: Record, U: Record>(
    raw: Raw<'q, T>,
    part: &Part,
    name: &str,
    pact: impl ParallelizationContract<u64, Vec<Item<T>>>,
    logic: impl FnMut(Ticket, Weight, T, &mut Vec<Item<U>>) -> Result<(), Failure> + 'static,
) -> Raw<'q, U> {
    operate(raw, part, name, pact, EachValue { part: part.clone(), logic })
}

struct EachValue<F> {
    part: Part,
    logic: F,
}

impl<T, U, F> ItemOperator<T, U> for EachValue<F>
where
    T: 'static,
    U: 'static,
    F: FnMut(Ticket, Weight, T, &mut Vec<Item<U>>) -> Result<(), Failure> + 'static,
{
    fn work(
        &mut self,
        waiting: &mut Waiting<T>,
        slice: &mut TimeSlice,
        held_up: bool,
        given: &mut Vec<Item<U>>,
    ) {
        let mut slow = None;
        while !slice.was_over()
            && !held_up
            && let Some(items) = waiting.piece()
        {
            run(&self.part, items, given, (slice, &mut slow), &mut self.logic);
        }
    }
}

/// Takes items until there are none left, or the slice is over.
fn run<T, U>(
    part: &Part,
    items: &mut std::vec::IntoIter<Item<T>>,
    given: &mut Vec<Item<U>>,
    (slice, slow): (&mut TimeSlice, &mut Option<bool>),
    logic: &mut impl FnMut(Ticket, Weight, T, &mut Vec<Item<U>>) -> Result<(), Failure>,
) {
    let mut at = None;
    while !items.as_slice().is_empty() && !slice.was_over() {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while !slice.was_over()
                && let Some(Item { ticket, weight, held }) = items.next()
            {
                at = Some((ticket, weight, given.len()));
                match held {
                    // Of a request that is gone nothing is done any more.
                    Held::Value(_) if !part.is_live(ticket) => {}
                    Held::Value(value) => {
                        if let Err(why) = logic(ticket, weight, value, given) {
                            given.push(Item::failed(ticket, weight, why));
                        }
                    }
                    Held::Nothing => give_nothing(ticket, weight, given),
                    Held::Failed(why) => given.push(Item::failed(ticket, weight, why)),
                }
                slice.is_over_after_one(slow);
            }
        }));
        if let (Err(panic), Some((ticket, weight, before))) = (outcome, at) {
            // Whatever it gave before it failed is dropped: its weight goes with the failure.
            given.truncate(before);
            given.push(Item::failed(ticket, weight, part.panicked(panic.as_ref())));
        }
    }
}

impl Part {
    /// As this part, but its records are wherever their keys have sent them.
    pub(super) fn away(self) -> Part {
        Part { home: false, ..self }
    }

    /// As this part, with every record where its request arrived.
    pub(super) fn at_home(self) -> Part {
        Part { home: true, ..self }
    }

    /// The part behind an operator that reads this one.
    pub(super) fn then(&self, kind: &'static str, at: &'static Location<'static>) -> Part {
        self.behind(NodeKind::Operator(kind), at, &[])
    }

    /// As [`Part::then`], for an operator of any kind that reads something else too.
    pub(super) fn behind(
        &self,
        kind: NodeKind,
        at: &'static Location<'static>,
        others: &[NodeId],
    ) -> Part {
        let inputs: Vec<NodeId> =
            std::iter::once(self.node).chain(others.iter().copied()).collect();
        let node = self.context.plan.borrow_mut().add(kind, at, &inputs);
        Part { node, meter: self.context.meter(node), counted: false, ..self.clone() }
    }

    /// The same node behind the operator that its records come to first, where they were counted.
    pub(super) fn counted(&self) -> Part {
        Part { counted: true, ..self.clone() }
    }

    /// The items that have come, to be gone through one by one.
    pub(super) fn take<T>(&self, items: &mut Vec<Item<T>>) -> std::vec::IntoIter<Item<T>> {
        if !self.counted {
            self.meter
                .took(items.iter().filter(|item| matches!(item.held, Held::Value(_))).count());
        }
        std::mem::take(items).into_iter()
    }

    /// The worker is in this operator until what is returned is dropped.
    pub(super) fn enter(&self) -> (WatchGuard<'_>, Busy<'_>) {
        (self.context.watch.enter(self.node), self.meter.busy())
    }

    /// The next operator of the query is built: what waits before it.
    pub(super) fn before(&self) -> QueueDepth {
        let context = &self.context;
        let operator = context.query_operators.get();
        context.query_operators.set(operator + 1);
        QueueDepth::new(&context.shared.hub.backlog, operator, &self.end)
    }

    pub(super) fn is_live(&self, ticket: Ticket) -> bool {
        self.context.shared.hub.live.is_live(ticket.id)
    }

    /// Returns the failure of a request for a panic or an `Err` in this operator's closure.
    pub(super) fn failure(&self, why: &str) -> Failure {
        Failure::Function(format!(
            "operator {} of the query {why}",
            self.context.plan.borrow().describe(self.node)
        ))
    }

    pub(super) fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Failure {
        self.failure(&failure_message(panic))
    }

    pub(super) fn gathers_too_much(&self) -> Failure {
        self.failure(&format!(
            "gathers more than {} MiB for one request: ask for less at once",
            MOST_GATHERED >> 20
        ))
    }

    pub(super) fn requests<'q, T: Record, N>(self, raw: Raw<'q, T>) -> Requests<'q, T, N> {
        Requests { raw, part: self, number: PhantomData }
    }
}

/// The number of bytes one request may gather, not counting what values hold outside themselves.
pub(super) const MOST_GATHERED: usize = 64 << 20;
