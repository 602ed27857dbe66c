//! The port under those who mean it ill: connections that are dropped, half-sent requests, readers
//! that do not read, and bytes at random. The topology goes on, and takes no more memory for it.

use prost::Message;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tidemill_harness::alone::exclusive;
use tidemill_harness::binary::{Running, TEXTS, folder};
use tidemill_harness::random::Random;
use tidemill_proto::{Encoding, QueryRequest};

/// What memory may grow by: caches of the allocator, and of what a client may have under way.
const MAY_GROW: u64 = 64 << 20;

struct Place {
    running: Running,
    address: String,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = folder();
        let state = folder.path().join("state");
        let state = state.to_str().expect("UTF-8");
        let mut running = Running::start(
            "word_count",
            &["run", "--state", state, "--input", TEXTS, "--listen", "127.0.0.1:0"],
        );
        let address = running.url().trim_start_matches("http://").to_string();
        running.get_until("/v1/status", |status| {
            status["at_end"] == true
                || status["phase"] == "running" && status["records"].as_u64() > Some(0)
        });
        let mut place = Place { running, address, _folder: folder };
        // Once everything, so that what is made at the first time is there.
        place.answers();
        place
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream
    }

    /// It answers as ever, and has said nothing of a panic.
    fn answers(&mut self) {
        let (status, answer) = self.running.get("/drpc/words/the");
        assert_eq!(status, 200, "{answer}");
        assert!(
            !self.running.has_ended() && !self.running.err().contains("panicked"),
            "{}",
            self.running.err()
        );
    }

    /// Bytes of memory that the process has.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.pid()))
            .expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
            << 10
    }
}

/// Requests as they should be, to be spoiled.
fn requests() -> Vec<Vec<u8>> {
    let head = |first: &str, more: &str| {
        format!("{first} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").into_bytes()
    };
    let with = |mut head: Vec<u8>, body: &[u8]| {
        head.extend_from_slice(body);
        head
    };
    vec![
        with(
            head("POST /v1/query/words", "Content-Length: 9\r\nContent-Type: application/json\r\n"),
            b"\"the man\"",
        ),
        with(
            head("POST /v1/query/words?timeout_ms=5&at_least=1", "Transfer-Encoding: chunked\r\n"),
            b"5\r\n\"the\"\r\n0\r\n\r\n",
        ),
        with(
            head("POST /v1/state/counts", "Content-Length: 22\r\n"),
            b"{\"keys\":[\"the\",\"man\"]}",
        ),
        head("GET /v1/state/counts?prefix=t&limit=5&after=the", ""),
        head("GET /v1/state/counts/the", ""),
        head("GET /drpc/words/the%20man", ""),
        with(head("POST /drpc/words", "Content-Length: 3\r\n"), b"the"),
        head("GET /v1/batches?limit=3", "Origin: http://example.com\r\n"),
        head("GET /openapi.json", ""),
        head("GET /metrics", "Connection: close\r\n"),
        grpc(tidemill_proto::path::QUERY),
        grpc(tidemill_proto::path::PIPELINE),
        grpc(tidemill_proto::path::HEALTH_CHECK),
    ]
}

/// A gRPC call over HTTP/2 by hand: the preface, settings, a frame of headers (RFC 7541, literals
/// without an index) and one of data.
fn grpc(path: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, content: &[u8]| {
        let length = u32::try_from(content.len()).expect("small").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], content].concat()
    };
    let literal =
        |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // :method POST, :scheme http, then :path, :authority, content-type and te.
    let headers = [
        vec![0x83, 0x86, 0x04],
        literal(path),
        vec![0x01],
        literal("localhost"),
        vec![0x0f, 0x10],
        literal("application/grpc"),
        vec![0x00],
        literal("te"),
        literal("trailers"),
    ];
    let request = QueryRequest {
        name: "words".into(),
        arguments: b"\"the\"".to_vec(),
        encoding: Encoding::Json.into(),
        ..QueryRequest::default()
    };
    let request = request.encode_to_vec();
    let length = u32::try_from(request.len()).expect("small").to_be_bytes();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &headers.concat()),
        frame(0, 1, 1, &[&[0], &length[..], &request].concat()),
    ]
    .concat()
}

/// The kinds of the frames of HTTP/2 that came for the first call.
fn frames(mut answer: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((head, rest)) = answer.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[8] == 1 {
            kinds.push(head[3]);
        }
        answer = rest.get(length..).unwrap_or_default();
    }
    kinds
}

/// One of the requests with some of its bytes changed, removed, repeated.
fn spoiled(random: &mut Random, requests: &[Vec<u8>]) -> Vec<u8> {
    let at = |random: &mut Random, length: usize| {
        usize::try_from(random.within(0..length.max(1) as u64)).expect("small")
    };
    let mut bytes = requests[at(random, requests.len())].clone();
    for _ in 0..random.within(0..6) {
        let place = at(random, bytes.len());
        match random.within(0..5) {
            0 if !bytes.is_empty() => bytes[place] = random.next() as u8,
            1 => bytes.insert(place, random.one_of(b"\r\n\0 %:/\xff09")),
            2 => bytes.truncate(place),
            3 if !bytes.is_empty() => drop(bytes.remove(place)),
            _ => {
                let piece = bytes[place..bytes.len().min(place + 64)].to_vec();
                for _ in 0..random.within(1..40) {
                    bytes.splice(place..place, piece.iter().copied());
                }
            }
        }
    }
    bytes
}

#[test]
fn connections_that_are_dropped_leave_nothing() {
    let _exclusive = exclusive();
    let mut place = Place::new();
    let mut halfway = 0;
    for number in 0..10_000 {
        // No more than these are open at once, however slow the machine is.
        if number % 100 == 0 {
            place.answers();
        }
        if number == 5_000 {
            halfway = place.memory();
        }
        let mut stream = place.connect();
        if number % 3 == 1 {
            let _ = stream.write_all(
                b"POST /v1/query/words HTTP/1.1\r\nHost: \
                localhost\r\nContent-Length: 100\r\n\r\n\"the",
            );
        }
        if number % 3 == 2 {
            let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
    }
    place.answers();
    let after = place.memory();
    // Less than half a kilobyte for each of the second half.
    assert!(
        after < halfway + (2 << 20),
        "it had {halfway} bytes after half of them, and has {after}"
    );
}

#[test]
fn half_sent_requests_and_readers_that_do_not_read_keep_nobody_waiting() {
    let _exclusive = exclusive();
    let mut place = Place::new();
    let before = place.memory();
    let mut held = Vec::new();
    for number in 0..150 {
        let mut stream = place.connect();
        if number % 2 == 0 {
            let _ = stream.write_all(b"POST /v1/query/words HTTP/1.1\r\nHost: loc");
        } else {
            // Answers to all of these are never read: the server stops when the connection is full.
            stream.set_nonblocking(true).expect("a socket");
            let request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
            let _ = stream.write(&request);
        }
        held.push(stream);
    }
    let began = Instant::now();
    for _ in 0..20 {
        place.answers();
    }
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    let after = place.memory();
    assert!(after < before + MAY_GROW, "it had {before} bytes, and has {after}");
    drop(held);
    place.answers();
}

#[test]
fn bytes_at_random_harm_nothing() {
    let _exclusive = exclusive();
    let seed = std::env::var("TIDEMILL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Random::of_the_clock().next());
    println!("TIDEMILL_TEST_SEED={seed}");
    let (mut place, mut random, requests) = (Place::new(), Random::new(seed), requests());
    for request in &requests {
        let mut stream = place.connect();
        stream.write_all(request).expect("it takes it");
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        let is_there = |answer: &[u8]| {
            // Of gRPC: headers, data, trailers.
            if request.starts_with(b"PRI") {
                frames(answer).starts_with(&[1, 0, 1])
            } else {
                answer.starts_with(b"HTTP/1.1 ")
            }
        };
        while !is_there(&answer) {
            let read = stream.read(&mut piece).unwrap_or_default();
            assert!(
                read > 0,
                "{:?} for {:?}",
                String::from_utf8_lossy(&answer),
                String::from_utf8_lossy(request)
            );
            answer.extend_from_slice(&piece[..read]);
        }
    }
    let before = place.memory();
    let until = Instant::now()
        + Duration::from_secs(if std::env::var_os("TIDEMILL_LONG").is_some() { 60 } else { 3 });
    let (mut sent, mut answered, mut over_grpc) = (0, 0, 0);
    while Instant::now() < until {
        for _ in 0..100 {
            let mut stream = place.connect();
            let bytes = spoiled(&mut random, &requests);
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // Whatever it answers, it answers and ends: nothing hangs.
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing comes of {:?}", String::from_utf8_lossy(&bytes))
                }
                _ if bytes.starts_with(b"PRI * HTTP/2.0") => {
                    over_grpc += u32::from(!frames(&answer).is_empty())
                }
                _ => answered += u32::from(answer.starts_with(b"HTTP/1.1")),
            }
            sent += 1;
        }
        place.answers();
    }
    println!("{sent} sent, {answered} answered, {over_grpc} over gRPC");
    assert!(
        answered > sent / 10 && over_grpc > sent / 100,
        "only {answered} and {over_grpc} of {sent} had an answer: that shows nothing"
    );
    let after = place.memory();
    assert!(after < before + MAY_GROW, "it had {before} bytes, and has {after}");
}
