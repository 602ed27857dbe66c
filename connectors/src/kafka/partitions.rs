//! The partitions of a source, as a start sees them.

use super::begin::BELIEVED_AFTER;
use super::identity::{Record, TopicId};
use super::offsets::At;
use super::partition::parse;
use super::settings::Isolation;
use super::topic_list::Entry;
use super::topics::{ASK_EVERY, Listed, Probe, names_in};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tidemill_engine::source::StartAt;
use tidemill_state::{Error, Result};

/// The partitions that are there, with their offsets.
pub(super) struct Partitions<'a> {
    probe: &'a Probe,
    topics: BTreeMap<String, Listed>,
    names: Vec<String>,
    /// By name: the first offset and the one after the last.
    ranges: BTreeMap<String, (i64, i64)>,
    looked: Instant,
}

impl<'a> Partitions<'a> {
    /// Lists the partitions of these topics. A topic that is recorded and gone is not missing here:
    /// its partitions are.
    pub(super) fn look<'n>(
        probe: &'a Probe,
        entries: &[Entry],
        recorded: impl Iterator<Item = &'n String>,
    ) -> Result<Partitions<'a>> {
        let recorded: BTreeSet<&str> =
            recorded.filter_map(|name| parse(name).ok()).map(|(topic, _)| topic).collect();
        let topics = probe.topics(entries, |topic| recorded.contains(topic))?;
        Partitions::of(probe, topics)
    }

    /// The partitions of topics that were listed.
    pub(super) fn of(probe: &'a Probe, topics: BTreeMap<String, Listed>) -> Result<Partitions<'a>> {
        let names = names_in(&topics);
        let begins = probe.all_offsets(names.iter().map(String::as_str), At::Beginning)?;
        let mut ends = probe.all_offsets(names.iter().map(String::as_str), At::End)?;
        let range = |(name, low): (String, i64)| {
            let high = ends
                .remove(&name)
                .ok_or_else(|| Error::unreachable(format!("{name}: its end is not known")))?;
            Ok((name, (low, high)))
        };
        let ranges = begins.into_iter().map(range).collect::<Result<_>>()?;
        Ok(Partitions { probe, topics, names, ranges, looked: Instant::now() })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    pub(super) fn topics(&self) -> &BTreeMap<String, Listed> {
        &self.topics
    }

    pub(super) fn has(&self, name: &str) -> bool {
        parse(name).is_ok_and(|(topic, number)| {
            self.topics.get(topic).is_some_and(|listed| number < listed.partitions)
        })
    }

    /// The id of the topic that a partition belongs to.
    pub(super) fn id_of(&self, name: &str) -> Option<TopicId> {
        let (topic, _) = parse(name).ok()?;
        self.topics.get(topic)?.id
    }

    /// Returns whether a partition is there, and its topic may be the one of this id.
    pub(super) fn may_be(&self, name: &str, was: Option<TopicId>) -> bool {
        let listed =
            parse(name).ok().and_then(|(topic, number)| Some((self.topics.get(topic)?, number)));
        listed.is_some_and(|(listed, number)| listed.speaks_against(was, number).is_none())
    }

    /// As [`Partitions::range`], for a partition that was read up to an offset. While the end lies
    /// before that offset, the range is requested again for some seconds: a new leader may be
    /// behind.
    pub(super) fn range_with(&self, name: &str, read: i64) -> Result<(i64, i64)> {
        let mut range = self.range(name)?;
        let (topic, partition) = parse(name)?;
        while read > range.1 && self.looked.elapsed() < BELIEVED_AFTER {
            std::thread::sleep(ASK_EVERY);
            range = self.probe.range(topic, partition)?;
        }
        Ok(range)
    }

    /// The first offset of a partition and the one after the last.
    pub(super) fn range(&self, name: &str) -> Result<(i64, i64)> {
        self.ranges
            .get(name)
            .copied()
            .ok_or_else(|| Error::bug(format!("{name} is no partition that was listed")))
    }

    /// The offset after the last of each partition.
    pub(super) fn ends(&self) -> impl Iterator<Item = (String, i64)> {
        self.ranges.iter().map(|(name, (_, high))| (name.clone(), *high))
    }

    /// Returns whether each of these records is another now; `None` if it is gone.
    pub(super) fn are_replaced(&self, records: &[(&str, Record)]) -> Result<Vec<Option<bool>>> {
        self.probe.are_replaced(records)
    }

    /// Returns the offsets at which partitions begin that were never read.
    pub(super) fn first(&self, names: &[&str], first: StartAt) -> Result<BTreeMap<String, i64>> {
        match first {
            StartAt::Earliest => names
                .iter()
                .map(|name| Ok(((*name).to_string(), self.range(name)?.0)))
                .collect::<Result<BTreeMap<_, _>>>(),
            StartAt::Latest => self.stable_ends(names),
            StartAt::Time(ms) => self.at_time(names, ms),
        }
    }

    /// The first offsets that a reader of committed transactions does not reach yet: records of a
    /// transaction that is still open come after them.
    pub(super) fn stable_ends(&self, names: &[&str]) -> Result<BTreeMap<String, i64>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let probe = Probe::new(self.probe.kafka(), Isolation::Committed)?;
        probe.all_offsets(names.iter().copied(), At::End)
    }

    /// The first offsets of this time or later; the stable end where there is none.
    pub(super) fn at_time(&self, names: &[&str], ms: i64) -> Result<BTreeMap<String, i64>> {
        // The ends first: what comes between the two looks lies behind them.
        let mut found = self.stable_ends(names)?;
        for (name, offset) in self.probe.offsets(names.iter().copied(), At::Time(ms))? {
            if let Some(offset) = offset? {
                found.insert(name, offset);
            }
        }
        Ok(found)
    }
}
