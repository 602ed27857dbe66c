//! A start of a source of topics: where partitions begin that were never read, and where those
//! resume that were.

use super::KafkaSource;
use crate::kafka::begin::{Resume, Seen, resume};
use crate::kafka::identity::{Record, Witness};
use crate::kafka::partition::parse;
use crate::kafka::partitions::Partitions;
use std::collections::BTreeMap;
use tidemill_engine::source::{Begun, Data, OnLoss, Start, StartAt};
use tidemill_state::{Error, Result};

impl<T: Data> KafkaSource<T> {
    /// Returns the offsets at which partitions begin that belong to a source that was never read.
    pub(super) fn first_of(
        &self,
        partitions: &Partitions<'_>,
        names: &[&str],
        first: Option<StartAt>,
    ) -> Result<BTreeMap<String, i64>> {
        let (mut begins, mut others) = (BTreeMap::new(), Vec::new());
        for name in names {
            let Some(offset) = self.topics.offsets.get(*name).filter(|_| first.is_none()) else {
                others.push(*name);
                continue;
            };
            let (low, high) = partitions.range(name)?;
            if !(low..=high).contains(offset) {
                return Err(Error::config(format!(
                    "{name}: told to begin at {offset}, but its offsets go from {low} to {high}: \
                     give one of those to first_offset"
                )));
            }
            begins.insert((*name).to_string(), *offset);
        }
        begins.extend(partitions.first(&others, first.unwrap_or(self.topics.first))?);
        Ok(begins)
    }

    /// The error of a partition that was read and is not there.
    fn gone(&self, name: &str, recorded: i64) -> Result<Error> {
        let (topic, _) = parse(name)?;
        let list = &self.topics.list;
        let why = if list.includes(topic) {
            "is gone: the topic was deleted, or made again with fewer partitions. Restore it;"
        } else {
            "is no longer among the topics to read. Name it again;"
        };
        Ok(Error::source_lost(format!(
            "{name} was read up to {recorded}, and {why} or go on without it (--on-loss earliest \
             or latest, needed once), or begin anew with --start-over. The topics to read are: {}",
            list.text()
        )))
    }

    /// Resumes the partitions that were read before. A loss of records is an error, unless
    /// `start.on_loss` allows it: then `begun` has a warning.
    pub(super) fn resume(
        &self,
        partitions: &Partitions<'_>,
        start: &Start<'_>,
        begun: &mut Begun,
    ) -> Result<()> {
        let (mut known, mut gone) = (Vec::new(), None);
        let mut records: Vec<(&str, Record)> = Vec::new();
        // Those of this run's first start.
        let bounds = self.reading.facts();
        for (name, from) in start.recorded {
            let recorded = i64::try_from(from.offset)
                .map_err(|_| Error::damaged(format!("{name}: {} is no offset", from.offset)))?;
            if !partitions.has(name) {
                if start.on_loss == OnLoss::Refuse {
                    gone.get_or_insert(self.gone(name, recorded)?);
                    continue;
                }
                let what = format!("{name} was read up to {recorded}, and is gone");
                begun.warnings.push(format!(
                    "{what}: it is forgotten. Should it come again, it is read from its beginning"
                ));
                begun.retired.push(name.clone());
                continue;
            }
            let witness = Witness::of(from);
            let (was, now) = (witness.topic, partitions.id_of(name));
            let is_other = was.is_some() && now.is_some() && was != now;
            let (low, high) = if is_other {
                partitions.range(name)?
            } else {
                partitions.range_with(name, recorded)?
            };
            let record = witness
                .record
                .filter(|record| !is_other && recorded <= high && record.offset >= low);
            records.extend(record.map(|record| (name.as_str(), record)));
            let bound = self
                .topics
                .until
                .offsets
                .get(name)
                .copied()
                .into_iter()
                .chain(bounds.bound_of(name))
                .min();
            known.push((
                name,
                witness,
                record.is_some(),
                Seen { was, now, recorded, low, high, replaced: None, bound },
            ));
        }
        let mut replaced = partitions.are_replaced(&records)?.into_iter();
        for (name, witness, is_compared, seen) in known {
            let replaced = if is_compared { replaced.next().flatten() } else { None };
            let Seen { was, now, recorded, .. } = seen;
            let (position, report) = match resume(name, Seen { replaced, ..seen }, start.on_loss) {
                Resume::At => (Witness { topic: now.or(was), ..witness }.at(recorded), None),
                Resume::Skip { to, report } => {
                    (Witness { topic: now, record: None }.at(to), Some(report))
                }
                Resume::Refuse(why) => return Err(Error::source_lost(why)),
            };
            begun.partitions.push((name.clone(), Some(position)));
            begun.warnings.extend(report);
        }
        // Not before: that the topic is another explains why it has fewer partitions.
        gone.map_or(Ok(()), Err)
    }

    /// Refuses a new state under a name whose consumer group has read these topics already.
    pub(super) fn refuse_a_group_that_has_read(&self, partitions: &Partitions<'_>) -> Result<()> {
        let names: Vec<String> = partitions.names().map(str::to_string).collect();
        self.group.has_read(self.kafka(), &names)?.map_or(Ok(()), |(name, offset)| {
            let group = self.kafka().group();
            Err(Error::foreign(format!(
                "there is no state in this folder, but consumer group \"{group}\" has read {name} \
                 up to {offset}: the state is lost, the folder is the wrong one, or another \
                 program has this name. Give the right --state folder or another --name, or begin \
                 anew with --start-over"
            )))
        })
    }
}
