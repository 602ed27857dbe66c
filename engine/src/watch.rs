//! What is watched beside the batches: free disk space, new partitions, and when to fold.

use crate::context::AnySource;
use crate::failure::Latch;
use crate::runtime::Runtime;
use crate::worker::Assignment;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::fold::{self, Fold};
use tidemill_state::{Error, Kind, Points, Result, Store, background};

/// Folds whenever enough committed deltas have gathered, until the run ends. A fold that finds no room, or whose file
/// cannot be written, is put off: the log still has everything.
pub(crate) fn fold_loop(store: &Store, runtime: &Runtime, points: &Points, fold_bytes: u64, reserve: u64) -> Result<()> {
    background::enter();
    let mut put_off: Option<Instant> = None;
    while runtime.publishing_ends().is_none() && !points.stopped() {
        // A start is not slowed down by a fold: the workers load their states first.
        let is_due = runtime.is_ready() && store.unfolded_bytes() >= fold_bytes;
        if is_due && put_off.is_none_or(|since| since.elapsed() >= FOLD_AGAIN_AFTER) {
            match fold_once(store, runtime, points, reserve)? {
                Ok(()) => {
                    if put_off.take().is_some() {
                        tracing::info!("the log is folded again");
                    }
                }
                Err(why) => {
                    if put_off.replace(Instant::now()).is_none() {
                        tracing::warn!("the log is not folded now, and is tried again every {FOLD_AGAIN_AFTER:?}: {why}");
                    }
                    runtime.note_error(&why);
                }
            }
        }
        runtime.set_stored(store.unfolded_bytes(), store.table_bytes());
        runtime.wait(Duration::from_secs(1));
    }
    Ok(())
}

/// How long a fold that was put off waits for the next try.
const FOLD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Folds what is committed. The inner error puts the fold off, the outer one ends the run.
fn fold_once(store: &Store, runtime: &Runtime, points: &Points, reserve: u64) -> Result<Result<()>> {
    if let Err(error) = fold::remove_leftover(store) {
        return Ok(Err(error));
    }
    let (free, needed) = (free_bytes(store), store.room_needed());
    // Without a reserve nothing is held back for what the disk may need.
    if reserve > 0 && free < needed {
        return Ok(Err(Error::try_again(format!(
            "{free} bytes are free for {}, and a fold may need {needed}. Nothing is lost: free some space",
            store.dir().display()
        ))));
    }
    let began = Instant::now();
    let fold = match Fold::write(store, points) {
        // The store is as before. A write of the store that failed, or the crash of a test, ends the run.
        Err(error) if error.kind() == Kind::TryAgain && !points.stopped() => return Ok(Err(error)),
        fold => fold?,
    };
    if let Some(fold) = fold {
        let folded = fold.ingest(points)?;
        runtime.show_folded(folded.upto, began.elapsed());
        tracing::debug!(upto = %folded.upto, keys = folded.keys, log_bytes = folded.log_bytes, took = ?began.elapsed(), "folded");
    }
    Ok(Ok(()))
}

fn free_bytes(store: &Store) -> u64 {
    tidemill_state::store::free_bytes(store.dir()).unwrap_or(u64::MAX)
}

/// Watches the disk until the run ends: below the reserve the sources wait. The reserve is what is set, or what the
/// store itself may need soon if that is more; 0 holds nothing back.
pub(crate) fn disk_loop(store: &Store, runtime: &Runtime, points: &Points, set: u64) {
    let mut low = false;
    while runtime.publishing_ends().is_none() && !points.stopped() {
        let free = free_bytes(store);
        let reserve = if set == 0 { 0 } else { set.max(store.room_needed()) };
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
