//! The connections of the port: so many at once, and none on which nothing moves for long.
//! Half-sent requests and readers that do not read end with that.

use axum::serve::Listener;
use rustix::process::{Resource, getrlimit};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// The most connections at once, if the process may open twice as many files. Others wait to be
/// accepted: the state needs files too.
const MOST: u64 = 4096;

/// For how long nothing may move on a connection: longer than any request may take.
#[derive(Clone)]
pub(super) struct Idle {
    usual: Duration,
    /// The same before anything was answered: who connects and sends no whole request keeps a place
    /// from others.
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

/// Accepts connections, as many as there is room for.
pub(super) struct Connections {
    listener: TcpListener,
    room: Arc<Semaphore>,
    most: usize,
    idle: Idle,
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
        Connections { listener, room: Arc::new(Semaphore::new(most)), most, idle, said: None }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => {
                if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                    self.said = Some(Instant::now());
                    tracing::warn!(
                        most = self.most,
                        "there are as many connections as there may be: others wait until one of \
                         them ends"
                    );
                }
                Arc::clone(&self.room).acquire_owned().await.expect("it is never closed")
            }
        };
        // The listener retries automatically if that fails, for want of files perhaps.
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // Answers are written whole: waiting for more to send with them gains nothing.
        if let Err(why) = stream.set_nodelay(true) {
            tracing::debug!(%why, %from, "a connection keeps its delay");
        }
        let moved = Instant::now();
        let due = Box::pin(sleep_until(moved + self.idle.get(false, false)));
        (
            Connection {
                stream,
                idle: self.idle.clone(),
                moved,
                answered: false,
                waits: Arc::default(),
                due,
                _room: room,
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
    idle: Idle,
    /// When something has moved last; before anything was answered, when it was accepted.
    moved: Instant,
    answered: bool,
    /// The number of such answers that are waited for.
    waits: Arc<AtomicUsize>,
    /// When to look, at the latest.
    due: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// The count of answers that are waited for longer than queries may take.
    pub(super) fn waits(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waits)
    }

    /// Returns the result of reading or writing, or an error if the call waits and nothing has
    /// moved for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<Result<T>>) -> Poll<Result<T>> {
        if moved.is_ready() {
            if self.answered {
                self.moved = Instant::now();
            }
            return moved;
        }
        loop {
            ready!(self.due.as_mut().poll(context));
            let due = self.moved + self.idle.get(self.answered, self.waits.load(Relaxed) > 0);
            if due <= Instant::now() {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::TimedOut,
                    "nothing moves on the connection",
                )));
            }
            // Looked at again before that: what is waited for may be over by then.
            self.due.as_mut().reset(due.min(Instant::now() + self.idle.usual));
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
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
        self.answered |= written.is_ready();
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.answered |= written.is_ready();
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
        let _clients = (TcpStream::connect(address).await, TcpStream::connect(address).await);
        let (first, _) = connections.accept().await;
        assert!(
            tokio::time::timeout(Duration::from_millis(50), connections.accept()).await.is_err(),
            "there is no room"
        );
        drop(first);
        connections.accept().await;
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
        served.waits().fetch_add(1, Relaxed);
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
