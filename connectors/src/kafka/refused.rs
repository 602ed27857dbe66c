//! The part of a sink's output that the brokers have refused for good. For one bad message they
//! refuse all that comes to a partition together. Messages that were refused together are sent in
//! halves, until a message is refused alone. No good message pays for a bad one.

use super::error_class::{self, ErrorClass};
use rdkafka::error::RDKafkaErrorCode;
use std::collections::BTreeMap;
use tidemill_engine::sink::Entry;
use tidemill_state::Txid;

/// A message: its batch, and its number in that.
pub(super) type Place = (Txid, usize);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Refused {
    /// Why a message was refused that came alone.
    reasons: BTreeMap<Place, String>,
    /// Those that were refused with others, and with which they are sent again.
    groups: BTreeMap<Place, u64>,
    last_group: u64,
}

impl Refused {
    /// Why this message goes to the dead letters, if it does.
    pub(super) fn reason(&self, place: Place) -> Option<&str> {
        self.reasons.get(&place).map(String::as_str)
    }

    /// With which others it must be sent: with all that have the same, and no others.
    pub(super) fn group(&self, place: Place) -> Option<u64> {
        self.groups.get(&place).copied()
    }

    /// These were refused together, of which there is one at least: it alone is certain to be bad,
    /// and more are sent again in halves.
    pub(super) fn refuse(&mut self, topic: &str, together: &[(Place, RDKafkaErrorCode)]) {
        if let [(place, code)] = together {
            let reason = format!("topic {topic} does not take it: {code}");
            tracing::warn!(batch = %place.0, message = place.1, reason, "a message goes to the \
                dead letters");
            self.groups.remove(place);
            self.reasons.insert(*place, reason);
            return;
        }
        for half in together.chunks(together.len().div_ceil(2)) {
            self.last_group += 1;
            self.groups.extend(half.iter().map(|(place, _)| (*place, self.last_group)));
        }
    }

    /// Everything up to this batch is published.
    pub(super) fn forget(&mut self, published: Txid) {
        self.reasons.retain(|(txid, _), _| *txid > published);
        self.groups.retain(|(txid, _), _| *txid > published);
    }
}

/// Which batch, and which of its messages, has this number in the transaction.
pub(super) fn place_of(entries: &[Entry], number: usize) -> Option<Place> {
    let mut left = number;
    for entry in entries {
        let records = entry.records().count();
        if left < records {
            return Some((entry.txid, left));
        }
        left -= records;
    }
    None
}

/// Returns whether the brokers will refuse the message again.
pub(super) fn is_for_good(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{PolicyViolation, UnknownPartition};
    error_class::of(code) == ErrorClass::Message
        || matches!(code, PolicyViolation | UnknownPartition)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends messages as the publisher does, group by group, to brokers that refuse what is
    /// together with a bad one. Gives how many attempts it took.
    fn attempts(refused: &mut Refused, messages: usize, is_bad: impl Fn(usize) -> bool) -> usize {
        let places: Vec<Place> = (0..messages).map(|index| (Txid(7), index)).collect();
        for attempt in 1..1_000 {
            let left: Vec<Place> =
                places.iter().copied().filter(|place| refused.reason(*place).is_none()).collect();
            let mut groups =
                left.chunk_by(|one, other| refused.group(*one) == refused.group(*other));
            let Some(failed) = groups.find(|group| group.iter().any(|(_, index)| is_bad(*index)))
            else {
                return attempt;
            };
            let failed: Vec<_> =
                failed.iter().map(|place| (*place, RDKafkaErrorCode::InvalidRecord)).collect();
            refused.refuse("tide", &failed);
        }
        panic!("it does not end");
    }

    #[test]
    fn only_the_bad_ones_are_refused_however_many_come_together() {
        for (messages, bad) in
            [(1, vec![0]), (2, vec![1]), (1_000, vec![0, 499, 500, 999]), (64, (0..64).collect())]
        {
            let mut refused = Refused::default();
            let took = attempts(&mut refused, messages, |index| bad.contains(&index));
            let found: Vec<usize> =
                (0..messages).filter(|index| refused.reason((Txid(7), *index)).is_some()).collect();
            assert_eq!(found, bad, "of {messages}");
            assert!(took <= 12 * bad.len() + 1, "{took} attempts for {} of {messages}", bad.len());
            refused.forget(Txid(6));
            assert!(refused.reason((Txid(7), bad[0])).is_some(), "the batch is not published yet");
            refused.forget(Txid(7));
            assert!(
                refused.reasons.is_empty() && refused.groups.is_empty(),
                "nothing is kept of what is published"
            );
        }
    }
}
