//! The look at a cluster while a source is read: whether its topics are still those that are read,
//! and which partitions are new.

use super::begin::{Answer, Doubted, Verdict, judge};
use super::identity::{TopicId, Witness};
use super::offsets::At;
use super::partition::{name_of, parse};
use super::settings::ANSWER_WITHIN;
use super::topic_list::Entry;
use super::topics::{ASK_EVERY, Listed, Probe, names_in};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Position, Result};

/// The looks of one source.
#[derive(Default)]
pub(super) struct Discovery {
    /// When new partitions were looked for last.
    looked: Mutex<Option<Instant>>,
}

/// The result of a look for new partitions.
pub(super) struct NewOnes {
    /// All topics that are read.
    pub(super) topics: BTreeMap<String, Listed>,
    /// The partitions that are new, with where they begin.
    pub(super) partitions: Vec<(String, Option<Position>)>,
}

/// A topic that is read.
#[derive(Clone, Copy)]
struct Read {
    /// Its id, if a position has it.
    id: Option<TopicId>,
    /// The partition with the highest number.
    last: i32,
}

impl Discovery {
    /// Compares the topics that are read with those that have their names now. A contradiction is
    /// checked again for some seconds before it is believed.
    ///
    /// # Errors
    /// Kind SourceLost: a topic is another, has lost partitions, or is gone.
    pub(super) fn compare(
        &self,
        probe: &Probe,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<()> {
        let topics = topics_of(known.iter().map(|(name, position)| (name, position.as_ref())))?;
        // One answer about all topics takes as long as some about one each.
        let listed = if topics.len() > FEW_TOPICS { probe.all_topics()? } else { BTreeMap::new() };
        let (mut outcome, mut silent) = (Ok(()), 0);
        for (topic, read) in topics {
            // Each waits for any broker, whatever the topic. The ends of the logs must be looked up
            // again meanwhile.
            if silent == MOST_SILENT {
                break;
            }
            let is_same = |listed: &Listed| {
                listed.id.is_some() && listed.speaks_against(read.id, read.last).is_none()
            };
            if listed.get(topic).is_some_and(is_same) {
                continue;
            }
            let asked = Instant::now();
            match same(probe, topic, read) {
                // One that cannot be asked about now does not hide another.
                Err(error) if error.kind() != Kind::SourceLost => {
                    silent += u32::from(asked.elapsed() >= ANSWER_WITHIN);
                    outcome = outcome.and(Err(error));
                }
                looked => looked?,
            }
        }
        outcome
    }

    /// Looks for partitions that are new, if it is time to. `None` if it is not.
    pub(super) fn new_ones(
        &self,
        probe: &Probe,
        entries: &[Entry],
        every: Duration,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Option<NewOnes>> {
        // The first call looks.
        let looked = *self.looked.lock().expect("no holder of this lock panics");
        if looked.is_some_and(|looked| looked.elapsed() < every) {
            return Ok(None);
        }
        let topics = probe.topics(entries, |_| false)?;
        let new: Vec<String> =
            names_in(&topics).into_iter().filter(|name| !known.contains_key(name)).collect();
        let begins = probe.all_offsets(new.iter().map(String::as_str), At::Beginning)?;
        let position = |(name, low): (String, i64)| {
            let (topic, _) = parse(&name)?;
            let id = topics.get(topic).and_then(|listed| listed.id);
            let from = Witness { topic: id, record: None }.at(low);
            Ok((name, Some(from)))
        };
        let partitions = begins.into_iter().map(position).collect::<Result<_>>()?;
        *self.looked.lock().expect("no holder of this lock panics") = Some(Instant::now());
        Ok(Some(NewOnes { topics, partitions }))
    }
}

/// The number of calls of one comparison that may remain unanswered.
const MOST_SILENT: u32 = 2;

/// The number of topics that are asked about one by one.
const FEW_TOPICS: usize = 10;

/// The topics of partitions, with what is known of each.
fn topics_of<'a>(
    known: impl Iterator<Item = (&'a String, Option<&'a Position>)>,
) -> Result<BTreeMap<&'a str, Read>> {
    let mut topics: BTreeMap<&str, Read> = BTreeMap::new();
    for (name, position) in known {
        let (topic, number) = parse(name)?;
        let read = topics.entry(topic).or_insert(Read { id: None, last: number });
        read.id = read.id.or_else(|| Witness::of(position?).topic);
        read.last = read.last.max(number);
    }
    Ok(topics)
}

/// Returns the topics of recorded partitions that are lost. As long as brokers may only be behind,
/// they are asked again.
pub(super) fn lost_topics(
    probe: &Probe,
    recorded: &BTreeMap<String, Position>,
) -> Result<BTreeSet<String>> {
    let mut lost = BTreeSet::new();
    let topics = topics_of(recorded.iter().map(|(name, position)| (name, Some(position))))?;
    let listed = probe.each_topic(topics.keys().copied())?;
    for (topic, read) in topics {
        let listed = listed.get(topic).copied().flatten();
        if listed.is_some_and(|listed| listed.speaks_against(read.id, read.last).is_none()) {
            continue;
        }
        match same(probe, topic, read) {
            Err(error) if error.kind() == Kind::SourceLost => drop(lost.insert(topic.to_string())),
            looked => looked?,
        }
    }
    Ok(lost)
}

/// Compares a topic with the one that is read: an error if it is another, and no broker
/// contradicts.
fn same(probe: &Probe, topic: &str, read: Read) -> Result<()> {
    // No offset is compared here.
    let doubted = Doubted { next: 0, was_well: true };
    let began = Instant::now();
    loop {
        let Some(answer) = probe
            .topic(topic)?
            .map_or(Some(Answer::NoTopic), |listed| listed.speaks_against(read.id, read.last))
        else {
            return Ok(());
        };
        match judge(&name_of(topic, read.last), doubted, &answer, began.elapsed()) {
            Verdict::Lost(why) => return Err(Error::source_lost(why)),
            _ => std::thread::sleep(ASK_EVERY),
        }
    }
}
