//! The ends of a source's partitions, if they have any: at an offset, before a time, or at the end
//! that the partition had at the start.

use super::partition::parse;
use super::partitions::Partitions;
use super::topic_list::{Entry, TopicList};
use super::topics::Listed;
use std::collections::BTreeMap;
use tidemill_state::{Error, Result};

/// The ends that the program gives a source.
#[derive(Clone, Debug, Default)]
pub(super) struct Until {
    /// No record of this time or later, in milliseconds since 1970.
    pub(super) time: Option<i64>,
    /// By partition: the offset after the last record.
    pub(super) offsets: BTreeMap<String, i64>,
}

impl Until {
    /// Returns whether the source comes to an end: each of its partitions does, and none is still
    /// to come. `unbounded` are those without an end. Of a source that has one, no partition joins
    /// any more.
    pub(super) fn bounds_all(
        &self,
        to_end: bool,
        entries: &[Entry],
        topics: &BTreeMap<String, Listed>,
        unbounded: &[&str],
    ) -> bool {
        let is_there = |name: &String| {
            parse(name).is_ok_and(|(topic, number)| {
                topics.get(topic).is_some_and(|listed| number < listed.partitions)
            })
        };
        let is_whole =
            || !entries.iter().any(Entry::is_pattern) && self.offsets.keys().all(is_there);
        to_end || self.time.is_some() || (unbounded.is_empty() && is_whole())
    }

    /// Returns the ends of these partitions; those without one are missing. Of several the first
    /// counts.
    ///
    /// # Errors
    /// Kind Config: the time is still to come, so that records before it are too; or it is before
    /// 1970.
    pub(super) fn ends(
        &self,
        partitions: &Partitions<'_>,
        names: &[&str],
        to_end: bool,
        now_ms: i64,
    ) -> Result<BTreeMap<String, i64>> {
        let mut ends = BTreeMap::new();
        let mut note = |found: BTreeMap<String, i64>| {
            for (name, end) in found {
                ends.entry(name)
                    .and_modify(|known: &mut i64| *known = end.min(*known))
                    .or_insert(end);
            }
        };
        let of_offset =
            names.iter().filter_map(|name| Some(((*name).to_string(), *self.offsets.get(*name)?)));
        note(of_offset.collect());
        if let Some(time) = self.time {
            if time < 0 {
                return Err(Error::config(format!(
                    "until_time is {time}: give milliseconds since 1970, which are not negative. \
                     To read nothing, leave the source out"
                )));
            }
            if time > now_ms {
                return Err(Error::config(format!(
                    "until_time is {time}, {} ms from now: the records before it are not all \
                     there, and where they end is decided at the start. Give a time in the past",
                    time.saturating_sub(now_ms)
                )));
            }
            note(partitions.at_time(names, time)?);
        }
        if to_end {
            note(partitions.stable_ends(names)?);
        }
        Ok(ends)
    }
}

/// Compares partitions that a program names for an offset with those that there are. Returns
/// notices of those that may come. `at_begin_only` is for offsets that count only for partitions
/// that are there when a source is begun.
///
/// # Errors
/// Kind Config: the offset can never count.
pub(super) fn check_named(
    setting: &str,
    offsets: &BTreeMap<String, i64>,
    list: &TopicList,
    topics: &BTreeMap<String, Listed>,
    at_begin_only: bool,
) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    for (name, offset) in offsets {
        let (topic, number) = parse(name)?;
        let refuse = |why: String| Err(Error::config(format!("{setting} names {name}, {why}")));
        if *offset < 0 || number < 0 {
            return refuse(format!("at {offset}: neither can be negative"));
        }
        if !list.includes(topic) {
            return refuse(format!(
                "whose topic is not among those to read ({}): correct one of them",
                list.text()
            ));
        }
        let partitions = topics.get(topic).map(|listed| listed.partitions);
        match partitions {
            Some(partitions) if number < partitions => {}
            Some(partitions) if at_begin_only => {
                return refuse(format!(
                    "and the topic has {partitions} partitions: give one from 0 to {}",
                    partitions - 1
                ));
            }
            None if at_begin_only && !list.may_come(topic) => {
                return refuse("and there is no such topic".to_string());
            }
            _ if at_begin_only => {
                notices.push(format!(
                    "{setting} names {name}, which is not there: when it comes \
                    it is read from its beginning"
                ));
            }
            _ => notices.push(format!("{setting} names {name}, which is not there yet")),
        }
    }
    Ok(notices)
}

/// Notices of partitions that have come to a source which has an end, or to a run that ends where
/// its topics did.
pub(super) fn not_joining<'n>(names: impl Iterator<Item = &'n String>) -> Vec<String> {
    let why = "every partition of the source had an end when it was begun";
    names.map(|name| format!("{name} has come since, and is not read: {why}")).collect()
}

/// Notices of patterns that no topic matches.
pub(super) fn unmatched(list: &TopicList, topics: &BTreeMap<String, Listed>) -> Vec<String> {
    let entries = list.entries().unwrap_or_default().iter().filter(|entry| entry.is_pattern());
    let unmatched = entries.filter(|entry| !topics.keys().any(|topic| entry.matches(topic)));
    let notice = |text: &str| {
        format!("no topic matches \"{text}\": nothing is read of it before one is made")
    };
    unmatched.map(|entry| notice(entry.text())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_source_with_an_end() {
        let entries = |names: &[&str]| {
            let list = TopicList::new(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
            list.entries().expect("they are topics").to_vec()
        };
        let topics: BTreeMap<String, Listed> =
            [("a".to_string(), Listed { id: None, partitions: 2 })].into();
        let all = || vec!["a[0]", "a[1]"];
        for (case, names, time, offsets, to_end, unbounded, expected) in [
            ("no end", vec!["a"], None, vec![], false, all(), false),
            ("one of two", vec!["a"], None, vec!["a[0]"], false, vec!["a[1]"], false),
            ("each", vec!["a"], None, all(), false, vec![], true),
            (
                "each, and one that is still to come",
                vec!["a"],
                None,
                vec!["a[0]", "a[1]", "a[2]"],
                false,
                vec![],
                false,
            ),
            ("each, and topics may come", vec!["a", "b-*"], None, all(), false, vec![], false),
            ("a time", vec!["a", "b-*"], Some(5), vec![], false, vec![], true),
            ("the end of the topics", vec!["a", "b-*"], None, vec![], true, vec![], true),
        ] {
            let offsets = offsets.into_iter().map(|name| (name.to_string(), 5)).collect();
            let got =
                Until { time, offsets }.bounds_all(to_end, &entries(&names), &topics, &unbounded);
            assert_eq!(got, expected, "{case}");
        }
    }

    #[test]
    fn every_row_of_an_offset_for_a_partition() {
        let list = TopicList::new(&["a".to_string(), "b-*".to_string()]);
        let topics: BTreeMap<String, Listed> =
            [("a".to_string(), Listed { id: None, partitions: 2 })].into();
        for (name, offset, at_begin, until) in [
            ("a[1]", 5, "", ""),
            ("a[1]", -5, "refused: at -5", "refused: at -5"),
            ("a[-1]", 5, "refused: at 5", "refused: at 5"),
            (
                "a[2]",
                5,
                "refused: and the topic has 2 partitions: give one from 0 to 1",
                "is not there yet",
            ),
            ("b-1[0]", 5, "when it comes it is read from its beginning", "is not there yet"),
            (
                "c[0]",
                5,
                "refused: whose topic is not among those to read (a, b-*)",
                "refused: whose topic is not",
            ),
        ] {
            for (at_begin_only, expected) in [(true, at_begin), (false, until)] {
                let offsets = [(name.to_string(), offset)].into();
                let got = match check_named("first_offset", &offsets, &list, &topics, at_begin_only)
                {
                    Ok(notices) => notices.join("; "),
                    Err(why) => why
                        .to_string()
                        .replace(&format!("first_offset names {name}, "), "refused: "),
                };
                assert!(
                    got.contains(expected) && got.is_empty() == expected.is_empty(),
                    "{name} {offset}: {got}"
                );
            }
        }
        assert_eq!(unmatched(&list, &topics).len(), 1);
        let both: BTreeMap<String, Listed> = topics
            .into_iter()
            .chain([("b-1".to_string(), Listed { id: None, partitions: 1 })])
            .collect();
        assert_eq!(unmatched(&list, &both), Vec::<String>::new());
    }
}
