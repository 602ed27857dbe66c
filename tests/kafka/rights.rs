//! A broker with an authorizer: what is lacking is named, with the resource, and nothing is waited
//! for that never comes.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Engine, Kind, Settings};
use tidemill_harness::acls::{Right, deny, grant};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{create_topic, produce, read_committed};

const PATIENCE: Duration = Duration::from_secs(60);

/// The users of the cases. Whoever gives no user may do everything.
const USERS: [&str; 9] = [
    "whole",
    "no-source",
    "no-group",
    "no-output",
    "no-limit",
    "no-making",
    "no-marking",
    "no-marker",
    "no-transaction",
];

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let users: String = USERS.iter().map(|user| format!(" user_{user}=\"secret\"")).collect();
        let login =
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};");
        Broker::with()
            .sasl("whole", "secret")
            .set("listener.name.sasl.plain.sasl.jaas.config", &login)
            .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .set("super.users", "User:ANONYMOUS")
            .start()
    })
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(tidemill_harness::checkout::scratch())
        .expect("the target folder can be written")
}

/// The rights that the documentation lists for a topology from `<user>-in` to `<user>-out`.
fn documented(user: &str) -> Vec<Right> {
    let (input, output, progress) =
        (format!("{user}-in"), format!("{user}-out"), format!("{user}.out.progress"));
    vec![
        Right::read(&input),
        Right::read_group(user),
        Right::write(&output),
        Right::describe_configs(&output),
        Right::create(&progress),
        Right::read(&progress),
        Right::write(&progress),
        Right::describe_configs(&progress),
        Right::write_transactions(&format!("{user}.out")),
    ]
}

/// Makes the topics of a user's topology, and grants all rights that are documented but one.
fn prepare(user: &str, without: Option<&Right>) {
    let brokers = broker().address();
    create_topic(&brokers, &format!("{user}-in"), 1, &[]);
    create_topic(&brokers, &format!("{user}-out"), 1, &[]);
    produce(&brokers, &format!("{user}-in"), &[(0, None, Some("tide"))]);
    let rights: Vec<Right> =
        documented(user).into_iter().filter(|right| Some(right) != without).collect();
    grant(&brokers, user, &rights);
}

/// Runs a user's topology until so many records are published. Gives what ended it, if it ended by
/// itself.
fn run(user: &'static str, place: &Path, records: u64) -> Result<()> {
    let kafka = Kafka::new(broker().sasl_address())
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", user)
        .set("sasl.password", "secret");
    let build = move |topology: &Topology<'_>| {
        let sink =
            kafka.sink(format!("{user}-out"), |line: &Str| Message::new().value(line.as_bytes()));
        topology.source("in", kafka.source([format!("{user}-in")]).utf8()).sink("out", sink);
    };
    let settings =
        Settings { workers: 1, disk_reserve: 0, ..Settings::new(user, place.join("state")) };
    let engine = Engine::start(settings, build)?;
    let began = Instant::now();
    loop {
        let status = engine.runtime().status();
        if engine.is_over() {
            return engine.wait();
        }
        let offset = status.partitions.first().map_or(0, |partition| partition.offset);
        if offset >= records
            && status.sinks[0].published == status.committed
            && status.sinks[0].backlog_bytes == 0
        {
            engine.stop();
            return engine.wait();
        }
        assert!(began.elapsed() < PATIENCE, "{user}: it stays {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Without one right a topology ends with 64, and names it.
fn check(user: &'static str, without: &Right, parts: &[&str]) {
    prepare(user, Some(without));
    let place = folder();
    let error = run(user, place.path(), 1).expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{user}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{user}: {part} is not in: {error}");
    }
    assert_eq!(read_committed(&broker().address(), &format!("{user}-out")), [], "{user}");
}

#[test]
fn the_documented_rights_are_enough_and_without_the_group_a_run_goes_on() {
    prepare("whole", None);
    let place = folder();
    run("whole", place.path(), 1).expect("it has all rights");
    let brokers = broker().address();
    deny(&brokers, "whole", &[Right::read_group("whole")]);
    produce(&brokers, "whole-in", &[(0, None, Some("mill"))]);
    run("whole", place.path(), 2).expect("only lag tools need the group");
    let out: Vec<_> = read_committed(&brokers, "whole-out")
        .into_iter()
        .filter_map(|message| message.value)
        .collect();
    assert_eq!(out, ["tide", "mill"]);
}

#[test]
fn a_right_that_a_source_lacks_is_named() {
    check("no-source", &Right::read("no-source-in"), &["no-source-in", "Read and Describe"]);
    check(
        "no-group",
        &Right::read_group("no-group"),
        &["consumer group \"no-group\"", "Read on the group", "group.id"],
    );
}

#[test]
fn a_right_that_a_sink_lacks_is_named() {
    check("no-output", &Right::write("no-output-out"), &["no-output-out", "Write, Describe"]);
    check(
        "no-limit",
        &Right::describe_configs("no-limit-out"),
        &["no-limit-out", "DescribeConfigs"],
    );
    check(
        "no-making",
        &Right::create("no-making.out.progress"),
        &["making topic no-making.out.progress", "Create"],
    );
    check(
        "no-marking",
        &Right::write("no-marking.out.progress"),
        &["no-marking.out.progress", "Write"],
    );
    check("no-marker", &Right::read("no-marker.out.progress"), &["no-marker.out.progress", "Read"]);
    check(
        "no-transaction",
        &Right::write_transactions("no-transaction.out"),
        &["\"no-transaction.out\"", "Write and Describe on the transactional id"],
    );
}
