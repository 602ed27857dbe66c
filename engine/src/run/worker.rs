//! The worker loop: one worker, one generation, from the first batch to the last.
//!
//! A turn has these steps: end the batch if it was closed, else add one chunk from a source to it;
//! let every operator that has work do one slice; hand over what is complete. When there is nothing
//! to do the worker parks. Data, a close, a commit or a request wakes it.

use crate::batch::commit::Message;
use crate::batch::feed::Assignment;
use crate::batch::intake::Turn;
use crate::batch::{Range, WorkerDelta, slice};
use crate::dataflow::context::{Context, Shared};
use crate::dataflow::declared::Declared;
use crate::dataflow::topology::{self, Build, Topology};
use crate::ids::GenerationNumber;
use crate::panics;
use crate::run::threads::spawn_raw;
use crate::runtime::Runtime;
use crate::runtime::inbox::ToWorker;
use crate::source::StartFacts;
use crate::table::page::PageOf;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tidemill_state::schema::Program;
use tidemill_state::{
    CrashPoint, Error, KeyGroup, Kind, Result, StateId, Store, Txid, WorkerIndex, delta,
};

/// The input of the workers of a generation.
pub(crate) struct Job {
    pub(crate) generation: GenerationNumber,
    pub(crate) workers: usize,
    pub(crate) shared: Shared,
    pub(crate) store: Arc<Store>,
    pub(crate) build: Arc<Build>,
    pub(crate) program: Program,
    /// By worker.
    pub(crate) assignments: Vec<Vec<Assignment>>,
    /// By source: the facts of its start.
    pub(crate) facts: Vec<Option<StartFacts>>,
    /// True if partitions may join: the sources are then never at their end.
    pub(crate) discovers: bool,
    pub(crate) deltas: crossbeam_channel::Sender<Message>,
    pub(crate) inboxes: Vec<crossbeam_channel::Receiver<ToWorker>>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) barrier: Barrier,
}

/// The longest that a worker sleeps when nothing else wakes it.
const LONGEST_PARK: Duration = Duration::from_secs(1);

/// The interval at which a worker reports how far it has read.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// For how long after a request a worker offers its processor at every turn; and how long after a
/// record it does not linger: whoever commits, folds and asks needs the processors too.
const LATELY: Duration = Duration::from_millis(10);

/// The time a worker that a request has just passed looks for the next one before it sleeps: waking
/// it costs about as much.
const LINGER: Duration = Duration::from_micros(20);

/// The number of requests that a worker answers before it continues with other work.
const QUESTIONS_AT_ONCE: usize = 256;

/// Runs one worker until the topology is stopped or the generation fails. The failure is in the
/// latch.
pub(crate) fn run(timely: &mut timely::worker::Worker, job: &Job) {
    let latch = &job.shared.latch;
    latch.wake_me();
    job.shared.intake.wake_me();
    let outcome = catch_unwind(AssertUnwindSafe(|| match Worker::start(timely, job) {
        // The latch is set while the worker still holds its inputs: dropped before, they would look
        // like completion.
        Ok(mut worker) => worker.run(timely).unwrap_or_else(|error| latch.fail(error)),
        Err(error) => latch.fail(error),
    }));
    match outcome {
        Ok(()) => {}
        Err(panic) => latch.fail(Error::bug(format!(
            "a worker panicked: {}",
            crate::panics::panic_message(panic.as_ref())
        ))),
    }
    // No dataflow is dropped while another worker may still step its own: a dropped capability
    // looks like completion.
    job.barrier.wait();
    // Values of the user's are dropped with it. A panic there must not keep the others waiting at
    // the barrier.
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        for dataflow in timely.installed_dataflows() {
            timely.drop_dataflow(dataflow);
        }
    }));
    if let Err(panic) = dropped {
        let why = crate::panics::panic_message(panic.as_ref());
        latch.fail(Error::user_code(format!("dropping the dataflow panicked: {why}")));
    }
    job.barrier.wait();
}

struct Worker<'j> {
    job: &'j Job,
    index: usize,
    context: Rc<Context>,
    feeds: Vec<Box<dyn crate::batch::feed::Feed>>,
    next_feed: usize,
    /// The batch that is being filled here.
    at: Txid,
    /// The first batch that is not handed over.
    oldest: Txid,
    ranges: BTreeMap<Txid, Vec<Range>>,
    reported: Instant,
    busy: Duration,
    /// Up to which batch old values were let go of, and whether all of them are gone.
    released: (Txid, bool),
    /// The number of requests that had been given up at the last look.
    given_up: usize,
    /// Pages that are being read.
    pages: VecDeque<PageOf>,
    /// When a request has passed here last, and how many have entered an operator by then.
    asked: Instant,
    entered: u64,
    /// When a record was read here last.
    given: Instant,
}

impl<'j> Worker<'j> {
    fn start(timely: &mut timely::worker::Worker, job: &'j Job) -> Result<Worker<'j>> {
        let index = timely.index();
        let context = Context::new(index, job.shared.clone());
        let built = panics::located(|| {
            timely.dataflow(|scope| (job.build)(&Topology { scope, context: Rc::clone(&context) }));
        });
        built.map_err(|why| topology::build_failed(&why))?;
        let declared = &mut *context.declared.borrow_mut();
        if let Some(error) = declared.error.take() {
            return Err(error);
        }
        if declared.program.states != job.program.states
            || declared.program.sources != job.program.sources
            || declared.program.sinks != job.program.sinks
            || !declared.queries.iter().map(|query| query.decl()).eq(job
                .runtime
                .hub
                .queries
                .iter()
                .map(|query| query.decl()))
        {
            return Err(Error::user_code(
                "the closure that builds the topology declared other sources, states, sinks or \
                 queries than the first time: it must declare the same each time",
            ));
        }
        let mut feeds = std::mem::take(&mut declared.feeds);
        restore(job, &context, declared)?;
        job.shared.points.reach(CrashPoint::StateRestored)?;
        for (feed, facts) in feeds.iter_mut().zip(&job.facts) {
            if let Some(facts) = facts {
                feed.adopt(facts);
            }
        }
        for assignment in &job.assignments[index] {
            feeds[assignment.source.0].assign(&assignment.partition, assignment.from.as_ref())?;
        }
        job.shared.points.reach(CrashPoint::SourcesOpened)?;
        let at = job.shared.after.next();
        for feed in &mut feeds {
            feed.advance_to(at);
        }
        let context = Rc::clone(&context);
        let reported = Instant::now();
        Ok(Worker {
            job,
            index,
            context,
            feeds,
            next_feed: 0,
            at,
            oldest: at,
            ranges: BTreeMap::new(),
            reported,
            busy: Duration::ZERO,
            released: (Txid::NONE, true),
            given_up: 0,
            pages: VecDeque::new(),
            asked: reported,
            entered: 0,
            given: reported,
        })
    }

    fn run(&mut self, timely: &mut timely::worker::Worker) -> Result<()> {
        let Shared { latch, intake, .. } = &self.job.shared;
        self.job.runtime.worker_ready(self.index, self.keys(self.job.shared.after));
        self.report();
        self.job.shared.trial.iter().for_each(|trial| trial.begin());
        let mut wait = Some(Duration::ZERO);
        while !latch.is_set() {
            let began = Instant::now();
            let more = self.answer()?;
            let idle = match intake.turn(self.at, &self.job.shared.points)? {
                Turn::Advance(txid) => {
                    self.advance(txid);
                    Some(Duration::ZERO)
                }
                Turn::Read { records, bytes } => self.read(records, bytes)?,
                Turn::Wait(due) => due,
            };
            let idle =
                [idle, self.tend_queries(), self.turn_page(), more].into_iter().flatten().min();
            let parks = wait != Some(Duration::ZERO)
                && idle != Some(Duration::ZERO)
                && !self.linger(timely, idle);
            self.busy = self.busy.max(if parks { Duration::ZERO } else { began.elapsed() });
            // One step without sleep always comes before a sleep: what was just read must not wait.
            timely.step_or_park(Some(if parks { self.longest_park(idle) } else { Duration::ZERO }));
            wait = idle;
            let requests = self.requests_passed() || self.asked.elapsed() < LATELY;
            slice::beside_requests(requests);
            if requests {
                // Who asks may wait for this processor, and the operating system would take it away
                // only after milliseconds.
                std::thread::yield_now();
            }
            self.hand_over()?;
            if self.reported.elapsed() >= REPORT_EVERY {
                self.report();
            }
            if let Some(trial) = &self.job.shared.trial {
                if trial.is_through() {
                    return Ok(());
                }
                if intake.has_ended_empty() {
                    return Err(Error::new(
                        Kind::SourceLost,
                        format!(
                            "batch {} has failed, and its records are no longer at their sources",
                            self.at
                        ),
                    ));
                }
            }
            if self.oldest == self.at && intake.is_finished(self.at) {
                self.report();
                return Ok(());
            }
        }
        // What the batch in hand covers so far: it may be the one that has failed.
        let ranges: Vec<Range> = self.feeds.iter_mut().flat_map(|feed| feed.ranges()).collect();
        intake.record_ranges(self.at, &ranges);
        Ok(())
    }

    /// Returns the longest time to sleep. Readers may rest for long, and what was read is reported
    /// before that.
    fn longest_park(&self, idle: Option<Duration>) -> Duration {
        let news = self.feeds.iter().any(|feed| feed.has_news());
        let report = news.then(|| REPORT_EVERY.saturating_sub(self.reported.elapsed()));
        [idle, report].into_iter().flatten().fold(LONGEST_PARK, Duration::min)
    }

    /// Returns whether a request has passed here since the last look.
    fn requests_passed(&mut self) -> bool {
        let entered = self.context.watch.entered();
        let passed = std::mem::replace(&mut self.entered, entered) != entered;
        if passed {
            self.asked = Instant::now();
        }
        passed
    }

    /// Looks for work for a while, if requests come and go: see [`LINGER`]. Returns whether it has
    /// looked: the worker must not sleep before it has seen to what that brought.
    fn linger(&mut self, timely: &mut timely::worker::Worker, idle: Option<Duration>) -> bool {
        let began = Instant::now();
        if began.duration_since(self.given) < LATELY {
            return false;
        }
        let until = (self.asked + LINGER).min(began + idle.unwrap_or(LINGER));
        let mut looked = false;
        while Instant::now() < until {
            looked = true;
            timely.step();
            if self.requests_passed() || !self.job.inboxes[self.index].is_empty() {
                break;
            }
            // Whoever asks, or the other worker, may wait for this processor.
            std::thread::yield_now();
        }
        looked
    }

    fn advance(&mut self, txid: Txid) {
        let ranges: Vec<Range> =
            self.feeds.iter_mut().flat_map(|feed| feed.advance_to(txid)).collect();
        self.job.shared.intake.record_ranges(self.at, &ranges);
        self.ranges.insert(self.at, ranges);
        // Batches in between were opened and closed by other workers before this one looked: it has
        // nothing in them.
        self.at = txid;
    }

    /// Reads a chunk of one source. Gives how long it may sleep before reading again.
    fn read(&mut self, promised: u64, bytes: u64) -> Result<Option<Duration>> {
        let mut counts = (0, 0);
        for _ in 0..self.feeds.len() {
            let feed = self.next_feed % self.feeds.len();
            self.next_feed = feed + 1;
            counts = self.feeds[feed].read(promised, bytes)?;
            if counts.0 > 0 {
                break;
            }
        }
        let Shared { intake, points, .. } = &self.job.shared;
        if counts.0 > 0 {
            self.given = Instant::now();
            intake.set_ended(self.index, false);
            intake.given(self.at, promised, counts.0, counts.1, points)?;
            return Ok(Some(Duration::ZERO));
        }
        intake.given(self.at, promised, 0, 0, points)?;
        let now = Instant::now();
        let ready = self.feeds.iter().filter_map(|feed| feed.ready_in(now)).min();
        intake.set_ended(self.index, ready.is_none() && !self.job.discovers);
        Ok([ready, intake.due()].into_iter().flatten().min())
    }

    /// Sends the committer every batch that is complete here: the frontier at the end of the
    /// dataflow has passed it.
    fn hand_over(&mut self) -> Result<()> {
        while self.oldest < self.at && !self.context.probe.less_equal(&self.oldest.0) {
            let made = self.context.take_batch(self.oldest);
            // A failure is in the latch before anything of it can look like completion.
            if self.job.shared.latch.is_set() {
                return Ok(());
            }
            self.job.shared.points.reach(CrashPoint::BatchComputed)?;
            if let Some(trial) = &self.job.shared.trial {
                self.oldest = self.oldest.next();
                trial.worker_is_through();
                self.job.shared.intake.wake_all();
                continue;
            }
            let delta = WorkerDelta {
                generation: self.job.generation,
                txid: self.oldest,
                worker: WorkerIndex(u32::try_from(self.index).expect("workers are few")),
                completed: Instant::now(),
                changes: made.sections.iter().map(delta::Section::len).sum(),
                delta: delta::assemble(&made.sections)?,
                outputs: made.outputs.into_iter().collect(),
                ranges: self.ranges.remove(&self.oldest).unwrap_or_default(),
                keys: self.keys(self.oldest),
                set_aside: made.set_aside,
            };
            // The committer ends only when the whole run does.
            let _ = self.job.deltas.send(Message::Delta(delta));
            self.oldest = self.oldest.next();
        }
        Ok(())
    }

    /// Goes on with the page that waits longest. Gives when to come back.
    fn turn_page(&mut self) -> Option<Duration> {
        let page = self.pages.pop_front()?;
        let state = &self.context.declared.borrow().states[page.state.0];
        self.pages.extend(page.turn_for_a_slice(|page| state.page(page)));
        Some(Duration::ZERO)
    }

    /// Looks after the requests that are at home here, and lets go of old values that no request
    /// needs. Gives when to look again.
    fn tend_queries(&mut self) -> Option<Duration> {
        let Context { shared, in_flight, declared, .. } = &*self.context;
        let (pins, live) = (&shared.hub.pins, &shared.hub.live);
        let due = in_flight.borrow_mut().sweep(Instant::now(), || self.job.runtime.held_up_by());
        let given_up = live.given_up();
        if given_up != self.given_up {
            self.given_up = given_up;
            declared.borrow().sweepers.iter().for_each(timely::scheduling::Activator::activate);
        }
        let floor = pins.floor();
        if (floor, true) != self.released {
            let states = &declared.borrow().states;
            let left = states.iter().filter(|state| !state.release(floor)).count();
            self.released = (floor, left == 0);
        }
        pins.keep(
            self.index,
            declared.borrow().states.iter().map(|state| state.kept_bytes()).sum(),
        );
        if self.released.1 { due } else { Some(Duration::ZERO) }
    }

    /// Answers questions, and takes new partitions and requests. Gives when to look again, if there
    /// are more.
    fn answer(&mut self) -> Result<Option<Duration>> {
        for message in self.job.inboxes[self.index].try_iter().take(QUESTIONS_AT_ONCE) {
            match message {
                // Nobody waits for it any more.
                ToWorker::Read { reply, .. } if reply.is_closed() => {}
                ToWorker::Read { state, keys, at, most_bytes, reply } => {
                    let at = at.unwrap_or_else(|| self.context.committed());
                    let state = &self.context.declared.borrow().states[state.0];
                    let _ = reply.send(
                        crate::table::part::values(&**state, &keys, at, most_bytes)
                            .map(|values| (at, values)),
                    );
                }
                ToWorker::Page(page) => self.pages.push_back(page),
                ToWorker::Assign { generation, assignment } => {
                    // A late look of an earlier generation may find partitions that this one has
                    // listed itself.
                    if generation == self.job.generation {
                        let feed = &mut self.feeds[assignment.source.0];
                        match feed.assign(&assignment.partition, assignment.from.as_ref()) {
                            // As of a reader: what the others have read is committed first.
                            Err(error) if error.kind() == Kind::SourceLost => {
                                self.job.shared.intake.end_with(error)
                            }
                            assigned => assigned?,
                        }
                    }
                }
                ToWorker::Ask(ask) => self.context.in_flight.borrow_mut().receive(ask),
            }
        }
        self.context.in_flight.borrow_mut().begin(&self.context.declared.borrow().entrances);
        Ok((!self.job.inboxes[self.index].is_empty()).then_some(Duration::ZERO))
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        if self.job.shared.trial.is_some() {
            return;
        }
        // Without a thread for it, an order is dropped here.
        let states = &self.context.declared.borrow().states;
        let unused = states.iter().filter_map(|state| state.give_back(self.reported));
        unused.for_each(|order| drop(spawn_raw("order", move || drop(order))));
        let ranges: Vec<Range> = self.feeds.iter_mut().flat_map(|feed| feed.moved()).collect();
        if !ranges.is_empty() {
            // Every record before is in a batch before the open one.
            let after = Txid(self.at.0 - 1);
            // The committer ends only when the whole run does.
            let _ = self.job.deltas.send(Message::Moved {
                generation: self.job.generation,
                after,
                ranges,
            });
        }
        let progress = self.feeds.iter_mut().enumerate();
        let progress = progress.flat_map(|(at, feed)| {
            feed.progress().into_iter().map(move |(slot, of)| ((at, slot), of))
        });
        let partitions = progress.collect();
        let longest = slice::take_longest().max(std::mem::take(&mut self.busy));
        self.job.runtime.worker_report((self.job.generation, self.index), partitions, longest);
    }

    /// Returns the number of keys this worker's states have after batch `at`.
    fn keys(&self, at: Txid) -> Vec<usize> {
        self.context.declared.borrow().states.iter().map(|state| state.keys(at)).collect()
    }
}

/// Loads this worker's part of every state. No batch is committed meanwhile: this worker would have
/// to be part of it.
fn restore(job: &Job, context: &Context, declared: &Declared) -> Result<()> {
    let states = &declared.states;
    let ids: Vec<StateId> = states.iter().map(|state| state.id()).collect();
    let mine = |group: KeyGroup| group.owner(job.workers) == context.index;
    job.store.read_committed(&ids, mine, |id, key, value| {
        match states.iter().find(|state| state.id() == id) {
            Some(state) => state
                .restore(key, value)
                .map_err(|why| unreadable(context, declared, (id, key, value)).unwrap_or(why)),
            None => Ok(()),
        }
    })
}

/// The error of a row that cannot be read, with its state and key.
fn unreadable(
    context: &Context,
    declared: &Declared,
    (id, key, value): (StateId, &[u8], Option<&[u8]>),
) -> Option<Error> {
    let name = context
        .shared
        .schema
        .states
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, state)| &state.name)?;
    declared.codecs.iter().find(|codec| codec.decl().name == *name)?.read_row(key, value).err()
}
