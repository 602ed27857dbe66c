//! The connections of the port: so many at once, and none on which nothing moves for long. Half-sent requests and readers that do not read end with that.

use axum::serve::Listener;
use rustix::process::{Resource, getrlimit};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// The most connections at once, if the process may open twice as many files. Others wait to be accepted: the state needs files too.
const MOST: u64 = 4096;

/// For how long nothing may move on a connection: longer than any request may take.
#[derive(Clone)]
pub(super) struct Idle(Arc<AtomicU64>);

impl Default for Idle {
    fn default() -> Idle {
        Idle(Arc::new(AtomicU64::new(120_000)))
    }
}

impl Idle {
    /// Requests may take so long.
    pub(super) fn allow(&self, longest: Duration) {
        self.0.fetch_max(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).saturating_mul(2), Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Relaxed))
    }
}

/// Accepts connections, as many as there is room for.
pub(super) struct Connections {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle: Idle,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, idle: Idle) -> Connections {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(MOST.min(files / 2).max(1)).unwrap_or(1);
        Connections { listener, room: Arc::new(Semaphore::new(most)), idle }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("it is never closed");
        // It tries again by itself if that fails, for want of files perhaps.
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // Answers are written whole: waiting for more to send with them gains nothing.
        if let Err(why) = stream.set_nodelay(true) {
            tracing::debug!(%why, %from, "a connection keeps its delay");
        }
        let moved = Instant::now();
        let due = Box::pin(sleep_until(moved + self.idle.get()));
        (Connection { stream, idle: self.idle.clone(), moved, due, _room: room }, from)
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection. It fails when nothing has moved on it for too long.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Idle,
    moved: Instant,
    /// When to look, at the latest.
    due: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// What has come of reading or writing; an error if that waits, and nothing has moved for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<Result<T>>) -> Poll<Result<T>> {
        if moved.is_ready() {
            self.moved = Instant::now();
            return moved;
        }
        loop {
            ready!(self.due.as_mut().poll(context));
            let due = self.moved + self.idle.get();
            if due <= Instant::now() {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "nothing moves on the connection")));
            }
            self.due.as_mut().reset(due);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.watch(context, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn connections(most: usize, idle_ms: u64) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (Connections { listener, room: Arc::new(Semaphore::new(most)), idle: Idle(Arc::new(AtomicU64::new(idle_ms))) }, address)
    }

    #[tokio::test]
    async fn a_connection_ends_on_which_nothing_moves_and_no_other() {
        let (mut connections, address) = connections(2, 200).await;
        let (mut client, mut byte) = (TcpStream::connect(address).await.expect("it listens"), [0]);
        let (mut served, _) = connections.accept().await;
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
        assert!(tokio::time::timeout(Duration::from_millis(50), connections.accept()).await.is_err(), "there is no room");
        drop(first);
        connections.accept().await;
    }
}
