//! Gathering what belongs to one request: on each worker for one activation, and at the request's
//! home until all of its weight is there.

use crate::batch::slice::TimeSlice;
use crate::query::operators::driver::{ItemOperator, operate, take_waiting};
use crate::query::operators::each::{MOST_GATHERED, ToHome};
use crate::query::operators::waiting::Waiting;
use crate::query::requests::{Part, Raw};
use crate::record::{Data, Record};
use crate::request::item::{Failure, Held, Item, Ticket, give_nothing};
use crate::request::live_requests::RequestId;
use crate::request::weight::Weight;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use timely::dataflow::channels::pact::Pipeline;

type ById<S> = HashMap<RequestId, Gathering<S>, foldhash::fast::RandomState>;

/// The values that are gathered for one request.
struct Gathering<S> {
    ticket: Ticket,
    weight: Weight,
    what: S,
    failed: Option<Failure>,
}

/// The gathered values, on their way out.
pub(super) struct Leaving<I> {
    ticket: Ticket,
    /// The weight of the next value, and that of each value after it.
    next: Weight,
    each: Weight,
    values: I,
}

/// The functions by which values are gathered: values are put together one by one, and given as
/// values again. `held` returns the number of values that the result would be by now.
pub(super) struct How<A, F, H> {
    pub(super) add: A,
    pub(super) finish: F,
    pub(super) held: H,
}

/// Gathers the input of one activation, and gives the result at the end of that activation: only
/// partial results then travel.
pub(super) fn gather_here<
    'q,
    T: Record,
    S: Default + 'static,
    U: Record,
    I: ExactSizeIterator<Item = U> + 'static,
>(
    raw: Raw<'q, T>,
    part: &Part,
    how: How<
        impl FnMut(&mut S, T) + 'static,
        impl FnMut(S) -> I + 'static,
        impl Fn(&S) -> usize + 'static,
    >,
) -> Raw<'q, U> {
    let gather = GatherHere { part: part.clone(), how, open: ById::default() };
    operate(raw, part, "gather here", Pipeline, gather)
}

struct GatherHere<S, A, F, H> {
    part: Part,
    how: How<A, F, H>,
    open: ById<S>,
}

impl<T, S, U, I, A, F, H> ItemOperator<T, U> for GatherHere<S, A, F, H>
where
    S: Default + 'static,
    I: ExactSizeIterator<Item = U>,
    A: FnMut(&mut S, T) + 'static,
    F: FnMut(S) -> I + 'static,
    H: Fn(&S) -> usize + 'static,
{
    fn work(
        &mut self,
        waiting: &mut Waiting<T>,
        slice: &mut TimeSlice,
        _held_up: bool,
        given: &mut Vec<Item<U>>,
    ) {
        let GatherHere { part, how: How { add, finish, held }, open } = self;
        absorb(part, waiting, open, slice, (add, &|what| held(what) * size_of::<U>()));
        for (_, gathered) in open.drain() {
            let (ticket, weight) = (gathered.ticket, gathered.weight);
            match leave(part, gathered, finish) {
                Ok(None) => give_nothing(ticket, weight, given),
                Ok(Some(mut leaving)) => while leaving.step(given) {},
                Err(why) => given.push(Item::failed(ticket, weight, why)),
            }
        }
    }
}

/// Gathers all that belongs to a request at its home, and gives it when it is complete, with the
/// request's whole weight, also if there is nothing.
pub(super) fn gather_at_home<
    'q,
    T: Data,
    S: Default + 'static,
    U: Record,
    I: ExactSizeIterator<Item = U> + 'static,
>(
    raw: Raw<'q, T>,
    part: &Part,
    how: How<
        impl FnMut(&mut S, T) + 'static,
        impl FnMut(S) -> I + 'static,
        impl Fn(&S) -> usize + 'static,
    >,
) -> Raw<'q, U> {
    let (open, leaving) = (ById::default(), VecDeque::new());
    let gather = GatherAtHome { part: part.clone(), how, open, leaving };
    operate(raw, part, "gather", ToHome::from(part), gather)
}

struct GatherAtHome<S, I, A, F, H> {
    part: Part,
    how: How<A, F, H>,
    open: ById<S>,
    leaving: VecDeque<Leaving<I>>,
}

impl<T, S, U, I, A, F, H> ItemOperator<T, U> for GatherAtHome<S, I, A, F, H>
where
    S: Default + 'static,
    I: ExactSizeIterator<Item = U> + 'static,
    A: FnMut(&mut S, T) + 'static,
    F: FnMut(S) -> I + 'static,
    H: Fn(&S) -> usize + 'static,
{
    const KEEPS: bool = true;

    fn work(
        &mut self,
        waiting: &mut Waiting<T>,
        slice: &mut TimeSlice,
        held_up: bool,
        given: &mut Vec<Item<U>>,
    ) {
        let GatherAtHome { part, how: How { add, finish, held }, open, leaving } = self;
        let bytes = |what: &S| held(what) * size_of::<U>();
        for id in absorb(part, waiting, open, slice, (add, &bytes)) {
            let Some(gathered) = open.remove(&id) else { continue };
            let (ticket, weight) = (gathered.ticket, gathered.weight);
            match leave(part, gathered, finish) {
                Ok(None) => give_nothing(ticket, weight, given),
                Ok(Some(all)) => leaving.push_back(all),
                Err(why) => given.push(Item::failed(ticket, weight, why)),
            }
        }
        give_in_turn(leaving, slice, held_up, given);
    }

    fn has_more(&self) -> bool {
        !self.leaving.is_empty()
    }

    fn sweep(&mut self) {
        self.open.retain(|_, gathering| self.part.is_live(gathering.ticket));
        self.leaving.retain(|leaving| self.part.is_live(leaving.ticket));
    }
}

/// Takes what has come in, until the slice is over. Gives the requests that are complete.
fn absorb<T, S: Default>(
    part: &Part,
    waiting: &mut Waiting<T>,
    open: &mut ById<S>,
    slice: &mut TimeSlice,
    (add, bytes): (&mut impl FnMut(&mut S, T), &impl Fn(&S) -> usize),
) -> Vec<RequestId> {
    let mut complete = Vec::new();
    take_waiting(waiting, slice, |Item { ticket, weight, held }| {
        if !part.is_live(ticket) {
            return;
        }
        let nothing =
            || Gathering { ticket, weight: Weight::default(), what: S::default(), failed: None };
        let gathering = open.entry(ticket.id).or_insert_with(nothing);
        gathering.weight = gathering.weight.plus(weight);
        match held {
            Held::Value(value) => {
                if let Err(panic) =
                    catch_unwind(AssertUnwindSafe(|| add(&mut gathering.what, value)))
                {
                    gathering.failed = Some(part.panicked(panic.as_ref()));
                } else if bytes(&gathering.what) > MOST_GATHERED {
                    gathering.failed = Some(part.gathers_too_much());
                }
            }
            Held::Nothing => {}
            Held::Failed(why) => gathering.failed = Some(why),
        }
        // A failure goes home at once: the rest of its weight may wait for what has failed.
        if gathering.weight == part.whole || gathering.failed.is_some() {
            complete.push(ticket.id);
        }
    });
    complete
}

/// Returns the gathered result as values that share its weight; `None` if there are none.
fn leave<S, U, I: ExactSizeIterator<Item = U>>(
    part: &Part,
    gathered: Gathering<S>,
    finish: &mut impl FnMut(S) -> I,
) -> Result<Option<Leaving<I>>, Failure> {
    let Gathering { ticket, weight, what, failed } = gathered;
    if let Some(why) = failed {
        return Err(why);
    }
    let values = catch_unwind(AssertUnwindSafe(|| finish(what)))
        .map_err(|panic| part.panicked(panic.as_ref()))?;
    Leaving::new(part, ticket, weight, values)
}

/// The number of values that leave at a time.
const VALUES_AT_ONCE: usize = 64;

/// Gives of all that is leaving in turn, until the slice is over: one large result keeps no small
/// one waiting. With `held_up`, small ones alone.
pub(super) fn give_in_turn<U, I: ExactSizeIterator<Item = U>>(
    leaving: &mut VecDeque<Leaving<I>>,
    slice: &mut TimeSlice,
    held_up: bool,
    given: &mut Vec<Item<U>>,
) {
    let mut looks = if held_up { leaving.len() } else { usize::MAX };
    while looks > 0
        && !slice.was_over()
        && let Some(mut next) = leaving.pop_front()
    {
        looks -= 1;
        let must_wait = held_up && next.values.len() > VALUES_AT_ONCE;
        if must_wait || next.step(given) {
            leaving.push_back(next);
        }
        slice.look();
    }
}

impl<U, I: ExactSizeIterator<Item = U>> Leaving<I> {
    /// Values that share a weight; `None` if there are none.
    pub(super) fn new(
        part: &Part,
        ticket: Ticket,
        weight: Weight,
        values: I,
    ) -> Result<Option<Leaving<I>>, Failure> {
        if values.len() == 0 {
            return Ok(None);
        }
        let too_many = || {
            part.failure(&format!(
                "gives {} records, after many others: the request's weight cannot be shared any \
                 further",
                values.len()
            ))
        };
        let (next, each) = weight.shared(values.len()).ok_or_else(too_many)?;
        Ok(Some(Leaving { ticket, next, each, values }))
    }

    /// Whose they are.
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Gives the next of it. Returns whether there is more.
    fn step(&mut self, given: &mut Vec<Item<U>>) -> bool {
        for value in self.values.by_ref().take(VALUES_AT_ONCE) {
            given.push(Item {
                ticket: self.ticket,
                weight: std::mem::replace(&mut self.next, self.each),
                held: Held::Value(value),
            });
        }
        self.values.len() > 0
    }
}
