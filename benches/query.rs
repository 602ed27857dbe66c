//! Queries: look-ups of 4 keys by the dataflow, in the engine and over HTTP, idle and with ingest:
//! `cargo bench --bench query`.
//!
//! Yardsticks of the same run: one thread that looks 4 keys up in a plain `hashbrown` map
//! (`case=map`), and an axum server that answers a constant (`case=bare_http`). `ratio` is to the
//! first for what is asked in the engine, to the second, with as many connections, for what is
//! asked over HTTP. Latencies are from asking to having the answer.

#![allow(clippy::disallowed_methods)]

use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::{Engine, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How many keys the state has.
const KEYS: u64 = 100_000;

/// How long each case is measured.
const FOR: Duration = Duration::from_secs(3);

/// How many requests are under way at once in the engine.
const OUTSTANDING: usize = 64;

fn main() {
    let filter =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wanted = |case: &str| case.contains(&filter);
    let map = map_look_ups();
    println!("query case=map requests_per_s={map:.0} ratio=1.00");
    for workers in [1, 2] {
        let case = format!("engine workers={workers} idle");
        if wanted(&case) {
            let running = Running::idle(workers);
            print(&case, &saturate(&running.engine), map);
        }
    }
    for (rate, name) in [(None, "full"), (Some(0.5), "half")] {
        let case = format!("engine workers=2 ingest={name} at=10k/s");
        if wanted(&case) {
            let full = Running::ingesting(2, None).ingest_rate(FOR);
            let running = Running::ingesting(2, rate.map(|part| full * part));
            print(&case, &paced(&running.engine, 10_000.0, FOR), map);
        }
    }
    let case = "engine workers=2 beside=scans at=10k/s";
    if wanted(case) {
        beside_scans(case, map);
    }
    if wanted("fairness") {
        fairness();
    }
    if wanted("ingest_with_10k/s") {
        ingest_with_requests();
    }
    if wanted("http") {
        let running = Running::idle(2);
        let server = Server::start(
            "127.0.0.1:0".parse().expect("an address"),
            Arc::clone(running.engine.runtime()),
        )
        .expect("a port");
        for connections in [1, 8, 64] {
            let bare = http(bare_server(), connections);
            let ours = http(server.address(), connections);
            println!(
                "query case=bare_http connections={connections} requests_per_s={:.0} ratio=1.00 {}",
                bare.per_s,
                bare.latencies()
            );
            let grpc = grpc(server.address(), connections);
            for (case, asked) in [("http", ours), ("grpc", grpc)] {
                let ratio = asked.per_s / bare.per_s;
                println!(
                    "query case={case} connections={connections} requests_per_s={:.0} \
                     ratio={ratio:.2} {}",
                    asked.per_s,
                    asked.latencies()
                );
            }
        }
    }
}

/// Look-ups while another client asks for what takes seconds: all keys, hundreds of times.
fn beside_scans(case: &str, map: f64) {
    let running = Running::idle(2);
    let (over, scans) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let scanning = {
        let (runtime, over, scans) =
            (Arc::clone(running.engine.runtime()), Arc::clone(&over), Arc::clone(&scans));
        std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !over.load(SeqCst) {
                let began = Instant::now();
                runtime.ask_typed::<u64>("scans", &900u64).expect("it is answered");
                longest = longest.max(began.elapsed());
                scans.fetch_add(1, SeqCst);
            }
            longest
        })
    };
    std::thread::sleep(Duration::from_millis(200));
    print(case, &paced(&running.engine, 10_000.0, FOR), map);
    over.store(true, SeqCst);
    let longest = scanning.join().expect("it ends");
    println!(
        "query case=scans beside=10k/s scans={} longest_s={:.1}",
        scans.load(SeqCst),
        longest.as_secs_f64()
    );
}

/// Small requests, one after the other, alone and beside two clients that ask the same query for
/// 200,000 keys at a time.
fn fairness() {
    let running = Running::idle(2);
    let small = |during: Duration| {
        let (began, mut took) = (Instant::now(), Vec::new());
        while began.elapsed() < during {
            let asked_at = Instant::now();
            let of_one = keys(took.len() as u64).to_vec();
            running.engine.runtime().ask_typed::<u64>("many", &of_one).expect("it is answered");
            took.push(micros(asked_at.elapsed()));
            std::thread::sleep(Duration::from_millis(1));
        }
        Asked::of(took, began.elapsed(), 0.0)
    };
    let alone = small(FOR);
    println!("query case=fairness beside=nobody {}", alone.latencies());
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let large: Vec<_> = (0..2)
        .map(|client| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let runtime = Arc::clone(running.engine.runtime());
            std::thread::spawn(move || {
                let all: Vec<u64> = (client..200_000).map(|key| key % KEYS).collect();
                while !over.load(SeqCst) {
                    runtime.ask_typed::<u64>("many", &all).expect("it is answered");
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let beside = small(FOR);
    over.store(true, SeqCst);
    large.into_iter().for_each(|client| client.join().expect("it ends"));
    let ratio = beside.at(0.99) as f64 / alone.at(0.99) as f64;
    println!(
        "query case=fairness beside=2_large large={} ratio={ratio:.2} {}",
        answered.load(SeqCst),
        beside.latencies()
    );
}

/// What 10,000 requests a second cost the ingest. The same run with them and without, in turn: its
/// rate wanders.
fn ingest_with_requests() {
    const TURNS: u32 = 8;
    let running = Running::ingesting(2, None);
    let (mut with, mut without) = (0.0, 0.0);
    for _ in 0..TURNS {
        without += running.ingest_rate(FOR / 4) / f64::from(TURNS);
        with += paced(&running.engine, 10_000.0, FOR / 4).ingested / f64::from(TURNS);
    }
    println!("query case=ingest_with_10k/s records_per_s={with:.0} ratio={:.2}", with / without);
}

fn print(case: &str, asked: &Asked, map: f64) {
    println!(
        "query case={case} requests_per_s={:.0} ratio={:.3} {}",
        asked.per_s,
        asked.per_s / map,
        asked.latencies()
    );
}

/// What a case has shown.
struct Asked {
    per_s: f64,
    /// In microseconds, in order.
    took_us: Vec<u64>,
    /// Records per second that the topology took meanwhile.
    ingested: f64,
}

impl Asked {
    fn of(mut took_us: Vec<u64>, took: Duration, ingested: f64) -> Asked {
        took_us.sort_unstable();
        Asked { per_s: took_us.len() as f64 / took.as_secs_f64(), took_us, ingested }
    }

    /// In microseconds.
    fn at(&self, quantile: f64) -> u64 {
        self.took_us[((self.took_us.len() - 1) as f64 * quantile) as usize]
    }

    fn latencies(&self) -> String {
        format!("p50_us={} p99_us={} p999_us={}", self.at(0.5), self.at(0.99), self.at(0.999))
    }
}

/// Four keys, another four each time.
fn keys(number: u64) -> [u64; 4] {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [(); 4].map(|()| {
        random ^= random >> 29;
        random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (random >> 20) % KEYS
    })
}

/// Requests per second of one thread with a plain map.
fn map_look_ups() -> f64 {
    let map: HashMap<u64, u64, foldhash::fast::RandomState> =
        (0..KEYS).map(|key| (key, key)).collect();
    let (began, mut asked, mut sum) = (Instant::now(), 0u64, 0u64);
    while began.elapsed() < Duration::from_secs(1) {
        for _ in 0..1000 {
            sum = sum.wrapping_add(keys(asked).iter().filter_map(|key| map.get(key)).sum::<u64>());
            asked += 1;
        }
    }
    std::hint::black_box(sum);
    asked as f64 / began.elapsed().as_secs_f64()
}

/// A topology that counts numbers below [`KEYS`], and looks counts up.
struct Running {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Every key has a value, and no more records come.
    fn idle(workers: usize) -> Running {
        let source =
            move || Generator::new(7, |_, number| number % KEYS).partitions(2).records(2 * KEYS);
        let running = Running::start(workers, source);
        while !running.engine.runtime().is_at_end() {
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    /// Records come as fast as they are taken, or at this rate.
    fn ingesting(workers: usize, rate: Option<f64>) -> Running {
        let source = move || {
            let source =
                Generator::new(7, |_, number| number.wrapping_mul(7919) % KEYS).partitions(2);
            if let Some(rate) = rate { source.rate(rate) } else { source }
        };
        let running = Running::start(workers, source);
        std::thread::sleep(Duration::from_secs(1));
        running
    }

    fn start<S>(workers: usize, source: impl Fn() -> S + Send + Sync + 'static) -> Running
    where
        S: tidemill::source::Source<Item = u64>,
    {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("the target folder can be written");
        let mut settings =
            Settings { workers, ..Settings::new("bench", folder.path().join("state")) };
        // A scan may take longer than requests usually may.
        settings.queries.time_out = Duration::from_secs(60);
        let engine = Engine::start(settings, move |topology: &Topology<'_>| {
            let counts = topology
                .source("numbers", source())
                .group_by(|number| *number)
                .persistent_aggregate("counts", Count);
            topology.query("counts", |keys: Requests<[u64; 4]>| {
                keys.flat_map(|keys, each| each.extend(keys)).lookup(&counts).aggregate(Sum)
            });
            topology.query("many", |keys: Requests<Vec<u64>>| {
                keys.flat_map(|keys, each| each.extend(keys)).lookup(&counts).aggregate(Sum)
            });
            topology.query("scans", |times: Requests<u64>| {
                times
                    .flat_map(|times, each| each.extend(0..times))
                    .scan_with(&counts, |_| Scan::all(), |_, count| Some(*count))
                    .aggregate(Sum)
            });
        });
        Running { engine: engine.expect("it starts"), _folder: folder }
    }

    fn records(engine: &Engine) -> u64 {
        engine.runtime().status().records
    }

    fn ingest_rate(&self, during: Duration) -> f64 {
        let before = Running::records(&self.engine);
        std::thread::sleep(during);
        (Running::records(&self.engine) - before) as f64 / during.as_secs_f64()
    }
}

/// As many as are answered, with [`OUTSTANDING`] under way.
fn saturate(engine: &Engine) -> Asked {
    let mut pipeline = engine.runtime().pipeline("counts").expect("the query is there");
    let (mut asked_at, mut took) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < FOR {
        while asked_at.len() - took.len() < OUTSTANDING {
            pipeline.ask(keys(asked_at.len() as u64)).expect("there is room");
            asked_at.push(Instant::now());
        }
        let (number, answer) = pipeline.next_answer().expect("it is answered in time");
        answer.expect("it is answered");
        took.push(micros(asked_at[usize::try_from(number).expect("small")].elapsed()));
    }
    Asked::of(took, began.elapsed(), 0.0)
}

/// So many a second, whether or not the ones before are answered.
fn paced(engine: &Engine, per_s: f64, during: Duration) -> Asked {
    let mut pipeline = engine.runtime().pipeline("counts").expect("the query is there");
    let (mut asked_at, mut took) = (Vec::new(), Vec::new());
    let (began, before) = (Instant::now(), Running::records(engine));
    while began.elapsed() < during {
        let due = (began.elapsed().as_secs_f64() * per_s) as usize;
        while asked_at.len() < due {
            pipeline.ask(keys(asked_at.len() as u64)).expect("there is room");
            asked_at.push(Instant::now());
        }
        // Between two requests there are 100 us: what has been answered meanwhile is taken.
        while let Some((number, answer)) = pipeline.try_next_answer() {
            answer.expect("it is answered");
            took.push(micros(asked_at[usize::try_from(number).expect("small")].elapsed()));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    let all = began.elapsed();
    Asked::of(took, all, (Running::records(engine) - before) as f64 / all.as_secs_f64())
}

/// Requests over so many connections, one under way on each.
fn http(address: std::net::SocketAddr, connections: usize) -> Asked {
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let took = tokio.block_on(async {
        let clients: Vec<_> = (0..connections)
            .map(|client| tokio::spawn(client_of(address, client as u64, Arc::clone(&over))))
            .collect();
        tokio::time::sleep(FOR).await;
        over.store(true, SeqCst);
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.await.expect("it ends"));
        }
        took
    });
    Asked::of(took, began.elapsed(), 0.0)
}

/// The same by the client, over gRPC.
fn grpc(address: std::net::SocketAddr, connections: usize) -> Asked {
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let began = Instant::now();
    let took = tokio.block_on(async {
        let clients = (0..connections as u64).map(|client| {
            tokio::spawn(async move {
                let asking = tidemill_client::Client::connect(format!("http://{address}"))
                    .expect("an address");
                let mut took = Vec::new();
                while began.elapsed() < FOR {
                    let asked_at = Instant::now();
                    let keys = keys(client << 32 | took.len() as u64);
                    asking.query::<_, u64>("counts", &keys).await.expect("it is answered");
                    took.push(micros(asked_at.elapsed()));
                }
                took
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.await.expect("it ends"));
        }
        took
    });
    Asked::of(took, began.elapsed(), 0.0)
}

async fn client_of(address: std::net::SocketAddr, client: u64, over: Arc<AtomicBool>) -> Vec<u64> {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let (mut took, mut answer) = (Vec::new(), vec![0; 4096]);
    while !over.load(SeqCst) {
        let body = format!("{:?}", keys(client << 32 | took.len() as u64));
        let request = format!(
            "POST /v1/query/counts HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut length = 0;
        // The answer is small, and ends with the object.
        while length == 0 || answer[length - 1] != b'}' {
            let read = stream.read(&mut answer[length..]).await.expect("it answers");
            assert!(read > 0, "it has closed the connection");
            length += read;
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..length])
        );
        took.push(micros(began.elapsed()));
    }
    took
}

/// A server that answers the same at once, on a thread of its own until the process ends.
fn bare_server() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let tokio =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio.block_on(async {
            let answer = || async {
                (
                    [("content-type", "application/json")],
                    "{\"txid\":12,\"lineage\":\"0123456789abcdef\",\"result\":8}",
                )
            };
            let routes = axum::Router::new().route("/v1/query/{name}", axum::routing::post(answer));
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let _ = axum::serve(listener, routes).await;
        });
    });
    address
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
