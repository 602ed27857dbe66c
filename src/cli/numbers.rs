//! Numbers by every way in and out of a topology: each is the same, to the last digit.

use super::{Cli, NoArguments};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_connectors::{Files, Str};
use tidemill_engine::aggregates::{Min, Sum, of};
use tidemill_engine::{Engine, Requests, Settings, Topology};
use tidemill_server::Server;
use tungstenite::Message;

/// Key, unsigned, signed and floating-point number, a line each.
const INPUT: &str = "1 18446744073709551615 -170141183460469231731687303715884105728 NaN\n1 10 0 \
    1\n2 36893488147419103232 -1 inf\n2 0 -1 1e308\n3 0 9223372036854775808 -inf\n4 \
    9007199254740993 -9007199254740993 \
    0.8961630917649599\n340282366920938463463374607431768211455 \
    340282366920938463463374607431768211455 170141183460469231731687303715884105727 -0.0\n";

/// Keys, and their values of the states `numbers` and `some`, as JSON.
const ROWS: [[&str; 3]; 5] = [
    ["1", "[18446744073709551625,-170141183460469231731687303715884105728,\"NaN\"]", "1.0"],
    ["2", "[36893488147419103232,-1,\"Infinity\"]", "1e+308"],
    ["3", "[0,9223372036854775808,\"-Infinity\"]", "\"-Infinity\""],
    ["4", "[9007199254740993,-9007199254740993,0.8961630917649599]", "0.8961630917649599"],
    [
        "340282366920938463463374607431768211455",
        "[340282366920938463463374607431768211455,170141183460469231731687303715884105727,-0.0]",
        "null",
    ],
];

/// Arguments that the query `same` answers with.
const SAME: &str = "[\"NaN\",\"-Infinity\",-0.0,0.8961630917649599,340282366920938463463374607431768211455,-170141183460469231731687303715884105728]";

fn build(topology: &Topology<'_>, folder: &Path) {
    let records = topology
        .source("lines", Files::lines(folder.join("in.txt").display().to_string()))
        .map(|line: Str| {
            let parts: Vec<&str> = line.split(' ').collect();
            let numbers: (u128, u128) =
                (parts[0].parse().expect("u128"), parts[1].parse().expect("u128"));
            (
                numbers,
                parts[2].parse::<i128>().expect("i128"),
                parts[3].parse::<f64>().expect("f64"),
            )
        });
    type Record = ((u128, u128), i128, f64);
    let each = (
        of(|record: &Record| record.0.1, Sum),
        of(|record: &Record| record.1, Min),
        of(|record: &Record| record.2, Sum),
    );
    let numbers =
        records.clone().group_by(|record| record.0.0).persistent_aggregate("numbers", each);
    numbers
        .changes()
        .map(|change| (change.key, change.new))
        .sink("out", Files::to(folder.join("out.jsonl")));
    // A value that may itself be none.
    records.map(|((key, _), _, float)| (key, Some((float != 0.0).then_some(float)))).upsert("some");
    topology.query("numbers", |key: Requests<u128>| key.lookup(&numbers));
    topology.query("same", |numbers: Requests<(f64, f32, f64, f64, u128, i128)>| {
        numbers.map(|numbers| numbers)
    });
    topology.query("float", |float: Requests<f64>| float.map(|float| float));
    topology.query("u64", |number: Requests<u64>| number.map(|number| number));
    topology.query("i64", |number: Requests<i64>| number.map(|number| number));
    topology.query("u128", |number: Requests<u128>| number.map(|number| number));
    topology.query("i128", |number: Requests<i128>| number.map(|number| number));
    topology.query("f64", |number: Requests<f64>| number.map(|number| number));
    topology.query("f32", |number: Requests<f32>| number.map(|number| number));
}

/// The variable that makes a process of this test binary the topology's program: its folder and
/// arguments.
const PROGRAM: &str = "TIDEMILL_TEST_PROGRAM";
const BEGIN: &str = "the program begins";

/// Not a test, but the process that the test below starts: the command line prints its results.
#[test]
fn program() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    let (folder, arguments): (PathBuf, Vec<String>) =
        serde_json::from_str(&program).expect("the parent wrote it");
    let arguments =
        std::iter::once("numbers".into()).chain(arguments.into_iter().map(Into::into)).collect();
    println!("{BEGIN}");
    let cli = Cli::new(move |topology: &Topology<'_>, _: &NoArguments| build(topology, &folder));
    std::process::exit(cli.execute(arguments, Instant::now()).unwrap_or_else(|error| {
        eprintln!("{error}");
        error.kind().exit_code().into()
    }))
}

/// Returns the output of the topology's program, without the last line's end.
#[track_caller]
fn output(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this test is a file"));
    command.args(["--exact", "cli::numbers::program", "--nocapture", "--quiet"]);
    let settings =
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEMILL_"));
    for (name, _) in settings {
        command.env_remove(name);
    }
    command.env(PROGRAM, serde_json::to_string(&(folder, arguments)).expect("they are JSON"));
    let ended = command.output().expect("it can be started");
    let out = String::from_utf8(ended.stdout).expect("UTF-8");
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    let (_, out) =
        out.split_once(&format!("{BEGIN}\n")).unwrap_or_else(|| panic!("it does not begin: {out}"));
    out.trim_end_matches('\n').to_string()
}

struct Running {
    engine: Engine,
    server: Server,
}

impl Running {
    fn start(folder: &Path) -> Running {
        let settings = Settings { workers: 2, ..Settings::new("numbers", folder.join("state")) };
        let of = folder.to_path_buf();
        let engine = Engine::start(settings, move |topology: &Topology<'_>| build(topology, &of))
            .expect("it starts");
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(any, Arc::clone(engine.runtime())).expect("any port");
        let until = Instant::now() + Duration::from_secs(30);
        while !engine.runtime().is_at_end() {
            assert!(
                Instant::now() < until,
                "it does not come to its end: {:?}",
                engine.runtime().status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Running { engine, server }
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Returns the body of the answer to a GET, or with a body to a POST.
    fn ask(&self, path: &str, body: Option<&str>) -> String {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let (agent, url) = (config.build().new_agent(), format!("{}{path}", self.url()));
        let answer = match body {
            None => agent.get(&url).call(),
            Some(body) => agent.post(&url).send(body),
        };
        answer
            .and_then(|mut answer| answer.body_mut().read_to_string())
            .unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// Returns the first answer of a watched query, on a web socket.
    fn watch(&self, query: &str, arguments: &str) -> String {
        let stream = TcpStream::connect(self.server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let url = format!("ws://{}/v1/live", self.server.address());
        let (mut socket, _) = tungstenite::client(url, stream).expect("it is a web socket");
        let watch = format!(
            "{{\"type\":\"watch\",\"id\":\"w\",\"query\":\"{query}\",\"arguments\":{arguments}}}"
        );
        socket.send(Message::text(watch)).expect("it is open");
        loop {
            match socket.read().expect("an answer comes") {
                Message::Text(text) if text.contains("\"id\":\"w\"") => return text.to_string(),
                _ => {}
            }
        }
    }
}

#[test]
fn every_way_gives_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("in.txt"), INPUT).expect("it can be written");
    let running = Running::start(folder.path());
    let url = running.url();
    let program = |arguments: &[&str]| output(folder.path(), arguments);
    let row = |key: &str, value: &str| format!("{{\"key\":{key},\"value\":{value}}}");
    let scanned = |column: usize| ROWS.map(|of| row(of[0], of[column])).join("\n");
    let ends =
        |answer: String, end: String| assert!(answer.ends_with(&end), "{answer}\nis not …{end}");

    for (state, column) in [("numbers", 1), ("some", 2)] {
        let rows = ROWS.map(|of| row(of[0], of[column])).join(",");
        ends(
            running.ask(&format!("/v1/state/{state}"), None),
            format!(",\"moved_on\":false,\"rows\":[{rows}]}}"),
        );
        let first = row(ROWS[0][0], ROWS[0][column]);
        ends(
            running.ask(&format!("/v1/state/{state}?limit=1"), None),
            format!(",\"next\":1,\"rows\":[{first}]}}"),
        );
        let last = format!("/v1/state/{state}?after=4");
        ends(
            running.ask(&last, None),
            format!(",\"moved_on\":false,\"rows\":[{}]}}", row(ROWS[4][0], ROWS[4][column])),
        );
        // A key that is not there has no value, which none is.
        let keys = format!("{{\"keys\":[{},77]}}", ROWS.map(|of| of[0]).join(","));
        let many = running.ask(&format!("/v1/state/{state}"), Some(&keys));
        ends(many, format!(",\"rows\":[{rows},{{\"key\":77}}]}}"));
        for of in ROWS {
            let one = running.ask(&format!("/v1/state/{state}/{}", of[0]), None);
            ends(one, format!(",\"key\":{},\"value\":{}}}", of[0], of[column]));
            assert_eq!(program(&["state", "get", state, of[0], "--at", &url]), of[column]);
        }
        assert_eq!(program(&["state", "scan", state, "--at", &url]), scanned(column));
    }
    let missing = running.ask("/v1/state/numbers/340282366920938463463374607431768211454", None);
    assert!(missing.contains("\"key\":340282366920938463463374607431768211454,"), "{missing}");

    for [key, value, _] in ROWS {
        ends(running.ask("/v1/query/numbers", Some(key)), format!(",\"result\":[{value}]}}"));
        assert_eq!(running.ask(&format!("/drpc/numbers/{key}"), None), format!("[{value}]"));
        assert_eq!(program(&["query", "numbers", key, "--at", &url]), format!("[{value}]"));
        ends(running.watch("numbers", key), format!(",\"result\":[{value}]}}"));
    }
    ends(running.ask("/v1/query/same", Some(SAME)), format!(",\"result\":[{SAME}]}}"));
    assert_eq!(running.ask("/drpc/same", Some(SAME)), format!("[{SAME}]"));
    assert_eq!(program(&["query", "same", SAME, "--at", &url]), format!("[{SAME}]"));
    ends(
        program(&["query", "same", SAME, "--at", &url, "--json"]),
        format!(",\"result\":[{SAME}]}}"),
    );
    ends(running.watch("same", SAME), format!(",\"result\":[{SAME}]}}"));
    // A text as it is.
    assert_eq!(running.ask("/drpc/float/-Infinity", None), "[[\"-Infinity\"]]");
    assert_eq!(program(&["query", "float", "NaN", "--at", &url]), "[\"NaN\"]");

    running.engine.stop();
    running.engine.wait().expect("a clean stop");
    drop(running.server);
    let dir = folder.path().join("state").display().to_string();
    for (state, column) in [("numbers", 1), ("some", 2)] {
        assert_eq!(program(&["state", "scan", state, "--state", &dir]), scanned(column));
        for of in ROWS {
            assert_eq!(program(&["state", "get", state, of[0], "--state", &dir]), of[column]);
        }
    }
    let out =
        std::fs::read_to_string(folder.path().join("out.jsonl")).expect("the output is there");
    for [key, value, _] in ROWS {
        let newest = out.lines().rfind(|line| line.starts_with(&format!("[{key},")));
        assert_eq!(newest, Some(format!("[{key},{value}]").as_str()), "{out}");
    }
}

/// Returns the types and the JSON of the numbers in the book.
fn numbers_of_the_book() -> Vec<(String, String)> {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src/reference/port.md");
    let book = std::fs::read_to_string(book).expect("the book is there");
    let (_, table) = book.split_once("| type | value | JSON |\n").expect("a table of numbers");
    let rows = table.lines().skip(1).map_while(|row| row.strip_prefix("| `"));
    let row = |row: &str| {
        let (kind, rest) = row.split_once("` | ").expect("a type");
        let (_, json) = rest.split_once(" | `").expect("JSON");
        (kind.to_string(), json.strip_suffix("` |").expect("JSON").to_string())
    };
    rows.map(row).collect()
}

/// Returns a number as JSON, after it went to a query and back over gRPC.
fn over_grpc<T>(client: &tidemill_client::blocking::Client, query: &str, number: &str) -> String
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let number: T = tidemill_engine::json::from_str(number).expect("JSON");
    let [answer] = client
        .query::<_, Vec<T>>(query, &number)
        .unwrap_or_else(|why| panic!("{query}: {why}"))
        .value
        .try_into()
        .unwrap_or_else(|_| panic!("{query} answers with one number"));
    tidemill_engine::json::to_string::<T>(&answer).expect("JSON")
}

#[test]
fn the_numbers_of_the_book_are_exact_on_every_path() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("in.txt"), INPUT).expect("it can be written");
    let running = Running::start(folder.path());
    let (url, rows) = (running.url(), numbers_of_the_book());
    assert!(rows.len() >= 13, "{rows:?}");
    let client = tidemill_client::blocking::Client::connect(&url).expect("an address");
    for (kind, number) in rows {
        let query = format!("/v1/query/{kind}");
        let over_http = running.ask(&query, Some(&number));
        assert!(over_http.ends_with(&format!(",\"result\":[{number}]}}")), "{kind}: {over_http}");
        assert_eq!(running.ask(&format!("/drpc/{kind}"), Some(&number)), format!("[[{number}]]"));
        let printed = output(folder.path(), &["query", &kind, &number, "--at", &url]);
        assert_eq!(printed, format!("[{number}]"), "{kind}");
        let watched = running.watch(&kind, &number);
        assert!(watched.ends_with(&format!(",\"result\":[{number}]}}")), "{kind}: {watched}");
        let over_grpc = match kind.as_str() {
            "u64" => over_grpc::<u64>,
            "i64" => over_grpc::<i64>,
            "u128" => over_grpc::<u128>,
            "i128" => over_grpc::<i128>,
            "f64" => over_grpc::<f64>,
            "f32" => over_grpc::<f32>,
            other => panic!("{other} is no type of numbers"),
        };
        assert_eq!(over_grpc(&client, &kind, &number), number, "{kind}");
    }
    running.engine.stop();
    running.engine.wait().expect("a clean stop");
}
