//! What open pages cost the ingest: `cargo bench --bench page`.
//!
//! Each page is a web socket on `/v1/live` as the web page has one: the status, what operators do,
//! the batches, and four queries that are asked again every second. The yardstick is the same run
//! without a page, in turn with it: `ratio` is the records per second with pages to those without.
//! The pages' other ends, which read what comes and throw it away, take their time on the same
//! machine: it is in the ratio too.

#![allow(clippy::disallowed_methods)]

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::{Engine, Settings};
use tokio::io::AsyncReadExt;
use tungstenite::Message;

/// How many keys the state has, and rows the answer of a watched query. Few, so that what folds and
/// compactions do now and then does not hide what pages cost.
const GROUPS: u64 = 500;

/// How long one turn is measured: several messages of each kind come. With pages and without go
/// first in turn.
const TURN: Duration = Duration::from_secs(2);
const TURNS: u32 = 10;

fn main() {
    let filter =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for pages in [1, 10, 100] {
        let case = format!("pages={pages}");
        if case.contains(&filter) {
            measure(pages);
        }
    }
}

fn measure(pages: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let settings = Settings { workers: 2, ..Settings::new("bench", folder.path().join("state")) };
    let engine = Engine::start(settings, |topology: &Topology<'_>| {
        let source =
            Generator::new(7, |_, number| number.wrapping_mul(7919) % GROUPS).partitions(2);
        let groups = topology
            .source("numbers", source)
            .group_by(|number| *number)
            .persistent_aggregate("groups", Count);
        topology.query("groups", |from: Requests<u64>| {
            from.scan_with(&groups, |_| Scan::all(), |_, count| Some(*count))
        });
    });
    let engine = engine.expect("it starts");
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = Server::start(address, Arc::clone(engine.runtime())).expect("a port");
    std::thread::sleep(Duration::from_secs(1));
    let (mut with, mut without, mut bytes) = (0.0, 0.0, 0);
    for turn in 0..TURNS {
        let mut rate_without = || {
            std::thread::sleep(TURN / 4);
            without += rate(&engine, TURN) / f64::from(TURNS);
        };
        if turn % 2 == 0 {
            rate_without();
        }
        let open = Pages::open(server.address(), pages);
        // What comes once, when a page is opened, is not what an open page costs.
        std::thread::sleep(TURN / 4);
        with += rate(&engine, TURN) / f64::from(TURNS);
        bytes += open.close();
        if turn % 2 == 1 {
            rate_without();
        }
    }
    let seconds = (TURN + TURN / 4).as_secs_f64() * f64::from(TURNS);
    let ratio = with / without;
    println!(
        "page case=ingest pages={pages} records_per_s={with:.0} without={without:.0} \
         ratio={ratio:.3} bytes_per_page_s={:.0}",
        bytes as f64 / seconds / pages as f64
    );
}

fn rate(engine: &Engine, during: Duration) -> f64 {
    let records = || engine.runtime().status().records;
    let (began, before) = (Instant::now(), records());
    std::thread::sleep(during);
    (records() - before) as f64 / began.elapsed().as_secs_f64()
}

/// Open pages, read by one thread.
struct Pages {
    over: tokio::sync::watch::Sender<bool>,
    reading: std::thread::JoinHandle<u64>,
}

impl Pages {
    fn open(address: SocketAddr, pages: usize) -> Pages {
        let sockets: Vec<TcpStream> = (0..pages).map(|_| open(address)).collect();
        let (over, ends) = tokio::sync::watch::channel(false);
        let reading = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            tokio.block_on(async {
                let reading: Vec<_> = sockets
                    .into_iter()
                    .map(|socket| tokio::spawn(read_until(socket, ends.clone())))
                    .collect();
                let mut bytes = 0;
                for one in reading {
                    bytes += one.await.expect("it ends");
                }
                bytes
            })
        });
        Pages { over, reading }
    }

    /// How many bytes have come.
    fn close(self) -> u64 {
        self.over.send_replace(true);
        self.reading.join().expect("it ends")
    }
}

/// A socket that watches what a page does.
fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/v1/live"), stream)
        .expect("it takes web sockets");
    for least in 0..4 {
        let watch = format!(
            r#"{{"type":"watch","id":"w{least}","query":"groups","arguments":{least},"every_ms":1000}}"#
        );
        socket.send(Message::text(watch)).expect("it is open");
    }
    socket.get_ref().try_clone().expect("a socket")
}

async fn read_until(socket: TcpStream, mut over: tokio::sync::watch::Receiver<bool>) -> u64 {
    socket.set_nonblocking(true).expect("a socket");
    let mut socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
    let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = socket.read(&mut buffer) => {
                let read = read.expect("it is open");
                assert!(read > 0, "the server has closed a page");
                bytes += read as u64;
            }
            _ = over.changed() => return bytes,
        }
    }
}
