//! `/v1/live`: what comes by itself on a web socket is what a request would get, and no stranger
//! gets it.

use serde_json::{Value as Json, json};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::{Access, Listening, Server};
use tidemill::testing::Kit;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderValue, header};
use tungstenite::{Error as SocketError, Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(60);

/// How often a large answer was made.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// A topology that is fed by hand, with its port.
struct Port {
    kit: Kit,
    server: Server,
}

impl Port {
    fn open(access: Access) -> Port {
        let kit = Kit::new(|topology, io| {
            let counts = topology
                .source("words", io.source::<String>("words"))
                .group_by(|word| word.clone())
                .persistent_aggregate("counts", Count);
            topology.query("large", |nothing: Requests<()>| {
                nothing.map(|()| {
                    ASKED.fetch_add(1, Relaxed);
                    "x".repeat(8 << 20)
                })
            });
            topology.query("count", |word: Requests<String>| word.lookup(&counts).aggregate(Sum));
        });
        let listening =
            Listening::bind("127.0.0.1:0".parse().expect("an address"), access).expect("any port");
        let server = listening.serve(Arc::clone(kit.engine().runtime())).expect("it serves");
        Port { kit, server }
    }

    fn connect(&self, set: impl FnOnce(&mut tungstenite::http::HeaderMap)) -> Result<Socket, u16> {
        let mut request = format!("ws://{}/v1/live", self.server.address())
            .into_client_request()
            .expect("an address");
        set(request.headers_mut());
        let stream = TcpStream::connect(self.server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let mut pending = tungstenite::client(request, stream);
        loop {
            match pending {
                Ok((socket, _)) => return Ok(Socket(socket)),
                Err(tungstenite::HandshakeError::Interrupted(more)) => pending = more.handshake(),
                Err(tungstenite::HandshakeError::Failure(SocketError::Http(refused))) => {
                    return Err(refused.status().as_u16());
                }
                Err(tungstenite::HandshakeError::Failure(why)) => panic!("{why}"),
            }
        }
    }

    fn socket(&self) -> Socket {
        self.connect(|_| {}).unwrap_or_else(|code| panic!("refused with {code}"))
    }

    fn count(&mut self, words: &[&str]) -> u64 {
        self.kit.feed("words", words.iter().map(ToString::to_string));
        self.kit.step().0
    }
}

struct Socket(WebSocket<TcpStream>);

impl Socket {
    fn say(&mut self, message: &Json) {
        self.0.send(Message::text(message.to_string())).expect("it is open");
    }

    fn watch(&mut self, id: &str, query: &str, arguments: &Json) {
        self.say(&json!({"type": "watch", "id": id, "query": query, "arguments": arguments, "every_ms": 100}));
    }

    /// The next message within this time, if one comes.
    fn next_within(&mut self, time: Duration) -> Option<Json> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(_) => {}
                Err(SocketError::Io(why))
                    if matches!(
                        why.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(why) => panic!("the socket has ended: {why}"),
            }
        }
        None
    }

    /// The next message for which this is true.
    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&Json) -> bool) -> Json {
        let until = Instant::now() + PATIENCE;
        while let Some(message) = self.next_within(until.saturating_duration_since(Instant::now()))
        {
            if is(&message) {
                return message;
            }
        }
        panic!("{what} does not come");
    }
}

#[test]
fn status_and_batches_come_by_themselves() {
    let mut port = Port::open(Access::default());
    let first = port.count(&["tide", "mill"]);
    let mut socket = port.socket();
    let told = socket.until("a status", |message| message["type"] == "status");
    assert_eq!(
        (&told["status"]["committed"], &told["status"]["topology"]),
        (&json!(first), &json!("test")),
        "{told}"
    );
    let told = port.socket().until("batches", |message| message["type"] == "batches");
    assert_eq!(
        (&told["batches"][0]["txid"], &told["batches"][0]["records"]),
        (&json!(first), &json!(2)),
        "{told}"
    );
    let newest = port.count(&["tide"]);
    let told = socket.until("the new batch", |message| message["batches"][0]["txid"] == newest);
    let others = &told["batches"].as_array().expect("batches")[1..];
    assert!(
        others.iter().all(|batch| batch["fold_us"].is_u64()),
        "only what is new, or has become known: {told}"
    );
    socket.until("the new status", |message| message["status"]["committed"] == newest);
}

#[test]
fn what_each_operator_has_done_is_told() {
    let mut port = Port::open(Access::default());
    let mut socket = port.socket();
    let txid = port.count(&["tide", "mill", "tide"]);
    let _ = port.kit.ask::<u64>("count", &"tide");
    let plan = port.kit.engine().runtime().plan().clone();
    let node = |name: &str| {
        plan.nodes.iter().position(|node| {
            serde_json::to_value(&node.kind).expect("JSON").to_string().contains(name)
        })
    };
    let [source, state, query] =
        ["\"words\"", "\"counts\"", "\"count\""].map(|name| node(name).expect("it is in the plan"));
    let sum = |told: &Json, node: usize, of: &str| -> u64 {
        let workers = told["operators"][node]["workers"].as_array().expect("workers");
        workers.iter().filter_map(|worker| worker[of].as_u64()).sum()
    };
    let told = socket.until("what was done", |message| {
        message["type"] == "operators" && sum(message, plan.nodes.len() - 1, "records") == 1
    });
    assert_eq!(told["operators"].as_array().map(Vec::len), Some(plan.nodes.len()), "{told}");
    // Three words, combined to two before they are sent to their owners.
    let done = [(source, "records"), (state, "records"), (state, "received")]
        .map(|(node, of)| sum(&told, node, of));
    assert_eq!(done, [3, 3, 2], "batch {txid}: {told}");
    // One request, once at each of its operators, and one record in it.
    for node in query..plan.nodes.len() {
        assert_eq!(
            (sum(&told, node, "records"), sum(&told, node, "received")),
            (1, 0),
            "node {node}: {told}"
        );
    }
    assert!(
        sum(&told, state, "busy_us") > 0
            && told["operators"][source]["workers"][0]["received"].is_null(),
        "{told}"
    );
}

#[test]
fn a_watched_query_is_answered_after_each_commit_as_a_request_is() {
    let mut port = Port::open(Access::default());
    let (mut one, mut other) = (port.socket(), port.socket());
    one.watch("tides", "count", &json!("tide"));
    other.watch("\"quoted\"", "count", &json!("tide"));
    for round in 1..=3u64 {
        let txid = port.count(&["tide", "mill", "tide"]);
        let asked: (tidemill::Txid, u64) = port.kit.ask("count", &"tide");
        assert_eq!(asked, (tidemill::Txid(txid), 2 * round));
        for (socket, id) in [(&mut one, "tides"), (&mut other, "\"quoted\"")] {
            let told = socket.until("the answer", |message| {
                message["type"] == "answer" && message["txid"] == txid
            });
            assert_eq!((&told["id"], &told["result"]), (&json!(id), &json!(2 * round)), "{told}");
            assert!(told["lineage"].is_string(), "{told}");
        }
    }
    // Who comes later is told the last answer, and who has had enough no more.
    let mut late = port.socket();
    late.watch("late", "count", &json!("tide"));
    assert_eq!(late.until("the last answer", |message| message["type"] == "answer")["result"], 6);
    one.say(&json!({"type": "unwatch", "id": "tides"}));
    late.watch("late", "count", &json!("mill"));
    assert_eq!(late.until("another answer", |message| message["type"] == "answer")["result"], 3);
    let newest = port.count(&["tide"]);
    late.until("the batch", |message| message["batches"][0]["txid"] == newest);
    let until = Instant::now() + Duration::from_secs(1);
    while let Some(told) = one.next_within(until.saturating_duration_since(Instant::now())) {
        assert!(told["type"] != "answer" || told["txid"] != newest, "it was unwatched: {told}");
    }
}

#[test]
fn a_watch_that_nobody_reads_is_not_asked_again() {
    let mut port = Port::open(Access::default());
    let mut socket = port.socket();
    socket.watch("large", "large", &json!(null));
    // One answer is on its way, one waits for it, one was not taken; the buffers of the connection
    // have room for one or two more.
    for _ in 0..20 {
        port.count(&["tide"]);
        std::thread::sleep(Duration::from_millis(150));
    }
    let asked = ASKED.load(Relaxed);
    assert!((1..=6).contains(&asked), "it was asked {asked} times");
    assert_eq!(port.count(&["tide"]), 21, "nothing else waits for it");
    // Who reads on gets the newest.
    let told = socket.until("the newest answer", |message| message["txid"] == 21);
    assert_eq!(told["result"][0].as_str().map(str::len), Some(8 << 20));
}

#[test]
fn what_is_wrong_is_said_and_the_socket_stays() {
    let mut port = Port::open(Access::default());
    port.count(&["tide"]);
    let mut socket = port.socket();
    let wrong = |socket: &mut Socket, message: Json, parts: &[&str]| {
        socket.say(&message);
        let told = socket.until("an error", |told| told["type"] == "error");
        for part in parts {
            assert!(told.to_string().contains(part), "{part:?} is not in {told}");
        }
        assert!(told["error"]["do"].as_str().is_some_and(|what| !what.is_empty()), "{told}");
    };
    let watch = |id: &str, every_ms: u64, query: &str, arguments: Json| json!({"type": "watch", "id": id, "query": query, "arguments": arguments, "every_ms": every_ms});
    wrong(&mut socket, json!({"type": "shout"}), &["shout", "unwatch"]);
    wrong(&mut socket, json!("tide"), &["watch"]);
    wrong(&mut socket, watch("a", 10, "count", json!("tide")), &["\"a\"", "every_ms is 10", "100"]);
    wrong(
        &mut socket,
        watch("b", 100, "counts", json!("tide")),
        &["\"b\"", "counts", "watching the query"],
    );
    wrong(&mut socket, watch("c", 100, "count", json!(7)), &["\"c\""]);
    for number in 0..20 {
        socket.watch(&format!("many {number}"), "count", &json!(number.to_string()));
    }
    let told = socket.until("an error", |told| told["type"] == "error");
    assert!(told.to_string().contains("16 queries are watched already"), "{told}");
    socket.until("a status all the same", |message| message["type"] == "status");
}

#[test]
fn only_who_may_ask_can_open_one() {
    let port = Port::open(Access::default());
    let from = |origin: &str| {
        let origin = HeaderValue::from_str(origin).expect("a header");
        port.connect(|headers| drop(headers.insert(header::ORIGIN, origin))).map(|_| ())
    };
    assert_eq!(from(&format!("http://{}", port.server.address())), Ok(()));
    assert_eq!(from("http://example.org"), Err(403), "a page of another site");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "0123456789abcdef\n").expect("written");
    let port = Port::open(Access::default().with_token_file(file.path()).expect("a token"));
    assert_eq!(port.connect(|_| {}).map(|_| ()), Err(401));
    let with = |name: header::HeaderName, value: &'static str| {
        port.connect(|headers| drop(headers.insert(name, HeaderValue::from_static(value))))
            .map(|_| ())
    };
    assert_eq!(with(header::AUTHORIZATION, "Bearer 0123456789abcdef"), Ok(()));
    assert_eq!(
        with(header::SEC_WEBSOCKET_PROTOCOL, "tidemill.v1, bearer.MDEyMzQ1Njc4OWFiY2RlZg"),
        Ok(())
    );
    assert_eq!(
        with(header::SEC_WEBSOCKET_PROTOCOL, "tidemill.v1, bearer.MDEyMzQ1Njc4OWFiY2RlZw"),
        Err(401)
    );
}

#[test]
fn sources_are_paused_drained_and_resumed_by_who_has_the_token() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "0123456789abcdef\n").expect("written");
    let mut port = Port::open(Access::default().with_token_file(file.path()).expect("a token"));
    let url = format!("http://{}", port.server.address());
    let post = |path: &str, token: &str| {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = agent
            .post(format!("{url}{path}"))
            .header("authorization", format!("Bearer {token}"))
            .send_empty();
        let mut answer = answer.expect("it answers");
        let body: Json = serde_json::from_str(&answer.body_mut().read_to_string().expect("a text"))
            .expect("JSON");
        (answer.status().as_u16(), body)
    };
    let token = "0123456789abcdef";
    let txid = port.count(&["tide"]);
    assert_eq!(post("/v1/sources/pause", "0123456789abcdeX").0, 401);
    let (code, told) = post("/v1/sources/drain", token);
    assert_eq!(
        (code, &told["phase"], &told["txid"], &told["drained"]),
        (200, &json!("paused"), &json!(txid), &json!(true)),
        "{told}"
    );
    port.kit.feed("words", ["tide".to_string()]);
    std::thread::sleep(Duration::from_millis(300));
    let status = port.kit.engine().runtime().status();
    assert_eq!(
        (status.phase, status.committed.0, status.controls),
        ("paused", txid, true),
        "nothing is read: {status:?}"
    );
    assert!(
        status.waiting.as_deref().is_some_and(|why| why.contains("/v1/sources/resume")),
        "{status:?}"
    );
    assert_eq!(port.kit.ask::<u64>("count", &"tide").1, 1, "queries are answered");
    assert_eq!(post("/v1/sources/resume", token).1["phase"], "running");
    assert_eq!(port.kit.step().0, txid + 1);
    assert_eq!(port.kit.ask::<u64>("count", &"tide").1, 2);
    assert_eq!(post("/v1/sources/drain?timeout_ms=x", token).0, 400);
}

#[test]
fn a_port_without_a_token_pauses_nothing() {
    let port = Port::open(Access::default());
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for order in ["pause", "resume", "drain"] {
        let answer =
            agent.post(format!("http://{}/v1/sources/{order}", port.server.address())).send_empty();
        let mut answer = answer.expect("it answers");
        let told = answer.body_mut().read_to_string().expect("a text");
        assert!(answer.status() == 403 && told.contains("--token-file"), "{told}");
    }
    assert!(!port.kit.engine().runtime().status().controls);
}
