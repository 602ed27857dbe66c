//! Queries and pages over the port of a running topology: JSON, Storm's paths, limits, who may ask.

use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::{Access, Listening, Server};
use tidemill::{Engine, QueryLimits, Settings};

/// A running topology: the words of a file, all of them in a batch, with queries over their counts.
struct Port {
    server: Server,
    engine: Engine,
    _folder: tempfile::TempDir,
}

const LINES: [&str; 4] = ["hello the man said", "the", "the man on the moon", "where are you"];

fn build(topology: &Topology<'_>, glob: &str) {
    let counts = topology
        .source("lines", Files::lines(glob))
        .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count);
    topology.query("words", |text: Requests<Str>| {
        text.flat_map(|text, words| words.extend(text.split_whitespace().map(Str::from)))
            .lookup(&counts)
            .aggregate(Sum)
    });
    topology.query("pairs", |text: Requests<Str>| {
        text.flat_map(|text, words| words.extend(text.split_whitespace().map(Str::from)))
            .group_by(|word| word.clone())
            .aggregate(Count)
    });
    topology.query("upto", |n: Requests<u64>| n.flat_map(|n, numbers| numbers.extend(0..n)));
    topology.query("huge", |n: Requests<u64>| {
        n.flat_map(|n, ns| ns.extend((0..1000).map(|_| n))).flat_map(|n, ns| ns.extend(0..n))
    });
    topology.query("sleeps", |ms: Requests<u64>| {
        ms.map(|ms| {
            std::thread::sleep(Duration::from_millis(ms));
            ms
        })
    });
    topology.query("seven", |nothing: Requests<()>| nothing.map(|()| 7u64));
    topology.query("panics", |text: Requests<Str>| {
        text.map(|text| -> u64 { panic!("on purpose: {text}") })
    });
}

impl Port {
    fn open(limits: QueryLimits, access: Access) -> Port {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("lines.txt");
        std::fs::write(&input, LINES.map(|line| format!("{line}\n")).concat())
            .expect("it can be written");
        let settings = Settings {
            workers: 2,
            queries: limits,
            ..Settings::new("words", folder.path().join("state"))
        };
        let glob = input.display().to_string();
        let engine = Engine::start(settings, move |topology: &Topology<'_>| build(topology, &glob))
            .expect("it starts");
        let listening =
            Listening::bind("127.0.0.1:0".parse().expect("an address"), access).expect("any port");
        let server = listening.serve(Arc::clone(engine.runtime())).expect("it serves");
        let until = Instant::now() + Duration::from_secs(30);
        while !engine.runtime().is_at_end() {
            assert!(
                Instant::now() < until,
                "it does not come to its end: {:?}",
                engine.runtime().status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Port { server, engine, _folder: folder }
    }

    fn plain() -> Port {
        Port::open(QueryLimits::default(), Access::default())
    }

    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        ask(
            self.server.address(),
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}",
                body.len()
            ),
            body,
        )
    }

    fn json(&self, method: &str, path: &str, body: &str) -> (u16, Json) {
        let (status, body) = self.request(method, path, "", body);
        (status, serde_json::from_str(&body).unwrap_or_else(|why| panic!("{path}: {why}: {body}")))
    }

    /// The result of a query, after its batch and line were looked at.
    fn result(&self, name: &str, arguments: &Json) -> Json {
        let (status, answer) =
            self.json("POST", &format!("/v1/query/{name}"), &arguments.to_string());
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["txid"], json!(self.engine.runtime().committed()));
        assert_eq!(
            answer["lineage"].as_str().map(str::len),
            Some(self.engine.runtime().status().lineage.len())
        );
        answer["result"].clone()
    }

    fn refused(&self, method: &str, path: &str, body: &str, expected: u16, parts: &[&str]) {
        let (status, answer) = self.json(method, path, body);
        assert_eq!(status, expected, "{path}: {answer}");
        let text = ["what", "where", "do"]
            .map(|part| answer["error"][part].as_str().expect("all three are there").to_string())
            .concat();
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} is not in {answer}"));
    }
}

/// The status and body that are answered to this.
fn ask(address: SocketAddr, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    write!(stream, "{head}Connection: close\r\n\r\n{body}").expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"),
        body.to_string(),
    )
}

#[test]
fn queries_are_answered_as_json() {
    let port = Port::plain();
    for (arguments, expected) in
        [(json!("the"), 4), (json!("man where you the"), 8), (json!("the man"), 6), (json!(""), 0)]
    {
        assert_eq!(port.result("words", &arguments), json!(expected), "{arguments}");
    }
    let mut numbers: Vec<u64> =
        serde_json::from_value(port.result("upto", &json!(5))).expect("numbers");
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert_eq!(port.result("upto", &json!(0)), json!([]));
    assert_eq!(port.result("pairs", &json!("the")), json!([["the", 1]]));
    let (status, queries) = port.json("GET", "/v1/queries", "");
    assert_eq!(status, 200);
    let words = &queries["queries"][0];
    assert_eq!(
        (&words["name"], &words["result"], &words["one"]),
        (&json!("words"), &json!("u64"), &json!(true))
    );
    let (status, openapi) = port.json("GET", "/openapi.json", "");
    assert_eq!((status, &openapi["openapi"]), (200, &json!("3.1.0")));
    assert!(openapi["paths"]["/v1/query/words"]["post"]["summary"].is_string());
}

/// What an answer has that its schema does not name, or the other way round.
fn differences(schema: &Json, answer: &Json, all: &Json, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/components/schemas/");
        return differences(&all[name], answer, all, at, found);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        // Each names some of the properties.
        let named: Vec<String> = parts.iter().flat_map(|part| properties(part, all)).collect();
        let unknown =
            answer.as_object().into_iter().flatten().filter(|(name, _)| !named.contains(name));
        return found.extend(unknown.map(|(name, _)| format!("{at}.{name} is not described")));
    }
    if let Some(items) = schema.get("items") {
        let Some(answers) = answer.as_array() else {
            return found.push(format!("{at} is no array: {answer}"));
        };
        answers
            .iter()
            .for_each(|answer| differences(items, answer, all, &format!("{at}[]"), found));
    }
    if let Some(properties) = schema["properties"].as_object() {
        let Some(answers) = answer.as_object() else {
            return found.push(format!("{at} is no object: {answer}"));
        };
        for (name, answer) in answers {
            match properties.get(name) {
                Some(schema) => differences(schema, answer, all, &format!("{at}.{name}"), found),
                None => found.push(format!("{at}.{name} is not described")),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        found.extend(
            required
                .filter(|name| !answers.contains_key(*name))
                .map(|name| format!("{at}.{name} is missing")),
        );
    }
}

fn properties(schema: &Json, all: &Json) -> Vec<String> {
    let of = schema["$ref"]
        .as_str()
        .map_or(schema, |name| &all[name.trim_start_matches("#/components/schemas/")]);
    of["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

#[test]
fn what_is_answered_is_as_it_is_described() {
    let port = Port::plain();
    let (_, openapi) = port.json("GET", "/openapi.json", "");
    let paths = openapi["paths"].as_object().expect("there are some");
    let asked = |path: &str| paths.keys().any(|known| known.starts_with(path));
    for path in [
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/v1/live",
        "/v1/sources/pause",
        "/v1/query/",
        "/drpc/{function}/",
    ] {
        assert!(asked(path), "{path} is not described");
    }
    assert!(
        paths["/drpc/{function}"]["get"].is_object()
            && paths["/drpc/{function}"]["post"].is_object()
    );
    for (path, of) in [
        ("/v1/status", "/v1/status"),
        ("/v1/topology", "/v1/topology"),
        ("/v1/operators", "/v1/operators"),
        ("/v1/queries", "/v1/queries"),
        ("/v1/batches", "/v1/batches"),
        ("/v1/batches/1", "/v1/batches/{txid}"),
        ("/v1/state/counts", "/v1/state/{name}"),
        ("/v1/state/counts/the", "/v1/state/{name}/{key}"),
        ("/readyz", "/readyz"),
    ] {
        let (status, answer) = port.json("GET", path, "");
        let described = &openapi["paths"][of]["get"]["responses"]["200"]["content"]["application/json"]
            ["schema"];
        let mut found = Vec::new();
        assert!(
            described.as_object().is_some_and(|described| !described.is_empty()),
            "{path} is not described: {openapi}"
        );
        assert_eq!(status, 200, "{path}: {answer}");
        differences(described, &answer, &openapi["components"]["schemas"], path, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
    let workers = &openapi["components"]["schemas"]["BatchReport"]["properties"]["workers"];
    assert!(
        workers["description"].as_str().is_some_and(|text| !text.is_empty()),
        "fields say what they mean: {workers}"
    );
}

#[test]
fn a_client_of_storms_is_answered_as_by_storm() {
    let port = Port::plain();
    let check = |method: &str, path: &str, body: &str, status: u16, expected: &str| {
        assert_eq!(
            port.request(method, path, "", body),
            (status, expected.to_string()),
            "{method} {path} {body}"
        );
    };
    check("GET", "/drpc/words/the%20man", "", 200, "[[6]]");
    check("GET", "/drpc/words/hello", "", 200, "[[1]]");
    check("GET", "/drpc/words", "", 200, "[[0]]");
    check("GET", "/drpc/words/", "", 200, "[[0]]");
    check("POST", "/drpc/words", "man where you the", 200, "[[8]]");
    check("GET", "/drpc/pairs/the", "", 200, "[[\"the\",1]]");
    check("GET", "/drpc/upto/1", "", 200, "[[0]]");
    check("GET", "/drpc/upto/0", "", 200, "[]");
    check("GET", "/drpc/seven", "", 200, "[[7]]");
    let failed = |method: &str, path: &str, body: &str, status: u16, error: &str, part: &str| {
        let (is, answer) = port.json(method, path, body);
        assert_eq!((is, &answer["error"]), (status, &json!(error)), "{answer}");
        assert!(
            answer["errorMessage"].as_str().is_some_and(|message| message.contains(part)),
            "{answer}"
        );
    };
    failed("GET", "/drpc/panics/me", "", 400, "FAILED_REQUEST", "on purpose: me");
    failed("GET", "/drpc/nothing/x", "", 404, "FAILED_REQUEST", "words");
    failed("GET", "/drpc/upto/many", "", 400, "FAILED_REQUEST", "u64");
    // Whatever part of the server refuses it.
    failed("PUT", "/drpc/words", "", 405, "FAILED_REQUEST", "POST");
    let small = Port::open(
        QueryLimits { request_bytes: 2000, ..QueryLimits::default() },
        Access::default(),
    );
    let (status, answer) = small.json("POST", "/drpc/words", &"x".repeat(3000));
    assert_eq!((status, &answer["error"]), (413, &json!("FAILED_REQUEST")), "{answer}");
}

#[test]
fn answers_that_nobody_reads_are_bounded_together() {
    // A loaded machine may take long for such answers.
    let time_out = Duration::from_secs(60);
    let limits = QueryLimits {
        time_out,
        answer_bytes: 64 << 20,
        unsent_bytes: 70 << 20,
        ..QueryLimits::default()
    };
    let port = Port::open(limits, Access::default());
    // More than the buffers of a connection take.
    let asked = || {
        let mut stream = TcpStream::connect(port.server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        write!(stream, "GET /drpc/upto/3000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("it takes the request");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("it answers");
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let (unread, status) = asked();
    assert_eq!(status, "HTTP/1.1 200");
    let (_other, status) = asked();
    assert_eq!(status, "HTTP/1.1 200", "there is room for two");
    assert_eq!(asked().1, "HTTP/1.1 429", "the third is too much");
    assert_eq!(port.json("GET", "/drpc/upto/2", "").0, 200, "small ones are answered all the same");
    drop(unread);
    let until = Instant::now() + Duration::from_secs(30);
    while asked().1 != "HTTP/1.1 200" {
        assert!(Instant::now() < until, "there is room again");
    }
}

#[test]
fn wrong_requests_say_what_where_and_what_to_do() {
    let port = Port::plain();
    port.refused(
        "POST",
        "/v1/query/word",
        "\"the\"",
        404,
        &["\"word\"", "words, pairs", "/v1/queries"],
    );
    port.refused("POST", "/v1/query/words", "the", 400, &["words", "JSON"]);
    port.refused("POST", "/v1/query/upto", "\"the\"", 400, &["upto", "u64"]);
    port.refused(
        "POST",
        "/v1/query/panics",
        "\"me\"",
        500,
        &["on purpose: me", "map#", "query_port.rs"],
    );
    port.refused("POST", "/v1/query/words?after=3", "\"the\"", 400, &["timeout_ms"]);
    port.refused(
        "POST",
        "/v1/query/words?at_least_position=lines",
        "\"the\"",
        400,
        &["source/partition/offset"],
    );
    port.refused(
        "POST",
        "/v1/query/words?at_least_position=other/a/1",
        "\"the\"",
        400,
        &["\"other\"", "lines"],
    );
    port.refused("GET", "/v1/query/words", "", 405, &["POST"]);
    let status = port.engine.runtime().status();
    assert_eq!((status.generations, status.last_error, status.queries.requests), (1, None, 0));
}

#[test]
fn what_is_too_slow_too_large_or_too_much_is_refused_and_harms_nothing() {
    let limits = QueryLimits {
        running: 2,
        waiting: 1,
        answer_bytes: 1000,
        request_bytes: 2000,
        ..QueryLimits::default()
    };
    let port = Port::open(limits, Access::default());
    port.refused("POST", "/v1/query/words", &format!("\"{}\"", "x".repeat(3000)), 413, &["less"]);
    port.refused("POST", "/v1/query/upto", "1000", 413, &["1000 bytes", "limit"]);
    port.refused("POST", "/v1/query/huge", "1000000", 413, &["1000 bytes"]);
    let began = Instant::now();
    port.refused(
        "POST",
        "/v1/query/words?timeout_ms=50&at_least=99999",
        "\"the\"",
        504,
        &["50 ms"],
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    // Two workers are held up; what comes then waits, and what is beyond the bound is refused.
    let address = port.server.address();
    let sleeping: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let head = "POST /v1/query/sleeps?timeout_ms=300 HTTP/1.1\r\nHost: \
                    localhost\r\nContent-Length: 4\r\n";
                ask(address, head, "2500").0
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1500));
    let status = port.engine.runtime().status();
    let held_up = status.queries.held_up_by.expect("a closure does not return");
    assert!(held_up.contains("map#") && held_up.contains("query_port.rs"), "{held_up}");
    let more: Vec<u16> = (0..12)
        .map(|_| port.request("POST", "/v1/query/words?timeout_ms=1", "", "\"the\"").0)
        .collect();
    assert!(
        more.contains(&429) && more.iter().all(|status| [429, 504].contains(status)),
        "{more:?}"
    );
    assert!(sleeping.into_iter().all(|asked| asked.join().expect("it ends") == 504));
    let until = Instant::now() + Duration::from_secs(60);
    while port.engine.runtime().status().queries.requests > 0 {
        assert!(Instant::now() < until, "{:?}", port.engine.runtime().status().queries);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(port.result("words", &json!("the")), json!(4));
    assert_eq!(port.engine.runtime().status().generations, 1);
}

#[test]
fn a_batch_or_a_position_is_waited_for() {
    let port = Port::plain();
    let committed = port.engine.runtime().committed();
    let partition = port.engine.runtime().status().partitions[0].clone();
    let ask = |wish: &str| {
        port.json("POST", &format!("/v1/query/words?timeout_ms=200&{wish}"), "\"the\"")
    };
    assert_eq!(ask(&format!("at_least={committed}")).1["result"], json!(4));
    assert_eq!(ask(&format!("at_least={}", committed.0 + 1)).0, 504);
    let position = |offset: u64| {
        format!("at_least_position=lines/{}/{offset}", partition.partition.replace('/', "%2F"))
    };
    assert_eq!(ask(&position(partition.offset - 1)).1["result"], json!(4));
    assert_eq!(ask(&position(partition.offset)).0, 504);
}

#[test]
fn a_batch_of_another_lineage_is_refused() {
    let port = Port::plain();
    let lineage = port.engine.runtime().status().lineage;
    let committed = port.engine.runtime().committed();
    let check = |method: &str, path: &str, body: &str| {
        for of in [format!("&lineage={lineage}"), "&lineage=".into(), String::new()] {
            let (status, answer) = port.json(method, &format!("{path}{of}"), body);
            assert_eq!((status, &answer["lineage"]), (200, &json!(lineage)), "{path}{of}");
        }
        let other = format!("{path}&lineage={}", "0".repeat(lineage.len()));
        port.refused(method, &other, body, 409, &["the state was replaced", &lineage, "forget"]);
        assert_eq!(port.json(method, &other, body).1["lineage"], json!(lineage));
    };
    check("POST", &format!("/v1/query/words?at_least={committed}"), "\"the\"");
    check("GET", &format!("/v1/state/counts?limit=3&at={committed}"), "");
}

#[test]
fn pages_and_many_keys_are_of_one_batch() {
    let port = Port::plain();
    let (mut after, mut walked, mut at) = (String::new(), Vec::new(), String::new());
    loop {
        let (status, page) = port.json("GET", &format!("/v1/state/counts?limit=3{after}{at}"), "");
        assert_eq!((status, &page["moved_on"]), (200, &json!(false)), "{page}");
        walked.extend(
            page["rows"]
                .as_array()
                .expect("rows")
                .iter()
                .map(|row| row["key"].as_str().expect("text").to_string()),
        );
        let Some(next) = page["next"].as_str() else { break };
        (after, at) = (format!("&after={next}"), format!("&at={}", page["txid"]));
    }
    assert_eq!(walked, ["are", "hello", "man", "moon", "on", "said", "the", "where", "you"]);
    let (_, page) = port.json("GET", "/v1/state/counts?prefix=m", "");
    assert_eq!(page["rows"], json!([{"key": "man", "value": 2}, {"key": "moon", "value": 1}]));
    // The encoding of "man" is filled up with zeros.
    for with in ["", "&after=a", "&after=man"] {
        let (_, page) = port.json("GET", &format!("/v1/state/counts?prefix=man%00{with}"), "");
        assert_eq!(page["rows"], json!([]), "{with}");
    }
    let (_, page) = port.json("GET", "/v1/state/counts?prefix=m&after=a", "");
    assert_eq!(page["rows"], json!([{"key": "man", "value": 2}, {"key": "moon", "value": 1}]));
    let (_, many) = port.json("POST", "/v1/state/counts", r#"{"keys": ["the", "none", "you"]}"#);
    let expected = json!([{"key": "the", "value": 4}, {"key": "none"}, {"key": "you", "value": 1}]);
    assert_eq!(many["rows"], expected);
    port.refused("GET", "/v1/state/count", "", 404, &["counts"]);
    port.refused("GET", "/v1/state/counts?limit=0", "", 400, &["limit"]);
    port.refused("GET", "/v1/state/counts?first=1", "", 400, &["prefix"]);
    port.refused("POST", "/v1/state/counts", "[]", 400, &["keys"]);
    let (_, moved) = port.json("GET", "/v1/state/counts?at=77", "");
    assert_eq!(moved["moved_on"], json!(true));
}

#[test]
fn who_has_not_the_token_or_comes_from_elsewhere_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "a token of the tests\n".replace(' ', "-")).expect("written");
    let port = Port::open(
        QueryLimits::default(),
        Access::default().with_token_file(file.path()).expect("a token"),
    );
    let status = |path: &str, headers: &str| port.request("GET", path, headers, "").0;
    assert_eq!(status("/v1/status", ""), 401);
    assert_eq!(status("/drpc/words/the", "Authorization: Bearer a-token-of-the-test\r\n"), 401);
    assert_eq!(status("/healthz", ""), 200);
    assert_eq!(
        port.request(
            "GET",
            "/drpc/words/the",
            "Authorization: Bearer a-token-of-the-tests\r\n",
            ""
        ),
        (200, "[[4]]".into())
    );
    let named = |headers: &str| {
        let head = format!("GET /v1/status HTTP/1.1\r\nHost: mill.example.org\r\n{headers}");
        ask(port.server.address(), &head, "").0
    };
    let right = "Authorization: bearer a-token-of-the-tests\r\n";
    assert_eq!((named(right), named("")), (200, 401), "with the token any host is served");
    let port = Port::open(
        QueryLimits::default(),
        Access::default().with_origin("https://mill.example.org").with_host("mill"),
    );
    let post = |headers: &str| port.request("POST", "/v1/query/words", headers, "\"the\"").0;
    assert_eq!(post("Origin: https://mill.example.org\r\n"), 200);
    assert_eq!((post(""), post("Origin: http://localhost\r\n")), (200, 200));
    assert_eq!((post("Origin: http://example.org\r\n"), post("Origin: null\r\n")), (403, 403));
    let (foreign, _) =
        ask(port.server.address(), "GET /v1/status HTTP/1.1\r\nHost: example.org\r\n", "");
    assert_eq!(foreign, 403);
    let get = |path: &str, headers: &str| port.request("GET", path, headers, "").0;
    for path in ["/drpc/words/the", "/v1/state/counts", "/v1/state/counts/the"] {
        let status = (get(path, ""), get(path, "Sec-Fetch-Site: cross-site\r\n"));
        assert_eq!(status, (200, 403), "{path}");
    }
}

#[test]
fn dropped_and_half_sent_requests_leave_nothing_behind() {
    let port = Port::plain();
    for number in 0..150 {
        let mut stream = TcpStream::connect(port.server.address()).expect("it listens");
        let body = ["", "\"the", "1000000"][number % 3];
        let query = ["words", "words", "upto"][number % 3];
        let _ = write!(
            stream,
            "POST /v1/query/{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\n{body}"
        );
        // Dropped without reading the answer.
    }
    let until = Instant::now() + Duration::from_secs(30);
    while port.engine.runtime().status().queries.requests > 0 {
        assert!(Instant::now() < until, "{:?}", port.engine.runtime().status().queries);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(port.result("words", &json!("the")), json!(4));
}
