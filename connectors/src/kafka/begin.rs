//! Decisions about partitions: from what is recorded and what the brokers have, to what is done.
//! Nothing here asks anybody.

use super::identity::TopicId;
use std::time::Duration;
use tidemill_engine::source::OnLoss;

/// A partition that was read before, as a start sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The id of the topic that was read, if it is recorded.
    pub(super) was: Option<TopicId>,
    /// The id of the topic that has the name now, if the brokers have ids.
    pub(super) now: Option<TopicId>,
    /// The recorded position.
    pub(super) recorded: i64,
    /// The first offset that is there.
    pub(super) low: i64,
    /// The offset after the last.
    pub(super) high: i64,
    /// True if the last record before the position is another than the one that was read; `None` if
    /// it is gone.
    pub(super) replaced: Option<bool>,
    /// The offset at which the partition ends for this source, if it does.
    pub(super) bound: Option<i64>,
}

/// The decision of a start about a partition that was read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// Go on at the recorded position.
    At,
    /// Records are lost, which was allowed: go on there, and report it.
    Skip { to: i64, report: String },
    /// Records are lost.
    Refuse(String),
}

impl Seen {
    /// Returns the loss of the partition's records as text, if there is one.
    fn loss(&self, name: &str) -> Option<String> {
        let Seen { was, now, recorded, low, high, replaced, bound } = *self;
        let is_read = bound.is_some_and(|bound| bound <= recorded);
        if let (Some(was), Some(now)) = (was, now)
            && was != now
        {
            Some(format!(
                "{}; it has the offsets {low} to {high}, and {recorded} were read of the other",
                made_again(name, was, now)
            ))
        } else if recorded > high {
            Some(format!(
                "{name}: need {recorded}, the log ends at {high}: it was truncated, or deleted \
                 and made again"
            ))
        } else if replaced == Some(true) {
            Some(format!(
                "{name}: the record before {recorded} is not the one that was read: the topic was \
                 deleted and made again"
            ))
        } else if recorded < low && !is_read {
            Some(format!(
                "{name}: need {recorded}, the log starts at {low}: {} records lost",
                low - recorded
            ))
        } else {
            None
        }
    }
}

/// The text for a topic that has another id.
fn made_again(name: &str, was: TopicId, now: TopicId) -> String {
    format!(
        "{name}: the topic was deleted and made again: the one that was read has the id {was}, \
         the one of its name now has the id {now}"
    )
}

/// Decides how a partition that was read before resumes.
pub(super) fn resume(name: &str, seen: Seen, on_loss: OnLoss) -> Resume {
    let Some(what) = seen.loss(name) else { return Resume::At };
    let Seen { was, now, recorded, low, high, .. } = seen;
    // The same log, and shorter: all that is left of it was read.
    let is_truncated = was.is_some() && was == now && recorded > high;
    let first = if is_truncated { high } else { low };
    let to = match on_loss {
        OnLoss::Refuse => {
            return Resume::Refuse(format!(
                "{what}. Restore the topic; or go on without these records: --on-loss earliest \
                 goes on at {first}, --on-loss latest at {high}"
            ));
        }
        OnLoss::Earliest => first,
        OnLoss::Latest => high,
    };
    let passed = if on_loss == OnLoss::Latest && high > recorded.max(low) {
        format!(", {} records that are there are passed over", high - recorded.max(low))
    } else {
        String::new()
    };
    Resume::Skip { to, report: format!("{what}; told to go on: at {to}{passed}") }
}

/// A partition that is being read, and about which librdkafka has reported something that would end
/// the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubted {
    /// The offset that comes next.
    pub(super) next: i64,
    /// True if something was read of it.
    pub(super) was_well: bool,
}

/// The brokers' answer about a partition in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// None of them answers.
    Nothing,
    /// They may not: the user has no right.
    Refused(String),
    /// There is no such topic.
    NoTopic,
    /// The topic of this name has this id, which is not that of the topic that was read.
    OtherTopic { was: TopicId, now: TopicId },
    /// The topic has so many partitions only.
    NoPartition { partitions: i32 },
    /// The partition's leader has these offsets.
    There { low: i64, high: i64, replaced: Option<bool> },
}

/// The conclusion from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It must be asked again.
    AskAgain,
    /// Nothing is lost: reading continues.
    ReadOn,
    /// Records are lost.
    Lost(String),
    /// The user has no right to read it.
    Refused(String),
}

/// The time the answers must agree before they are believed: a broker that has just started, or
/// lags behind the controller, gives stale ones.
pub(super) const BELIEVED_AFTER: Duration = Duration::from_secs(8);

/// As [`BELIEVED_AFTER`], for another id: a stale answer has an old one, which a topic that was
/// just made again has left.
const BELIEVED_ID_AFTER: Duration = Duration::from_secs(2);

/// The time a user without a right is taken for one whose right is not known everywhere yet.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Judges an answer about a partition in doubt. All answers for `agree` were bad.
pub(super) fn judge(name: &str, doubted: Doubted, answer: &Answer, agree: Duration) -> Verdict {
    let Doubted { next, was_well } = doubted;
    let start_again = "Start again to see what can be done";
    let (after, lost) = match *answer {
        Answer::Nothing => return Verdict::AskAgain,
        Answer::Refused(_) if was_well && agree < REFUSED_FOR => return Verdict::AskAgain,
        Answer::Refused(ref why) => return Verdict::Refused(why.clone()),
        Answer::NoTopic => {
            let way_out = "Restore it; or go on without it (--on-loss earliest or latest), or \
                begin anew with --start-over";
            (BELIEVED_AFTER, format!("{name}: the topic was deleted. {way_out}"))
        }
        Answer::OtherTopic { was, now } => {
            (BELIEVED_ID_AFTER, format!("{}. {start_again}", made_again(name, was, now)))
        }
        Answer::NoPartition { partitions } => {
            let lost = format!(
                "{name}: the topic has {partitions} partitions now: it was deleted and made \
                 again. {start_again}"
            );
            (BELIEVED_AFTER, lost)
        }
        Answer::There { low, high, replaced } => {
            let seen =
                Seen { was: None, now: None, recorded: next, low, high, replaced, bound: None };
            let Some(what) = seen.loss(name) else { return Verdict::ReadOn };
            // What retention has passed does not come back; an end may be behind for a moment, with
            // a new leader.
            let is_final = next < low || replaced == Some(true);
            (
                if is_final { Duration::ZERO } else { BELIEVED_AFTER },
                format!("{what}. {start_again}"),
            )
        }
    };
    if agree >= after { Verdict::Lost(lost) } else { Verdict::AskAgain }
}

#[cfg(test)]
mod tests {
    use super::super::identity::tests::id;
    use super::*;

    const A: Option<TopicId> = Some(id(1));
    const B: Option<TopicId> = Some(id(2));

    /// A partition of a topic that is still the one that was read.
    fn seen(recorded: i64, low: i64, high: i64, replaced: Option<bool>) -> Seen {
        Seen { was: A, now: A, recorded, low, high, replaced, bound: None }
    }

    fn ids(was: Option<TopicId>, now: Option<TopicId>, seen: Seen) -> Seen {
        Seen { was, now, ..seen }
    }

    /// Resumes each, and compares: "at" is the recorded position.
    fn check<const N: usize>(rows: [(Seen, OnLoss, &str); N]) {
        for (seen, on_loss, expected) in rows {
            let got = match resume("orders[3]", seen, on_loss) {
                Resume::At => "at".to_string(),
                Resume::Skip { to, report } => format!("skip to {to}: {report}"),
                Resume::Refuse(why) => why,
            };
            assert!(
                got.contains(expected) && (expected != "at" || got == "at"),
                "{seen:?} {on_loss:?}: {got}"
            );
        }
    }

    #[test]
    fn every_row_of_the_offsets_that_a_start_may_see() {
        check([
            (seen(5, 0, 10, Some(false)), OnLoss::Refuse, "at"),
            (seen(10, 0, 10, Some(false)), OnLoss::Refuse, "at"),
            // Read to its end, and everything has expired: nothing is lost.
            (seen(10, 10, 10, None), OnLoss::Refuse, "at"),
            (
                seen(1200, 5000, 9000, None),
                OnLoss::Refuse,
                "need 1200, the log starts at 5000: 3800 records lost",
            ),
            (seen(1200, 5000, 9000, None), OnLoss::Earliest, "skip to 5000"),
            (seen(1200, 5000, 9000, None), OnLoss::Latest, "skip to 9000"),
            (
                seen(1200, 5000, 9000, None),
                OnLoss::Latest,
                "at 9000, 4000 records that are there are passed over",
            ),
            (
                seen(11, 0, 10, None),
                OnLoss::Refuse,
                "need 11, the log ends at 10: it was truncated",
            ),
            // The same topic was truncated: what is left of it was read. Without ids it may be
            // another.
            (seen(11, 0, 10, None), OnLoss::Earliest, "skip to 10"),
            (seen(11, 0, 10, None), OnLoss::Latest, "skip to 10"),
            (ids(None, None, seen(11, 0, 10, None)), OnLoss::Earliest, "skip to 0"),
            (ids(A, B, seen(11, 0, 10, None)), OnLoss::Earliest, "skip to 0"),
            (seen(5, 0, 10, Some(true)), OnLoss::Refuse, "deleted and made again"),
            (seen(5, 0, 10, Some(true)), OnLoss::Latest, "skip to 10"),
        ]);
    }

    #[test]
    fn every_row_of_the_ids_that_a_start_may_see() {
        check([
            // Another id is another topic, whatever its length and its records.
            (
                ids(A, B, seen(5, 0, 10, Some(false))),
                OnLoss::Refuse,
                "has the id AQEBAQEBAQEBAQEBAQEBAQ, the one of its name now has the id AgIC",
            ),
            (ids(A, B, seen(5, 0, 10, None)), OnLoss::Refuse, "deleted and made again"),
            (ids(A, B, seen(0, 0, 0, None)), OnLoss::Refuse, "deleted and made again"),
            (ids(A, B, seen(5, 0, 10, None)), OnLoss::Earliest, "skip to 0"),
            // A position of an earlier version has no id, and a cluster may have none: the record
            // must do.
            (ids(None, B, seen(5, 0, 10, Some(false))), OnLoss::Refuse, "at"),
            (ids(A, None, seen(5, 0, 10, None)), OnLoss::Refuse, "at"),
            (
                ids(None, None, seen(5, 0, 10, Some(true))),
                OnLoss::Refuse,
                "is not the one that was read",
            ),
        ]);
    }

    #[test]
    fn every_row_of_a_bound_that_a_start_may_see() {
        let until = |bound, seen: Seen| Seen { bound: Some(bound), ..seen };
        check([
            // Read to where it ends for the source: what has expired since is not wanted. It is
            // still the same partition.
            (until(1200, seen(1200, 5000, 9000, None)), OnLoss::Refuse, "at"),
            (until(900, seen(1200, 5000, 9000, None)), OnLoss::Latest, "at"),
            (
                until(1201, seen(1200, 5000, 9000, None)),
                OnLoss::Refuse,
                "need 1200, the log starts at 5000",
            ),
            (until(5, ids(A, B, seen(5, 0, 10, None))), OnLoss::Refuse, "deleted and made again"),
            (until(5, seen(11, 0, 10, None)), OnLoss::Refuse, "it was truncated"),
            (until(5, seen(5, 0, 10, Some(true))), OnLoss::Refuse, "is not the one that was read"),
        ]);
    }

    #[test]
    fn every_row_of_what_a_doubt_may_find() {
        let there = |low, high, replaced| Answer::There { low, high, replaced };
        let no_right = || Answer::Refused("no right".into());
        let both = "the one that was read has the id AQEBAQEBAQEBAQEBAQEBAQ, the one of its name \
            now has the id AgIC";
        // The answer, after how many seconds of such answers it is believed, and what follows then:
        // before, it is asked again.
        for (answer, seconds, expected) in [
            (Answer::Nothing, 3600, "ask"),
            (there(0, 20, None), 0, "on"),
            (there(0, 20, Some(false)), 0, "on"),
            (there(5, 5, None), 0, "on"),
            // Retention, or another record: final at once.
            (there(6, 20, None), 0, "need 5, the log starts at 6: 1 records lost"),
            (there(0, 20, Some(true)), 0, "is not the one that was read"),
            // What a stale answer may be is asked again.
            (Answer::OtherTopic { was: id(1), now: id(2) }, 2, both),
            (there(0, 4, None), 8, "need 5, the log ends at 4"),
            (Answer::NoPartition { partitions: 1 }, 8, "has 1 partitions now"),
            (Answer::NoTopic, 8, "orders[3]: the topic was deleted"),
            (no_right(), 60, "refused: no right"),
        ] {
            let doubted = Doubted { next: 5, was_well: true };
            let at = |agree| match judge("orders[3]", doubted, &answer, agree) {
                Verdict::AskAgain => "ask".to_string(),
                Verdict::ReadOn => "on".to_string(),
                Verdict::Lost(why) => why,
                Verdict::Refused(why) => format!("refused: {why}"),
            };
            let (after, just) = (Duration::from_secs(seconds), Duration::from_millis(1));
            assert!(at(after).contains(expected), "{answer:?}: {}", at(after));
            assert!(
                seconds == 0 || at(after - just) == "ask",
                "{answer:?} before: {}",
                at(after - just)
            );
        }
        let new = Doubted { next: 0, was_well: false };
        assert_eq!(
            judge("t[0]", new, &no_right(), Duration::ZERO),
            Verdict::Refused("no right".into()),
            "it was never read"
        );
    }
}
