//! The life of one generation: the committer answers with the last committed batch, the dataflows
//! are built, run until they are stopped or fail, and dropped.

use super::{Failed, Generations, Mode};
use crate::batch::BatchLimits;
use crate::batch::commit::Message;
use crate::batch::feed::Assignment;
use crate::batch::intake::Intake;
use crate::batch::latch::Latch;
use crate::dataflow::context::Shared;
use crate::dataflow::topology::Description;
use crate::ids::{GenerationNumber, SourceIndex};
use crate::run::discovery::{Discovery, PartitionDiscovery};
use crate::run::ending::{Phase, write_hangs};
use crate::run::start::{KnownPartitions, SourcePlan};
use crate::run::threads::{caught, no_thread, spawn};
use crate::run::worker::{self, Job};
use crate::runtime::inbox::ToWorker;
use crate::source::StartFacts;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Result, Txid};
use timely::communication::WorkerGuards;

/// The time a generation may take to end after its failure before the closures that hold it up are
/// named.
const NAMED_AFTER: Duration = Duration::from_secs(2);

/// A generation whose beginning the committer has noted.
struct Generation<'m> {
    number: GenerationNumber,
    mode: &'m Mode,
    latch: Arc<Latch>,
    intake: Arc<Intake>,
    /// The last committed batch.
    after: Txid,
}

impl Generation<'_> {
    fn is_trial(&self) -> bool {
        self.mode.trial.is_some()
    }
}

/// The workers of a generation.
struct Workers {
    guards: WorkerGuards<()>,
    /// Closed when the last of them ends.
    ended: Receiver<()>,
}

/// The committer's answer to a question.
enum CommitterReply<T> {
    Given(T),
    /// The committer has ended, and gives none.
    Ended,
    /// The time that a stop has was over before.
    Late,
}

impl Generations {
    /// Builds the dataflows, runs them until the run is stopped or they fail, and drops them.
    pub(super) fn generation(
        &mut self,
        listing: Option<SourcePlan>,
        mode: &Mode,
    ) -> std::result::Result<(), Failed> {
        self.last = self.last.next();
        let outcome = self.run_one(self.last, listing, mode);
        self.runtime.end_generation();
        outcome
    }

    fn run_one(
        &self,
        number: GenerationNumber,
        listing: Option<SourcePlan>,
        mode: &Mode,
    ) -> std::result::Result<(), Failed> {
        let generation = self.resume_after_commit(number, mode)?;
        let SourcePlan { assignments, known, facts, .. } = match listing {
            Some(listing) => listing,
            None => self.list_again()?,
        };
        self.show_sources();
        let growing = self.growing(known, &generation);
        let discovers = growing.iter().any(|growing| !growing.source.is_bounded());
        let workers = self.settings.workers;
        let (outboxes, inboxes) = (0..workers).map(|_| crossbeam_channel::unbounded()).unzip();
        let job = self.job(&generation, assignments, facts, discovers, inboxes);
        // A trial gives nothing to sinks, and reads nothing new: what holds the sources back does
        // not hold it.
        let intake = &generation.intake;
        self.runtime.begin_generation(number, outboxes, intake, generation.is_trial());
        if self.runtime.fatal().is_some() || self.is_stopping() {
            intake.stop();
        }
        let workers = self.start_workers(job)?;
        let generation_over = self.start_discovery(growing, &generation);
        self.end_workers(workers, &generation.latch);
        let outcome = self.judge(&generation);
        drop(generation_over);
        outcome
    }

    /// Begins a generation after the last committed batch, with which the committer answers: it
    /// takes nothing of an earlier generation from here on.
    fn resume_after_commit<'m>(
        &self,
        number: GenerationNumber,
        mode: &'m Mode,
    ) -> Result<Generation<'m>> {
        let latch = Arc::new(Latch::default());
        let limits =
            if mode.trial.is_some() { BatchLimits::WHOLE } else { self.settings.batches.clone() };
        let (clock, workers) = (self.settings.clock.clone(), self.settings.workers);
        let intake = Arc::new(Intake::new(limits, clock, Txid::NONE, workers));
        intake.careful_until(mode.careful_until);
        // Of a trial nothing may be committed: to the committer it has failed before it begins.
        let reported = if mode.trial.is_some() {
            Arc::new(Latch::failed(Error::bug("a trial")))
        } else {
            Arc::clone(&latch)
        };
        let (reply, fixed) = crossbeam_channel::bounded(1);
        let message =
            Message::Generation { number, latch: reported, intake: Arc::clone(&intake), reply };
        let ended =
            || self.runtime.fatal().unwrap_or_else(|| Error::bug("the committer has ended"));
        self.deltas.send(message).map_err(|_| ended())?;
        let after: Txid = match self.until_answered(&fixed) {
            CommitterReply::Given(after) => after,
            CommitterReply::Ended => return Err(ended()),
            CommitterReply::Late => return Err(write_hangs(&self.store)),
        };
        assert_eq!(
            after,
            self.runtime.committed(),
            "what is shown as committed is what is committed"
        );
        // Not before: the committer may have been in the middle of a write when the generation
        // before failed.
        intake.begin_after(after);
        Ok(Generation { number, mode, latch, intake, after })
    }

    /// Shows what the sources leave out, and what is to be known of them.
    fn show_sources(&self) {
        let Description { sources, program, .. } = &self.description;
        for (decl, source) in program.sources.iter().zip(sources) {
            self.runtime.set_left_out(&decl.name, source.left_out());
            self.runtime.set_notices(&decl.name, source.notices());
        }
    }

    /// The sources whose partitions may grow in number: none in a trial.
    fn growing(
        &self,
        known: Vec<(KnownPartitions, Option<Duration>)>,
        generation: &Generation<'_>,
    ) -> Vec<PartitionDiscovery> {
        let sources = self.description.sources.iter().zip(known).enumerate();
        sources
            .filter(|_| !generation.is_trial())
            .filter_map(|(index, (source, (known, every)))| {
                let name = self.description.program.sources[index].name.clone();
                let id = self
                    .decision
                    .schema
                    .source(&name)
                    .expect("the decision's schema has the program's sources");
                Some(PartitionDiscovery {
                    index: SourceIndex(index),
                    id,
                    name,
                    source: Arc::clone(source),
                    every: every?,
                    known,
                })
            })
            .collect()
    }

    /// Builds the job of a generation's workers, over whom the partitions are spread.
    fn job(
        &self,
        generation: &Generation<'_>,
        partitions: Vec<Assignment>,
        facts: Vec<Option<StartFacts>>,
        discovers: bool,
        inboxes: Vec<Receiver<ToWorker>>,
    ) -> Job {
        let workers = self.settings.workers;
        let mut assignments: Vec<Vec<Assignment>> = vec![Vec::new(); workers];
        for (index, assignment) in partitions.into_iter().enumerate() {
            assignments[index % workers].push(assignment);
        }
        Job {
            generation: generation.number,
            workers,
            shared: Shared {
                peers: workers,
                latch: Arc::clone(&generation.latch),
                points: Arc::clone(&self.points),
                intake: Arc::clone(&generation.intake),
                committed: Arc::clone(&self.runtime.committed),
                schema: self.decision.schema.clone(),
                key_groups: self.store.key_groups(),
                after: generation.after,
                sinks: Arc::new(self.description.sinks.clone()),
                // What is tried counts for nothing.
                work: if generation.is_trial() {
                    Arc::default()
                } else {
                    Arc::clone(&self.runtime.work)
                },
                hub: Arc::clone(&self.runtime.hub),
                excluded: Arc::clone(&generation.mode.excluded),
                trial: generation.mode.trial.clone(),
            },
            store: Arc::clone(&self.store),
            build: Arc::clone(&self.build),
            program: self.description.program.clone(),
            assignments,
            facts,
            discovers,
            deltas: self.deltas.clone(),
            inboxes,
            runtime: Arc::clone(&self.runtime),
            barrier: Barrier::new(workers),
        }
    }

    fn start_workers(&self, job: Job) -> Result<Workers> {
        let job = Arc::new(job);
        let mut config = timely::Config::process(self.settings.workers);
        // The worker loop knows better when to sleep: timely does not see the worker's requests.
        config.worker = config.worker.idle_spin(Duration::ZERO);
        // Its other end is dropped with the closure, by the last worker that ends.
        let (alive, ended) = crossbeam_channel::bounded::<()>(0);
        let guards = timely::execute(config, move |timely| {
            let _alive = &alive;
            worker::run(timely, &job);
        })
        .map_err(|why| no_thread("worker", &why))?;
        Ok(Workers { guards, ended })
    }

    /// Looks for new partitions of these sources, from a thread of its own, until the returned end
    /// of a channel is dropped.
    fn start_discovery(
        &self,
        sources: Vec<PartitionDiscovery>,
        generation: &Generation<'_>,
    ) -> Sender<()> {
        let (generation_over, ended) = crossbeam_channel::bounded::<()>(0);
        if sources.is_empty() {
            return generation_over;
        }
        let discovery = Discovery {
            sources,
            store: Arc::downgrade(&self.store),
            runtime: Arc::clone(&self.runtime),
            intake: Arc::clone(&generation.intake),
            generation: generation.number,
            workers: self.settings.workers,
            ended,
        };
        let failing = Arc::clone(&generation.latch);
        // Nobody waits for its end: it may be in a look over a network.
        let spawned = spawn("discovery", move || {
            let found = caught(|| {
                discovery.run();
                Ok(())
            });
            found.inspect_err(|error| failing.fail(error.clone()))
        });
        spawned.map_or_else(|error| generation.latch.fail(error), drop);
        generation_over
    }

    /// Waits for the workers, and leaves them behind when the time of a stop is over.
    fn end_workers(&self, workers: Workers, latch: &Latch) {
        if self.until_workers_end(latch, &workers) {
            for outcome in workers.guards.join() {
                if let Err(why) = outcome {
                    latch.fail(Error::bug(format!("a worker ended badly: {why}")));
                }
            }
        } else {
            self.name_what_holds_up(
                "the batch in hand is dropped, and read again after the next start",
            );
            // Joined when dropped, else.
            std::mem::forget(workers.guards);
        }
    }

    /// Ends a generation whose workers have ended: whatever ended it, nothing of it is taken any
    /// more from here on. Unless it has failed, every batch that is complete is committed first.
    fn judge(&self, generation: &Generation<'_>) -> std::result::Result<(), Failed> {
        let Generation { latch, intake, .. } = generation;
        if !generation.is_trial() && !latch.is_set() {
            self.commit_complete();
        }
        let error = latch.error();
        let suspected = latch
            .suspected()
            .map(|suspect| Box::new((suspect.clone(), intake.ranges_of(suspect.txid))));
        latch.fail(Error::bug("the generation is over"));
        match (self.runtime.fatal(), error.or_else(|| intake.lost())) {
            (Some(fatal), _) => Err(fatal.into()),
            (None, Some(error)) => Err(Failed { error, suspected, begun: intake.last_begun() }),
            (None, None) => Ok(()),
        }
    }

    /// Waits until the workers of a generation have ended. False: their time was over before.
    fn until_workers_end(&self, latch: &Latch, workers: &Workers) -> bool {
        let Workers { guards, ended } = workers;
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

    /// Waits for an answer of the committer.
    fn until_answered<T>(&self, answers: &Receiver<T>) -> CommitterReply<T> {
        let answer = RefCell::new(CommitterReply::Late);
        let wait = |at_most| match answers.recv_timeout(at_most) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(given) => *answer.borrow_mut() = CommitterReply::Given(given),
            Err(RecvTimeoutError::Disconnected) => *answer.borrow_mut() = CommitterReply::Ended,
        };
        let is_over = || !matches!(*answer.borrow(), CommitterReply::Late);
        self.ending().pass(Phase::Committing, is_over, wait);
        answer.into_inner()
    }

    /// Waits until the committer has committed every batch that is complete. One that has ended
    /// drops the reply: its error ends the run.
    fn commit_complete(&self) {
        let (reply, answered) = crossbeam_channel::bounded(1);
        if self.deltas.send(Message::Finish { reply }).is_ok() {
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
}
