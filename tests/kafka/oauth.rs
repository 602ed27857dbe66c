//! Tokens by a closure (SASL's OAUTHBEARER), at a broker that takes tokens without a signature and
//! ends connections whose token is old.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tidemill::kafka::{Message, Token};
use tidemill::prelude::*;
use tidemill::{Engine, Kind, Settings};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{create_topic, produce, read_committed};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long a token is valid. The broker wants a new one from each connection before that.
const LIFE: Duration = Duration::from_secs(8);

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"b\";";
        Broker::with()
            .sasl("nobody", "unused")
            .set("sasl.enabled.mechanisms", "OAUTHBEARER")
            .set("listener.name.sasl.oauthbearer.sasl.jaas.config", login)
            .set("listener.name.sasl.oauthbearer.connections.max.reauth.ms", "6000")
            .start()
    })
}

/// A token of a user, without a signature, as the broker's default validator takes it.
fn token() -> Token {
    let expires = SystemTime::now() + LIFE;
    let seconds =
        expires.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs_f64();
    let claims = format!(
        "{{\"sub\":\"tide\",\"iat\":{:.3},\"exp\":{seconds:.3}}}",
        seconds - LIFE.as_secs_f64()
    );
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    Token::new(format!("{}.{}.", part("{\"alg\":\"none\"}"), part(&claims)), expires)
        .principal("tide")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(tidemill_harness::checkout::scratch())
        .expect("the target folder can be written")
}

fn secured() -> Kafka {
    Kafka::new(broker().sasl_address()).set("security.protocol", "SASL_PLAINTEXT")
}

/// Makes the topics of a topology. Those of the sink are not made by it: see `Kafka::oauth`.
fn make(name: &str) {
    let brokers = broker().address();
    create_topic(&brokers, &format!("{name}-in"), 1, &[]);
    create_topic(&brokers, &format!("{name}-out"), 1, &[]);
    create_topic(&brokers, &format!("{name}.out.progress"), 1, &[("cleanup.policy", "compact")]);
}

fn feed(name: &str, range: std::ops::Range<u32>) {
    let numbers: Vec<String> = range.map(|number| number.to_string()).collect();
    let messages: Vec<_> = numbers.iter().map(|number| (0, None, Some(number.as_str()))).collect();
    produce(&broker().address(), &format!("{name}-in"), &messages);
}

fn start(name: &'static str, kafka: Kafka, place: &Path) -> Result<Engine> {
    let build = move |topology: &Topology<'_>| {
        let sink =
            kafka.sink(format!("{name}-out"), |line: &Str| Message::new().value(line.as_bytes()));
        topology.source("in", kafka.source([format!("{name}-in")]).utf8()).sink("out", sink);
    };
    Engine::start(
        Settings { workers: 1, disk_reserve: 0, ..Settings::new(name, place.join("state")) },
        build,
    )
}

#[track_caller]
fn wait_for(engine: &Engine, records: u64) {
    let began = Instant::now();
    loop {
        let status = engine.runtime().status();
        if status.records == records
            && status.sinks[0].published == status.committed
            && status.sinks[0].backlog_bytes == 0
        {
            return;
        }
        assert!(!engine.is_over() && began.elapsed() < PATIENCE, "it stays {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_outlives_its_tokens_and_publishes_each_record_once() {
    make("tokens");
    let (calls, place) = (Arc::new(AtomicU32::new(0)), folder());
    let counted = Arc::clone(&calls);
    let kafka = secured().oauth(move || {
        // The first call finds nobody, as a provider may: it is made again.
        match counted.fetch_add(1, SeqCst) {
            0 => Err(Error::unreachable("the provider does not answer")),
            _ => Ok(token()),
        }
    });
    let engine = start("tokens", kafka, place.path())
        .expect("a provider that does not answer is waited for");
    let (began, mut fed) = (Instant::now(), 0);
    // Three tokens' lives: each connection has to give a new one twice at least.
    while began.elapsed() < LIFE * 3 {
        feed("tokens", fed..fed + 10);
        fed += 10;
        wait_for(&engine, u64::from(fed));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(calls.load(SeqCst) >= 4, "{} calls", calls.load(SeqCst));
    engine.stop();
    engine.wait().expect("it stops");
    let out: Vec<_> = read_committed(&broker().address(), "tokens-out")
        .into_iter()
        .filter_map(|message| message.value)
        .collect();
    assert_eq!(out, (0..fed).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Each worker builds a `Kafka` of its own. The provider answers once, and is unreachable from then
/// on.
#[test]
fn the_workers_use_the_token_that_the_start_was_given() {
    let name = "workers-token";
    let brokers = broker().address();
    create_topic(&brokers, &format!("{name}-in"), 4, &[]);
    let messages: Vec<_> = (0..40).map(|number| (number % 4, None, Some("line"))).collect();
    produce(&brokers, &format!("{name}-in"), &messages);
    let calls = Arc::new(AtomicU32::new(0));
    let build = move |topology: &Topology<'_>| {
        let counted = Arc::clone(&calls);
        let kafka = secured().oauth(move || match counted.fetch_add(1, SeqCst) {
            0 => Ok(token()),
            _ => Err(Error::unreachable("the provider does not answer")),
        });
        topology
            .source("in", kafka.source([format!("{name}-in")]).utf8())
            .group_by(|line: &Str| line.clone())
            .persistent_aggregate("lines", Count);
    };
    let place = folder();
    let settings =
        Settings { workers: 2, disk_reserve: 0, ..Settings::new(name, place.path().join("state")) };
    let engine = Engine::start(settings, build).expect("the provider answers");
    let began = Instant::now();
    while engine.runtime().status().records < 40 {
        assert!(!engine.is_over() && began.elapsed() < PATIENCE, "{:?}", engine.runtime().status());
        std::thread::sleep(Duration::from_millis(5));
    }
    engine.stop();
    engine.wait().expect("it stops");
}

#[test]
fn what_can_never_work_is_refused_with_the_reason() {
    make("tokenless");
    let check = |kafka: Kafka, parts: &[&str]| {
        let place = folder();
        let error = start("tokenless", kafka, place.path()).err().expect("it is refused");
        assert_eq!(error.kind(), Kind::Config, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
    };
    check(
        secured().set("sasl.mechanism", "OAUTHBEARER"),
        &["nothing gives tokens", "Kafka::oauth"],
    );
    check(
        secured().oauth(|| Err(Error::config("the client secret is wrong"))),
        &["Kafka::oauth", "the client secret is wrong"],
    );
    let forged = || Ok(Token::new("bm8.bm8.", SystemTime::now() + LIFE));
    check(secured().oauth(forged), &["refuse this client", "correct the security settings"]);
}

#[test]
fn a_progress_topic_that_cannot_be_made_with_tokens_is_named() {
    let brokers = broker().address();
    create_topic(&brokers, "unmade-in", 1, &[]);
    create_topic(&brokers, "unmade-out", 1, &[]);
    let place = folder();
    let error = start("unmade", secured().oauth(|| Ok(token())), place.path())
        .err()
        .expect("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    for part in ["unmade.out.progress", "one partition", "cleanup.policy=compact"] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn what_is_advised_for_a_topic_that_is_missing_works_with_tokens() {
    create_topic(&broker().address(), "outless-in", 1, &[]);
    let place = folder();
    let error = start("outless", secured().oauth(|| Ok(token())), place.path())
        .err()
        .expect("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(
        error.to_string().contains("there is no topic outless-out")
            && error.to_string().contains("make the topic first")
    );
    assert!(!error.to_string().contains("KafkaSink::create"), "{error}");
}
