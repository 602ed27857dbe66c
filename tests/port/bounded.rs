//! What requests and answers take of memory together is bounded, and so is the time for which half
//! of one may be sent. Over HTTP/1 and, by hand, over HTTP/2.

use prost::Message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::testing::Kit;
use tidemill::{QueryLimits, Settings};
use tidemill_proto::{Encoding, QueryRequest};

/// A topology that is fed by hand, with its port.
struct Port {
    kit: Kit,
    server: Server,
}

impl Port {
    fn open(limits: QueryLimits) -> Port {
        let set = move |settings: &mut Settings| settings.queries = limits;
        let mut kit = Kit::with(set, |topology, io| {
            let counts = topology
                .source("words", io.source::<String>("words"))
                .group_by(|word| word.clone())
                .persistent_aggregate("counts", Count);
            topology.query("count", |word: Requests<String>| word.lookup(&counts).aggregate(Sum));
        });
        kit.feed("words", ["tide".to_string()]);
        kit.step();
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(address, Arc::clone(kit.engine().runtime())).expect("any port");
        Port { kit, server }
    }

    fn connect(&self) -> TcpStream {
        connect(self.server.address())
    }

    /// The head and the body of the answer to this.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it is open");
        read(&mut stream)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream
}

/// What comes until the connection ends.
fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection may end with an error behind the answer: what was sent was not read.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const COUNT: &str = "POST /v1/query/count HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";

#[test]
fn half_sent_bodies_share_one_budget_and_have_ten_seconds() {
    let port = Port::open(QueryLimits::default());
    let began = Instant::now();
    let mut half: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut stream = port.connect();
            write!(stream, "{COUNT}Content-Length: 1048576\r\n\r\n\"ti").expect("it is open");
            stream
        })
        .collect();
    let answers: Vec<String> = half.iter_mut().map(read).collect();
    let of = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    // 64 MiB are 64 requests of a mebibyte.
    assert_eq!((of("HTTP/1.1 408 "), of("HTTP/1.1 429 ")), (64, 16), "{}", answers[0]);
    assert!(began.elapsed() < Duration::from_secs(40), "it took {:?}", began.elapsed());
    for (status, part) in [(" 408 ", "send the whole body"), (" 429 ", "67108864 bytes")] {
        let answer = answers.iter().find(|answer| answer.contains(status)).expect("it is there");
        assert!(answer.contains(part) && answer.contains("try_again"), "{part}: {answer}");
    }
    let whole = port.ask(&format!("{COUNT}Content-Length: 6\r\n\r\n\"tide\""));
    assert!(whole.ends_with("\"result\":1}"), "there is room again: {whole}");
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\n\"ti\r\n3\r\nde\"\r\n0\r\n\r\n";
    let whole = port.ask(&format!("{COUNT}{chunked}"));
    assert!(whole.ends_with("\"result\":1}"), "{whole}");
}

#[test]
fn answers_of_all_kinds_that_nobody_reads_are_bounded_together() {
    let limits = QueryLimits { unsent_bytes: 100_000, ..QueryLimits::default() };
    let port = Port::open(limits);
    let mut unread = Frames::open(port.server.address(), 0);
    let statuses: Vec<bool> = (0..60).map(|_| unread.get("/openapi.json")).collect();
    assert!(statuses[0] && statuses.iter().any(|answered| !answered), "{statuses:?}");
    // The rest of the room goes to smaller ones, of another kind.
    while unread.get("/metrics") {}
    let status = |path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        port.ask(&request).split(' ').nth(1).and_then(|status| status.parse::<u16>().ok())
    };
    assert_eq!(status("/metrics"), Some(429), "for everybody");
    assert_eq!(status("/healthz"), Some(200), "what is small is not counted");
    drop(unread);
    let until = Instant::now() + Duration::from_secs(30);
    while status("/openapi.json") != Some(200) {
        assert!(Instant::now() < until, "there is room again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_time_that_a_grpc_client_gives_a_call_counts() {
    let time_out = Duration::from_secs(60);
    let port = Port::open(QueryLimits { time_out, ..QueryLimits::default() });
    let began = Instant::now();
    let mut frames = Frames::open(port.server.address(), 65_535);
    let request = QueryRequest {
        name: "count".into(),
        arguments: b"\"tide\"".to_vec(),
        encoding: Encoding::Json.into(),
        at_least_txid: 99_999,
        ..QueryRequest::default()
    };
    frames.call(tidemill_proto::path::QUERY, &["grpc-timeout", "300m"], &request.encode_to_vec());
    assert!(frames.until(|kind, _| kind == HEADERS).is_some(), "it is refused");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_peer_over_http2_that_does_not_answer_is_found_and_one_that_does_stays() {
    let port = Port::open(QueryLimits::default());
    let mut dead = Frames::open(port.server.address(), 65_535);
    let mut quiet = Frames::open(port.server.address(), 65_535);
    let watch = tidemill_proto::path::HEALTH_WATCH;
    for frames in [&mut dead, &mut quiet] {
        frames.call(watch, &[], &[]);
        frames.until(|kind, _| kind == DATA).expect("the first status");
    }
    dead.answers_pings = false;
    let long = std::env::var_os("TIDEMILL_LONG").is_some();
    let until = Instant::now() + Duration::from_secs(if long { 150 } else { 40 });
    let dead = std::thread::spawn(move || dead.until(|_, _| false));
    let mut pings = 0;
    while Instant::now() < until {
        let ping = quiet.until(|kind, flags| kind == PING && flags == 0);
        pings += u32::from(ping.is_some());
        assert!(ping.is_some(), "it was closed after {pings} pings");
    }
    assert!(pings >= 1);
    assert!(dead.join().expect("no panic").is_none() && port.kit.engine().runtime().is_ready());
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// A connection of HTTP/2 by hand.
struct Frames {
    stream: TcpStream,
    next: u8,
    answers_pings: bool,
}

impl Frames {
    /// Opens a connection whose streams may send so many bytes to here.
    fn open(address: SocketAddr, window: u32) -> Frames {
        let mut stream = connect(address);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("it is open");
        let mut frames = Frames { stream, next: 1, answers_pings: true };
        frames.send(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
        frames
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u8, content: &[u8]) {
        let length = u32::try_from(content.len()).expect("small").to_be_bytes();
        let head = [&length[1..], &[kind, flags, 0, 0, 0, stream]].concat();
        // A peer that has closed is seen when it is read.
        let _ = self.stream.write_all(&[&head[..], content].concat());
    }

    /// Sends a head, of literals without an index (RFC 7541).
    fn head(&mut self, method: u8, path: &str, flags: u8, more: &[&str]) {
        let literal =
            |text: &&str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        let mut head = vec![method, 0x86, 0x04];
        head.extend(literal(&path));
        head.push(0x01);
        head.extend(literal(&"localhost"));
        for pair in more.chunks(2) {
            head.push(0);
            pair.iter().for_each(|text| head.extend(literal(text)));
        }
        self.send(HEADERS, flags, self.next, &head);
    }

    /// Whether a GET is answered with 200. Its body is not waited for.
    fn get(&mut self, path: &str) -> bool {
        self.head(0x82, path, 5, &[]);
        self.next += 2;
        let head = self.until(|kind, _| kind == HEADERS).expect("it answers");
        head.first() == Some(&0x88)
    }

    fn call(&mut self, path: &str, more: &[&str], message: &[u8]) {
        let usual = ["content-type", "application/grpc", "te", "trailers"];
        self.head(0x83, path, 4, &[&usual[..], more].concat());
        let length = u32::try_from(message.len()).expect("small").to_be_bytes();
        let message = [&[0][..], &length, message].concat();
        self.send(DATA, 1, self.next, &message);
        self.next += 2;
    }

    /// The content of the next frame of this kind and flags, if one comes before the end.
    fn until(&mut self, wanted: impl Fn(u8, u8) -> bool) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut content = vec![0; usize::try_from(length).expect("small")];
            self.stream.read_exact(&mut content).ok()?;
            let (kind, flags) = (head[3], head[4]);
            if kind == SETTINGS && flags == 0 {
                self.send(SETTINGS, 1, 0, &[]);
            }
            if kind == PING && flags == 0 && self.answers_pings {
                self.send(PING, 1, 0, &content);
            }
            if wanted(kind, flags) {
                return Some(content);
            }
        }
    }
}
