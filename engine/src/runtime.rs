//! What outlives generations and is looked at from outside: the committed number, the reports, the questions to workers, the bounds.

use crate::clock::now_ms;
use crate::runtime::inbox::{Inbox, ToWorker};
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
use crate::batch::Range;
use crate::batch::feed::Assignment;
use crate::batch::intake::Intake;
use crate::dataflow::meter::{OperatorWork, Work};
use crate::plan::Plan;
use crate::request::ask::AtLeast;
use crate::request::ask::QueryError;
use crate::request::codec::QueryCodec;
use crate::request::hub::{QueryLimits, RequestHub};
use crate::runtime::committed::CommittedProgress;
use crate::runtime::history::Batches;
use crate::runtime::leases::Leases;
use crate::runtime::reports::{Busy, SinkStatus};
use crate::runtime::timings::Timings;
use crate::table::codec::StateCodec;
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};
use tidemill_state::store::Committed;
use tidemill_state::{Error, Incarnation, Kind, Lineage, Points, Result, Store, Txid};

struct Inner {
    phase: &'static str,
    workers: Vec<WorkerReport>,
    left_out: LeftOut,
    extent: CommittedProgress,
    sinks: Vec<SinkStatus>,
    batches: Batches,
    intake: Option<Arc<Intake>>,
    held_back: bool,
    waiting_for_disk: Option<String>,
    paused_since_ms: Option<u64>,
    last_error: Option<String>,
    fatal: Option<Error>,
    publishing_ends: Option<Instant>,
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
    generation: u64,
    first_commit: Option<Duration>,
    unfolded_bytes: u64,
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
    pub(crate) outbox_bytes: usize,
    /// The sources wait while this many bytes of changes are not folded.
    pub(crate) unfolded_bytes: u64,
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
    /// By worker; none between generations. Never taken while `inner` is waited for by its holder.
    inboxes: RwLock<Vec<Inbox>>,
    pub(crate) hub: Arc<RequestHub>,
    pub(crate) leases: Leases,
    changed: Condvar,
    pub(crate) fold_alarm: FoldAlarm,
    /// Told of the end of the run only: who waits here is not woken by every commit.
    stopped: Condvar,
    pub(crate) stopping: AtomicBool,
    /// How many looks for new partitions are under way.
    pub(crate) looks: AtomicUsize,
    pub(crate) timings: Timings,
    pub(crate) work: Arc<Work>,
    controls: AtomicBool,
    /// Changes whenever more is committed: for those that wait for it.
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
            sinks,
            batches: Batches::default(),
            intake: None,
            held_back: true,
            waiting_for_disk: None,
            paused_since_ms: None,
            last_error: None,
            fatal: None,
            publishing_ends: None,
            ending_since: None,
            left_behind: Vec::new(),
            records: 0,
            set_aside: BTreeMap::new(),
            notices: BTreeMap::new(),
            longest_slice: Duration::ZERO,
            generations: 0,
            generation: 0,
            first_commit: None,
            unfolded_bytes: 0,
            store_bytes: 0,
            store: std::sync::Weak::new(),
            retired: Vec::new(),
        };
        let committed = Arc::new(AtomicU64::new(committed.txid().0));
        let hub = Arc::new(RequestHub::new(Arc::clone(&committed), facts.workers, queries, limits));
        let work = Arc::new(Work::new(facts.plan.nodes.len(), facts.workers));
        Runtime {
            facts,
            started_at_ms: now_ms(),
            committed,
            inner: Mutex::new(inner),
            inboxes: RwLock::default(),
            hub,
            leases: Leases::default(),
            changed: Condvar::new(),
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

    /// A generation begins: these are its workers' inboxes and its intake, and whether what holds the sources back holds it too.
    pub(crate) fn begin_generation(&self, number: u64, inboxes: Vec<Sender<ToWorker>>, intake: &Arc<Intake>, held_back: bool) {
        self.hub.pins.begin_anew();
        let mut inner = self.lock();
        (inner.generation, inner.generations) = (number, inner.generations + 1);
        inner.retired.clear();
        *self.inboxes.write().expect("no holder of this lock panics") = inboxes.into_iter().map(|inbox| (inbox, None)).collect();
        (inner.intake, inner.held_back) = (Some(Arc::clone(intake)), held_back);
        inner.workers.iter_mut().for_each(|worker| worker.ready = false);
        self.apply_hold(&inner);
    }

    /// A generation is over: there is nobody to answer.
    pub(crate) fn end_generation(&self) {
        self.close_inboxes();
        self.lock().intake = None;
    }

    /// A worker has loaded its states, which have so many keys.
    pub(crate) fn worker_ready(&self, index: usize, keys: Vec<usize>) {
        if let Some(inbox) = self.inboxes.write().expect("no holder of this lock panics").get_mut(index) {
            inbox.1 = Some(std::thread::current());
        }
        let mut inner = self.lock();
        inner.extent.set_keys(index, keys);
        inner.workers[index].ready = true;
        if inner.workers.iter().all(|worker| worker.ready) {
            // What runs before have left may be enough for a fold, and the sources may wait for it.
            self.fold_alarm.ring();
            inner.phase = if self.stopping.load(SeqCst) { "stopping" } else { "running" };
        }
        self.changed.notify_all();
    }

    /// Shows that partitions have moved on without a record, with every batch before that committed.
    pub(crate) fn show_moved(&self, ranges: &[Range]) {
        let mut inner = self.lock();
        for range in ranges {
            inner.extent.cover(&range.source_name, &range.partition, range.end.offset, range.skipped);
        }
        drop(inner);
        self.shown.send_replace(());
    }

    /// Whether this is committed.
    pub(crate) fn is_committed(&self, wanted: &AtLeast<'_>) -> std::result::Result<bool, QueryError> {
        let AtLeast::Position { source, partition, offset } = *wanted else {
            return Ok(matches!(wanted, AtLeast::Txid(txid) if *txid <= self.committed()));
        };
        if !self.facts.sources.iter().any(|known| known == source) {
            let known = self.facts.sources.join(", ");
            return Err(QueryError::BadArguments(format!("there is no source \"{source}\" to wait for; there are: {known}")));
        }
        let inner = self.lock();
        // Before its first commit of this run a partition is where the run has begun with it.
        let begun = inner.workers.iter().flat_map(WorkerReport::partitions);
        let begun = begun.filter(|told| told.source == source && told.partition == partition).map(|told| told.offset).max();
        Ok(inner.extent.covered(source, partition).max(begun).is_some_and(|next| next > offset))
    }

    /// The last batch that has output for this sink.
    pub(crate) fn last_output(&self, sink: usize) -> Txid {
        self.lock().sinks[sink].last_output
    }

    /// A sink has confirmed its output up to `txid`: that of these batches.
    pub(crate) fn show_published(&self, sink: usize, txid: Txid, bytes: usize, batches: impl Iterator<Item = Txid>) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.batches.published(&inner.sinks[sink].name, batches);
        let status = &mut inner.sinks[sink];
        (status.published, status.backlog_bytes) = (txid, status.backlog_bytes.saturating_sub(bytes));
        self.apply_hold(inner);
        self.changed.notify_all();
    }

    /// A sink's publisher is made anew.
    pub(crate) fn count_rebuild(&self, sink: usize) {
        self.lock().sinks[sink].rebuilds += 1;
    }

    /// A call of a sink's publisher begins, which does this; or the last one is over.
    pub(crate) fn sink_is_busy(&self, sink: usize, doing: Option<String>) {
        let busy = doing.map(|doing| Busy { doing, since: Instant::now(), since_ms: now_ms() });
        self.lock().sinks[sink].busy = busy;
    }

    /// What came of a publication: it is over.
    pub(crate) fn sink_error(&self, sink: usize, error: Option<String>) {
        let mut inner = self.lock();
        if let Some(error) = &error {
            inner.last_error = Some(error.clone());
        }
        let status = &mut inner.sinks[sink];
        status.error_since_ms = error.as_ref().map(|_| status.error_since_ms.unwrap_or_else(now_ms));
        (status.error, status.busy) = (error, None);
    }

    /// Sleeps until a sink has output to publish, or the run is being stopped.
    pub(crate) fn wait_for_output(&self, sink: usize) {
        let inner = self.lock();
        let nothing =
            |inner: &mut Inner| inner.sinks[sink].last_output <= inner.sinks[sink].published && inner.publishing_ends.is_none();
        // Checked again now and then: what is published may have been shown before this sink's own bookkeeping.
        let _ =
            self.changed.wait_timeout_while(inner, Duration::from_millis(500), nothing).expect("no holder of this lock panics");
    }

    /// Whether the sources wait for disk space.
    pub(crate) fn waits_for_disk(&self) -> bool {
        self.lock().waiting_for_disk.is_some()
    }

    /// Says that the sources wait for disk space, or go on.
    pub(crate) fn wait_for_disk(&self, why: Option<String>) {
        let mut inner = self.lock();
        inner.waiting_for_disk = why;
        if inner.waiting_for_disk.is_some() {
            // A fold gives room back.
            self.fold_alarm.ring();
        }
        self.apply_hold(&inner);
    }

    fn waiting(&self, inner: &Inner) -> Option<String> {
        let backlog: usize = inner.sinks.iter().map(|sink| sink.backlog_bytes).sum();
        let unfolded = inner.unfolded_bytes;
        let behind = (unfolded >= self.facts.unfolded_bytes).then(|| {
            format!("{unfolded} bytes of committed changes are not folded yet: the sources wait for the fold, nothing is lost")
        });
        inner.waiting_for_disk.clone().or_else(|| Runtime::paused(inner)).or(behind).or_else(|| {
            (backlog >= self.facts.outbox_bytes).then(|| {
                let limit = self.facts.outbox_bytes;
                format!("the outbox holds {backlog} bytes that sinks have not confirmed (the bound is {limit}): the sources wait, nothing is lost")
            })
        })
    }

    /// Holds the sources back while a bound is reached.
    fn apply_hold(&self, inner: &Inner) {
        if let Some(intake) = &inner.intake {
            intake.hold(inner.held_back && self.waiting(inner).is_some());
        }
    }

    /// Records an error that the run goes on after.
    pub(crate) fn note_error(&self, error: &Error) {
        self.lock().last_error = Some(error.to_string());
    }

    /// Takes no more requests: a generation has failed and is being ended.
    pub(crate) fn close_inboxes(&self) {
        self.inboxes.write().expect("no holder of this lock panics").clear();
    }

    /// How many bytes of changes are not folded, and how many the store's tables have.
    pub(crate) fn set_stored(&self, unfolded: u64, tables: u64) {
        let mut inner = self.lock();
        (inner.unfolded_bytes, inner.store_bytes) = (unfolded, tables);
        self.apply_hold(&inner);
    }

    /// Whether every source is at its end, everything is committed and every sink has confirmed it.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let inner = self.lock();
        let read = inner.intake.as_ref().is_some_and(|intake| intake.all_ended_and_committed());
        read && inner.workers.iter().all(|worker| worker.ready)
            && inner.sinks.iter().all(|sink| sink.last_output <= sink.published)
    }

    /// Whether the workers have loaded their states and read their sources.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let running = !self.inboxes.read().expect("no holder of this lock panics").is_empty();
        running && self.lock().workers.iter().all(|worker| worker.ready)
    }

    /// From the start of the run to its first commit, if there was one.
    #[must_use]
    pub fn first_commit(&self) -> Option<Duration> {
        self.lock().first_commit
    }

    /// Gives a worker of this generation a partition to read.
    pub(crate) fn assign(&self, generation: u64, worker: usize, assignment: Assignment) {
        // After its generation there is nobody to tell: the next one lists all partitions.
        let _ = self.tell(worker, ToWorker::Assign { generation, assignment });
    }

    /// Calls `note` if this generation runs, and not while it ends. Returns what it returns, else false.
    pub(crate) fn while_it_runs(&self, generation: u64, note: impl FnOnce() -> bool) -> bool {
        let inner = self.lock();
        inner.generation == generation && inner.intake.is_some() && note()
    }

    /// Notes partitions that have ended for good, whose positions are removed: their names are free.
    pub(crate) fn retire(&self, partitions: impl Iterator<Item = (String, String)>) {
        let mut inner = self.lock();
        for (source, partition) in partitions {
            inner.extent.forget(&source, &partition);
            inner.retired.push((source, partition));
        }
    }

    /// Takes the partitions that have ended for good since the last call, if the generation is the current one.
    pub(crate) fn take_retired(&self, generation: u64) -> Vec<(String, String)> {
        let mut inner = self.lock();
        if inner.generation == generation { std::mem::take(&mut inner.retired) } else { Vec::new() }
    }

    /// Puts something into a worker's inbox and wakes it. An error if there is no worker.
    pub(crate) fn tell(&self, worker: usize, message: ToWorker) -> std::result::Result<(), ()> {
        let inboxes = self.inboxes.read().expect("no holder of this lock panics");
        let unsent = match inboxes.get(worker) {
            Some((inbox, thread)) => match inbox.send(message) {
                Ok(()) => {
                    thread.as_ref().inspect(|thread| thread.unpark());
                    return Ok(());
                }
                Err(unsent) => unsent.into_inner(),
            },
            None => message,
        };
        if let ToWorker::Ask(ask) = unsent {
            ask.reply.withdraw();
        }
        Err(())
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

    /// Whether the workers run, no batch is on its way and every sink has what is committed: for tests.
    pub(crate) fn is_at_rest(&self) -> bool {
        let inner = self.lock();
        let nothing_open = inner.intake.as_ref().is_some_and(|intake| intake.nothing_in_flight());
        let published = inner.sinks.iter().all(|sink| sink.last_output <= sink.published);
        nothing_open && published && inner.workers.iter().all(|worker| worker.ready)
    }

    /// Calls `each` with a state's committed encoded keys and values, in order of the keys: for tests, while nothing is being committed.
    pub(crate) fn scan_committed(&self, name: &str, each: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        let store = self.lock().store.upgrade().ok_or_else(unavailable)?;
        let id = store.facts()?.schema.state(name).ok_or_else(|| Error::config(format!("there is no state \"{name}\"")))?;
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

    /// What each operator has done since the run began, in the order of the plan.
    #[must_use]
    pub fn operators(&self) -> Vec<OperatorWork> {
        self.work.totals(|node| self.facts.plan.receives(node))
    }
}

pub(crate) fn unavailable() -> Error {
    Error::new(Kind::TryAgain, "the workers are starting, stopping or busy: try again")
}
