//! The decision of what follows a generation that has failed: another generation, a search for the
//! records to blame, or the end of the run.

use crate::failure::search::MOST_TRIALS;
use tidemill_state::{Kind, Txid};

/// The number of times in a row that a run that may continue after a loss does so without a commit.
const LOSSES_IN_A_ROW: u32 = 3;

/// The facts on which the decision rests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The failure's kind.
    pub(crate) kind: Kind,
    /// True if the source whose records were lost may find them elsewhere, if it is begun again.
    pub(crate) perhaps_elsewhere: bool,
    /// The number of generations that have failed in a row without a commit, this one included.
    pub(crate) failures: u32,
    /// The last committed batch.
    pub(crate) committed: Txid,
    /// The batch that failed, if its policy is to search for the records to blame.
    pub(crate) suspect: Option<Txid>,
    /// The number of times failing user code is tried again ([`crate::Settings::retries`]).
    pub(crate) retries: u32,
    /// True if the run may go on after records are lost at a source.
    pub(crate) skips_losses: bool,
    /// True if the run was told to stop.
    pub(crate) stopping: bool,
    /// True if a test simulates a crash.
    pub(crate) crashed: bool,
}

/// The step after a failed generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The run ends as it was told to.
    Stop,
    /// The run ends with the failure.
    Fail,
    /// Another generation.
    Again,
    /// Another generation that takes no batch up to this one while the one before it is
    /// uncommitted: the records of a batch are known only of one that is alone in flight.
    Alone(Txid),
    /// A search of the batch after the last committed one for the records to blame.
    Search,
}

impl Facts {
    /// Returns whether the run continues after a loss of this kind.
    pub(crate) fn passes_over(&self, kind: Kind) -> bool {
        kind == Kind::SourceLost
            && (self.skips_losses || self.perhaps_elsewhere)
            && self.failures <= LOSSES_IN_A_ROW
    }

    /// Returns whether user code that has failed is tried again.
    pub(crate) fn retried(&self) -> bool {
        self.kind == Kind::UserCode && self.failures <= self.retries
    }
}

/// Decides what follows a failed generation.
pub(crate) fn after_failure(facts: Facts) -> Next {
    if facts.kind == Kind::Unreachable && facts.stopping {
        return Next::Stop;
    }
    if facts.crashed {
        return Next::Fail;
    }
    let next = match facts.suspect {
        Some(batch) if batch == facts.committed.next() => Next::Search,
        Some(batch) if facts.failures <= MOST_TRIALS => Next::Alone(batch),
        _ if facts.passes_over(facts.kind) || facts.retried() => Next::Again,
        _ => Next::Fail,
    };
    // Another generation would be built only to be stopped. What has failed is read again after the
    // next start.
    if facts.stopping && next != Next::Fail { Next::Stop } else { next }
}

/// Decides what follows a search: `found` reports whether it ended with the records to blame.
pub(crate) fn after_search(facts: Facts, found: bool) -> Next {
    match found {
        true if facts.stopping => Next::Stop,
        // The batch is made again without them, and alone: it may have more than one failing
        // record.
        true => Next::Alone(facts.committed.next()),
        false if facts.retried() => Next::Alone(facts.committed.next()),
        false => Next::Fail,
    }
}

#[cfg(test)]
mod tests {
    use crate::run::retry::*;

    const FACTS: Facts = Facts {
        kind: Kind::UserCode,
        perhaps_elsewhere: false,
        failures: 1,
        committed: Txid(4),
        suspect: None,
        retries: 0,
        skips_losses: false,
        stopping: false,
        crashed: false,
    };

    #[test]
    fn every_row_of_what_follows_a_failure() {
        let lost = Facts { kind: Kind::SourceLost, ..FACTS };
        let away = Facts { kind: Kind::Unreachable, ..FACTS };
        let suspect = |batch| Facts { suspect: Some(Txid(batch)), ..FACTS };
        for (facts, expected) in [
            (FACTS, Next::Fail),
            (Facts { retries: 1, ..FACTS }, Next::Again),
            (Facts { retries: 1, failures: 2, ..FACTS }, Next::Fail),
            (Facts { retries: 1, crashed: true, ..FACTS }, Next::Fail),
            (lost, Next::Fail),
            (Facts { skips_losses: true, ..lost }, Next::Again),
            (Facts { skips_losses: true, failures: 3, ..lost }, Next::Again),
            (Facts { skips_losses: true, failures: 4, ..lost }, Next::Fail),
            (Facts { perhaps_elsewhere: true, ..lost }, Next::Again),
            (Facts { perhaps_elsewhere: true, failures: 4, ..lost }, Next::Fail),
            (Facts { skips_losses: true, ..FACTS }, Next::Fail),
            (away, Next::Fail),
            (Facts { stopping: true, ..away }, Next::Stop),
            (Facts { stopping: true, ..FACTS }, Next::Fail),
            (Facts { stopping: true, retries: 1, ..FACTS }, Next::Stop),
            (Facts { stopping: true, perhaps_elsewhere: true, ..lost }, Next::Stop),
            (Facts { stopping: true, ..lost }, Next::Fail),
            (Facts { stopping: true, ..suspect(5) }, Next::Stop),
            (Facts { stopping: true, ..suspect(7) }, Next::Stop),
            (suspect(5), Next::Search),
            (Facts { crashed: true, ..suspect(5) }, Next::Fail),
            (suspect(7), Next::Alone(Txid(7))),
            (Facts { failures: MOST_TRIALS, ..suspect(7) }, Next::Alone(Txid(7))),
            (Facts { failures: MOST_TRIALS + 1, ..suspect(7) }, Next::Fail),
            (Facts { kind: Kind::Bug, ..FACTS }, Next::Fail),
            (Facts { kind: Kind::Bug, retries: 9, ..FACTS }, Next::Fail),
        ] {
            assert_eq!(after_failure(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn every_row_of_what_follows_a_search() {
        let searched = Facts { suspect: Some(Txid(5)), ..FACTS };
        for (facts, found, expected) in [
            (searched, true, Next::Alone(Txid(5))),
            (Facts { stopping: true, ..searched }, true, Next::Stop),
            (searched, false, Next::Fail),
            (Facts { retries: 1, ..searched }, false, Next::Alone(Txid(5))),
        ] {
            assert_eq!(after_search(facts, found), expected, "{facts:?}, found: {found}");
        }
    }
}
