//! The named steps of a batch's life, at which a test can crash a process.
//!
//! Every step is a value of one enum, matched exhaustively: a new step does not compile without a
//! name, and the crash tests walk [`CrashPoint::ALL`]. In normal use nothing is armed and a step
//! costs one relaxed load.

use crate::{Error, Kind, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The environment variable that arms a point in a process: `POINT:abort[:N]` or `POINT:wait[:N]`,
/// at the Nth time it is reached.
pub const CRASH_AT: &str = "TIDEMILL_CRASH_AT";

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A step of a batch's life, or of a start.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CrashPoint { $($(#[$doc])* $name,)* }

        impl CrashPoint {
            /// Every point, in the order of a start and then of a batch's life.
            pub const ALL: &[CrashPoint] = &[$(CrashPoint::$name,)*];

            /// The name by which [`CRASH_AT`] arms it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(CrashPoint::$name => $text,)* }
            }
        }
    };
}

points! {
    /// The store is open and checked; nothing is changed yet.
    RecoveryOpened = "recovery-opened",
    /// The incarnation of this run is durable, and a new lineage if one was due; the folder's mode
    /// is still that of the last run.
    IncarnationWritten = "incarnation-written",
    /// The incarnation of this run is durable, and the folder's mode is its own.
    IncarnationRaised = "incarnation-raised",
    /// A store of an earlier format has become one of the present.
    StoreUpgraded = "store-upgraded",
    /// A migration's converted values are part of the store, under numbers that nothing knows yet.
    MigrationWritten = "migration-written",
    /// A sink with transactions has fenced older runs and read its marker.
    SinkMarkerRead = "sink-marker-read",
    /// A sink with transactions has committed the transaction that claims its marker.
    SinkMarkerClaimed = "sink-marker-claimed",
    /// The sinks' markers are claimed; "registered" is not yet recorded for new ones.
    SinksClaimed = "sinks-claimed",
    /// Schema and registrations are durable.
    Registered = "registered",
    /// A worker's states are loaded.
    StateRestored = "state-restored",
    /// A worker's sources are open at their positions.
    SourcesOpened = "sources-opened",
    /// The first record of a batch was given to the dataflow.
    BatchOpened = "batch-opened",
    /// A batch's ranges are fixed; workers are told.
    BatchClosed = "batch-closed",
    /// A worker's delta of a batch is complete and about to go to the committer.
    BatchComputed = "batch-computed",
    /// All deltas of a batch are there; the write has not begun.
    BeforeWrite = "before-write",
    /// The batch is durable; nobody knows yet.
    AfterWrite = "after-write",
    /// A sink is about to be given committed output.
    BeforePublish = "before-publish",
    /// A sink with transactions has begun one, and sent nothing in it.
    SinkBegun = "sink-begun",
    /// A sink with transactions was sent output and marker; not all of it is acknowledged.
    SinkProduced = "sink-produced",
    /// A sink with transactions has acknowledged output and marker; the transaction is open.
    SinkDelivered = "sink-delivered",
    /// A sink was given committed output and has not confirmed it.
    PublishPrepared = "publish-prepared",
    /// A sink with transactions has committed one; the publisher does not know yet.
    SinkEnded = "sink-ended",
    /// A sink has confirmed output; the outbox does not know yet.
    Published = "published",
    /// A fold has begun: deltas are merged, no file is written.
    FoldBegun = "fold-begun",
    /// The fold's file is written and synced, and not part of the store.
    FoldWritten = "fold-written",
    /// The fold's file is part of the store; the log before it is still there.
    FoldIngested = "fold-ingested",
    /// The write that drops the folded log is durable.
    LogTrimmed = "log-trimmed",
}

impl CrashPoint {
    /// Returns whether only sinks with transactions get there.
    #[must_use]
    pub fn is_of_transactions(self) -> bool {
        use CrashPoint::{
            SinkBegun, SinkDelivered, SinkEnded, SinkMarkerClaimed, SinkMarkerRead, SinkProduced,
        };
        matches!(
            self,
            SinkMarkerRead
                | SinkMarkerClaimed
                | SinkBegun
                | SinkProduced
                | SinkDelivered
                | SinkEnded
        )
    }

    /// Every point that a run gets to whose start makes no migration and finds a store of the
    /// present format, in the same order.
    pub fn usual() -> impl Iterator<Item = CrashPoint> {
        let unusual = [CrashPoint::StoreUpgraded, CrashPoint::MigrationWritten];
        CrashPoint::ALL.iter().copied().filter(move |point| !unusual.contains(point))
    }

    /// The point of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<CrashPoint> {
        CrashPoint::ALL.iter().copied().find(|point| point.name() == name)
    }
}

/// The effect of an armed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The process aborts.
    Abort,
    /// The point's name is printed to stderr and the thread waits to be killed.
    Wait,
    /// Every later step of this run fails, as if the process were gone: for tests within one
    /// process.
    Stop,
}

struct Armed {
    point: CrashPoint,
    effect: Effect,
    left: u64,
}

/// The crash points of one run.
#[derive(Default)]
pub struct Points {
    active: AtomicBool,
    armed: Mutex<Option<Armed>>,
    stopped: AtomicBool,
}

impl std::fmt::Debug for Points {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Points").field("stopped", &self.stopped()).finish_non_exhaustive()
    }
}

impl Points {
    /// Nothing armed.
    #[must_use]
    pub fn none() -> Points {
        Points::default()
    }

    /// Armed as [`CRASH_AT`] says, if it is set.
    ///
    /// # Errors
    /// It is set to something else than `POINT:abort[:N]` or `POINT:wait[:N]`.
    pub fn from_env() -> Result<Points> {
        let points = Points::none();
        if let Ok(text) = std::env::var(CRASH_AT) {
            let mut parts = text.split(':');
            let point = parts.next().and_then(CrashPoint::from_name);
            let effect = match parts.next() {
                Some("abort") => Some(Effect::Abort),
                Some("wait") => Some(Effect::Wait),
                _ => None,
            };
            let nth = parts.next().map_or(Some(1), |nth| nth.parse().ok().filter(|nth| *nth > 0));
            match (point, effect, nth, parts.next()) {
                (Some(point), Some(effect), Some(nth), None) => points.arm(point, effect, nth),
                _ => {
                    return Err(Error::config(format!(
                        "{CRASH_AT}={text}: expected POINT:abort[:N] or POINT:wait[:N]"
                    )));
                }
            }
        }
        Ok(points)
    }

    /// Arms `point`: the `nth` time that it is reached from now on, `effect` happens.
    ///
    /// # Panics
    /// If `nth` is 0.
    pub fn arm(&self, point: CrashPoint, effect: Effect, nth: u64) {
        assert!(nth > 0, "a point is first reached the 1st time");
        *self.armed.lock().expect("no holder of this lock panics") =
            Some(Armed { point, effect, left: nth });
        self.active.store(true, SeqCst);
    }

    /// Makes every later step fail, as [`Effect::Stop`] does.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.active.store(true, SeqCst);
    }

    /// Returns whether a simulated crash has happened.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    /// Says that `point` is reached.
    ///
    /// # Errors
    /// Only in tests: the run has crashed by [`Effect::Stop`], here or elsewhere.
    #[inline]
    pub fn reach(&self, point: CrashPoint) -> Result<()> {
        if self.active.load(std::sync::atomic::Ordering::Relaxed) {
            self.reach_armed(point)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn reach_armed(&self, point: CrashPoint) -> Result<()> {
        let effect = {
            let mut armed = self.armed.lock().expect("no holder of this lock panics");
            match armed.as_mut().filter(|armed| armed.point == point) {
                Some(here) if here.left > 1 => {
                    here.left -= 1;
                    None
                }
                Some(_) => armed.take().map(|armed| armed.effect),
                None => None,
            }
        };
        match effect {
            Some(Effect::Abort) => {
                eprintln!("crash point {}: aborting", point.name());
                std::process::abort()
            }
            Some(Effect::Wait) => {
                eprintln!("crash point {}: waiting to be killed", point.name());
                loop {
                    std::thread::park();
                }
            }
            Some(Effect::Stop) => self.stop(),
            None => {}
        }
        if self.stopped() {
            Err(Error::new(Kind::TryAgain, format!("simulated crash, seen at {}", point.name())))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stops_at_the_nth_time_and_everything_after_it() {
        let points = Points::none();
        points.arm(CrashPoint::AfterWrite, Effect::Stop, 2);
        assert!(points.reach(CrashPoint::AfterWrite).is_ok());
        assert!(points.reach(CrashPoint::BeforeWrite).is_ok());
        assert!(points.reach(CrashPoint::AfterWrite).is_err());
        assert!(points.reach(CrashPoint::BeforeWrite).is_err());
    }

    #[test]
    fn names_are_unique_and_found_again() {
        for point in CrashPoint::ALL {
            assert_eq!(CrashPoint::from_name(point.name()), Some(*point));
        }
    }
}
