//! The connections of the port: so many at once, and none on which nothing moves for long.
//! Half-sent requests and readers that do not read end with that. When all places are taken, a new
//! connection gets the place of the one that has been idle longest.

use axum::serve::Listener;
use futures_util::task::AtomicWaker;
use rustix::process::{Resource, getrlimit};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// The most connections at once, if the process may open twice as many files: the state needs files
/// too.
const MOST: u64 = 4096;

/// For how long nothing may move on a connection: longer than any request may take.
#[derive(Clone)]
pub(super) struct Idle {
    usual: Duration,
    /// The same before anything was answered, and from the first byte of the head of each request
    /// over HTTP/1 to its last: who sends no whole request keeps a place from others.
    first: Duration,
    /// While an answer is waited for that has a bound of its own, longer than that of queries.
    asked: Duration,
    /// The time a request may take, in milliseconds.
    longest: Arc<AtomicU64>,
}

impl Default for Idle {
    fn default() -> Idle {
        Idle {
            usual: Duration::from_secs(120),
            first: Duration::from_secs(10),
            asked: MOST_DRAIN * 2,
            longest: Arc::default(),
        }
    }
}

impl Idle {
    /// Requests may take so long.
    pub(super) fn allow(&self, longest: Duration) {
        let longest = longest.min(Duration::from_secs(86_400));
        self.longest
            .fetch_max(u64::try_from(longest.as_millis()).expect("a day is short"), Relaxed);
    }

    fn get(&self, answered: bool, asked: bool) -> Duration {
        let least = match (asked, answered) {
            (true, _) => self.asked,
            (false, true) => self.usual,
            (false, false) => self.first,
        };
        least.max(Duration::from_millis(self.longest.load(Relaxed)) * 2)
    }
}

/// The interval at which it is said that there is no room.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The interval at which it is looked for an idle connection while there is no room.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The largest write that shows no use of a connection: pings and the like of HTTP/2.
const BESIDE_ANSWERS: usize = 64;

/// The use that is made of a connection. Its requests and the list of all connections share it.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// The requests and streams under way.
    pub(super) open: AtomicUsize,
    /// Those of them that are waited for longer than queries may take.
    pub(super) waits: AtomicUsize,
    /// The requests whose head has come whole.
    pub(super) begun: AtomicUsize,
    /// When something was answered last, in microseconds from the beginning of the server.
    used: AtomicU64,
    /// The connection is to end, or has ended.
    over: AtomicBool,
    waker: AtomicWaker,
}

/// Accepts connections, as many as there is room for.
pub(super) struct Connections {
    listener: TcpListener,
    room: Arc<Semaphore>,
    most: usize,
    idle: Idle,
    since: Instant,
    /// The use of each connection.
    usages: Vec<Weak<Usage>>,
    /// When it was said last that there is no room.
    said: Option<Instant>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, idle: Idle) -> Connections {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(MOST.min(files / 2).max(1)).unwrap_or(1);
        Connections::with(listener, most, idle)
    }

    fn with(listener: TcpListener, most: usize, idle: Idle) -> Connections {
        Connections {
            listener,
            room: Arc::new(Semaphore::new(most)),
            most,
            idle,
            since: Instant::now(),
            usages: Vec::new(),
            said: None,
        }
    }

    /// Waits for a place. If there is none, the connection that has been idle longest ends.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
            return place;
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(
                most = self.most,
                "there are as many connections as there may be: new ones get the places of those \
                 that have been idle longest"
            );
        }
        loop {
            self.end_idlest();
            let place = Arc::clone(&self.room).acquire_owned();
            if let Ok(place) = timeout(LOOK_EVERY, place).await {
                return place.expect("it is never closed");
            }
        }
    }

    fn end_idlest(&mut self) {
        self.usages.retain(|usage| usage.strong_count() > 0);
        let usages = self.usages.iter().filter_map(Weak::upgrade);
        let idle = usages
            .filter(|usage| usage.open.load(Relaxed) == 0 && !usage.over.load(Relaxed))
            .min_by_key(|usage| usage.used.load(Relaxed));
        if let Some(idlest) = idle {
            idlest.over.store(true, Relaxed);
            idlest.waker.wake();
        }
    }

    /// Returns the use of a connection that begins now.
    fn usage(&mut self, now: Instant) -> Arc<Usage> {
        if self.usages.len() >= 2 * self.most {
            self.usages.retain(|usage| usage.strong_count() > 0);
        }
        let usage = Arc::new(Usage::default());
        usage.used.store(micros(now - self.since), Relaxed);
        self.usages.push(Arc::downgrade(&usage));
        usage
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The listener retries automatically if that fails, for want of files perhaps.
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // Answers are written whole: waiting for more to send with them gains nothing.
        if let Err(why) = stream.set_nodelay(true) {
            tracing::debug!(%why, %from, "a connection keeps its delay");
        }
        let place = self.place().await;
        let moved = Instant::now();
        let due = Box::pin(sleep_until(moved + self.idle.get(false, false)));
        (
            Connection {
                stream,
                from,
                idle: self.idle.clone(),
                since: self.since,
                moved,
                answered: false,
                protocol: None,
                head: None,
                usage: self.usage(moved),
                due,
                _place: place,
            },
            from,
        )
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection. It fails when nothing has moved on it for too long.
pub(super) struct Connection {
    stream: TcpStream,
    from: SocketAddr,
    idle: Idle,
    /// When the server began.
    since: Instant,
    /// When something has moved last; before the first request, when it was accepted.
    moved: Instant,
    answered: bool,
    /// Known from the first bytes.
    protocol: Option<Protocol>,
    /// When a head has begun to come, and the number of those that had come whole by then.
    head: Option<(Instant, usize)>,
    usage: Arc<Usage>,
    /// When to look, at the latest.
    due: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    /// Its pings find a peer that sends no whole frame, or does not answer.
    Http2,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.usage.over.store(true, Relaxed);
    }
}

impl Connection {
    /// Returns the use that is made of it.
    pub(super) fn usage(&self) -> Arc<Usage> {
        Arc::clone(&self.usage)
    }

    /// Returns the client's address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        Some(self.from)
    }

    /// Returns whether a whole request has come, or something was answered.
    fn is_used(&self) -> bool {
        self.answered || self.usage.begun.load(Relaxed) > 0
    }

    /// Returns the time at which it ends if nothing moves, or no head comes whole.
    fn end(&self) -> Instant {
        let waits = self.usage.waits.load(Relaxed) > 0;
        let idle = self.moved + self.idle.get(self.is_used(), waits);
        match self.head {
            Some((since, begun)) if begun == self.usage.begun.load(Relaxed) => {
                idle.min(since + self.idle.first)
            }
            _ => idle,
        }
    }

    /// Bytes have come: the head of a request, if none is under way.
    fn receive(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let protocol = *self.protocol.get_or_insert(if bytes.starts_with(b"PRI") {
            Protocol::Http2
        } else {
            Protocol::Http1
        });
        let begun = self.usage.begun.load(Relaxed);
        if self.head.is_some_and(|(_, before)| before != begun) {
            self.head = None;
        }
        let is_head = protocol == Protocol::Http1 && self.usage.open.load(Relaxed) == 0;
        if is_head && self.head.is_none() {
            self.head = Some((Instant::now(), begun));
        }
    }

    /// Bytes were written.
    fn sent(&mut self, written: &Poll<Result<usize>>) {
        self.answered |= written.is_ready();
        if let Poll::Ready(Ok(BESIDE_ANSWERS..)) = written {
            self.usage.used.store(micros(Instant::now() - self.since), Relaxed);
        }
    }

    /// Returns the result of reading or writing, or an error if the call waits and nothing has
    /// moved for too long, or somebody else gets the place.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<Result<T>>) -> Poll<Result<T>> {
        if moved.is_ready() {
            if self.is_used() {
                self.moved = Instant::now();
            }
            return moved;
        }
        self.usage.waker.register(context.waker());
        if self.usage.over.load(Relaxed) {
            return Poll::Ready(Err(Error::new(
                ErrorKind::ConnectionAborted,
                "it was idle, and its place was needed",
            )));
        }
        loop {
            let end = self.end();
            if end < self.due.deadline() {
                self.due.as_mut().reset(end);
            }
            ready!(self.due.as_mut().poll(context));
            let now = Instant::now();
            if end <= now {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::TimedOut,
                    "nothing moves on the connection, or no whole request comes",
                )));
            }
            // Looked at again before that: what is waited for may be over by then.
            self.due.as_mut().reset(end.min(now + self.idle.usual));
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.receive(&into.filled()[before..]);
        self.watch(context, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(&written);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.sent(&written);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) const MOST_DRAIN: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn connections(most: usize, idle_ms: u64) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let idle = Duration::from_millis(idle_ms);
        let idle = Idle {
            usual: idle,
            first: idle,
            asked: Duration::from_secs(60),
            longest: Arc::default(),
        };
        (Connections::with(listener, most, idle), address)
    }

    #[tokio::test]
    async fn a_connection_ends_on_which_nothing_moves_and_no_other() {
        let (mut connections, address) = connections(2, 200).await;
        let (mut client, mut byte) = (TcpStream::connect(address).await.expect("it listens"), [0]);
        let (mut served, _) = connections.accept().await;
        served.write_all(b"a").await.expect("it is open");
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.write_all(b"a").await.expect("it is open");
            served.read_exact(&mut byte).await.expect("it moves");
        }
        let why = served.read_exact(&mut byte).await.expect_err("nothing comes any more");
        assert_eq!(why.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up() {
        let (mut connections, address) = connections(2, 100).await;
        let _client = TcpStream::connect(address).await.expect("it listens");
        let (mut served, _) = connections.accept().await;
        let why = served.write_all(&vec![0; 64 << 20]).await.expect_err("nobody reads");
        assert_eq!(why.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn no_more_are_accepted_than_there_is_room_for() {
        let (mut connections, address) = connections(1, 60_000).await;
        let _first = TcpStream::connect(address).await.expect("it listens");
        let (first, _) = connections.accept().await;
        first.usage.open.fetch_add(1, Relaxed);
        let _second = TcpStream::connect(address).await.expect("it listens");
        assert!(
            tokio::time::timeout(Duration::from_millis(250), connections.accept()).await.is_err(),
            "there is no room, and nobody is idle"
        );
        drop(first);
        let _third = TcpStream::connect(address).await.expect("it listens");
        connections.accept().await;
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_longest_gives_its_place_to_a_new_one() {
        let (mut connections, address) = connections(3, 60_000).await;
        let (mut clients, mut served) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("it listens"));
            served.push(connections.accept().await.0);
        }
        // The first is in use, the second was answered after the third came.
        served[0].usage.open.fetch_add(1, Relaxed);
        served[1].write_all(&[b'a'; 100]).await.expect("it is open");
        let mut third = served.remove(2);
        let reading = tokio::spawn(async move { third.read_exact(&mut [0]).await });
        clients.push(TcpStream::connect(address).await.expect("it listens"));
        let accepted = tokio::time::timeout(Duration::from_secs(5), connections.accept()).await;
        assert!(accepted.is_ok(), "a place was made");
        let why = reading.await.expect("no panic").expect_err("the third gave its place");
        assert_eq!(why.kind(), ErrorKind::ConnectionAborted);
        for other in &mut served {
            let read = timeout(Duration::from_millis(50), other.read_exact(&mut [0])).await;
            assert!(read.is_err(), "it is still open: {read:?}");
        }
    }

    #[tokio::test]
    async fn the_head_of_a_later_request_has_a_time_too() {
        let (mut connections, address) = connections(2, 300).await;
        connections.idle.usual = Duration::from_secs(60);
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let (mut served, mut bytes) = (connections.accept().await.0, [0; 64]);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is open");
        assert!(served.read(&mut bytes).await.is_ok_and(|read| read > 0), "it comes");
        served.usage.begun.fetch_add(1, Relaxed);
        served.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("it is open");
        let quiet = timeout(Duration::from_millis(600), served.read(&mut bytes)).await;
        assert!(quiet.is_err(), "it is kept for a next request: {quiet:?}");
        let slow = tokio::spawn(async move {
            while client.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let began = Instant::now();
        let why = loop {
            match served.read(&mut bytes).await {
                Ok(_) => assert!(began.elapsed() < Duration::from_secs(10), "it is let send"),
                Err(why) => break why,
            }
        };
        assert_eq!(why.kind(), ErrorKind::TimedOut);
        slow.abort();
    }

    #[tokio::test]
    async fn who_sends_no_whole_request_keeps_nobody_waiting_for_long() {
        let (connections, address) = connections(2, 300).await;
        let routes = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
        let serving = tokio::spawn(axum::serve(connections, routes).into_future());
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(TcpStream::connect(address).await.expect("it listens"));
        }
        // One byte now and then does not keep it open.
        let (mut slow, mut silent) = (held.remove(0), held.remove(0));
        tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nHost: a long name that comes byte by byte".chunks(1) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if slow.write_all(byte).await.is_err() {
                    return;
                }
            }
            panic!("it was let send for more than a second");
        });
        let mut third = TcpStream::connect(address).await.expect("it waits in the backlog");
        third
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .expect("it is open");
        let mut answer = String::new();
        let read =
            tokio::time::timeout(Duration::from_secs(5), third.read_to_string(&mut answer)).await;
        assert!(read.is_ok_and(|read| read.is_ok()) && answer.ends_with("here"), "{answer}");
        assert_eq!(silent.read(&mut [0]).await.ok(), Some(0), "it was closed");
        serving.abort();
    }

    #[tokio::test]
    async fn a_connection_is_not_idle_while_a_request_is_under_way() {
        let (mut connections, address) = connections(2, 100).await;
        let (_client, mut byte) = (TcpStream::connect(address).await.expect("it listens"), [0]);
        let (mut served, _) = connections.accept().await;
        served.usage.waits.fetch_add(1, Relaxed);
        let read =
            tokio::time::timeout(Duration::from_millis(400), served.read_exact(&mut byte)).await;
        assert!(read.is_err(), "it waits: {read:?}");
    }

    #[test]
    fn a_request_that_may_take_long_is_not_cut_off() {
        let idle = Idle::default();
        idle.allow(Duration::from_secs(5));
        assert_eq!(
            (idle.get(false, false), idle.get(true, false)),
            (Duration::from_secs(10), Duration::from_secs(120))
        );
        idle.allow(Duration::from_secs(30));
        assert_eq!(
            (idle.get(false, false), idle.get(true, false)),
            (Duration::from_secs(60), Duration::from_secs(120))
        );
        idle.allow(Duration::from_secs(600));
        assert_eq!(
            (idle.get(false, false), idle.get(true, false)),
            (Duration::from_secs(1200), Duration::from_secs(1200))
        );
    }
}
