//! The topics that a source reads: by name, by glob, or by regular expression.

use super::settings::PROGRESS;
use regex::Regex;
use tidemill_state::{Error, Result};

/// One entry of a source's list.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A topic's name.
    Topic(String),
    /// A pattern of `*`, `?` and `[…]`, of the whole name.
    Glob(glob::Pattern),
    /// A regular expression, which begins with `^`.
    Regex(Regex),
}

impl Entry {
    fn parse(text: &str) -> std::result::Result<Entry, String> {
        // No topic's name has any of these characters.
        if text.starts_with('^') {
            let regex = Regex::new(text);
            return regex
                .map(Entry::Regex)
                .map_err(|why| format!("\"{text}\" is no regular expression of topics: {why}"));
        }
        if text.contains(['*', '?', '[']) {
            let glob = glob::Pattern::new(text);
            return glob
                .map(Entry::Glob)
                .map_err(|why| format!("\"{text}\" is no pattern of topics: {why}"));
        }
        Ok(Entry::Topic(text.to_string()))
    }

    /// Returns whether topics that match it may come later.
    pub(super) fn is_pattern(&self) -> bool {
        !matches!(self, Entry::Topic(_))
    }

    /// Returns whether it means this topic.
    pub(super) fn matches(&self, topic: &str) -> bool {
        // Kafka's own topics are no one's input, and a progress topic is the sinks' own: they are
        // read by name only.
        let is_own = || topic.starts_with("__") || topic.ends_with(PROGRESS);
        match self {
            Entry::Topic(name) => name == topic,
            Entry::Glob(pattern) => pattern.matches(topic) && !is_own(),
            Entry::Regex(regex) => regex.is_match(topic) && !is_own(),
        }
    }

    /// As it was given.
    pub(super) fn text(&self) -> &str {
        match self {
            Entry::Topic(name) => name,
            Entry::Glob(pattern) => pattern.as_str(),
            Entry::Regex(regex) => regex.as_str(),
        }
    }
}

/// A source's list, as it was given.
#[derive(Clone, Debug)]
pub(super) struct TopicList {
    text: String,
    entries: std::result::Result<Vec<Entry>, String>,
}

impl TopicList {
    pub(super) fn new(given: &[String]) -> TopicList {
        TopicList {
            text: given.join(", "),
            entries: given.iter().map(|text| Entry::parse(text)).collect(),
        }
    }

    /// The entries.
    ///
    /// # Errors
    /// Kind Config: there are none, or one is no pattern.
    pub(super) fn entries(&self) -> Result<&[Entry]> {
        match &self.entries {
            Ok(entries) if entries.is_empty() => Err(Error::config(
                "the list of topics to read is empty: give Kafka::source at least one",
            )),
            Ok(entries) => Ok(entries),
            Err(why) => Err(Error::config(why.clone())),
        }
    }

    /// Returns whether a topic of this name is among those to read.
    pub(super) fn includes(&self, topic: &str) -> bool {
        self.entries.as_ref().is_ok_and(|entries| entries.iter().any(|entry| entry.matches(topic)))
    }

    /// Returns whether a topic of this name can be made later and is then read.
    pub(super) fn may_come(&self, topic: &str) -> bool {
        self.entries.as_ref().is_ok_and(|entries| {
            entries.iter().any(|entry| entry.is_pattern() && entry.matches(topic))
        })
    }

    /// All of it, for messages.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_globs_and_regular_expressions_mean_what_they_look_like() {
        for (entry, topic, expected) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("ord.rs", "orders", false),
            ("orders-*", "orders-eu", true),
            ("orders-*", "more-orders-eu", false),
            ("orders-?", "orders-eu", false),
            ("orders-[a-c]", "orders-b", true),
            ("*", "__consumer_offsets", false),
            ("*", "t.out.progress", false),
            ("__consumer_offsets", "__consumer_offsets", true),
            ("^orders-(eu|us)$", "orders-us", true),
            ("^orders-(eu|us)$", "orders-us2", false),
            // As in librdkafka and Kafka's consumers, only what is anchored is.
            ("^orders", "orders-us2", true),
            ("^.*-us", "orders-us2", true),
            ("^.*", "__consumer_offsets", false),
        ] {
            let list = TopicList::new(&[entry.to_string()]);
            assert_eq!(list.includes(topic), expected, "{entry} and {topic}");
            assert_eq!(
                list.may_come(topic),
                expected && list.entries().expect("it is one")[0].is_pattern(),
                "{entry}"
            );
        }
    }

    #[test]
    fn a_list_that_can_never_be_read_is_refused() {
        for (list, part) in [
            (&[][..], "is empty"),
            (&["^orders-("], "no regular expression of topics"),
            (&["a", "orders-[a"], "no pattern of topics"),
        ] {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            let error = TopicList::new(&list).entries().expect_err("it is refused");
            assert!(
                error.kind() == tidemill_state::Kind::Config && error.to_string().contains(part),
                "{error}"
            );
        }
    }
}
