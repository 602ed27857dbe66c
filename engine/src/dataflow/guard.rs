//! The handling of failures inside a generation: the latch, and the guard around the user's code.

use crate::batch::chunk::{Origin, Place};
use crate::batch::latch::{Latch, Suspect};
use crate::dataflow::context::{Context, Site};
use crate::dataflow::meter::Meter;
use crate::failure::policy::{OnFailure, Policy};
use crate::panics;
use crate::plan::NodeId;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use tidemill_state::{Error, Txid};

/// Runs one operator's user code: catches its panics, says in which record they happened, and does
/// with it what the operator's policy says.
pub(crate) struct Guard {
    latch: Arc<Latch>,
    context: Rc<Context>,
    node: NodeId,
    on_failure: OnFailure,
    batch: Cell<Txid>,
    pub(crate) meter: Meter,
}

impl Guard {
    pub(crate) fn new(site: &Site) -> Guard {
        let Site { context, node, on_failure } = site;
        let (latch, batch) = (Arc::clone(&context.shared.latch), Cell::new(Txid::NONE));
        let (on_failure, meter) = (on_failure.clone(), context.meter(*node));
        Guard { latch, context: Rc::clone(context), node: *node, on_failure, batch, meter }
    }

    /// Says which batch the next records belong to.
    pub(crate) fn at_batch(&self, txid: Option<u64>) {
        self.batch.set(Txid(txid.unwrap_or_default()));
    }

    /// Returns whether nothing has failed in this generation.
    pub(crate) fn is_running(&self) -> bool {
        !self.latch.is_set()
    }

    /// Calls `body` for each record. One at which it panics or gives an `Err` is set aside by the
    /// operator's policy, and the others go on; the numbers of those that were set aside are
    /// returned. `None`: the generation has failed, and nothing of the batch will be committed.
    ///
    /// A panic is caught around the whole loop, which then begins again behind the record: what a
    /// record costs more than without is a count.
    #[inline]
    pub(crate) fn each<T>(
        &self,
        origin: Option<&Origin>,
        records: impl IntoIterator<Item = T>,
        mut body: impl FnMut(T) -> Result<(), String>,
    ) -> Option<Vec<usize>> {
        let _inside = self.context.watch.enter_stream(self.node);
        let (mut records, mut next, mut set_aside) = (records.into_iter(), 0, Vec::new());
        let quiet = self.on_failure.goes_on();
        loop {
            let outcome = panics::caught(quiet, || {
                for record in records.by_ref() {
                    next += 1;
                    body(record)?;
                }
                Ok(())
            });
            let Err(message) = outcome else { return Some(set_aside) };
            let at = next - 1;
            if !self.set_aside(&message, origin.and_then(|origin| origin.place(at)), || {
                origin.and_then(|origin| origin.bytes(at))
            }) {
                return None;
            }
            set_aside.push(at);
        }
    }

    /// Gives `f(record)` for each record, and the numbers of those that were set aside, as
    /// [`Guard::each`] does. `None`: the generation has failed.
    #[inline]
    pub(crate) fn map<T, U>(
        &self,
        origin: Option<&Origin>,
        records: Vec<T>,
        mut f: impl FnMut(T) -> U,
    ) -> Option<(Vec<U>, Vec<usize>)> {
        let _inside = self.context.watch.enter_stream(self.node);
        let place = |at| origin.and_then(|origin| origin.place(at));
        if !self.on_failure.goes_on() {
            // Nothing is kept once one has failed, so they may be replaced where they lie: the
            // standard library does if they are of one size.
            let failed = Cell::new(0);
            let noted = |(at, record)| {
                let noting = Noting { at, failed: &failed };
                let given = f(record);
                std::mem::forget(noting);
                given
            };
            return match panics::caught(false, || {
                Ok(records.into_iter().enumerate().map(noted).collect())
            }) {
                Ok(given) => Some((given, Vec::new())),
                Err(message) => {
                    self.fail_at(&message, place(failed.get()));
                    None
                }
            };
        }
        let (mut given, mut set_aside) = (Vec::with_capacity(records.len()), Vec::new());
        let mut records = records.into_iter();
        loop {
            let outcome = panics::caught(true, || {
                given.extend(records.by_ref().map(&mut f));
                Ok(())
            });
            let Err(message) = outcome else { return Some((given, set_aside)) };
            let at = given.len() + set_aside.len();
            if !self.set_aside(&message, place(at), || origin.and_then(|origin| origin.bytes(at))) {
                return None;
            }
            set_aside.push(at);
        }
    }

    /// Calls `body` once, over what has no record to blame. Returns whether it went well; if not,
    /// the generation has failed, and nothing of the batch will be committed.
    pub(crate) fn run(&self, body: impl FnOnce() -> Result<(), String>) -> bool {
        let _inside = self.context.watch.enter_stream(self.node);
        match panics::caught(self.on_failure.goes_on(), body) {
            Ok(()) => true,
            Err(message) => {
                self.fail(&message);
                false
            }
        }
    }

    /// Treats a record as the policy requires. Returns whether the batch continues.
    fn set_aside(
        &self,
        message: &str,
        place: Option<Place>,
        bytes: impl FnOnce() -> Option<Vec<u8>>,
    ) -> bool {
        let letters = match &self.on_failure.0 {
            Policy::Stop => {
                self.fail_at(message, place);
                return false;
            }
            Policy::Skip => None,
            Policy::DeadLetter(letters) => Some(letters),
        };
        let operator = self.context.plan.borrow().describe(self.node);
        if let Err(error) =
            self.context.set_aside(self.batch.get(), letters, operator, message, place, bytes)
        {
            self.fail_for_good(&error);
            return false;
        }
        true
    }

    /// Fails the generation because of something in the batch in hand, nobody knows which record.
    /// By policy they are searched for.
    pub(crate) fn fail(&self, message: &str) {
        if self.on_failure.goes_on() {
            let operator = self.context.plan.borrow().describe(self.node);
            let letters = match &self.on_failure.0 {
                Policy::DeadLetter(letters) => Some(letters.id),
                Policy::Stop | Policy::Skip => None,
            };
            self.latch.suspect(Suspect {
                txid: self.batch.get(),
                operator,
                message: message.to_string(),
                letters,
            });
        }
        self.fail_at(message, None);
    }

    /// Fails the generation with an error that is no record's: of something that is away, say.
    pub(crate) fn fail_for_good(&self, error: &Error) {
        let operator = self.context.plan.borrow().describe(self.node);
        self.latch.fail(error.clone().while_doing(&format!("operator {operator}")));
    }

    fn fail_at(&self, message: &str, place: Option<Place>) {
        let (operator, batch) = (self.context.plan.borrow().describe(self.node), self.batch.get());
        let place = match place {
            Some(place) => format!("at {place}, in batch {batch}"),
            None => format!("in batch {batch}{}", self.context.ranges_of(batch)),
        };
        self.latch.fail(Error::user_code(format!(
            "operator {operator} failed {place}: {message}. Nothing of batch {batch} is visible. \
             Mend the code or the record and start again: it goes on from the last committed \
             batch"
        )));
    }
}

/// Notes which record was in hand, if it is dropped: only when a panic passes. A counter would cost
/// something for each record.
struct Noting<'a> {
    at: usize,
    failed: &'a Cell<usize>,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.failed.set(self.at);
    }
}
