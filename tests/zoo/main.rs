//! Types of keys and values through a run, a crash, a start, a scan, HTTP and the client: what
//! comes back is equal, or the type is refused before anything of it is committed.

mod types;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime};
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::states::{StateCodec, Storable};
use tidemill::testing::Kit;
use tidemill::{Engine, Kind, Store, outline};
use tidemill_client::blocking::Client;
use tidemill_state::keys::{Key, decode_key};
use tidemill_state::{Points, codec, type_names};
use types::*;

/// Adds a case to a topology, over the numbers of its samples.
type Build = dyn for<'s> Fn(&Topology<'s>, Stream<'s, u64>) + Send + Sync;

/// Checks a state in the store of a run that was killed.
type CheckStopped = dyn Fn(&Store, &dyn StateCodec) + Send + Sync;

/// A type with its samples, as a state and as a query of this name.
struct Case {
    build: Box<Build>,
    check: Box<dyn Fn(&Place) + Send + Sync>,
    check_stopped: Box<CheckStopped>,
    name: &'static str,
}

/// A topology with all cases, with its port.
struct Place {
    kit: Kit,
    server: Server,
    client: Client,
}

/// Rows of a state as JSON, in no particular order.
fn as_json<K: Serialize, V: Serialize>(rows: &[(K, V)]) -> Vec<(Json, Json)> {
    let json = |(key, value): &(K, V)| (to_json(key), to_json(value));
    rows.iter().map(json).collect()
}

fn to_json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).expect("it can be shown")
}

#[track_caller]
fn same_rows<R: PartialEq + Debug>(what: &str, seen: &[R], expected: &[R]) {
    let same = seen.len() == expected.len() && expected.iter().all(|row| seen.contains(row));
    assert!(same, "{what}: {seen:?} instead of {expected:?}");
}

/// The rows of a state in a store, as `state scan` reads them.
fn rows_of<K: Key, V: Storable>(store: &Store, name: &str) -> Result<Vec<(K, V)>> {
    let id = store.facts()?.schema.state(name).expect("it is recorded");
    let mut rows = Vec::new();
    store.scan(id, |key, value| {
        rows.push((decode_key::<K>(key)?, codec::decode::<V>(value)?));
        Ok(true)
    })?;
    Ok(rows)
}

/// The rows of a state in a store, as `state scan` writes them.
fn scanned_from(store: &Store, name: &str, codec: &dyn StateCodec) -> Vec<(Json, Json)> {
    let id = store.facts().expect("it is readable").schema.state(name).expect("it is recorded");
    let mut rows = Vec::new();
    let scanned = store.scan(id, |key, value| {
        let mut line = Vec::new();
        codec.write_row(key, Some(value), &mut line)?;
        let row: Json = serde_json::from_slice(&line).expect("a line is JSON");
        rows.push((row["key"].clone(), row["value"].clone()));
        Ok(true)
    });
    scanned.unwrap_or_else(|why| panic!("{name}: {why}"));
    rows
}

impl Case {
    /// A type that is both key and value.
    fn of_both<T: Key + Debug + Sync>(name: &'static str, samples: Vec<T>) -> Case {
        let rows = samples.into_iter().map(|sample| (sample.clone(), sample)).collect();
        Case::of(name, rows, |topology, state, name| {
            topology.query(name, |keys: Requests<T>| keys.lookup(state));
        })
    }

    /// A type that is a value.
    fn of_value<V: Storable + PartialEq + Debug + Sync>(
        name: &'static str,
        samples: Vec<V>,
    ) -> Case {
        let rows: Vec<(u64, V)> = (0..).zip(samples).collect();
        Case::of(name, rows, |topology, state, name| {
            topology.query(name, |keys: Requests<u64>| keys.lookup(state));
        })
    }

    fn of<K: Key + Debug + Sync, V: Storable + PartialEq + Debug + Sync>(
        name: &'static str,
        rows: Vec<(K, V)>,
        query: impl for<'s> Fn(&Topology<'s>, &State<'s, K, V>, &str) + Send + Sync + 'static,
    ) -> Case {
        let rows = Arc::new(rows);
        let [given, asked, scanned] = [(); 3].map(|()| Arc::clone(&rows));
        Case {
            build: Box::new(move |topology, numbers| {
                let rows = Arc::clone(&given);
                let row = move |number: u64, out: &mut Emit<(K, Option<V>)>| {
                    let row = rows.get(usize::try_from(number).expect("it is small"));
                    out.extend(row.map(|(key, value)| (key.clone(), Some(value.clone()))));
                };
                query(topology, &numbers.flat_map(row).upsert(name), name);
            }),
            check: Box::new(move |place| place.shows(name, &asked)),
            check_stopped: Box::new(move |store, codec| {
                same_rows(name, &scanned_from(store, name, codec), &as_json(&scanned));
                let seen =
                    rows_of::<K, V>(store, name).unwrap_or_else(|why| panic!("{name}: {why}"));
                same_rows(name, &seen, &scanned);
            }),
            name,
        }
    }
}

impl Place {
    fn open(kit: Kit) -> Place {
        let server = Server::start(
            "127.0.0.1:0".parse().expect("an address"),
            Arc::clone(kit.engine().runtime()),
        );
        let server = server.expect("any port is free");
        let url = format!("http://{}", server.address());
        let client = tidemill_client::Client::builder(url).time_out(Duration::from_secs(60));
        Place { kit, server, client: client.connect_blocking().expect("an address") }
    }

    /// Sends JSON, or asks, and gives the JSON that is answered.
    fn http(&self, path: &str, body: Option<&Json>) -> Json {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        let url = format!("http://{}{path}", self.server.address());
        let answer = match body {
            Some(body) => agent.post(&url).content_type("application/json").send(body.to_string()),
            None => agent.get(&url).call(),
        };
        let text = answer.expect("an answer").body_mut().read_to_string().expect("a text");
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{path}: {why}: {text}"))
    }

    /// Checks that the state and the query of this name have exactly these rows, however they are
    /// asked.
    fn shows<K: Key + Debug, V: Storable + PartialEq + Debug>(&self, name: &str, rows: &[(K, V)]) {
        let page = self.http(&format!("/v1/state/{name}?limit=100"), None);
        let of_page = page["rows"].as_array().unwrap_or_else(|| panic!("{name}: {page}"));
        let of_page: Vec<(Json, Json)> =
            of_page.iter().map(|row| (row["key"].clone(), row["value"].clone())).collect();
        same_rows(name, &of_page, &as_json(rows));
        for (key, value) in rows {
            let answer = self.http(&format!("/v1/query/{name}"), Some(&to_json(key)));
            assert_eq!(answer["result"], Json::Array(vec![to_json(value)]), "{name}: {answer}");
            let answer = self
                .client
                .query::<K, Vec<V>>(name, key)
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(answer.value, std::slice::from_ref(value), "{name}");
        }
    }
}

/// A sample of a type that is both key and value. As variants of one type they share the code of
/// the operators: each type of a state costs the compiler half a minute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Both {
    Unsigned(bool, u8, u16, u32, u64),
    Signed(i8, i16, i32, i64, i128),
    Texts(char, String, Str, Arc<str>),
    Address(IpAddr),
    Sockets((Ipv4Addr, Ipv6Addr, SocketAddr)),
    Visit(Visit),
    Ids(uuid::Uuid, Option<uuid::Uuid>),
    Std(StdTypes),
    Times((jiff::Timestamp, jiff::civil::Date, jiff::civil::DateTime, jiff::SignedDuration)),
    Event(Event),
    Units((), Nothing, Wrapped),
    Attributed(Attributed),
    Mail(Mail),
}

/// Types of the standard library.
type StdTypes =
    (Duration, SystemTime, PathBuf, NonZeroU32, BTreeSet<String>, [u8; 3], Vec<Result<u8, String>>);

/// A sample of a type that is a value only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Only {
    Measured(Measured),
    Decimals(Option<Attributed>),
    Sparse(Sparse),
}

/// The types that come back.
#[expect(clippy::too_many_lines, reason = "one list of samples")]
fn cases() -> Vec<Case> {
    let text = |text: &str| text.to_string();
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let uuid = |n: u128| uuid::Uuid::from_u128(n);
    let visit = |from: IpAddr, agent: Option<&str>| Visit { from, agent: agent.map(text) };
    let attributed = |count: u64, level: Level| Attributed {
        some_count: count,
        other: level,
        price: "12.50".parse().expect("a number"),
        celsius: Celsius(-20),
    };
    let measured = |mean: f64, names: u16| Measured {
        mean,
        low: -0.5,
        by_name: (0..names)
            .map(|n| (n.to_string(), BTreeMap::from([(n, vec![true, n > 3])])))
            .collect(),
        seen: "tide".chars().collect(),
    };
    let named = |then| Event::Named { name: text("ü"), then };
    let both = vec![
        Both::Unsigned(true, 1, 2, 3, 4),
        Both::Unsigned(false, 0, 0, 0, u64::MAX),
        Both::Signed(-1, i16::MIN, i32::MAX, i64::MIN, -5),
        Both::Signed(0, 0, 0, 0, 0),
        Both::Texts('a', text("longer than a chunk"), Str::from("s"), Arc::from("")),
        Both::Texts('ü', text(""), Str::from("tide"), Arc::from("b")),
        Both::Address(ip("10.0.0.1")),
        Both::Address(ip("::1")),
        Both::Sockets((
            Ipv4Addr::LOCALHOST,
            Ipv6Addr::LOCALHOST,
            SocketAddr::from(([10, 0, 0, 1], 80)),
        )),
        Both::Visit(visit(ip("10.0.0.1"), None)),
        Both::Visit(visit(ip("fe80::1"), Some("curl"))),
        Both::Ids(uuid(1), Some(uuid(2))),
        Both::Ids(uuid(u128::MAX), None),
        Both::Std((
            Duration::from_millis(1500),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            PathBuf::from("a/b"),
            NonZeroU32::MIN,
            BTreeSet::from([text("a"), text("b")]),
            [1, 2, 3],
            vec![Ok(1), Err(text("no"))],
        )),
        Both::Times((
            jiff::Timestamp::from_second(1_700_000_000).expect("a time"),
            jiff::civil::date(2026, 11, 30),
            jiff::civil::date(2026, 11, 30).at(12, 30, 0, 5),
            jiff::SignedDuration::from_secs(-3),
        )),
        Both::Event(Event::Start),
        Both::Event(Event::Moved(3)),
        Both::Event(Event::Placed(-4, 'x')),
        Both::Event(named(None)),
        Both::Event(named(Some(Box::new(named(None))))),
        Both::Units((), Nothing, Wrapped(vec![Event::Start, Event::Moved(1)])),
        Both::Attributed(attributed(0, Level::Low)),
        Both::Attributed(attributed(1, Level::High(3))),
        Both::Attributed(attributed(2, Level::Unknown)),
        Both::Mail(Mail(text("a@b"))),
    ];
    let values = vec![
        Only::Measured(measured(0.1, 0)),
        Only::Measured(measured(-1e300, 50)),
        Only::Decimals(Some(attributed(7, Level::Low))),
        Only::Decimals(None),
        Only::Sparse(Sparse { note: Some(1), n: 2 }),
    ];
    vec![
        Case::of_both("both", both),
        // A type whose form depends on the reader, with nothing around it.
        Case::of_both("addresses", vec![ip("10.0.0.1"), ip("::1"), ip("10.0.0.2")]),
        Case::of_value("only", values),
    ]
}

#[test]
fn what_is_committed_is_readable_and_equal_after_a_crash() {
    let cases = Arc::new(cases());
    let built = Arc::clone(&cases);
    let mut kit = Kit::with(
        |settings| settings.workers = 2,
        move |topology, io| {
            let numbers = topology.source("numbers", io.source::<u64>("numbers"));
            built.iter().for_each(|case| (case.build)(topology, numbers.clone()));
        },
    );
    kit.feed("numbers", 0..30u64);
    kit.step();
    let place = Place::open(kit);
    cases.iter().for_each(|case| (case.check)(&place));
    let Place { mut kit, server, client } = place;
    drop((server, client));
    kit.kill();
    let store = Store::inspect(&kit.settings().state).expect("it can be read");
    let build = {
        let cases = Arc::clone(&cases);
        move |topology: &Topology<'_>| {
            let numbers = topology.source("numbers", Generator::new(1, |_, number| number));
            cases.iter().for_each(|case| (case.build)(topology, numbers.clone()));
        }
    };
    let codecs = outline(&build).expect("it can be built").codecs;
    for case in cases.iter() {
        let codec =
            codecs.iter().find(|codec| codec.decl().name == case.name).expect("it is declared");
        (case.check_stopped)(&store, &**codec);
    }
    store.close(&Points::none()).expect("it can be closed");
    kit.restart();
    let place = Place::open(kit);
    cases.iter().for_each(|case| (case.check)(&place));
}

/// Checks that a topology with a state of such values is not built.
#[track_caller]
fn is_not_built<V: Storable>(parts: &[&str]) {
    let built = outline(&|topology: &Topology<'_>| {
        let numbers = topology.source("numbers", Generator::new(1, |_, number| number));
        numbers.map(|number| (number, None::<V>)).upsert("totals");
    });
    let Err(error) = built else { panic!("{} is not refused", std::any::type_name::<V>()) };
    assert_eq!(error.kind(), Kind::Config, "{error}");
    let error = error.to_string();
    for part in parts.iter().chain(&["state \"totals\"", "values of type", &type_names::of::<V>()])
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn what_a_type_shows_is_refused_when_the_topology_is_built() {
    is_not_built::<Flat>(&["struct Flat", "#[serde(flatten)]"]);
    is_not_built::<Untagged>(&["#[serde(untagged)]"]);
    is_not_built::<Vec<Tagged>>(&["enum Tagged", "#[serde(tag)]"]);
    is_not_built::<Adjacent>(&["enum Adjacent", "#[serde(tag, content)]"]);
    is_not_built::<Option<Json>>(&["deserialize_any", "any valid JSON value"]);
    is_not_built::<rust_decimal::Decimal>(&["deserialize_any"]);
    is_not_built::<ReadOnly>(&["skip_serializing"]);
    is_not_built::<(u8, Gap)>(&["\"Third\"", "\"Fourth\"", "#[serde(skip)]"]);
    is_not_built::<Scaled>(&["deserialize_with"]);
    let built = outline(&|topology: &Topology<'_>| {
        let numbers = topology.source("numbers", Generator::new(1, |_, number| number));
        numbers.map(|number| (Gap::First, Some(number))).upsert("totals");
    });
    let Err(error) = built else { panic!("a key is not refused") };
    assert!(error.to_string().contains("state \"totals\" cannot have keys of type"), "{error}");
}

/// Checks that a topology takes the first row, and none that is fed after it.
#[track_caller]
fn stops_at<K: Key + Debug, V: Storable + PartialEq + Debug>(rows: [(K, V); 2], parts: &[&str]) {
    let mut kit = Kit::new(|topology, io| {
        topology.source("rows", io.source::<(K, Option<V>)>("rows")).upsert("totals");
    });
    let [first, second] = rows;
    kit.feed("rows", [(first.0.clone(), Some(first.1.clone()))]);
    kit.step();
    kit.feed("rows", [(second.0, Some(second.1))]);
    let error = kit.try_step().expect_err("it is refused");
    assert_eq!(error.kind(), Kind::UserCode, "{error}");
    for part in parts.iter().chain(&["state \"totals\""]) {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    kit.restart();
    kit.kill();
    let store = Store::inspect(&kit.settings().state).expect("it can be read");
    let seen = rows_of::<K, V>(&store, "totals").expect("it can be read");
    same_rows("totals", &seen, &[first]);
}

#[test]
fn what_only_a_value_shows_is_refused_before_its_commit() {
    let sparse = |note: Option<u64>| Sparse { note, n: 2 };
    let parts = ["the field \"note\" of Sparse", "skip_serializing_if", "of type Sparse"];
    stops_at([(1u64, sparse(Some(1))), (2, sparse(None))], &[&parts[..], &["key 2"]].concat());
    stops_at([(sparse(Some(1)), 1u64), (sparse(None), 2)], &parts[..2]);
    let mail = || Mail("a@b".into());
    stops_at(
        [(1u64, (mail(), Gap::First)), (2, (mail(), Gap::Third))],
        &["key 2", "[\"a@b\",\"Third\"]", "of type (Mail, Gap)"],
    );
    let page = |reads: u64| Page { title: "tide".into(), reads };
    stops_at([(page(0), 1u64), (page(7), 2)], &["of type Page", "#[serde(skip)]"]);
}

#[test]
fn what_goes_to_a_sink_in_this_encoding_is_refused_too() {
    let mut kit = Kit::new(|topology, io| {
        topology.source("rows", io.source::<Sparse>("rows")).sink("out", io.sink("out"));
    });
    kit.feed("rows", [Sparse { note: None, n: 1 }]);
    let error = kit.try_step().expect_err("it is refused");
    assert_eq!(error.kind(), Kind::UserCode);
    assert!(error.to_string().contains("the field \"note\" of Sparse"), "{error}");
}

#[test]
fn what_a_client_cannot_send_or_read_can_still_be_asked_as_json() {
    let mut kit = Kit::new(|topology, io| {
        topology
            .source("numbers", io.source::<u64>("numbers"))
            .persistent_aggregate("counts", Count);
        topology.query("echo", |of: Requests<Untagged>| of.map(|of| format!("{of:?}")));
        topology.query("untagged", |of: Requests<u64>| of.map(Untagged::Number));
        topology.query("sparse", |n: Requests<u64>| n.map(|n| Sparse { note: None, n }));
        topology.query("note", |of: Requests<Sparse>| of.map(|of| of.n));
    });
    kit.feed("numbers", [1u64]);
    kit.step();
    let place = Place::open(kit);
    let refused = |answer: Result<String, tidemill_client::Error>, parts: &[&str]| {
        let error = answer.expect_err("it is refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    };
    fn ask<A: Serialize, R: DeserializeOwned + Debug>(
        place: &Place,
        query: &str,
        argument: &A,
    ) -> Result<String, tidemill_client::Error> {
        place.client.query::<A, R>(query, argument).map(|answer| format!("{answer:?}"))
    }
    refused(
        ask::<_, Vec<String>>(&place, "echo", &Untagged::Number(3)),
        &["echo", "#[serde(untagged)]", "over HTTP"],
    );
    refused(
        ask::<_, Vec<Untagged>>(&place, "untagged", &3u64),
        &["untagged", "#[serde(untagged)]", "over HTTP"],
    );
    refused(ask::<_, Vec<Sparse>>(&place, "sparse", &3u64), &["the field \"note\" of Sparse"]);
    refused(
        ask::<_, Vec<u64>>(&place, "note", &Sparse { note: None, n: 3 }),
        &["the field \"note\" of Sparse"],
    );
    assert_eq!(
        place.http("/v1/query/echo", Some(&3.into()))["result"],
        serde_json::json!(["Number(3)"])
    );
    assert_eq!(place.http("/v1/query/untagged", Some(&3.into()))["result"], serde_json::json!([3]));
    assert_eq!(
        place.http("/v1/query/sparse", Some(&3.into()))["result"],
        serde_json::json!([{"n": 3}])
    );
}

/// Whether a [`Checked`] text is.
static STRICT: AtomicBool = AtomicBool::new(false);

/// A text whose program has become stricter than what it has written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Checked(String);

impl TryFrom<String> for Checked {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Checked, &'static str> {
        let is_well = text.is_empty() || text.contains('@') || !STRICT.load(SeqCst);
        if is_well { Ok(Checked(text)) } else { Err("it has no @") }
    }
}

#[test]
fn a_row_that_the_program_cannot_read_is_found_by_check_and_by_a_run() {
    let mut kit = Kit::new(|topology, io| {
        topology.source("rows", io.source::<(u64, Option<Checked>)>("rows")).upsert("totals");
    });
    kit.feed("rows", [(1u64, Some(Checked("a@b".into()))), (7, Some(Checked("tide".into())))]);
    kit.step();
    kit.kill();
    let settings = kit.settings().clone();
    let check = || {
        Engine::check(&settings, |topology| {
            let io = tidemill::testing::Io::default();
            topology.source("rows", io.source::<(u64, Option<Checked>)>("rows")).upsert("totals");
        })
    };
    check().expect("all of it can be read");
    STRICT.store(true, SeqCst);
    let refused = [
        check().expect_err("it is refused"),
        kit.try_restart().and_then(|()| kit.try_step()).expect_err("it is refused"),
    ];
    STRICT.store(false, SeqCst);
    for error in refused {
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        for part in [
            "state \"totals\", key 7",
            "it has no @",
            "Nothing was changed",
            "drop_state",
            "--start-over",
        ] {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
    }
    kit.restart();
}
