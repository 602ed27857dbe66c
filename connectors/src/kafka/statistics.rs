//! The statistics that librdkafka reports of a client, as far as they are used: which brokers are
//! reached, how far partitions are.

use serde::Deserialize;
use std::collections::HashMap;
use std::time::SystemTime;

/// The parts of librdkafka's statistics that are used.
#[derive(Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    pub(super) brokers: HashMap<String, BrokerStatistics>,
    #[serde(default)]
    pub(super) topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
pub(super) struct BrokerStatistics {
    state: String,
    #[serde(default)]
    nodeid: i32,
    #[serde(default)]
    nodename: String,
    /// The origin of the broker's entry. A logical broker, such as the group's coordinator, is a
    /// second connection to one of the others.
    #[serde(default)]
    source: String,
    #[serde(default)]
    pub(super) txretries: u64,
    #[serde(default)]
    pub(super) req_timeouts: u64,
}

impl BrokerStatistics {
    pub(super) fn is_up(&self) -> bool {
        self.state == "UP"
    }
}

#[derive(Deserialize)]
pub(super) struct TopicStatistics {
    pub(super) partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
pub(super) struct PartitionStatistics {
    pub(super) partition: i32,
    /// True if it is read.
    #[serde(default)]
    desired: bool,
    #[serde(default)]
    leader: i32,
    /// The broker from which it is read: its leader, or a replica that is nearer.
    #[serde(default)]
    broker: i32,
    #[serde(default)]
    pub(super) ls_offset: i64,
    #[serde(default)]
    pub(super) hi_offset: i64,
}

impl PartitionStatistics {
    /// Why it cannot be read, if so.
    pub(super) fn away(&self, brokers: &HashMap<String, BrokerStatistics>) -> Option<String> {
        if !self.desired {
            return None;
        }
        if self.leader < 0 {
            return Some("it has no leader".to_string());
        }
        let id = if self.broker >= 0 { self.broker } else { self.leader };
        match brokers.values().find(|broker| broker.nodeid == id && broker.source != "logical") {
            Some(broker) if broker.is_up() => None,
            Some(broker) => {
                Some(format!("its leader, broker {id} at {}, cannot be reached", broker.nodename))
            }
            None => Some(format!(
                "its leader, broker {id}, cannot be reached: no address of it is known"
            )),
        }
    }
}

/// A transaction that is open on a partition: records after its first one cannot be read before it
/// ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenTransaction {
    /// The last stable offset: where it begins.
    pub(super) at: i64,
    /// When that was first seen.
    pub(super) since: SystemTime,
}

impl OpenTransaction {
    /// That time, to the second.
    pub(super) fn since_text(&self) -> String {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds)
            .map_or("an unknown time".to_string(), |time| time.to_string())
    }

    /// The transaction that holds a partition up with these offsets, if one does; `before` is the
    /// one that did before.
    pub(super) fn of(
        last_stable: i64,
        end: i64,
        before: Option<OpenTransaction>,
        now: SystemTime,
    ) -> Option<OpenTransaction> {
        let is_open = (0..end).contains(&last_stable);
        is_open.then_some(match before {
            Some(before) if before.at == last_stable => before,
            _ => OpenTransaction { at: last_stable, since: now },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_partition_that_is_read_needs_a_leader_that_is_reached() {
        let brokers: HashMap<String, BrokerStatistics> = serde_json::from_str(
            r#"{"a": {"state": "UP", "nodeid": 1, "source": "learned"},
                "b": {"state": "TRY_CONNECT", "nodeid": 2, "nodename": "b:9092", "source": "configured"},
                "GroupCoordinator": {"state": "INIT", "nodeid": 1, "source": "logical"},
                "another": {"state": "UP", "nodeid": 2, "source": "logical"}}"#,
        )
        .expect("they are statistics");
        let why = |desired, leader, broker| {
            let (ls_offset, hi_offset) = (0, 0);
            PartitionStatistics { partition: 0, desired, leader, broker, ls_offset, hi_offset }
                .away(&brokers)
        };
        assert_eq!(why(true, 1, 1), None);
        assert_eq!(why(true, 2, 1), None, "it is read from a replica");
        assert_eq!(why(false, -1, -1), None, "it is not read here");
        for (leader, broker, part) in [
            (-1, -1, "has no leader"),
            (2, 2, "broker 2 at b:9092"),
            (2, -1, "broker 2 at"),
            (3, 3, "broker 3, cannot"),
        ] {
            assert!(
                why(true, leader, broker).is_some_and(|why| why.contains(part)),
                "{leader} {broker}"
            );
        }
    }

    #[test]
    fn a_transaction_is_open_since_its_offset_was_first_seen() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let open = |at, since| Some(OpenTransaction { at, since });
        for (last_stable, end, before, expected) in [
            (7, 9, None, open(7, at(60))),
            (7, 12, open(7, at(10)), open(7, at(10))),
            (8, 12, open(7, at(10)), open(8, at(60))),
            (12, 12, open(7, at(10)), None),
            // Not known yet.
            (-1, 12, None, None),
            (-1001, -1001, None, None),
        ] {
            assert_eq!(
                OpenTransaction::of(last_stable, end, before, at(60)),
                expected,
                "{last_stable} of {end}"
            );
        }
    }
}
