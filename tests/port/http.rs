//! The port of a running topology, asked as its users ask it: over TCP.

use serde_json::Value as Json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::{Engine, Settings};
use tidemill_harness::binary::{Running, folder};
use tidemill_harness::checkout;

/// The topology counts the words of one file, a line a batch; the answers below are of its end.
struct Port {
    server: Server,
    engine: Option<Engine>,
    _folder: tempfile::TempDir,
}

impl Port {
    fn open(lines: &[&str]) -> Port {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("lines.txt");
        std::fs::write(&input, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .expect("it can be written");
        let mut settings =
            Settings { workers: 2, ..Settings::new("words", folder.path().join("state")) };
        settings.batches.max_records = 1;
        let glob = input.display().to_string();
        let engine = Engine::start(settings, move |topology: &Topology<'_>| {
            topology
                .source("lines", Files::lines(glob.as_str()))
                .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
                .group_by(|word| word.clone())
                .persistent_aggregate("counts", Count);
        });
        let engine = engine.expect("it starts");
        let server =
            Server::start("127.0.0.1:0".parse().expect("an address"), Arc::clone(engine.runtime()))
                .expect("any port");
        let until = Instant::now() + Duration::from_secs(30);
        while !engine.runtime().is_at_end() {
            assert!(
                Instant::now() < until,
                "it does not come to its end: {:?}",
                engine.runtime().status()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Port { server, engine: Some(engine), _folder: folder }
    }

    /// The status and the body of the answer to a request of this first line, with these headers.
    fn ask(&self, request: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.server.address()).expect("it listens");
        write!(stream, "{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")
            .expect("it takes the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_string())
    }

    fn get(&self, path: &str) -> (u16, Json) {
        let (status, body) = self.ask(&format!("GET {path}"), "Host: localhost:7070\r\n");
        (status, serde_json::from_str(&body).unwrap_or_else(|why| panic!("{path}: {why}: {body}")))
    }

    /// Asks for what must be refused: with this status, and what, where and what to do, in which
    /// these parts stand.
    fn refused(&self, request: &str, headers: &str, expected: u16, parts: &[&str]) {
        let (status, body) = self.ask(request, headers);
        assert_eq!(status, expected, "{request}: {body}");
        let body: Json =
            serde_json::from_str(&body).unwrap_or_else(|why| panic!("{request}: {why}: {body}"));
        let texts = ["what", "where", "do"].map(|part| {
            body["error"][part]
                .as_str()
                .unwrap_or_else(|| panic!("no {part} in {body}"))
                .to_string()
        });
        for part in parts {
            assert!(texts.concat().contains(part), "{part} is not in {body}");
        }
    }
}

const HERE: &str = "Host: 127.0.0.1:7070\r\n";

#[test]
fn values_are_answered_with_the_batch_and_the_line() {
    let port = Port::open(&["a b a", "b", "a/b ä"]);
    let (status, value) = port.get("/v1/state/counts/a");
    assert_eq!(
        (status, &value["key"], &value["value"], &value["txid"]),
        (200, &Json::from("a"), &Json::from(2), &Json::from(3))
    );
    assert_eq!(value["lineage"].as_str().map(str::len), Some(16));
    assert_eq!(port.get("/v1/state/counts/a%2Fb").1["value"], 1);
    assert_eq!(port.get("/v1/state/counts/%C3%A4").1["value"], 1);
    for path in ["/v1/state/counts/none", "/v1/state/counts/"] {
        let (status, none) = port.get(path);
        assert_eq!((status, &none["txid"]), (404, &Json::from(3)), "{none}");
        assert!(
            none["error"]["what"].as_str().is_some_and(|what| what.contains("no value")),
            "{none}"
        );
    }
    port.refused("GET /v1/state/count/a", HERE, 404, &["no state \"count\"", "counts"]);
    port.refused("GET /v1/state/counts/%ff", HERE, 400, &["UTF-8"]);
}

#[test]
fn health_status_topology_and_batches_are_answered() {
    let port = Port::open(&["a", "b", "c"]);
    assert_eq!(port.ask("GET /healthz", HERE), (200, "ok\n".to_string()));
    assert_eq!(port.ask("GET /healthz", "").0, 200, "a probe may name no host");
    for path in ["/v1/status", "/v1/state/counts/a", "/openapi.json", "/v1/nothing"] {
        let mut stream = TcpStream::connect(port.server.address()).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\n{HERE}Connection: close\r\n\r\n")
            .expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.contains("cache-control: no-store\r\n"), "{path}: {answer}");
    }
    assert_eq!(port.get("/readyz"), (200, serde_json::json!({"ready": true, "txid": 3})));
    // How many keys a worker holds is told now and then.
    let until = Instant::now() + Duration::from_secs(10);
    let status = std::iter::repeat_with(|| port.get("/v1/status").1)
        .find(|status| status["states"][0]["keys"] == 3 || Instant::now() > until);
    let status = status.expect("the status is asked without end");
    assert_eq!(
        (&status["topology"], &status["committed"], &status["records"]),
        (&Json::from("words"), &Json::from(3), &Json::from(3))
    );
    assert_eq!(
        (&status["states"][0]["name"], &status["states"][0]["keys"]),
        (&Json::from("counts"), &Json::from(3))
    );
    let (_, topology) = port.get("/v1/topology");
    assert_eq!(
        (&topology["name"], &topology["lineage"]),
        (&Json::from("words"), &status["lineage"])
    );
    assert!(topology["nodes"].as_array().is_some_and(|nodes| nodes.len() >= 3), "{topology}");
    let txids = |path: &str| -> Vec<u64> {
        let (_, batches) = port.get(path);
        batches["batches"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|batch| batch["txid"].as_u64())
            .collect()
    };
    assert_eq!(txids("/v1/batches"), [3, 2, 1]);
    assert_eq!(txids("/v1/batches?limit=2"), [3, 2]);
    let (code, batch) = port.get("/v1/batches/2");
    assert_eq!(
        (code, &batch["txid"], &batch["lineage"]),
        (200, &2.into(), &status["lineage"]),
        "{batch}"
    );
    port.refused("GET /v1/batches/4", HERE, 404, &["batch 4 is not known", "batches 1 to 3"]);
    port.refused("GET /v1/batches/last", HERE, 400, &["a number from 1 on"]);
    for wrong in ["limit=0", "limit=10001", "limit=x", "count=1"] {
        port.refused(
            &format!("GET /v1/batches?{wrong}"),
            HERE,
            400,
            &["limit=N", "GET /v1/batches"],
        );
    }
}

#[test]
fn what_must_not_be_answered_is_refused_with_the_way_out() {
    let port = Port::open(&["a"]);
    port.refused(
        "GET /v2/status",
        HERE,
        404,
        &["/v1/status", "/v1/state/{name}/{key}", "GET /v2/status"],
    );
    port.refused(
        "POST /v1/status",
        "Host: localhost\r\nContent-Length: 0\r\n",
        405,
        &["POST", "use GET"],
    );
    for host in [
        "Host: tide.example\r\n",
        "Host: 127.0.0.1.tide.example:7070\r\n",
        "Host: 192.0.2.1\r\n",
        "",
    ] {
        port.refused("GET /v1/status", host, 403, &["http://127.0.0.1"]);
    }
    port.refused("GET http://tide.example/v1/status", HERE, 403, &["tide.example"]);
    port.refused(
        "GET /v1/status",
        "Host: [::1]:7070\r\nContent-Length: 2000000\r\n",
        413,
        &["1048576"],
    );
}

#[test]
fn a_stopped_run_is_alive_but_not_ready_and_the_server_ends_at_once() {
    let mut port = Port::open(&["a"]);
    let engine = port.engine.take().expect("it runs");
    engine.stop();
    engine.wait().expect("a clean stop");
    assert_eq!(port.ask("GET /healthz", HERE).0, 200);
    port.refused("GET /readyz", HERE, 503, &["not ready", "stopping"]);
    port.refused(
        "GET /v1/state/counts/a",
        HERE,
        503,
        &["try again", "send the same request again"],
    );
    let idle = TcpStream::connect(port.server.address()).expect("it listens");
    let began = Instant::now();
    drop(port.server);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "a connection that says nothing held the server for {:?}",
        began.elapsed()
    );
    drop(idle);
}

/// The value of a series in what Prometheus would read.
fn series(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_say_what_the_status_says() {
    let folder = folder();
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let arguments = [
        "run",
        "--state",
        state.to_str().expect("UTF-8"),
        "--listen",
        "127.0.0.1:0",
        "--max-batch-records",
        "500",
    ];
    let mut running = Running::start(
        "word_count",
        &[&arguments[..], &["--out", out.to_str().expect("UTF-8")]].concat(),
    );
    let status = running.get_until("/v1/status", |status| {
        status["sources_at_end"] == true && status["sinks"][0]["published"] == status["committed"]
    });
    let (code, text) = running.get("/metrics");
    let text = text.as_str().expect("it is no JSON").to_string();
    assert_eq!(code, 200, "{text}");
    let number = |value: &Json| value.as_f64();
    for (name, expected) in [
        ("tidemill_committed_txid", number(&status["committed"])),
        ("tidemill_batches_total", number(&status["committed"])),
        ("tidemill_records_total", number(&status["records"])),
        ("tidemill_batch_commit_seconds_count", number(&status["committed"])),
        ("tidemill_batch_fill_seconds_count", number(&status["committed"])),
        ("tidemill_state_keys{state=\"counts\"}", number(&status["states"][0]["keys"])),
        ("tidemill_sink_published_txid{sink=\"out\"}", number(&status["committed"])),
        ("tidemill_sink_backlog_bytes{sink=\"out\"}", Some(0.0)),
        ("tidemill_sink_publisher_rebuilds_total{sink=\"out\"}", Some(0.0)),
        ("tidemill_source_skipped_total{source=\"sentences\"}", Some(0.0)),
        ("tidemill_ready", Some(1.0)),
    ] {
        assert_eq!(series(&text, name), expected, "{name} in\n{text}");
    }
    let published = series(&text, "tidemill_sink_publish_seconds_count{sink=\"out\"}");
    assert!(published.is_some_and(|published| published >= 1.0), "{text}");
    assert!(
        text.contains("# TYPE tidemill_batches_total counter") && !text.contains("# EOF"),
        "the text format: {text}"
    );
    let open = ureq::get(format!("{}/metrics", running.url()))
        .header("accept", "application/openmetrics-text;version=1.0.0")
        .call();
    let open = open.expect("it answers").body_mut().read_to_string().expect("a text");
    assert!(
        open.contains("# TYPE tidemill_batches counter") && open.ends_with("# EOF\n"),
        "OpenMetrics to who asks for it: {open}"
    );
    promtool(&["check", "metrics"], &text);
}

#[test]
fn the_rules_for_alerts_are_as_prometheus_reads_them() {
    promtool(&["check", "rules", "deploy/alerts.yml"], "");
}

/// What Prometheus' own tool has nothing to say against. Skipped, with the reason printed, where it
/// is not: Debian's package `prometheus` has it.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) {
    let mut tool = Command::new("promtool");
    let tool = tool.args(arguments).current_dir(checkout::root());
    let Ok(mut tool) =
        tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        return println!("skipped: promtool is not here");
    };
    tool.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let said = tool.wait_with_output().expect("it ends");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.status.success(), "promtool {arguments:?}: {text}");
    assert!(arguments.contains(&"rules") || text.is_empty(), "promtool {arguments:?}: {text}");
}
