//! Facts that all instances of a source share in one run: the one that begins and looks for partitions, and one on each
//! worker that reads them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Result};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct RunFacts(Mutex<Facts>, AtomicUsize);

#[derive(Default)]
struct Facts {
    topology: Option<String>,
    /// By partition: the offset after the last record that is read.
    bounds: BTreeMap<String, i64>,
    /// By partition: the end of its log, and when its leader returned that.
    ends: HashMap<String, (i64, Instant)>,
    asked: Option<Instant>,
    /// Since when no leader returned an end, and why.
    silent: Option<(Instant, String)>,
    notices: Vec<String>,
}

/// How long the end of a log is believed that was not looked up again.
const BELIEVED_FOR: Duration = Duration::from_secs(20);

/// How long looks at the ends may fail before that is trouble.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// The least time between two looks at the ends.
const ASK_EVERY: Duration = Duration::from_secs(3);

impl RunFacts {
    fn lock(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// The topology's name: that of the consumer group, unless another is set.
    pub(super) fn topology(&self) -> Option<String> {
        self.lock().topology.clone()
    }

    pub(super) fn set_topology(&self, topology: &str) {
        self.lock().topology = Some(topology.to_string());
    }

    /// How many partitions there are, over all workers; at least 1.
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

    /// Whether it is time to look the ends up.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.lock().asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_EVERY)
    }

    /// Takes the ends that were looked up, or why that failed.
    pub(super) fn take_ends(&self, ends: Result<impl IntoIterator<Item = (String, i64)>>, now: Instant) {
        let mut facts = self.lock();
        facts.asked = Some(now);
        match ends {
            Ok(ends) => {
                facts.silent = None;
                facts.ends.extend(ends.into_iter().map(|(name, end)| (name, (end, now))));
            }
            Err(why) => facts.note_silence(&why, now),
        }
    }

    /// Notes that the brokers answered nothing.
    pub(super) fn note_silence(&self, why: &Error, now: Instant) {
        self.lock().note_silence(why, now);
    }

    /// The reason why the brokers have not answered for long, if so. `heard` is when something of a partition came last.
    pub(super) fn silence(&self, heard: Instant, now: Instant) -> Option<String> {
        let facts = self.lock();
        let (since, why) = facts.silent.as_ref()?;
        let lasts = |since: Instant| now.saturating_duration_since(since) >= SILENT_FOR;
        (lasts(*since) && lasts(heard)).then(|| why.clone())
    }

    /// The end of a partition's log. `reported` is what librdkafka took from fetched records, the last of which came at
    /// `heard`. `None` if nothing recent is known.
    pub(super) fn end_of(&self, name: &str, reported: Option<i64>, heard: Instant, now: Instant) -> Option<i64> {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < BELIEVED_FOR;
        let looked_up = self.lock().ends.get(name).copied();
        match looked_up.filter(|(_, when)| is_recent(*when)) {
            Some((end, _)) => Some(reported.map_or(end, |reported| reported.max(end))),
            None => reported.filter(|_| is_recent(heard)),
        }
    }
}

impl Facts {
    fn note_silence(&mut self, why: &Error, now: Instant) {
        if why.kind() == Kind::Away && self.silent.is_none() {
            self.silent = Some((now, why.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            facts.take_ends(Ok(looked_up.map(|end| ("t[0]".to_string(), end))), at(30));
            assert_eq!(facts.end_of("t[0]", reported, at(20), at(now)), expected, "{looked_up:?} {reported:?} at {now}");
        }
    }

    #[test]
    fn silence_is_trouble_after_a_while_and_only_where_nothing_comes() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let facts = RunFacts::default();
        facts.note_silence(&Error::config("a mistake"), at(0));
        assert_eq!(facts.silence(at(0), at(60)), None, "the brokers did answer");
        facts.note_silence(&Error::away("no answer"), at(0));
        assert_eq!(facts.silence(at(0), at(9)), None);
        assert_eq!(facts.silence(at(0), at(10)).as_deref(), Some("no answer"));
        assert_eq!(facts.silence(at(5), at(10)), None, "records came meanwhile");
        facts.take_ends(Ok([("t[0]".to_string(), 5)]), at(11));
        assert_eq!(facts.silence(at(0), at(60)), None);
    }

    #[test]
    fn a_partition_keeps_its_bound_for_the_run() {
        let facts = RunFacts::default();
        facts.bound([("t[0]".to_string(), 5)].into());
        facts.bound([("t[0]".to_string(), 9), ("t[1]".to_string(), 7)].into());
        assert_eq!((facts.bound_of("t[0]"), facts.bound_of("t[1]"), facts.bound_of("t[2]")), (Some(5), Some(7), None));
        assert_eq!(facts.unbounded(["t[0]", "t[2]"].into_iter()), ["t[2]"]);
    }
}
