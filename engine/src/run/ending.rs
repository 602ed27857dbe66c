//! The end of a run: its phases, and the decision about the supervisor's step in each.
//!
//! One thread, the supervisor, waits for everybody, in this order: the workers finish the batch in
//! hand, the committer commits every complete batch, the sinks receive what is committed, and the
//! store and the clients of sources and sinks are closed. Each phase is bounded by the time that a
//! stop has ([`crate::Settings::drain`]). What has not ended by then is named and left behind:
//! nothing of it is committed, and a crash would be as safe.

use crate::runtime::Runtime;
use std::time::Duration;
use tidemill_state::{Error, Store};

/// The phases of an ending, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The workers run the dataflows; when the run ends, they finish the batch in hand.
    Working,
    /// The committer commits every batch that is complete.
    Committing,
    /// The sinks receive what is committed.
    Publishing,
    /// The store, and the clients of sources and sinks, are closed.
    Closing,
    /// Nothing is left to wait for.
    Over,
}

/// The facts on which the decision rests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) phase: Phase,
    /// True if everything that the phase waits for has ended.
    pub(crate) done: bool,
    /// The time for which the run has been ending, since a stop or a failure; `None` before.
    pub(crate) ending_for: Option<Duration>,
    /// The time a stop may take.
    pub(crate) drain: Duration,
}

/// The supervisor's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for the phase, at most so long if given, and decide again.
    Wait(Option<Duration>),
    /// The phase has ended: enter this one.
    Enter(Phase),
    /// The phase's time is over: name what has not ended, leave it behind, and enter this one.
    LeaveBehind(Phase),
}

/// The extra time that a phase has after its time is over, before the phase is left behind: threads
/// that watch the time themselves return by then, with their clients closed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The time that a phase has however short the stop's is.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Decides the next step of an ending.
pub(crate) fn step(facts: Facts) -> Step {
    let Facts { phase, done, ending_for, drain } = facts;
    let next = match phase {
        Phase::Working => Phase::Committing,
        Phase::Committing => Phase::Publishing,
        Phase::Publishing => Phase::Closing,
        Phase::Closing | Phase::Over => Phase::Over,
    };
    if done || phase == Phase::Over {
        return Step::Enter(next);
    }
    let Some(ending_for) = ending_for else { return Step::Wait(None) };
    let bound = match phase {
        // The workers have the time itself, so that what they completed can still be committed and
        // published; and a moment, if sinks are not to be waited for.
        Phase::Working => drain.max(AT_LEAST),
        Phase::Closing => drain.saturating_add(PATIENCE + AT_LEAST),
        Phase::Committing | Phase::Publishing | Phase::Over => drain.saturating_add(PATIENCE),
    };
    match bound.checked_sub(ending_for) {
        Some(left) if !left.is_zero() => Step::Wait(Some(left)),
        _ => Step::LeaveBehind(next),
    }
}

/// The thin side of the decision: reads the facts and waits.
pub(crate) struct Ending<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) drain: Duration,
}

impl Ending<'_> {
    /// Waits until the phase is over. Returns the next phase, and whether everything of this one
    /// has ended: otherwise it was left behind. `done` reports whether everything has ended; `wait`
    /// sleeps until that may be so, at most so long.
    pub(crate) fn pass(
        &self,
        phase: Phase,
        done: impl Fn() -> bool,
        wait: impl Fn(Duration),
    ) -> (Phase, bool) {
        loop {
            let facts = Facts {
                phase,
                done: done(),
                ending_for: self.runtime.ending_for(),
                drain: self.drain,
            };
            match step(facts) {
                Step::Enter(next) => return (next, true),
                Step::LeaveBehind(next) => return (next, false),
                // An end that is requested meanwhile is seen soon.
                Step::Wait(left) => wait(left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)),
            }
        }
    }
}

/// The interval at which a wait looks whether an end was asked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn write_hangs(store: &Store) -> Error {
    Error::try_again(format!(
        "a commit of the store in {} has not returned in the time that the stop had: a write that \
         hangs, or a source that takes the news of it. Whether it is durable is unknown, so \
         nothing was published after it; nothing is lost. Make sure that the disk is healthy, \
         then start again",
        store.dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use crate::run::ending::*;

    #[test]
    fn every_row_of_an_ending() {
        use Phase::{Closing, Committing, Over, Publishing, Working};
        let seconds = Duration::from_secs;
        for (phase, done, ending_for, expected) in [
            // Nobody has asked for an end: whatever takes long is waited for.
            (Working, false, None, Step::Wait(None)),
            (Working, true, None, Step::Enter(Committing)),
            (Committing, false, None, Step::Wait(None)),
            // A stop: each phase has its time, and is left behind after it.
            (Working, false, Some(4), Step::Wait(Some(seconds(6)))),
            (Working, false, Some(10), Step::LeaveBehind(Committing)),
            (Working, false, Some(99), Step::LeaveBehind(Committing)),
            (Working, true, Some(99), Step::Enter(Committing)),
            (Committing, false, Some(10), Step::Wait(Some(PATIENCE))),
            (Committing, true, Some(10), Step::Enter(Publishing)),
            (Committing, false, Some(13), Step::LeaveBehind(Publishing)),
            (Publishing, false, Some(1), Step::Wait(Some(seconds(12)))),
            (Publishing, true, Some(1), Step::Enter(Closing)),
            (Publishing, false, Some(13), Step::LeaveBehind(Closing)),
            (Closing, false, Some(13), Step::Wait(Some(seconds(1)))),
            (Closing, false, Some(14), Step::LeaveBehind(Over)),
            (Closing, true, Some(1), Step::Enter(Over)),
            (Over, false, Some(1), Step::Enter(Over)),
        ] {
            let ending_for = ending_for.map(seconds);
            let facts = Facts { phase, done, ending_for, drain: seconds(10) };
            assert_eq!(step(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_stop_without_time_for_sinks_finishes_the_batch_in_hand() {
        let facts = |ending_for| Facts {
            phase: Phase::Working,
            done: false,
            ending_for: Some(ending_for),
            drain: Duration::ZERO,
        };
        assert_eq!(step(facts(Duration::ZERO)), Step::Wait(Some(AT_LEAST)));
        assert_eq!(step(facts(AT_LEAST)), Step::LeaveBehind(Phase::Committing));
    }

    #[test]
    fn a_drain_without_end_is_no_overflow() {
        let facts = Facts {
            phase: Phase::Publishing,
            done: false,
            ending_for: Some(Duration::from_secs(1)),
            drain: Duration::MAX,
        };
        assert!(matches!(step(facts), Step::Wait(Some(_))));
    }
}
