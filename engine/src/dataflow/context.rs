//! The context in which one worker builds and runs one generation: shared by its operators.

use crate::batch::chunk::Place;
use crate::batch::intake::Intake;
use crate::batch::latch::Latch;
use crate::batch::{Batch, WorkerBatch};
use crate::dataflow::declared::Declared;
use crate::dataflow::meter::{Meter, Work};
use crate::dead_letter::DeadLetter;
use crate::failure::policy::{DeadLetterTarget, OnFailure};
use crate::failure::search::{Excluded, Trial};
use crate::plan::{NodeId, NodeKind, Plan};
use crate::request::hub::RequestHub;
use crate::request::in_flight::InFlight;
use crate::request::watchdog::WorkerWatch;
use crate::sink::AnySink;
use crate::sync::AtomicU64;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tidemill_state::schema::Schema;
use tidemill_state::{Points, Result, Txid};
use timely::dataflow::operators::probe;

/// A worker's view of one generation: the part that all workers share, and its own.
pub(crate) struct Context {
    pub(crate) shared: Shared,
    /// The worker's number, from 0.
    pub(crate) index: usize,
    pub(crate) watch: WorkerWatch,
    /// The number of operators of queries that have been built.
    pub(crate) query_operators: Cell<usize>,
    /// The requests that are at home on this worker.
    pub(crate) in_flight: RefCell<InFlight>,
    /// The sinks for dead letters.
    pub(crate) letters: RefCell<Vec<DeadLetterTarget>>,
    /// True if chunks keep their records for dead letters.
    pub(crate) keeps_records: Cell<bool>,
    /// The policy for records at which an operator fails, from here on in the program.
    pub(crate) on_failure: RefCell<OnFailure>,
    pub(crate) probe: probe::Handle<u64>,
    pub(crate) plan: RefCell<Plan>,
    pub(crate) declared: RefCell<Declared>,
    batches: RefCell<BTreeMap<Txid, WorkerBatch>>,
}

impl Context {
    pub(crate) fn new(index: usize, shared: Shared) -> Rc<Context> {
        Rc::new(Context {
            index,
            watch: WorkerWatch::new(Arc::clone(&shared.hub.stuck), index),
            query_operators: Cell::new(0),
            in_flight: RefCell::new(InFlight::new(index, &shared.hub)),
            letters: RefCell::default(),
            keeps_records: Cell::new(false),
            on_failure: RefCell::default(),
            probe: probe::Handle::new(),
            plan: RefCell::default(),
            declared: RefCell::default(),
            batches: RefCell::default(),
            shared,
        })
    }

    /// Returns the meter by which this worker counts the work at a node.
    pub(crate) fn meter(&self, node: NodeId) -> Meter {
        self.shared.work.meter(node, self.index)
    }

    /// Returns the description of a batch for code that sees a whole batch.
    pub(crate) fn batch(&self, txid: Txid) -> Batch {
        Batch { txid, time_ms: self.shared.intake.time_of(txid) }
    }

    /// The last committed batch.
    pub(crate) fn committed(&self) -> Txid {
        Txid(self.shared.committed.load(SeqCst))
    }

    /// Changes what this worker has made of batch `txid`.
    pub(crate) fn in_batch<R>(&self, txid: Txid, change: impl FnOnce(&mut WorkerBatch) -> R) -> R {
        change(self.batches.borrow_mut().entry(txid).or_default())
    }

    /// Takes what this worker has made of batch `txid`, once it is complete.
    pub(crate) fn take_batch(&self, txid: Txid) -> WorkerBatch {
        self.batches.borrow_mut().remove(&txid).unwrap_or_default()
    }

    /// Sets a record of batch `txid` aside: counts it, and gives it to the dead letters, which
    /// become durable with the batch.
    pub(crate) fn set_aside(
        &self,
        txid: Txid,
        letters: Option<&DeadLetterTarget>,
        operator: String,
        error: &str,
        place: Option<Place>,
        bytes: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<()> {
        self.in_batch(txid, |made| {
            if let Some(letters) = letters {
                let (source, partition, offset) = match place {
                    Some(Place { source, partition, offset }) => {
                        (Some(source), Some(partition), Some(offset))
                    }
                    None => (None, None, None),
                };
                let (operator, error) = (Some(operator.clone()), error.to_string());
                let (key, timestamp, headers) = (None, None, Vec::new());
                let bytes = bytes();
                let letter = DeadLetter {
                    operator,
                    source,
                    partition,
                    offset,
                    error,
                    key,
                    bytes,
                    timestamp,
                    headers,
                };
                made.outputs
                    .entry(letters.id)
                    .or_default()
                    .push(|into| letters.encode(&letter, into))?;
            }
            *made.set_aside.entry(operator).or_default() += 1;
            Ok(())
        })
    }

    /// The ranges of a batch in words, with a comma in front; empty if it is not closed.
    pub(crate) fn ranges_of(&self, txid: Txid) -> String {
        self.shared.intake.describe_ranges(txid)
    }
}

/// The parts that all workers of a generation share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The number of workers.
    pub(crate) peers: usize,
    pub(crate) latch: Arc<Latch>,
    pub(crate) points: Arc<Points>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) committed: Arc<AtomicU64>,
    pub(crate) schema: Schema,
    pub(crate) key_groups: u16,
    /// The batch after which this generation continues.
    pub(crate) after: Txid,
    /// The run's sinks, in the program's order; empty while it is only described.
    pub(crate) sinks: Arc<Vec<Arc<dyn AnySink>>>,
    pub(crate) work: Arc<Work>,
    pub(crate) hub: Arc<RequestHub>,
    pub(crate) excluded: Arc<Excluded>,
    pub(crate) trial: Option<Arc<Trial>>,
}

/// A site in the program: everything that an operator behind it needs besides its records.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) context: Rc<Context>,
    pub(crate) node: NodeId,
    pub(crate) on_failure: OnFailure,
}

impl Site {
    /// The place of an operator that reads this one, and others.
    pub(crate) fn behind(&self, kind: NodeKind, at: &Location<'_>, others: &[NodeId]) -> Site {
        let inputs: Vec<NodeId> =
            std::iter::once(self.node).chain(others.iter().copied()).collect();
        let node = self.context.plan.borrow_mut().add(kind, at, &inputs);
        Site { node, ..self.clone() }
    }
}
