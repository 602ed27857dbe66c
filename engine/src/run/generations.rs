//! Generations: the dataflows are built, run until they are stopped or fail, dropped, and built
//! anew after the last committed batch. `generation.rs` has the life of one, `trials.rs` the search
//! for the records to blame.

mod generation;
mod trials;

use crate::batch::Range;
use crate::batch::commit::Message;
use crate::batch::latch::Suspect;
use crate::clock::A_YEAR;
use crate::dataflow::topology::{Build, Description};
use crate::failure::search::{Excluded, Trial};
use crate::run::ending::{Ending, PATIENCE, Phase, write_hangs};
use crate::run::retry::{self, Next};
use crate::run::start::{self, SourcePlan};
use crate::run::threads::{joined, joined_or_left, spawn};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::source::OnLoss;
use crossbeam_channel::Sender;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidemill_state::resolve::Decision;
use tidemill_state::{Error, Kind, Points, Result, Store, Txid};

/// The generations of a run, with what outlives each of them.
pub(crate) struct Generations {
    pub(crate) settings: Settings,
    pub(crate) build: Arc<Build>,
    pub(crate) description: Description,
    pub(crate) decision: Decision,
    pub(crate) store: Arc<Store>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) points: Arc<Points>,
    pub(crate) deltas: Sender<Message>,
    /// The topology's external name.
    pub(crate) known_as: String,
    /// The number of generations that there were.
    pub(crate) numbers: u64,
    /// True if the last listing of the sources found elsewhere what the generation before it had
    /// lost.
    pub(crate) found_elsewhere: Cell<bool>,
}

/// The mode in which a generation is run.
#[derive(Clone, Default)]
struct Mode {
    /// Up to this batch, none is opened before the one before it is committed: if one fails, its
    /// records are known.
    careful_until: Txid,
    /// Records that are left out.
    excluded: Arc<Excluded>,
    /// The trial that is run, if nothing is to be committed.
    trial: Option<Arc<Trial>>,
}

/// Why a generation has failed.
struct Failed {
    error: Error,
    /// The batch in which it failed, if its records may be searched for, and what it covers.
    suspected: Option<Box<(Suspect, Vec<Range>)>>,
    /// The last batch that had records.
    begun: Txid,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, suspected: None, begun: Txid::NONE }
    }
}

impl Generations {
    /// Runs generation after generation until the run is stopped or a failure ends it.
    pub(crate) fn run(mut self, first: SourcePlan) -> (Generations, Result<()>) {
        let outcome = self.all(first);
        (self, outcome)
    }

    fn all(&mut self, first: SourcePlan) -> Result<()> {
        let (mut failures, mut listing, mut mode) = (0, Some(first), Mode::default());
        loop {
            let before = self.runtime.committed();
            let outcome = self.generation(listing.take(), &mode);
            let number = self.numbers;
            let committed = self.runtime.committed();
            let Err(Failed { error, suspected, begun }) = outcome else { return Ok(()) };
            // What was lost before has been found: another loss is not that one again.
            let is_another = error.is_perhaps_elsewhere() && self.found_elsewhere.take();
            failures = if committed > before || is_another { 1 } else { failures + 1 };
            if mode.excluded.of <= committed {
                mode.excluded = Arc::new(Excluded::of(committed.next()));
            }
            let facts = retry::Facts {
                kind: error.kind(),
                perhaps_elsewhere: error.is_perhaps_elsewhere(),
                failures,
                committed,
                suspect: suspected.as_ref().map(|suspected| suspected.0.txid),
                retries: self.settings.retries,
                skips_losses: self.settings.on_loss != OnLoss::Refuse,
                // A wait that was given up knows of the stop before the run does.
                stopping: self.is_stopping()
                    || (error.kind() == Kind::Unreachable && self.settings.starting.is_given_up()),
                crashed: self.points.stopped(),
            };
            let (next, why) = match (retry::after_failure(facts), suspected) {
                (Next::Search, Some(suspected)) => {
                    self.searched(facts, &suspected.0, &suspected.1, &mut mode)?
                }
                (next, _) => (next, None),
            };
            match next {
                Next::Stop => return Ok(()),
                Next::Fail => {
                    let why =
                        why.map(|why| format!("{error}. Searched for what is to blame: {why}"));
                    return Err(why.map_or(error.clone(), |why| Error::new(error.kind(), why)));
                }
                Next::Alone(batch) => mode.careful_until = batch,
                Next::Again | Next::Search => {}
            }
            tracing::warn!(%error, generation = number, "a generation failed; the dataflows are \
                built again after the last committed batch");
            self.runtime.show_retry(begun, number, &error);
        }
    }

    fn is_stopping(&self) -> bool {
        self.runtime.stopping.load(SeqCst)
    }

    fn ending(&self) -> Ending<'_> {
        Ending { runtime: &self.runtime, drain: self.settings.drain }
    }

    /// Lists the positions at which the sources continue after a generation has failed. Waits for
    /// unreachable sources.
    fn list_again(&self) -> Result<SourcePlan> {
        // What has joined and was not committed yet has its name: it is not to get another.
        if !self.points.stopped() {
            self.store.tidy(&self.points)?;
        }
        let known_as = self.known_as.clone();
        let program = start::ProgramAtStart {
            settings: &self.settings,
            description: &self.description,
            known_as,
        };
        let listing = self
            .settings
            .starting
            .retry_while_away(|| program.list(Some(&self.store), &self.decision))?;
        listing.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.found_elsewhere.set(!(listing.moved.is_empty() && listing.retired.is_empty()));
        // As a start records them.
        self.store.move_on(listing.moved.iter().cloned());
        self.store.retire(listing.retired.iter().cloned());
        if !(listing.retired.is_empty() || self.points.stopped()) {
            self.store.tidy(&self.points)?;
        }
        Ok(listing)
    }

    /// Ends a run: what is complete is committed, sinks get their time, the store is closed.
    /// [`crate::run::ending`] decides how long each of these is waited for.
    pub(crate) fn end(
        self,
        outcome: Result<()>,
        committer: JoinHandle<Result<()>>,
        others: Vec<JoinHandle<Result<()>>>,
        store: Arc<Store>,
    ) -> Result<()> {
        let (runtime, drain) = (Arc::clone(&self.runtime), self.settings.drain);
        let points = Arc::clone(&self.points);
        let ending = || Ending { runtime: &runtime, drain };
        let pause = |at_most: Duration| std::thread::sleep(at_most.min(Duration::from_millis(2)));
        runtime.begin_ending();
        let _ = self.deltas.send(Message::Stop);
        let (_, ended) = ending().pass(Phase::Committing, || committer.is_finished(), pause);
        let committed = if ended { joined(committer) } else { Err(write_hangs(&store)) };
        let unclean = points.stopped() || store.has_failed() || committed.is_err();
        runtime.stopping.store(true, SeqCst);
        // After a failed write nothing more is known to be durable, so nothing more is published.
        // What the workers have completed at the very end of their time is published too.
        let left = drain.saturating_sub(runtime.ending_for().unwrap_or_default()).max(PATIENCE / 2);
        let left = if unclean { Duration::ZERO } else { left };
        runtime.end_publishing(Instant::now() + left.min(A_YEAR));
        ending().pass(Phase::Publishing, || others.iter().all(JoinHandle::is_finished), pause);
        let mut outcomes = vec![committed];
        outcomes.extend(others.into_iter().map(|handle| joined_or_left(handle, &runtime)));
        let fatal = runtime.fatal();
        // Clients of brokers are closed with what holds them, and may take their time.
        let closing = spawn("closing", move || {
            let points = Arc::clone(&self.points);
            drop(self);
            match Arc::try_unwrap(store) {
                Ok(store) if !unclean => store.close(&points),
                Err(store) if !unclean => {
                    tracing::warn!(
                        "the store is still being read: it is left as after a crash, which loses \
                         nothing"
                    );
                    store.tidy(&points)
                }
                // After a failed write its outcome is unknown, and nothing is written after it.
                _ => Ok(()),
            }
        });
        let closed = closing.and_then(|closing| {
            ending().pass(Phase::Closing, || closing.is_finished(), pause);
            joined_or_left(closing, &runtime)
        });
        if let (Err(error), false) = (&outcome, fatal.is_some()) {
            return Err(error.clone());
        }
        fatal.map_or(Ok(()), Err)?;
        outcomes.into_iter().collect::<Result<Vec<()>>>()?;
        closed
    }
}
