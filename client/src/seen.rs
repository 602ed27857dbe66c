//! The part of the server's state that a client has seen: the lineage, and the greatest batch in
//! it. From these follow the bounds of every request and the verdict on every answer.

use std::sync::{Mutex, MutexGuard};

/// See the module's documentation. Shared by the clones of a client.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<At>);

/// A batch of a lineage. The empty lineage is one that is not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) lineage: String,
    pub(crate) txid: u64,
}

/// The verdict on an answer, or on the report of another lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is taken.
    Taken,
    /// The request is to be sent again: others have learnt something in the meantime.
    Again,
    /// The state was replaced: it was of this lineage.
    Replaced(String),
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, At> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Returns the lineage and the batch that a request has to require.
    pub(crate) fn now(&self) -> At {
        self.lock().clone()
    }

    /// An answer has come that is of this.
    pub(crate) fn answered(&self, of: &At) -> Verdict {
        let mut seen = self.lock();
        if seen.lineage.is_empty() {
            seen.clone_from(of);
            return Verdict::Taken;
        }
        if seen.lineage != of.lineage {
            // Two requests have found two lines. Which one is there now, the server knows.
            return Verdict::Again;
        }
        seen.txid = seen.txid.max(of.txid);
        Verdict::Taken
    }

    /// A request that asked for this lineage was told that there is that one now. Only the first to
    /// be told reports it.
    pub(crate) fn replaced(&self, asked: &str, now: &str) -> Verdict {
        let mut seen = self.lock();
        if seen.lineage != asked {
            return Verdict::Again;
        }
        *seen = At { lineage: now.to_string(), txid: 0 };
        Verdict::Replaced(asked.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lineage: &str, txid: u64) -> At {
        At { lineage: lineage.into(), txid }
    }

    #[test]
    fn the_greatest_batch_of_a_line_is_kept_and_a_new_line_is_reported_once() {
        let seen = Seen::default();
        assert_eq!(seen.now(), at("", 0));
        assert_eq!(seen.answered(&at("a", 5)), Verdict::Taken);
        assert_eq!(seen.answered(&at("a", 3)), Verdict::Taken);
        assert_eq!(seen.now(), at("a", 5));
        assert_eq!(seen.answered(&at("b", 9)), Verdict::Again);
        assert_eq!(seen.now(), at("a", 5), "which lineage is there, the server says");
        assert_eq!(seen.replaced("a", "b"), Verdict::Replaced("a".into()));
        assert_eq!(seen.replaced("a", "b"), Verdict::Again);
        assert_eq!(seen.now(), at("b", 0));
        assert_eq!(
            seen.answered(&at("a", 6)),
            Verdict::Again,
            "an answer of the old state that comes late"
        );
        assert_eq!(seen.answered(&at("b", 1)), Verdict::Taken);
        assert_eq!(seen.now(), at("b", 1));
    }
}
