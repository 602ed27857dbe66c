//! Where a partition is begun or gone on from: from what is recorded and what the broker has, to a decision.

use tidemill_engine::source::OnLoss;

/// What is known of a partition at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The recorded position.
    pub(super) recorded: i64,
    /// The first offset that is there.
    pub(super) low: i64,
    /// The offset after the last.
    pub(super) high: i64,
    /// Whether the last record before the position is another than the one that was read; `None` if it is gone.
    pub(super) replaced: Option<bool>,
}

/// What a start does with a partition that was read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// Go on at the recorded position.
    At,
    /// Records are lost, which was allowed: go on there, and say so.
    Skip { to: i64, report: String },
    /// Records are lost.
    Refuse(String),
}

/// Decides how a partition goes on that was read before.
pub(super) fn resume(name: &str, seen: Seen, on_loss: OnLoss) -> Resume {
    let Seen { recorded, low, high, replaced } = seen;
    let what = if recorded > high {
        format!("{name}: need {recorded}, the log ends at {high}: it was truncated, or deleted and made again")
    } else if replaced == Some(true) {
        format!("{name}: the record before {recorded} is not the one that was read: the topic was deleted and made again")
    } else if recorded < low {
        format!("{name}: need {recorded}, the log starts at {low}: {} records lost", low - recorded)
    } else {
        return Resume::At;
    };
    let to = match on_loss {
        OnLoss::Refuse => {
            return Resume::Refuse(format!(
                "{what}. Restore the topic; or go on without these records: --on-loss earliest goes on at {low}, --on-loss latest at {high}"
            ));
        }
        OnLoss::Earliest => low,
        OnLoss::Latest => high,
    };
    Resume::Skip { to, report: format!("{what}; told to go on: at {to}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_what_a_start_may_see() {
        let seen = |recorded, low, high, replaced| Seen { recorded, low, high, replaced };
        for (seen, on_loss, expected) in [
            (seen(5, 0, 10, Some(false)), OnLoss::Refuse, "at"),
            (seen(10, 0, 10, Some(false)), OnLoss::Refuse, "at"),
            // Read to its end, and everything has expired: nothing is lost.
            (seen(10, 10, 10, None), OnLoss::Refuse, "at"),
            (seen(1200, 5000, 9000, None), OnLoss::Refuse, "need 1200, the log starts at 5000: 3800 records lost"),
            (seen(1200, 5000, 9000, None), OnLoss::Earliest, "skip to 5000"),
            (seen(1200, 5000, 9000, None), OnLoss::Latest, "skip to 9000"),
            (seen(11, 0, 10, None), OnLoss::Refuse, "need 11, the log ends at 10: it was truncated"),
            (seen(11, 0, 10, None), OnLoss::Earliest, "skip to 0"),
            (seen(5, 0, 10, Some(true)), OnLoss::Refuse, "deleted and made again"),
            (seen(5, 0, 10, Some(true)), OnLoss::Latest, "skip to 10"),
        ] {
            let got = match resume("orders[3]", seen, on_loss) {
                Resume::At => "at".to_string(),
                Resume::Skip { to, report } => format!("skip to {to}: {report}"),
                Resume::Refuse(why) => why,
            };
            assert!(got.contains(expected), "{seen:?} {on_loss:?}: {got}");
        }
    }
}
