//! The parts of a run that outlive generations and are looked at from outside: the committed
//! number, the reports, the requests to workers.

use crate::clock::now_ms;
use crate::ids::GenerationNumber;
use crate::runtime::inbox::{Inboxes, ToWorker};
pub(crate) mod ask;
pub(crate) mod committed;
mod control;
mod ending;
mod fold_alarm;
pub(crate) mod history;
pub(crate) mod inbox;
pub(crate) mod leases;
mod port;
mod progress;
pub(crate) mod reads;
pub(crate) mod reports;
pub(crate) mod starting;
mod status;
pub(crate) mod timings;

use self::fold_alarm::FoldAlarm;
use self::progress::{LeftOut, WorkerReport};
use crate::batch::backpressure::{Backpressure, Bounds};
use crate::batch::intake::Intake;
use crate::batch::outlets::{Outlets, SinkStatus};
use crate::dataflow::meter::{OperatorWork, Work};
use crate::plan::Plan;
use crate::request::ask::AtLeast;
use crate::request::ask::QueryError;
use crate::request::codec::QueryCodec;
use crate::request::hub::{QueryLimits, RequestHub};
use crate::runtime::committed::CommittedProgress;
use crate::runtime::history::Batches;
use crate::runtime::leases::Leases;
use crate::runtime::timings::Timings;
use crate::sync::AtomicU64;
use crate::table::codec::StateCodec;
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tidemill_state::store::Committed;
use tidemill_state::{Error, Incarnation, Kind, Lineage, Points, Result, Store, Txid};

struct Inner {
    phase: &'static str,
    workers: Vec<WorkerReport>,
    left_out: LeftOut,
    extent: CommittedProgress,
    batches: Batches,
    intake: Option<Arc<Intake>>,
    last_error: Option<String>,
    fatal: Option<Error>,
    /// When the run was told to stop, or failed.
    ending_since: Option<Instant>,
    /// Whatever did not end in the time that a stop has.
    left_behind: Vec<String>,
    records: u64,
    set_aside: BTreeMap<String, u64>,
    /// By source: see [`crate::source::Source::notices`].
    notices: BTreeMap<String, Vec<String>>,
    longest_slice: Duration,
    generations: u64,
    /// The number of the current generation.
    generation: GenerationNumber,
    first_commit: Option<Duration>,
    store_bytes: u64,
    store: std::sync::Weak<Store>,
    /// Partitions that have ended for good, by source: the discovery forgets them.
    retired: Vec<(String, String)>,
}

/// Facts about a run that do not change.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) topology: String,
    pub(crate) workers: usize,
    pub(crate) plan: Plan,
    pub(crate) codecs: Vec<Arc<dyn StateCodec>>,
    /// The sources' names.
    pub(crate) sources: Vec<String>,
    pub(crate) key_groups: u16,
    pub(crate) lineage: Lineage,
    pub(crate) incarnation: Incarnation,
    /// From when on the sources wait.
    pub(crate) bounds: Bounds,
    /// A fold is begun at this many.
    pub(crate) fold_bytes: u64,
    pub(crate) started: Instant,
}

/// See the module's documentation.
pub struct Runtime {
    pub(crate) facts: Facts,
    started_at_ms: u64,
    pub(crate) committed: Arc<AtomicU64>,
    inner: Mutex<Inner>,
    /// Never taken while `inner` is waited for by its holder.
    pub(crate) inboxes: Inboxes,
    pub(crate) outlets: Arc<Outlets>,
    pub(crate) backpressure: Backpressure,
    pub(crate) hub: Arc<RequestHub>,
    pub(crate) leases: Leases,
    pub(crate) fold_alarm: FoldAlarm,
    /// Told of the end of the run only: who waits here is not woken by every commit.
    stopped: Condvar,
    pub(crate) stopping: AtomicBool,
    /// The number of looks for new partitions that are under way.
    pub(crate) looks: AtomicUsize,
    pub(crate) timings: Timings,
    pub(crate) work: Arc<Work>,
    controls: AtomicBool,
    /// Changes whenever more is committed: for the one of those that wait for it which leads
    /// (`request/waits.rs`).
    pub(crate) shown: tokio::sync::watch::Sender<()>,
}

impl Runtime {
    pub(crate) fn new(
        facts: Facts,
        committed: Committed,
        sinks: Vec<SinkStatus>,
        queries: Vec<Arc<dyn QueryCodec>>,
        limits: QueryLimits,
    ) -> Runtime {
        let workers = (0..facts.workers).map(|_| WorkerReport::default()).collect();
        let inner = Inner {
            phase: "starting",
            workers,
            left_out: LeftOut::default(),
            extent: CommittedProgress::default(),
            batches: Batches::default(),
            intake: None,
            last_error: None,
            fatal: None,
            ending_since: None,
            left_behind: Vec::new(),
            records: 0,
            set_aside: BTreeMap::new(),
            notices: BTreeMap::new(),
            longest_slice: Duration::ZERO,
            generations: 0,
            generation: GenerationNumber::default(),
            first_commit: None,
            store_bytes: 0,
            store: std::sync::Weak::new(),
            retired: Vec::new(),
        };
        let committed = Arc::new(AtomicU64::new(committed.txid().0));
        let hub = Arc::new(RequestHub::new(Arc::clone(&committed), facts.workers, queries, limits));
        let work = Arc::new(Work::new(facts.plan.nodes.len(), facts.workers));
        let backpressure = Backpressure::new(facts.bounds);
        Runtime {
            facts,
            started_at_ms: now_ms(),
            committed,
            inner: Mutex::new(inner),
            inboxes: Inboxes::default(),
            outlets: Arc::new(Outlets::new(sinks)),
            backpressure,
            hub,
            leases: Leases::default(),
            fold_alarm: FoldAlarm::default(),
            stopped: Condvar::new(),
            stopping: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            timings: Timings::default(),
            work,
            controls: AtomicBool::new(false),
            shown: tokio::sync::watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// The last committed batch.
    #[must_use]
    pub fn committed(&self) -> Txid {
        Txid(self.committed.load(SeqCst))
    }

    /// A generation begins: these are its workers' inboxes and its intake. Back-pressure holds that
    /// back, unless it is of a trial.
    pub(crate) fn begin_generation(
        &self,
        number: GenerationNumber,
        inboxes: Vec<Sender<ToWorker>>,
        intake: &Arc<Intake>,
        is_trial: bool,
    ) {
        self.hub.pins.begin_anew();
        let mut inner = self.lock();
        (inner.generation, inner.generations) = (number, inner.generations + 1);
        inner.retired.clear();
        self.inboxes.open(inboxes);
        inner.intake = Some(Arc::clone(intake));
        self.backpressure.set_intake((!is_trial).then(|| Arc::clone(intake)));
        inner.workers.iter_mut().for_each(|worker| worker.ready = false);
    }

    /// A generation is over: there is nobody to answer.
    pub(crate) fn end_generation(&self) {
        self.inboxes.close();
        self.backpressure.set_intake(None);
        self.lock().intake = None;
    }

    /// A worker has loaded its states, which have so many keys.
    pub(crate) fn worker_ready(&self, index: usize, keys: Vec<usize>) {
        self.inboxes.set_thread(index);
        let mut inner = self.lock();
        inner.extent.set_keys(index, keys);
        inner.workers[index].ready = true;
        if inner.workers.iter().all(|worker| worker.ready) {
            // What runs before have left may be enough for a fold, and the sources may wait for it.
            self.fold_alarm.ring();
            inner.phase = if self.stopping.load(SeqCst) { "stopping" } else { "running" };
        }
    }

    /// Returns whether this is committed.
    pub(crate) fn is_committed(
        &self,
        wanted: &AtLeast<'_>,
    ) -> std::result::Result<bool, QueryError> {
        let AtLeast::Position { source, partition, offset } = *wanted else {
            return Ok(matches!(wanted, AtLeast::Txid(txid) if *txid <= self.committed()));
        };
        if !self.facts.sources.iter().any(|known| known == source) {
            let known = self.facts.sources.join(", ");
            return Err(QueryError::BadArguments(format!(
                "there is no source \"{source}\" to wait for; there are: {known}"
            )));
        }
        Ok(self.next_offset(source, partition).is_some_and(|next| next > offset))
    }

    /// Returns the first offset of a partition that is not committed, if anything is known of it.
    pub(crate) fn next_offset(&self, source: &str, partition: &str) -> Option<u64> {
        let inner = self.lock();
        inner.extent.covered(source, partition).or_else(|| {
            // Before its first commit of this run a partition is where the run has begun with it.
            let begun = inner.workers.iter().flat_map(WorkerReport::partitions);
            begun
                .filter(|told| told.source == source && told.partition == partition)
                .map(|told| told.offset)
                .max()
        })
    }

    /// Records an error after which the run continues.
    pub(crate) fn note_error(&self, error: &Error) {
        self.lock().last_error = Some(error.to_string());
    }

    /// Returns whether every source is exhausted, everything is committed and every sink has
    /// confirmed it.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let inner = self.lock();
        let read = inner.intake.as_ref().is_some_and(|intake| intake.all_ended_and_committed());
        read && inner.workers.iter().all(|worker| worker.ready) && self.outlets.are_confirmed()
    }

    /// Returns whether the workers have loaded their states and read their sources.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inboxes.are_open() && self.lock().workers.iter().all(|worker| worker.ready)
    }

    /// From the start of the run to its first commit, if there was one.
    #[must_use]
    pub fn first_commit(&self) -> Option<Duration> {
        self.lock().first_commit
    }

    /// Calls `note` if this generation runs, and not while it ends. Returns what it returns, else
    /// false.
    pub(crate) fn while_it_runs(
        &self,
        generation: GenerationNumber,
        note: impl FnOnce() -> bool,
    ) -> bool {
        let inner = self.lock();
        inner.generation == generation && inner.intake.is_some() && note()
    }

    /// Takes the partitions that have ended for good since the last call, if the generation is the
    /// current one.
    pub(crate) fn take_retired(&self, generation: GenerationNumber) -> Vec<(String, String)> {
        let mut inner = self.lock();
        if inner.generation == generation { std::mem::take(&mut inner.retired) } else { Vec::new() }
    }

    /// Closes the open batch now if it has records and no worker is reading into it: for tests.
    pub(crate) fn close_batch(&self, points: &Points) -> Result<()> {
        let intake = self.lock().intake.clone();
        intake.map_or(Ok(()), |intake| intake.close_now(points))
    }

    /// Cancels the oldest read, as if the values that it needs took too much memory: for tests.
    #[doc(hidden)]
    pub fn cancel_oldest_pin(&self) {
        self.hub.pins.cancel_oldest();
    }

    /// Returns whether the workers run, no batch is on its way and every sink has what is
    /// committed: for tests.
    pub(crate) fn is_at_rest(&self) -> bool {
        let inner = self.lock();
        let nothing_open = inner.intake.as_ref().is_some_and(|intake| intake.nothing_in_flight());
        nothing_open
            && self.outlets.are_confirmed()
            && inner.workers.iter().all(|worker| worker.ready)
    }

    /// Calls `each` with a state's committed encoded keys and values, in order of the keys: for
    /// tests, while nothing is being committed.
    pub(crate) fn scan_committed(
        &self,
        name: &str,
        each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let store = self.lock().store.upgrade().ok_or_else(unavailable)?;
        let id = store
            .facts()?
            .schema
            .state(name)
            .ok_or_else(|| Error::config(format!("there is no state \"{name}\"")))?;
        store.scan(id, each)
    }

    pub(crate) fn set_store(&self, store: &Arc<Store>) {
        self.lock().store = Arc::downgrade(store);
    }

    /// The dataflow.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.facts.plan
    }

    /// Returns the work of each operator since the run began, in the order of the plan.
    #[must_use]
    pub fn operators(&self) -> Vec<OperatorWork> {
        self.work.totals(|node| self.facts.plan.receives(node))
    }
}

pub(crate) fn unavailable() -> Error {
    Error::new(Kind::TryAgain, "the workers are starting, stopping or busy: try again")
}
