//! What is watched beside the batches: free disk space, new partitions, and when to fold.

use crate::context::AnySource;
use crate::failure::Latch;
use crate::runtime::Runtime;
use crate::worker::Assignment;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::{Points, Result, Store, background, fold};

/// Folds whenever enough committed deltas have gathered, until the run ends.
pub(crate) fn fold_loop(store: &Store, runtime: &Runtime, points: &Points, fold_bytes: u64) -> Result<()> {
    background::enter();
    while runtime.publishing_ends().is_none() && !points.stopped() {
        // A start is not slowed down by a fold: the workers load their states first.
        if runtime.is_ready() && store.unfolded_bytes() >= fold_bytes {
            let began = Instant::now();
            if let Some(folded) = fold::fold(store, points)? {
                runtime.show_folded(folded.upto, began.elapsed());
                tracing::debug!(upto = %folded.upto, keys = folded.keys, log_bytes = folded.log_bytes, took = ?began.elapsed(), "folded");
            }
        }
        runtime.set_stored(store.unfolded_bytes(), store.table_bytes());
        runtime.wait(Duration::from_secs(1));
    }
    Ok(())
}

/// Watches the disk until the run ends: below the reserve the sources wait.
pub(crate) fn disk_loop(store: &Store, runtime: &Runtime, points: &Points, reserve: u64) {
    let mut low = false;
    while runtime.publishing_ends().is_none() && !points.stopped() {
        let free = tidemill_state::store::free_bytes(store.dir()).unwrap_or(u64::MAX);
        // Some slack on the way back, so that it does not go to and fro.
        let now_low = if low { free < reserve + reserve / 8 } else { free < reserve };
        if now_low != low {
            low = now_low;
            let committed = runtime.committed();
            if low {
                let dir = store.dir().display();
                let why = format!(
                    "disk full ({free} bytes free for {dir}, the reserve is {reserve}): waiting at committed txid {committed}, nothing lost"
                );
                tracing::warn!("{why}");
                runtime.wait_for_disk(Some(why));
            } else {
                tracing::info!("there is disk space again: going on after batch {committed}");
                runtime.wait_for_disk(None);
            }
        }
        runtime.sleep_unless_stopped(Duration::from_millis(250));
    }
}

/// A source whose partitions may grow in number.
pub(crate) struct Growing {
    pub(crate) index: usize,
    pub(crate) source: Arc<dyn AnySource>,
    pub(crate) every: Duration,
    pub(crate) known: BTreeSet<String>,
    /// Whether the last look failed: the log is told of the first that does.
    pub(crate) failing: bool,
}

/// Looks for new partitions until the generation ends, and gives them to the workers in turn.
pub(crate) fn discover_loop(mut sources: Vec<Growing>, runtime: &Runtime, points: &Points, workers: usize, latch: &Latch) {
    let mut next = sources.iter().map(|source| source.known.len()).sum::<usize>();
    let Some(every) = sources.iter().map(|source| source.every).min() else { return };
    while !runtime.stopping.load(SeqCst) && !points.stopped() && !latch.is_set() {
        runtime.sleep_unless_stopped(every);
        for source in &mut sources {
            match source.source.partitions() {
                Ok(partitions) => {
                    if std::mem::take(&mut source.failing) {
                        tracing::info!("new partitions can be looked for again");
                    }
                    for partition in partitions {
                        if source.known.insert(partition.clone()) {
                            tracing::info!(partition, "a partition joins");
                            runtime.assign(next % workers, Assignment { source: source.index, partition, from: None });
                            next += 1;
                        }
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut source.failing, true) {
                        tracing::warn!(%error, "looking for new partitions failed; it goes on with those it has, and looks again");
                    }
                    runtime.note_error(&error);
                }
            }
        }
    }
}
