//! The settings of a run.

use crate::batch::BatchLimits;
use crate::clock::Clock;
use crate::request::hub::QueryLimits;
use crate::runtime::starting::Starting;
use crate::source::{OnLoss, StartAt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidemill_state::resolve::Assume;
use tidemill_state::store::Durability;

/// The settings of a topology's run: the folder of its state, its batches, its bounds.
///
/// ```
/// use tidemill_engine::Settings;
/// let settings = Settings { workers: 2, ..Settings::new("word_count", "state/word_count") };
/// assert_eq!(settings.batches.max_records, 20_000);
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topology's name: recorded in the store and in its sinks.
    pub name: String,
    /// The folder of the state.
    pub state: PathBuf,
    /// The number of workers, at least 1. May differ from run to run.
    pub workers: usize,
    /// The condition for which a commit waits.
    pub durability: Durability,
    /// When a batch is closed, and how many may be on their way.
    pub batches: BatchLimits,
    /// The sources wait while sinks have not confirmed this many bytes of committed output.
    pub outbox_bytes: usize,
    /// A fold is begun when this many bytes of deltas are committed and not folded.
    pub fold_bytes: u64,
    /// The sources wait while this many bytes of deltas are committed and not folded: folds are in
    /// the background, and may fall behind. `None` is eight times `fold_bytes`, at least 64 MiB;
    /// less than `fold_bytes` is `fold_bytes`.
    pub unfolded_bytes: Option<u64>,
    /// The sources wait while less than this many bytes of the state's disk are free, or less than
    /// the store may need soon ([`tidemill_state::Store::room_needed`]). 0: they never wait for the
    /// disk.
    pub disk_reserve: u64,
    /// The time that a stop has: for the batch in hand, and for sinks to receive what is committed.
    /// Whatever has not ended by then is named and left behind ([`crate::Runtime::left_behind`]);
    /// the process of a topology ends at most six seconds later.
    pub drain: Duration,
    /// The assumption about output whose fate is unknown because a sink's marker is gone.
    pub sink_assume: Option<Assume>,
    /// The number of failures of user code in a row after which the dataflows are rebuilt in this
    /// process. One more failure ends the run. 0: the first failure ends it.
    pub retries: u32,
    /// The place at which sources begin that were never read; `None` for the default of each
    /// source.
    pub first: Option<StartAt>,
    /// The action if records are gone at a source before they were read.
    pub on_loss: OnLoss,
    /// True if the run is to end with its sources (`--exit-at-end`): topics then end where they end
    /// at the start, and a source without an end is refused.
    pub to_end: bool,
    /// True if a state that is made now is to be known outside by a name of its own,
    /// `<name>-<nonce>`: what an earlier state left there is then not taken for its own
    /// (`--start-over`).
    pub start_over: bool,
    /// The clock for batches ([`crate::Batch::time_ms`]): the system's, or a test's.
    pub clock: Clock,
    /// The limits of requests to queries.
    pub queries: QueryLimits,
    /// For watching a start that waits, and giving it up.
    pub starting: Arc<Starting>,
}

/// The sources never wait for the fold below this if nothing else is set, however small its
/// interval is.
const LEAST_UNFOLDED_BYTES: u64 = 64 << 20;

impl Settings {
    /// Returns the number of bytes of deltas that may be committed and not folded before the
    /// sources wait.
    pub(crate) fn most_unfolded(&self) -> u64 {
        let usual = || self.fold_bytes.saturating_mul(8).max(LEAST_UNFOLDED_BYTES);
        // Below that no fold would begin, and the sources would wait for ever.
        self.unfolded_bytes.map_or_else(usual, |bytes| bytes.max(self.fold_bytes))
    }

    /// The defaults, for a topology of this name with its state in this folder.
    pub fn new(name: impl Into<String>, state: impl Into<PathBuf>) -> Settings {
        Settings {
            name: name.into(),
            state: state.into(),
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8)),
            durability: Durability::Sync,
            batches: BatchLimits::default(),
            outbox_bytes: 256 << 20,
            fold_bytes: 48 << 20,
            unfolded_bytes: None,
            disk_reserve: 256 << 20,
            drain: Duration::from_secs(10),
            sink_assume: None,
            retries: 0,
            first: None,
            on_loss: OnLoss::Refuse,
            to_end: false,
            start_over: false,
            clock: Clock::default(),
            queries: QueryLimits::default(),
            starting: Arc::default(),
        }
    }
}
