//! Brokers that are away for longer: nothing ends, nothing spins, `status` and the log say since
//! when, and it goes on by itself. And runs that are stopped for longer than their successor waits.

use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill_harness::alone::exclusive;
use tidemill_harness::binary::{Running, counts_are, folder, recount};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{Seen, create_topic, produce, read_committed};

fn start(
    brokers: &str,
    name: &str,
    state: &Path,
    more: &[&str],
    environment: &[(&str, &str)],
) -> Running {
    let (input, output, state) =
        (format!("{name}-in"), format!("{name}-out"), state.to_str().expect("UTF-8"));
    let run = [
        "run", "--name", name, "--state", state, "--kafka", brokers, "--topic", &input, "--out",
        &output,
    ];
    let limit: &[&str] =
        if more.contains(&"--max-batch-records") { &[] } else { &["--max-batch-records", "20"] };
    let anywhere: &[&str] =
        if more.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    Running::start_with(
        "word_count",
        &[&run[..], &["--workers", "2"], limit, anywhere, more].concat(),
        environment,
    )
}

/// So many batches that a run of 20,000 records is still in the middle when its first outputs are
/// published: some 10 seconds of them.
const SLOWLY: [&str; 2] = ["--max-batch-records", "2"];

/// Makes a topology's topics.
fn make(brokers: &str, name: &str) {
    create_topic(brokers, &format!("{name}-in"), 2, &[]);
    create_topic(brokers, &format!("{name}-out"), 1, &[]);
}

fn words(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("w{}", number % 89)).collect()
}

fn send(brokers: &str, name: &str, words: &[String]) {
    let messages = words
        .iter()
        .enumerate()
        .map(|(at, word)| (i32::from(at % 2 == 1), None, Some(word.as_str())));
    produce(brokers, &format!("{name}-in"), &messages.collect::<Vec<_>>());
}

fn has_counted(records: usize) -> impl Fn(&Json) -> bool {
    move |status| {
        let read = status["partitions"].as_array().into_iter().flatten();
        let sink = &status["sinks"][0];
        read.filter_map(|partition| partition["offset"].as_u64()).sum::<u64>() == records as u64
            && sink["published"] == status["committed"]
            && sink["backlog_bytes"] == 0
    }
}

/// The counts of each word in the output rise, each comes once, and the last is the recount.
#[track_caller]
fn output_is_exact(messages: &[Seen], expected: &BTreeMap<String, u64>) {
    let mut newest = BTreeMap::new();
    for message in messages {
        let (word, count) =
            (message.key.clone().expect("a word"), message.value.as_deref().expect("a count"));
        let count: u64 = count.parse().expect("a number");
        let before = newest.insert(word, count);
        assert!(
            before.is_none_or(|before| before < count),
            "a count goes back, or comes twice: {message:?}"
        );
    }
    assert_eq!(newest, *expected);
}

/// The share of a core that tells waiting from spinning: what spins uses all of one; what waits was
/// seen with 1 to 7 %, by how slow the machine is.
const SPINNING: f64 = 0.25;

/// The processor time that a process has used so far.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> =
        stat.rsplit(')').next().expect("it has a name").split_whitespace().collect();
    // The 14th and the 15th field, in ticks of 10 ms: user and system time.
    let ticks = [fields[11], fields[12]]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum::<u64>();
    Duration::from_millis(ticks * 10)
}

/// What a port answers before the run is ready.
fn ask(address: &str) -> String {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let mut answer = config
        .build()
        .new_agent()
        .get(format!("http://{address}/v1/status"))
        .call()
        .expect("it answers");
    answer.body_mut().read_to_string().expect("a text")
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Waits until a running program names the brokers that cannot be read from.
fn reports_its_trouble(running: &mut Running, brokers: &str) {
    let since = |status: &Json| status["partitions"][0]["trouble_since_ms"].is_u64();
    let status = running.get_until("/v1/status", since);
    assert!(
        status["partitions"][0]["trouble"].as_str().is_some_and(|why| why.contains(brokers)),
        "{status}"
    );
    running.says("nothing can be read; it goes on by itself");
}

/// The processor time that programs had used, and when.
struct Used<const N: usize> {
    programs: [(&'static str, u32); N],
    before: [Duration; N],
    began: Instant,
}

impl<const N: usize> Used<N> {
    /// The programs by name and process.
    fn since_now(programs: [(&'static str, u32); N]) -> Used<N> {
        let before = programs.map(|(_, pid)| processor_time(pid));
        Used { programs, before, began: Instant::now() }
    }

    /// Asserts that none of them has been spinning since.
    fn is_little(&self) {
        for ((name, pid), before) in self.programs.iter().zip(self.before) {
            let used = processor_time(*pid) - before;
            let share = used.as_secs_f64() / self.began.elapsed().as_secs_f64();
            println!("{name} uses {:.2} % of a core while the broker is away", share * 100.0);
            assert!(share < SPINNING, "{name} uses {:.1} % of a core", share * 100.0);
        }
    }
}

#[test]
fn a_broker_that_is_away_for_longer_is_waited_for_without_spinning() {
    let _exclusive = exclusive();
    let away_for =
        Duration::from_secs(if std::env::var_os("TIDEMILL_LONG").is_some() { 120 } else { 20 });
    let mut broker = Broker::start();
    let (brokers, places) = (broker.address(), [folder(), folder(), folder()]);
    let states = places.each_ref().map(|place| place.path().join("state"));
    // One is in the middle of reading and publishing, one has nothing to do.
    let (busy_words, idle_words) = (words(0..20_000), words(0..200));
    for (name, words) in [("busy", &busy_words), ("idle", &idle_words), ("late", &idle_words)] {
        make(&brokers, name);
        send(&brokers, name, words);
    }
    let mut idle = start(&brokers, "idle", &states[1], &[], &[]);
    idle.get_until("/v1/status", has_counted(200));
    let mut busy = start(&brokers, "busy", &states[0], &SLOWLY, &[]);
    let status = busy.get_until("/v1/status", |status| status["records"].as_u64() > Some(1000));
    broker.pause();
    let paused = Instant::now();
    assert!(status["records"].as_u64() < Some(20_000), "it is in the middle: {status}");
    // One is started meanwhile, and one on an address where nobody is.
    let address = free_address();
    let mut late = start(&brokers, "late", &states[2], &["--listen", &address], &[]);
    let nowhere = folder();
    let mut lost = start("127.0.0.1:1", "idle", &nowhere.path().join("state"), &[], &[]);
    lost.says("127.0.0.1:1");
    let named_after = paused.elapsed();
    assert!(
        named_after < Duration::from_secs(15),
        "a wrong address is named after {named_after:?}"
    );
    late.says("it goes on by itself");
    assert!(ask(&address).contains("waiting_since_ms"), "{}", ask(&address));
    // What was in librdkafka's queues is done by then.
    std::thread::sleep(Duration::from_secs(4).saturating_sub(paused.elapsed()));
    let used = Used::since_now([
        ("idle", idle.pid()),
        ("busy", busy.pid()),
        ("late", late.pid()),
        ("lost", lost.pid()),
    ]);
    for running in [&mut idle, &mut busy] {
        reports_its_trouble(running, &brokers);
    }
    std::thread::sleep(away_for.saturating_sub(paused.elapsed()));
    used.is_little();
    // The sink's connections are open, and nothing comes back: that is told long before its
    // messages' time is over.
    let status = busy.get_until("/v1/status", |status| status["sinks"][0]["error"].is_string());
    let since = status["sinks"][0]["error_since_ms"].as_u64();
    assert!(since.is_some_and(|since| since > 1_700_000_000_000), "{status}");
    assert!(
        [&mut idle, &mut busy, &mut late, &mut lost]
            .into_iter()
            .all(|running| !running.has_ended()),
        "nothing ends"
    );
    lost.signal("TERM");
    lost.wait().is("given up", 0, &["stopped while it waited at the start"]);
    broker.resume();
    send(&brokers, "idle", &words(200..300));
    idle.get_until("/v1/status", has_counted(300));
    late.get_until("/v1/status", has_counted(200));
    // What librdkafka had fetched already is counted before it says, once a second, that a broker
    // answers again.
    let well = |status: &Json| {
        status["partitions"][0]["trouble"].is_null() && status["sinks"][0]["error"].is_null()
    };
    busy.get_until("/v1/status", |status| has_counted(20_000)(status) && well(status));
    let all =
        [("busy", busy, busy_words), ("idle", idle, words(0..300)), ("late", late, idle_words)];
    for ((name, running, words), state) in all.into_iter().zip(&states) {
        running.signal("TERM");
        running.wait().is(name, 0, &[]);
        let expected = recount(words.iter().map(String::as_str));
        counts_are(name, state, &expected);
        output_is_exact(&read_committed(&brokers, &format!("{name}-out")), &expected);
    }
}

fn copy(state: &Path, into: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").arg(state).arg(into).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "the folder is copied");
}

/// A run is stopped in the middle of its transactions, its folder is copied, and the copy takes
/// over: it has published everything before the old run wakes, or nothing at all.
fn check_zombie(name: &str, successor_publishes: bool) {
    let brokers = Broker::shared().address();
    make(&brokers, name);
    let (all, place, copied) = (words(0..20_000), folder(), folder());
    let (state, state_of_copy) = (place.path().join("state"), copied.path().join("state"));
    send(&brokers, name, &all[..16_000]);
    let mut old = start(&brokers, name, &state, &SLOWLY, &[]);
    let status =
        old.get_until("/v1/status", |status| status["sinks"][0]["published"].as_u64() > Some(20));
    assert!(status["records"].as_u64() < Some(16_000), "{name}: it is in the middle: {status}");
    old.signal("STOP");
    let beside = start(&brokers, name, &state, &[], &[]).wait();
    beside.is(name, 75, &["in use by another instance", &format!("pid {}", old.pid())]);
    copy(&state, copied.path());
    // One that is to publish nothing waits there until it is killed, when it has claimed the sink.
    let armed = [("TIDEMILL_CRASH_AT", "sinks-claimed:wait")];
    let mut new =
        start(&brokers, name, &state_of_copy, &[], if successor_publishes { &[] } else { &armed });
    if successor_publishes {
        new.get_until("/v1/status", has_counted(16_000));
    } else {
        new.says("crash point sinks-claimed");
    }
    send(&brokers, name, &all[16_000..]);
    if successor_publishes {
        new.get_until("/v1/status", has_counted(20_000));
    }
    let visible = read_committed(&brokers, &format!("{name}-out"));
    old.signal("CONT");
    let outcome = old.wait();
    outcome.is(
        name,
        66,
        &["has taken over", "nothing more of this run is published", "Stop one of the two"],
    );
    assert_eq!(
        read_committed(&brokers, &format!("{name}-out")),
        visible,
        "{name}: not one record of the old run is visible"
    );
    if successor_publishes {
        let (_, status) = new.get("/v1/status");
        let incarnation = status["incarnation"].as_str().expect("a run").to_string();
        outcome.is(
            name,
            66,
            &[&format!("run {incarnation} of topology \"{name}\" has taken over")],
        );
    } else {
        new.kill();
        new = start(&brokers, name, &state_of_copy, &[], &[]);
        new.get_until("/v1/status", has_counted(20_000));
    }
    new.signal("TERM");
    new.wait().is(name, 0, &[]);
    let expected = recount(all.iter().map(String::as_str));
    counts_are(name, &state_of_copy, &expected);
    output_is_exact(&read_committed(&brokers, &format!("{name}-out")), &expected);
}

#[test]
fn a_run_that_wakes_after_its_successor_has_published_is_fenced() {
    check_zombie("woken", true);
}

#[test]
fn a_run_that_wakes_before_its_successor_has_published_is_fenced() {
    check_zombie("woken-early", false);
}
