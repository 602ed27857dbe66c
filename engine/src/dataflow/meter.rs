//! The work of each operator on each worker since the run began: the number of records, and the
//! time.
//!
//! A figure is written by its worker alone, so that counting costs a load and a store. Who looks
//! sees each figure as it is just now; figures of one look may not add up to the last record.
//!
//! The guard around an operator's code has its meter, which reads the clock twice for each chunk of
//! up to 256 records. docs/decisions/0019-meters.md has what that costs.

use crate::plan::NodeId;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Done {
    records: AtomicU64,
    received: AtomicU64,
    busy_ns: AtomicU64,
}

fn add(to: &AtomicU64, much: u64) {
    // Only the worker whose figure it is writes it.
    to.store(to.load(Relaxed) + much, Relaxed);
}

/// See the module's documentation. One for a run; trials and descriptions have one that nobody
/// looks at.
pub(crate) struct Work {
    nodes: usize,
    workers: usize,
    /// By worker, then by node; one more at the end for what is not counted.
    done: Vec<Done>,
}

impl Work {
    pub(crate) fn new(nodes: usize, workers: usize) -> Work {
        let done = (0..=nodes * workers).map(|_| Done::default()).collect();
        Work { nodes, workers, done }
    }

    /// Returns the meter by which this worker counts at this node.
    pub(crate) fn meter(self: &Arc<Self>, node: NodeId, worker: usize) -> Meter {
        let counted = node.0 < self.nodes && worker < self.workers;
        let at = if counted { worker * self.nodes + node.0 } else { self.nodes * self.workers };
        Meter { work: Arc::clone(self), at }
    }

    /// Returns the work that was done, by node. `receives`: whether a node takes records from other
    /// workers.
    pub(crate) fn totals(&self, receives: impl Fn(NodeId) -> bool) -> Vec<OperatorWork> {
        let of_node = |node: usize| {
            let workers = (0..self.workers).map(|worker| {
                let Done { records, received, busy_ns } = &self.done[worker * self.nodes + node];
                WorkerWork {
                    records: records.load(Relaxed),
                    received: receives(NodeId(node)).then(|| received.load(Relaxed)),
                    busy_us: busy_ns.load(Relaxed) / 1000,
                }
            });
            OperatorWork { id: NodeId(node), workers: workers.collect() }
        };
        (0..self.nodes).map(of_node).collect()
    }
}

impl Default for Work {
    fn default() -> Work {
        Work::new(0, 0)
    }
}

/// The work of an operator since the run began.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct OperatorWork {
    /// Its node in the plan.
    pub id: NodeId,
    /// By worker.
    pub workers: Vec<WorkerWork>,
}

/// The work of an operator on one worker since the run began. Includes batches that are not
/// committed. Work that was done again counts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct WorkerWork {
    /// Records that came to it there.
    pub records: u64,
    /// Of an operator that sends a batch's records to other workers: those that it then had to do
    /// with there. What is combined before it is sent counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// The time it worked at them, in microseconds.
    pub busy_us: u64,
}

/// One worker's figures of one node.
#[derive(Clone)]
pub(crate) struct Meter {
    work: Arc<Work>,
    at: usize,
}

impl Meter {
    fn done(&self) -> &Done {
        &self.work.done[self.at]
    }

    /// Records have come.
    pub(crate) fn took(&self, records: usize) {
        add(&self.done().records, records as u64);
    }

    /// Records have come from other workers.
    pub(crate) fn received(&self, records: usize) {
        add(&self.done().received, records as u64);
    }

    /// The worker is at it until what is returned is dropped.
    pub(crate) fn busy(&self) -> Busy<'_> {
        Busy { meter: self, began: Instant::now() }
    }

    pub(crate) fn worked(&self, time: Duration) {
        add(&self.done().busy_ns, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// See [`Meter::busy`].
pub(crate) struct Busy<'m> {
    meter: &'m Meter,
    began: Instant,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.meter.worked(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use crate::dataflow::meter::*;

    #[test]
    fn each_worker_and_node_has_its_own_figures() {
        let work = Arc::new(Work::new(2, 2));
        work.meter(NodeId(1), 0).took(3);
        work.meter(NodeId(1), 1).received(4);
        work.meter(NodeId(0), 1).worked(Duration::from_micros(7));
        // What is not one of them is not counted.
        work.meter(NodeId(2), 0).took(9);
        work.meter(NodeId(0), 2).took(9);
        let nothing = WorkerWork { records: 0, received: None, busy_us: 0 };
        let totals = work.totals(|node| node == NodeId(1));
        assert_eq!(totals[0].workers, [nothing, WorkerWork { busy_us: 7, ..nothing }]);
        let receives = WorkerWork { received: Some(0), ..nothing };
        assert_eq!(
            totals[1].workers,
            [WorkerWork { records: 3, ..receives }, WorkerWork { received: Some(4), ..receives }]
        );
    }
}
