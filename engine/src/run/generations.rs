//! Generations: the dataflows are built, run until they are stopped or fail, dropped, and built
//! anew after the last committed batch.

use crate::batch::commit::Message;
use crate::batch::feed::Assignment;
use crate::batch::intake::Intake;
use crate::batch::latch::{Latch, Suspect};
use crate::batch::{BatchLimits, Range};
use crate::clock::A_YEAR;
use crate::dataflow::context::Shared;
use crate::dataflow::topology::{Build, Description};
use crate::failure::search::{self, Excluded, GivenUp, Trial};
use crate::run::discovery::{Discovery, PartitionDiscovery};
use crate::run::ending::{Ending, PATIENCE, Phase, write_hangs};
use crate::run::retry::{self, Next};
use crate::run::start::{self, SourcePlan};
use crate::run::threads::{caught, joined, joined_or_left, no_thread, spawn};
use crate::run::worker::{self, Job};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::source::OnLoss;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidemill_state::resolve::Decision;
use tidemill_state::{Error, Kind, Points, Result, Store, Txid};
use timely::communication::WorkerGuards;

pub(crate) struct Generations {
    pub(crate) settings: Settings,
    pub(crate) build: Arc<Build>,
    pub(crate) description: Description,
    pub(crate) decision: Decision,
    pub(crate) store: Arc<Store>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) points: Arc<Points>,
    pub(crate) deltas: Sender<crate::batch::commit::Message>,
    /// The topology's external name.
    pub(crate) known_as: String,
    /// The number of generations that there were.
    pub(crate) numbers: u64,
    /// True if the last listing of the sources found elsewhere what the generation before it had
    /// lost.
    pub(crate) found_elsewhere: Cell<bool>,
}

/// The time a generation may take to end after its failure before the closures that hold it up are
/// named.
const NAMED_AFTER: Duration = Duration::from_secs(2);

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

    /// Searches a batch for the records to blame. Returns what follows, and why none were found.
    fn searched(
        &mut self,
        facts: retry::Facts,
        suspect: &Suspect,
        ranges: &[Range],
        mode: &mut Mode,
    ) -> Result<(Next, Option<String>)> {
        match self.search(suspect, ranges, mode) {
            Ok(found) => {
                let facts = retry::Facts { stopping: self.is_stopping(), ..facts };
                Ok((retry::after_search(facts, found.is_ok()), found.err()))
            }
            // The batch is not there any more to be searched: losses are dealt with here too.
            Err(gone)
                if retry::Facts { perhaps_elsewhere: gone.is_perhaps_elsewhere(), ..facts }
                    .passes_over(gone.kind()) =>
            {
                self.runtime.note_error(&gone);
                Ok((Next::Alone(facts.committed.next()), None))
            }
            Err(error) => Err(error),
        }
    }

    fn is_stopping(&self) -> bool {
        self.runtime.stopping.load(SeqCst)
    }

    /// Searches the batch after the last committed one for the records to blame, in trials that
    /// never commit, and excludes them. The inner error says why none were found.
    fn search(
        &mut self,
        suspect: &Suspect,
        ranges: &[Range],
        mode: &mut Mode,
    ) -> Result<std::result::Result<(), String>> {
        let mut excluded = Excluded::clone(&mode.excluded);
        let trial = |generations: &mut Generations,
                     only: Option<&[crate::batch::chunk::Place]>,
                     excluded: &Excluded| {
            let trial = Arc::new(Trial::new(ranges, only, generations.settings.workers));
            let mode = Mode {
                careful_until: suspect.txid,
                excluded: Arc::new(excluded.clone()),
                trial: Some(Arc::clone(&trial)),
            };
            let outcome = generations.generation(None, &mode);
            excluded.budget.spend(trial.took());
            if generations.is_stopping() {
                return Err(GivenUp::Stopped);
            }
            match outcome {
                Ok(()) => Ok((None, trial)),
                Err(Failed { suspected: Some(suspected), .. }) => Ok((Some(suspected.0), trial)),
                Err(Failed { error, .. }) => Err(GivenUp::Failed(error)),
            }
        };
        tracing::warn!(batch = %suspect.txid, operator = suspect.operator, error = suspect.message, "a batch failed; its records are searched for what is to blame");
        let found = excluded.budget.take_one().and_then(|()| {
            let (fails, whole) = trial(self, None, &excluded)?;
            let records = whole.seen();
            let Some(again) = fails else {
                // Not every time, then: it is tried again as a whole, as long as there are trials
                // left.
                tracing::warn!(batch = %suspect.txid, "the batch did not fail again");
                return Ok(Vec::new());
            };
            let budget = excluded.budget.clone();
            let known = excluded.clone();
            search::search(&records, again, &budget, |some| {
                trial(self, Some(some), &known).map(|(fails, _)| fails)
            })
        });
        match found {
            Ok(found) => {
                for (place, suspect) in found {
                    tracing::warn!(%place, batch = %suspect.txid, operator = suspect.operator, error = suspect.message, "a record is set aside");
                    excluded.insert(place, suspect);
                }
                mode.excluded = Arc::new(excluded);
                Ok(Ok(()))
            }
            Err(GivenUp::Stopped) => Ok(Ok(())),
            Err(GivenUp::Failed(error)) => Err(error),
            Err(GivenUp::NotFound(why)) => Ok(Err(why)),
        }
    }

    /// Builds the dataflows, runs them until the run is stopped or they fail, and drops them.
    fn generation(
        &mut self,
        listing: Option<SourcePlan>,
        mode: &Mode,
    ) -> std::result::Result<(), Failed> {
        self.numbers += 1;
        let outcome = self.run_one(self.numbers, listing, mode);
        self.runtime.end_generation();
        outcome
    }

    fn run_one(
        &self,
        number: u64,
        listing: Option<SourcePlan>,
        mode: &Mode,
    ) -> std::result::Result<(), Failed> {
        let latch = Arc::new(Latch::default());
        let workers = self.settings.workers;
        let limits =
            if mode.trial.is_some() { BatchLimits::WHOLE } else { self.settings.batches.clone() };
        // The committer answers with the last committed batch: it takes nothing of an earlier
        // generation from here on.
        let (reply, fixed) = crossbeam_channel::bounded(1);
        let intake =
            Arc::new(Intake::new(limits, self.settings.clock.clone(), Txid::NONE, workers));
        intake.careful_until(mode.careful_until);
        // Of a trial nothing may be committed: to the committer it has failed before it begins.
        let told = if mode.trial.is_some() {
            Arc::new(Latch::failed(Error::bug("a trial")))
        } else {
            Arc::clone(&latch)
        };
        let message = crate::batch::commit::Message::Generation {
            number,
            latch: told,
            intake: Arc::clone(&intake),
            reply,
        };
        let ended =
            || self.runtime.fatal().unwrap_or_else(|| Error::bug("the committer has ended"));
        self.deltas.send(message).map_err(|_| ended())?;
        let after: Txid = match self.until_answered(&fixed) {
            (after, true) => after.ok_or_else(ended)?,
            (_, false) => return Err(write_hangs(&self.store).into()),
        };
        assert_eq!(
            after,
            self.runtime.committed(),
            "what is shown as committed is what is committed"
        );
        // Not before: the committer may have been in the middle of a write when the generation
        // before failed.
        intake.begin_after(after);
        let partitions = match listing {
            Some(listing) => listing,
            None => self.list_again()?,
        };
        for (decl, source) in self.description.program.sources.iter().zip(&self.description.sources)
        {
            self.runtime.set_left_out(&decl.name, source.left_out());
        }
        let mut assignments: Vec<Vec<Assignment>> = vec![Vec::new(); workers];
        for (index, assignment) in partitions.assignments.into_iter().enumerate() {
            assignments[index % workers].push(assignment);
        }
        let sources = self.description.sources.iter().zip(partitions.known).enumerate();
        let growing: Vec<PartitionDiscovery> = sources
            .filter(|_| mode.trial.is_none())
            .filter_map(|(index, (source, (known, every)))| {
                let name = self.description.program.sources[index].name.clone();
                let id = self
                    .decision
                    .schema
                    .source(&name)
                    .expect("the decision's schema has the program's sources");
                Some(PartitionDiscovery {
                    index,
                    id,
                    name,
                    source: Arc::clone(source),
                    every: every?,
                    known,
                })
            })
            .collect();
        for (source, decl) in self.description.sources.iter().zip(&self.description.program.sources)
        {
            self.runtime.set_notices(&decl.name, source.notices());
        }
        let (outboxes, inboxes) = (0..workers).map(|_| crossbeam_channel::unbounded()).unzip();
        let job = Job {
            generation: number,
            workers,
            shared: Shared {
                peers: workers,
                latch: Arc::clone(&latch),
                points: Arc::clone(&self.points),
                intake: Arc::clone(&intake),
                committed: Arc::clone(&self.runtime.committed),
                schema: self.decision.schema.clone(),
                key_groups: self.store.key_groups(),
                after,
                sinks: Arc::new(self.description.sinks.clone()),
                // What is tried counts for nothing.
                work: if mode.trial.is_some() {
                    Arc::default()
                } else {
                    Arc::clone(&self.runtime.work)
                },
                hub: Arc::clone(&self.runtime.hub),
                excluded: Arc::clone(&mode.excluded),
                trial: mode.trial.clone(),
            },
            store: Arc::clone(&self.store),
            build: Arc::clone(&self.build),
            program: self.description.program.clone(),
            assignments,
            facts: partitions.facts,
            discovers: growing.iter().any(|growing| !growing.source.is_bounded()),
            deltas: self.deltas.clone(),
            inboxes,
            runtime: Arc::clone(&self.runtime),
            barrier: Barrier::new(workers),
        };
        // A trial gives nothing to sinks, and reads nothing new: what holds the sources back does
        // not hold it.
        self.runtime.begin_generation(number, outboxes, &intake, mode.trial.is_some());
        if self.runtime.fatal().is_some() || self.is_stopping() {
            intake.stop();
        }
        let job = Arc::new(job);
        let mut config = timely::Config::process(workers);
        // The worker loop knows better when to sleep: timely does not see the worker's requests.
        config.worker = config.worker.idle_spin(Duration::ZERO);
        // Its other end is dropped with the closure, by the last worker that ends.
        let (alive, workers_ended) = crossbeam_channel::bounded::<()>(0);
        let guards = timely::execute(config, move |timely| {
            let _alive = &alive;
            worker::run(timely, &job);
        })
        .map_err(|why| no_thread("worker", &why))?;
        let (generation_over, ended) = crossbeam_channel::bounded::<()>(0);
        if !growing.is_empty() {
            let (runtime, intake) = (Arc::clone(&self.runtime), Arc::clone(&intake));
            let store = Arc::downgrade(&self.store);
            let discovery = Discovery {
                sources: growing,
                store,
                runtime,
                intake,
                generation: number,
                workers,
                ended,
            };
            let failing = Arc::clone(&latch);
            // Nobody waits for its end: it may be in a look over a network.
            let spawned = spawn("discovery", move || {
                let found = caught(|| {
                    discovery.run();
                    Ok(())
                });
                found.inspect_err(|error| failing.fail(error.clone()))
            });
            spawned.map_or_else(|error| latch.fail(error), drop);
        }
        let all_ended = self.until_workers_end(&latch, &guards, &workers_ended);
        if all_ended {
            for outcome in guards.join() {
                if let Err(why) = outcome {
                    latch.fail(Error::bug(format!("a worker ended badly: {why}")));
                }
            }
        } else {
            self.name_what_holds_up(
                "the batch in hand is dropped, and read again after the next start",
            );
            // Joined when dropped, else.
            std::mem::forget(guards);
        }
        // Whatever ended this generation: from here on, nothing of it is taken any more. Unless it
        // has failed, every batch that is complete is committed first.
        if mode.trial.is_none() && !latch.is_set() {
            self.commit_complete();
        }
        let error = latch.error();
        let suspected = latch
            .suspected()
            .map(|suspect| Box::new((suspect.clone(), intake.ranges_of(suspect.txid))));
        latch.fail(Error::bug("the generation is over"));
        drop(generation_over);
        match (self.runtime.fatal(), error.or_else(|| intake.lost())) {
            (Some(fatal), _) => Err(fatal.into()),
            (None, Some(error)) => Err(Failed { error, suspected, begun: intake.last_begun() }),
            (None, None) => Ok(()),
        }
    }

    fn ending(&self) -> Ending<'_> {
        Ending { runtime: &self.runtime, drain: self.settings.drain }
    }

    /// Waits until the workers of a generation have ended. False: their time was over before.
    fn until_workers_end(
        &self,
        latch: &Latch,
        guards: &WorkerGuards<()>,
        ended: &Receiver<()>,
    ) -> bool {
        let (noted, failed) = (Cell::new(false), Cell::new(None::<Instant>));
        let done = || guards.guards().iter().all(std::thread::JoinHandle::is_finished);
        let wait = |at_most: Duration| {
            // The channel closes a moment before the threads have ended.
            if ended.recv_timeout(at_most) == Err(RecvTimeoutError::Disconnected) {
                std::thread::sleep(Duration::from_micros(100));
            }
            if let (Some(error), false) = (latch.error(), noted.get()) {
                // A closure that does not return may hold the end of the generation up: the failure
                // is seen before.
                noted.set(true);
                failed.set(Some(Instant::now()));
                self.runtime.note_error(&error);
                self.runtime.inboxes.close();
            }
            if failed.get().is_some_and(|failed| failed.elapsed() >= NAMED_AFTER) {
                failed.set(None);
                let what = self
                    .runtime
                    .inside_for(NAMED_AFTER)
                    .unwrap_or_else(|| "a worker is still busy".to_string());
                tracing::warn!(
                    "a generation has failed, but does not end: {what}. A stop leaves it behind \
                     after --drain"
                );
            }
        };
        let (_, all) = self.ending().pass(Phase::Working, done, wait);
        all
    }

    /// Waits for an answer of the committer: none, if it has ended. False: the time that a stop has
    /// was over before.
    fn until_answered<T>(&self, answers: &Receiver<T>) -> (Option<T>, bool) {
        let (answer, is_over) = (Cell::new(None), Cell::new(false));
        let wait = |at_most| match answers.recv_timeout(at_most) {
            Err(RecvTimeoutError::Timeout) => {}
            answered => {
                answer.set(answered.ok());
                is_over.set(true);
            }
        };
        let (_, in_time) = self.ending().pass(Phase::Committing, || is_over.get(), wait);
        (answer.take(), in_time)
    }

    /// Waits until the committer has committed every batch that is complete. One that has ended
    /// drops the reply: its error ends the run.
    fn commit_complete(&self) {
        let (reply, answered) = crossbeam_channel::bounded(1);
        if self.deltas.send(crate::batch::commit::Message::Finish { reply }).is_ok() {
            self.until_answered(&answered);
        }
    }

    /// Names the closures that have not returned in the time that a stop has.
    fn name_what_holds_up(&self, consequence: &str) {
        let drain = self.settings.drain;
        let what = self
            .runtime
            .inside_for(drain / 2)
            .unwrap_or_else(|| "a worker is still busy".to_string());
        self.runtime.leave_behind(format!(
            "{what}, and has not ended within {drain:?} of the stop: it is \
                left behind; {consequence}"
        ));
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
