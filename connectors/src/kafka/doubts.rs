//! Doubts about partitions that are being read. What librdkafka reports of one - its offset is not
//! there, its topic is unknown, its topic has another id, its brokers are down - may be a single
//! stale answer. A reader must not wait for the network, so a thread asks for it, until the
//! brokers' answers can be believed.

use super::begin::{Answer, Doubted, Verdict, judge};
use super::identity::Witness;
use super::partition::name_of;
use super::reading::Reading;
use super::settings::Isolation;
use super::topics::{ASK_EVERY, Listed, Probe};
use crate::threads;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Result};

/// The intervals at which the brokers are queried: about partitions that must not be read
/// meanwhile, and about partitions that are only in trouble.
const WAITS: (Duration, Duration) = (ASK_EVERY, Duration::from_secs(3));

/// The time a client may be in trouble before the brokers are asked, and how long they must then
/// answer before it is replaced: librdkafka reconnects within 10 s.
pub(super) const IN_TROUBLE_FOR: Duration = Duration::from_secs(15);

/// The number of leaders that may leave a question unanswered in one round.
const MOST_SILENT: u32 = 3;

/// The doubts of the partitions that one client reads.
pub(super) struct Doubts {
    reading: Arc<Reading>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    doubts: Vec<Arc<Doubt>>,
    is_asking: bool,
}

/// The reason of a doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing more may be read before it is settled.
    Reported,
    /// Nothing has come for a while, because of a trouble of the client. If the partition can be
    /// reached, the client must be replaced: this one.
    Trouble { client: u64 },
}

/// A doubt about one partition. It is given up by dropping it.
pub(super) struct Doubt {
    topic: String,
    partition: i32,
    witness: Witness,
    doubted: Doubted,
    pub(super) why: Why,
    /// Since when all answers were bad, and since when all were good.
    bad_since: Mutex<Option<Instant>>,
    good_since: Mutex<Option<Instant>>,
    verdict: Mutex<Option<Verdict>>,
    /// The number of times its partition's leader did not answer.
    silent: AtomicU32,
}

impl Doubt {
    /// A doubt about a partition whose position is `next`.
    pub(super) fn new(
        topic: &str,
        partition: i32,
        next: i64,
        witness: Witness,
        was_well: bool,
        why: Why,
    ) -> Doubt {
        let doubted = Doubted { next, was_well };
        let (bad_since, good_since, verdict) =
            (Mutex::default(), Mutex::default(), Mutex::default());
        let silent = AtomicU32::new(0);
        Doubt {
            topic: topic.to_string(),
            partition,
            witness,
            doubted,
            why,
            bad_since,
            good_since,
            verdict,
            silent,
        }
    }

    /// Returns the verdict, once it can be believed.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().expect("no holder of this lock panics").clone()
    }

    /// Takes an answer. Returns whether the doubt is settled.
    fn hear(&self, answer: &Answer, now: Instant) -> bool {
        let mut since = self.bad_since.lock().expect("no holder of this lock panics");
        let agree = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let verdict = judge(&name_of(&self.topic, self.partition), self.doubted, answer, agree);
        match (&verdict, answer) {
            // Whatever was bad before was stale.
            (Verdict::ReadOn, _) => *since = None,
            // Silence is no answer: those before it count on.
            (_, Answer::Nothing) => {}
            _ => *since = since.or(Some(now)),
        }
        tracing::debug!(
            partition = name_of(&self.topic, self.partition),
            ?answer,
            ?verdict,
            "a partition is in doubt"
        );
        let settled = match (&verdict, self.why) {
            (Verdict::ReadOn, Why::Trouble { .. }) => self.is_good_for(IN_TROUBLE_FOR, now),
            (Verdict::AskAgain, _) => {
                *self.good_since.lock().expect("no holder of this lock panics") = None;
                false
            }
            _ => true,
        };
        if settled {
            *self.verdict.lock().expect("no holder of this lock panics") = Some(verdict);
        }
        settled
    }
}

impl Doubt {
    /// Returns whether all answers up to this good one were good for so long.
    fn is_good_for(&self, long: Duration, now: Instant) -> bool {
        let mut since = self.good_since.lock().expect("no holder of this lock panics");
        now.saturating_duration_since(*since.get_or_insert(now)) >= long
    }
}

impl Doubts {
    /// No doubts.
    pub(super) fn new(reading: Arc<Reading>) -> Doubts {
        Doubts { reading, open: Mutex::default() }
    }

    /// Has a thread ask about this partition.
    pub(super) fn ask(self: &Arc<Self>, doubt: Doubt) -> Arc<Doubt> {
        let doubt = Arc::new(doubt);
        let mut open = self.open.lock().expect("no holder of this lock panics");
        open.doubts.push(Arc::clone(&doubt));
        drop(open);
        self.keep_asking();
        doubt
    }

    /// Makes sure that a thread asks while anything is in doubt. Called again and again by those
    /// who wait: the operating system may refuse a thread for a moment, and one may have panicked.
    pub(super) fn keep_asking(self: &Arc<Self>) {
        self.keep_asking_on(std::thread::Builder::new());
    }

    fn keep_asking_on(self: &Arc<Self>, thread: std::thread::Builder) {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        if !open.is_asking && !open.doubts.is_empty() {
            let doubts = Arc::clone(self);
            match threads::spawn_on(thread, "kafka doubts", move || doubts.settle()) {
                Ok(_) => open.is_asking = true,
                Err(error) => tracing::debug!(%error, "no thread asks about partitions in doubt"),
            }
        }
    }

    /// Asks until nothing is in doubt any more.
    fn settle(&self) {
        let _asking = Asking(self);
        let mut probe = None;
        while let Some(doubts) = self.open_doubts() {
            if let Err(error) = self.ask_once(&mut probe, &doubts) {
                tracing::debug!(%error, "nothing can be asked about partitions in doubt");
            }
            let waits = doubts.iter().any(|doubt| doubt.why == Why::Reported);
            std::thread::sleep(if waits { WAITS.0 } else { WAITS.1 });
        }
    }

    /// The doubts that are open and wanted. `None` if there are none: the thread that asks ends
    /// with that.
    fn open_doubts(&self) -> Option<Vec<Arc<Doubt>>> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        open.doubts.retain(|doubt| Arc::strong_count(doubt) > 1 && doubt.verdict().is_none());
        open.is_asking = !open.doubts.is_empty();
        // First those that hold up a reader; and those whose leaders answer, so that others do not
        // hold them up.
        open.doubts.sort_by_key(|doubt| (doubt.why != Why::Reported, doubt.silent.load(SeqCst)));
        open.is_asking.then(|| open.doubts.clone())
    }

    /// Asks once about each topic in doubt, and about each partition.
    fn ask_once(&self, probe: &mut Option<Probe>, doubts: &[Arc<Doubt>]) -> Result<()> {
        if probe.as_ref().is_some_and(Probe::is_stuck) {
            *probe = None;
        }
        let probe = match probe {
            Some(probe) => probe,
            None => probe.insert(Probe::new(&self.reading.kafka(), Isolation::Uncommitted)?),
        };
        let mut topics: BTreeMap<&str, Result<Option<Listed>>> = BTreeMap::new();
        let mut silent = 0;
        for doubt in doubts {
            // Each is waited for. The next round begins with others.
            if silent == MOST_SILENT {
                break;
            }
            let topic = topics.entry(&doubt.topic).or_insert_with(|| probe.topic(&doubt.topic));
            let answer = topic
                .clone()
                .and_then(|listed| answer(probe, listed, doubt))
                .unwrap_or_else(|why| unanswered(&why));
            if answer == Answer::Nothing {
                doubt.silent.fetch_add(1, SeqCst);
                silent += 1;
            }
            let settled = doubt.hear(&answer, Instant::now());
            if let (true, Why::Trouble { client }, Some(Verdict::ReadOn)) =
                (settled, doubt.why, doubt.verdict())
            {
                self.replace(client, &name_of(&doubt.topic, doubt.partition))?;
            }
        }
        Ok(())
    }

    /// The partition can be reached, but not by the client that should read it.
    fn replace(&self, client: u64, partition: &str) -> Result<()> {
        if self.reading.number() == client {
            tracing::warn!(
                partition,
                "a client for Kafka could read nothing, though the brokers answer: another takes \
                 its place"
            );
        }
        self.reading.replace(client)
    }
}

/// Lets another thread ask, should this one panic.
struct Asking<'a>(&'a Doubts);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.open.lock().expect("no holder of this lock panics").is_asking = false;
        }
    }
}

/// Returns the brokers' answer about a partition whose topic they list as `listed`.
fn answer(probe: &Probe, listed: Option<Listed>, doubt: &Doubt) -> Result<Answer> {
    let Some(listed) = listed else { return Ok(Answer::NoTopic) };
    if let Some(answer) = listed.speaks_against(doubt.witness.topic, doubt.partition) {
        return Ok(answer);
    }
    let (low, high) = probe.range(&doubt.topic, doubt.partition)?;
    // Where there are ids, they tell; else the last record must.
    let replaced = match &doubt.witness.record {
        Some(record)
            if listed.id.is_none() && doubt.doubted.next <= high && record.offset >= low =>
        {
            probe
                .are_replaced(&[(&name_of(&doubt.topic, doubt.partition), *record)])?
                .into_iter()
                .flatten()
                .next()
        }
        _ => None,
    };
    Ok(Answer::There { low, high, replaced })
}

fn unanswered(why: &Error) -> Answer {
    match why.kind() {
        Kind::Config => Answer::Refused(why.to_string()),
        _ => Answer::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_must_agree_for_a_while_and_silence_does_not_count() {
        let doubt = Doubt::new("t", 0, 5, Witness::default(), true, Why::Reported);
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let there = Answer::There { low: 0, high: 9, replaced: None };
        assert!(!doubt.hear(&Answer::Nothing, at(0)));
        assert!(
            !doubt.hear(&Answer::NoTopic, at(100)),
            "the first such answer, however long nothing was answered"
        );
        assert!(!doubt.hear(&Answer::Nothing, at(150)) && doubt.verdict().is_none());
        let gone = Doubt::new("t", 0, 5, Witness::default(), true, Why::Reported);
        assert!(!gone.hear(&Answer::NoTopic, at(0)) && !gone.hear(&Answer::NoTopic, at(7)));
        assert!(gone.hear(&Answer::NoTopic, at(8)));
        assert!(
            matches!(gone.verdict(), Some(Verdict::Lost(why)) if why.contains("t[0]: the topic \
                was deleted"))
        );
        assert!(doubt.hear(&there, at(200)));
        assert_eq!(doubt.verdict(), Some(Verdict::ReadOn));
    }

    #[test]
    fn a_thread_that_is_refused_is_asked_for_again() {
        let reading =
            Arc::new(Reading::new(super::super::settings::Kafka::new("127.0.0.1:1"), 1 << 20));
        let doubts = Arc::new(Doubts::new(reading));
        let doubt = Arc::new(Doubt::new("t", 0, 5, Witness::default(), true, Why::Reported));
        let is_asking = || doubts.open.lock().expect("a test").is_asking;
        doubts.keep_asking();
        assert!(!is_asking(), "nothing is in doubt");
        doubts.open.lock().expect("a test").doubts.push(Arc::clone(&doubt));
        doubts.keep_asking_on(std::thread::Builder::new().stack_size(1 << 60));
        assert!(!is_asking());
        doubts.keep_asking();
        assert!(is_asking());
    }

    #[test]
    fn a_good_answer_ends_the_agreement_of_bad_ones() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let there = Answer::There { low: 0, high: 9, replaced: None };
        let doubt = Doubt::new("t", 0, 5, Witness::default(), true, Why::Trouble { client: 0 });
        assert!(!doubt.hear(&there, at(0)) && !doubt.hear(&there, at(9)));
        assert!(!doubt.hear(&Answer::NoTopic, at(10)), "one stale answer after good ones");
        assert!(
            !doubt.hear(&there, at(12)) && !doubt.hear(&Answer::NoTopic, at(19)),
            "the first bad one since"
        );
        assert!(doubt.hear(&Answer::NoTopic, at(27)));
    }

    #[test]
    fn a_client_in_trouble_is_given_the_time_to_reconnect_once_the_brokers_answer() {
        let doubt = Doubt::new("t", 0, 5, Witness::default(), true, Why::Trouble { client: 0 });
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let there = Answer::There { low: 0, high: 9, replaced: None };
        assert!(
            !doubt.hear(&there, at(0))
                && !doubt.hear(&there, at(14))
                && !doubt.hear(&Answer::Nothing, at(20))
        );
        assert!(!doubt.hear(&there, at(30)), "they were silent in between");
        assert!(doubt.hear(&there, at(45)));
        assert_eq!(doubt.verdict(), Some(Verdict::ReadOn));
    }
}
