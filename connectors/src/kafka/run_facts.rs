//! Facts that all instances of a source share in one run: the one that begins and looks for
//! partitions, and one on each worker that reads them.

use super::settings::Kafka;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill_state::{Kind, Result};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct RunFacts(Mutex<Facts>, AtomicUsize);

#[derive(Default)]
struct Facts {
    kafka: Option<Kafka>,
    /// By partition: the offset after the last record that is read.
    bounds: BTreeMap<String, i64>,
    /// By partition: the end of its log, and when its leader returned that.
    ends: HashMap<String, (i64, Instant)>,
    asked: Option<Instant>,
    /// By partition: since when its leader has not returned the end, and why.
    silent: HashMap<String, (Instant, String)>,
    notices: Vec<String>,
}

/// The time the end of a log is believed that was not looked up again.
const BELIEVED_FOR: Duration = Duration::from_secs(20);

/// The time looks at the end of a log may fail before that is trouble.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// The least time between two looks at the ends.
const ASK_EVERY: Duration = Duration::from_secs(3);

impl RunFacts {
    fn lock(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// The cluster as the instance that has begun the source reaches it: with its tokens, the
    /// standing of its user, and the name of the consumer group.
    pub(super) fn kafka(&self) -> Option<Kafka> {
        self.lock().kafka.clone()
    }

    pub(super) fn set_kafka(&self, kafka: &Kafka) {
        self.lock().kafka = Some(kafka.clone());
    }

    /// Returns the number of partitions that there are, over all workers; at least 1.
    pub(super) fn partitions(&self) -> usize {
        self.1.load(SeqCst).max(1)
    }

    pub(super) fn set_partitions(&self, partitions: usize) {
        self.1.store(partitions, SeqCst);
    }

    /// The offset at which a partition ends, if it does.
    pub(super) fn bound_of(&self, name: &str) -> Option<i64> {
        self.lock().bounds.get(name).copied()
    }

    /// Which of these partitions have no bound.
    pub(super) fn unbounded<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let facts = self.lock();
        names.filter(|name| !facts.bounds.contains_key(*name)).collect()
    }

    /// Bounds partitions. One that has a bound in this run keeps it.
    pub(super) fn bound(&self, bounds: BTreeMap<String, i64>) {
        let mut facts = self.lock();
        for (name, end) in bounds {
            facts.bounds.entry(name).or_insert(end);
        }
    }

    pub(super) fn notices(&self) -> Vec<String> {
        self.lock().notices.clone()
    }

    pub(super) fn set_notices(&self, notices: Vec<String>) {
        self.lock().notices = notices;
    }

    pub(super) fn add_notices(&self, notices: Vec<String>) {
        self.lock().notices.extend(notices);
    }

    /// Returns whether it is time to look the ends up. If so, the next time is [`ASK_EVERY`] later.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let mut facts = self.lock();
        let is_due =
            facts.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_EVERY);
        if is_due {
            facts.asked = Some(now);
        }
        is_due
    }

    /// Notes the ends of logs.
    pub(super) fn note_ends(&self, ends: impl IntoIterator<Item = (String, i64)>, now: Instant) {
        ends.into_iter().for_each(|(name, end)| self.note_end(&name, Ok(end), now));
    }

    /// Notes the end of one log, or why its leader did not return it.
    pub(super) fn note_end(&self, name: &str, end: Result<i64>, now: Instant) {
        let mut facts = self.lock();
        match end {
            Ok(end) => {
                facts.silent.remove(name);
                facts.ends.insert(name.to_string(), (end, now));
            }
            Err(why) if why.kind() == Kind::Unreachable => {
                facts.silent.entry(name.to_string()).or_insert_with(|| (now, why.to_string()));
            }
            Err(_) => {}
        }
    }

    /// The reason why a partition's leader has not answered for long, if so. `heard` is when
    /// something of the partition came last.
    pub(super) fn silence(&self, name: &str, heard: Instant, now: Instant) -> Option<String> {
        let facts = self.lock();
        let (since, why) = facts.silent.get(name)?;
        let lasts = |since: Instant| now.saturating_duration_since(since) >= SILENT_FOR;
        (lasts(*since) && lasts(heard)).then(|| why.clone())
    }

    /// The end of a partition's log. `reported` is what librdkafka took from fetched records, the
    /// last of which came at `heard`. `None` if nothing recent is known.
    pub(super) fn end_of(
        &self,
        name: &str,
        reported: Option<i64>,
        heard: Instant,
        now: Instant,
    ) -> Option<i64> {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < BELIEVED_FOR;
        let looked_up = self.lock().ends.get(name).copied();
        match looked_up.filter(|(_, when)| is_recent(*when)) {
            Some((end, _)) => Some(reported.map_or(end, |reported| reported.max(end))),
            None => reported.filter(|_| is_recent(heard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_state::Error;

    #[test]
    fn every_row_of_what_is_known_of_an_end() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        // Looked up at second 30, the last record came at second 20.
        for (looked_up, reported, now, expected) in [
            (Some(100), Some(40), 31, Some(100)),
            (Some(100), None, 31, Some(100)),
            // What was fetched since counts too.
            (Some(100), Some(120), 31, Some(120)),
            (None, Some(40), 39, Some(40)),
            // Neither is recent: it is not known.
            (None, Some(40), 40, None),
            (Some(100), Some(40), 50, None),
            (None, None, 31, None),
        ] {
            let facts = RunFacts::default();
            facts.note_ends(looked_up.map(|end| ("t[0]".to_string(), end)), at(30));
            assert_eq!(
                facts.end_of("t[0]", reported, at(20), at(now)),
                expected,
                "{looked_up:?} {reported:?} at {now}"
            );
        }
    }

    #[test]
    fn silence_is_trouble_after_a_while_and_only_where_nothing_comes() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let facts = RunFacts::default();
        let silence = |heard, now| facts.silence("t[0]", at(heard), at(now));
        facts.note_end("t[0]", Err(Error::config("a mistake")), at(0));
        assert_eq!(silence(0, 60), None, "the leader did answer");
        facts.note_end("t[0]", Err(Error::unreachable("no answer")), at(0));
        facts.note_end("t[0]", Err(Error::unreachable("still none")), at(5));
        assert_eq!(silence(0, 9), None);
        assert_eq!(silence(0, 10).as_deref(), Some("no answer"));
        assert_eq!(silence(5, 10), None, "records came meanwhile");
        facts.note_end("t[0]", Ok(5), at(11));
        assert_eq!(silence(0, 60), None);
    }

    #[test]
    fn the_silence_of_one_leader_is_no_trouble_of_other_partitions() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let facts = RunFacts::default();
        for second in [0, 5, 10] {
            facts.note_end("t[0]", Ok(7), at(second));
            facts.note_end("t[1]", Err(Error::unreachable("no answer")), at(second));
        }
        assert_eq!(facts.silence("t[0]", at(0), at(12)), None);
        assert_eq!(facts.end_of("t[0]", None, at(0), at(12)), Some(7));
        assert!(facts.silence("t[1]", at(0), at(12)).is_some());
    }

    #[test]
    fn a_look_is_due_once_in_a_while() {
        let (facts, began) = (RunFacts::default(), Instant::now());
        assert!(facts.is_due(began) && !facts.is_due(began) && facts.is_due(began + ASK_EVERY));
    }

    #[test]
    fn a_partition_keeps_its_bound_for_the_run() {
        let facts = RunFacts::default();
        facts.bound([("t[0]".to_string(), 5)].into());
        facts.bound([("t[0]".to_string(), 9), ("t[1]".to_string(), 7)].into());
        assert_eq!(
            (facts.bound_of("t[0]"), facts.bound_of("t[1]"), facts.bound_of("t[2]")),
            (Some(5), Some(7), None)
        );
        assert_eq!(facts.unbounded(["t[0]", "t[2]"].into_iter()), ["t[2]"]);
    }
}
