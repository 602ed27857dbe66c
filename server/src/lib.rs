//! The port: health, status and committed values over HTTP, answered on a thread of its own beside
//! the workers.
//!
//! Every answer comes from committed batches only, and every error is JSON: what, where and what to
//! do. Who may ask is [`Access`]: off loopback the port wants a token, or to be told that it needs
//! none.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod admission;
mod answers;
mod before;
mod body;
mod caller;
mod connections;
mod grpc;
mod live;
pub mod metrics;
mod openapi;
mod paths;
mod process;
mod queries;
mod query_errors;
mod refusal;
mod request_bodies;
mod sending;
mod sources;
mod storm;

pub use admission::Access;
use admission::Gate;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Router, middleware};
use caller::Caller;
use connections::{Connection, Connections, Idle};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tidemill_engine::Runtime;
use tidemill_engine::Starting;
use tidemill_state::{Error, Result, system};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// The time requests in flight may take when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// The number of requests that may be under way on one connection of HTTP/2; further ones wait at
/// the client.
const MOST_STREAMS: u32 = 1024;

/// The interval of pings to a peer over HTTP/2, and the time it has to answer. They keep quiet
/// streams open, and end connections with half-sent frames or a dead peer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// The most bytes of a connection's own buffers: over HTTP/1 a head, and what is written at once.
const BUFFER: usize = 64 << 10;

/// The most bytes of bodies that a connection of HTTP/2 holds before they are counted.
const WINDOW: u32 = 256 << 10;

/// A port that is bound, and not answered yet: bound before a run begins, so that a port that is
/// taken keeps it from beginning.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    access: Arc<Access>,
    page: Router,
}

impl Listening {
    /// Binds the address. Port 0 takes any that is free.
    ///
    /// # Errors
    /// Kind Config: it is no loopback address, and there is neither a token nor the word that none
    /// is needed; or it is in use.
    pub fn bind(listen: SocketAddr, access: Access) -> Result<Listening> {
        access.check(listen)?;
        let cannot = |why: std::io::Error| match why.kind() {
            std::io::ErrorKind::AddrInUse => Error::config(format!(
                "{listen} is in use by another process: give another address with --listen, such \
                 as --listen 127.0.0.1:{}, or --listen none",
                listen.port().checked_add(1).unwrap_or(7070)
            )),
            _ => system::error(format!("{listen} cannot be listened on (--listen)"), &why),
        };
        let listener = TcpListener::bind(listen).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Listening { listener, address, access: Arc::new(access), page: Router::new() })
    }

    /// Answers these paths too, before and during the run, whoever asks: the files of a web page,
    /// which must tell nothing of the data. Paths that the port has itself cannot be among them.
    #[must_use]
    pub fn with_page(mut self, page: Router) -> Listening {
        self.page = page;
        self
    }

    /// The address that is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer from this run.
    ///
    /// # Errors
    /// Kind TryAgain: the operating system gives no thread, or no more files.
    pub fn serve(self, runtime: Arc<Runtime>) -> Result<Server> {
        let idle = Idle::default();
        idle.allow(runtime.query_limits().time_out);
        let routes = routes(runtime, &self.access);
        self.answer(Arc::new(OnceLock::from(routes)), Router::new(), idle)
    }

    /// Begins to answer before the run has begun: that it starts, and what it waits for.
    /// [`Server::go_over_to`] ends that.
    ///
    /// # Errors
    /// As [`Listening::serve`].
    pub fn serve_while_starting(self, starting: Arc<Starting>, topology: &str) -> Result<Server> {
        let gate = Gate::before(&self.access);
        let before = let_in(before::routes(starting, topology), gate);
        self.answer(Arc::default(), before, Idle::default())
    }

    fn answer(self, run: Arc<OnceLock<Router>>, before: Router, idle: Idle) -> Result<Server> {
        let cannot = |why: std::io::Error| {
            Error::try_again(format!("the server on {} cannot be started: {why}", self.address))
        };
        let tokio =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (stop, stopped) = watch::channel(());
        let listener = self.listener;
        let routes = self.page.fallback_service(either(Arc::clone(&run), before));
        let moved = idle.clone();
        let serving = move || tokio.block_on(serve(listener, routes, moved, stopped));
        #[expect(clippy::disallowed_methods, reason = "the only thread of this crate")]
        let thread =
            std::thread::Builder::new().name("server".into()).spawn(serving).map_err(cannot)?;
        Ok(Server {
            address: self.address,
            access: self.access,
            run,
            idle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// A server that answers from a run. Dropping it stops it, within a second.
pub struct Server {
    address: SocketAddr,
    access: Arc<Access>,
    /// The run's routes, once it has begun.
    run: Arc<OnceLock<Router>>,
    idle: Idle,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds the address and begins to answer from this run.
    ///
    /// # Errors
    /// As [`Listening::bind`] and [`Listening::serve`].
    pub fn start(listen: SocketAddr, runtime: Arc<Runtime>) -> Result<Server> {
        Listening::bind(listen, Access::default())?.serve(runtime)
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from this run from now on, if it did not answer from one before.
    pub fn go_over_to(&self, runtime: Arc<Runtime>) {
        self.idle.allow(runtime.query_limits().time_out);
        let _ = self.run.set(routes(runtime, &self.access));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers until the sender of `stopped` is gone, and finishes the requests in flight for at most
/// [`STOP_WITHIN`].
async fn serve(listener: TcpListener, routes: Router, idle: Idle, stopped: watch::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(why) => {
            return tracing::error!(%why, "the server cannot listen: the run goes on without it");
        }
    };
    let mut connections = Connections::new(listener, idle);
    let mut open = JoinSet::new();
    loop {
        let connection = tokio::select! {
            (connection, _) = connections.accept() => connection,
            () = until_gone(stopped.clone()) => break,
        };
        while open.try_join_next().is_some() {}
        open.spawn(answer_on(connection, routes.clone(), stopped.clone()));
    }
    drop(connections);
    let _ = tokio::time::timeout(STOP_WITHIN, async { while open.join_next().await.is_some() {} })
        .await;
}

/// Answers on one connection until it ends. Once the server stops, nothing more is taken from it.
async fn answer_on(connection: Connection, routes: Router, stopped: watch::Receiver<()>) {
    let caller = Caller::on(&connection);
    let routes = routes.map_request(move |request: hyper::Request<hyper::body::Incoming>| {
        caller.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller.clone());
        request
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().max_buf_size(BUFFER);
    http.http2()
        .enable_connect_protocol()
        .max_concurrent_streams(MOST_STREAMS)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(BUFFER);
    let mut answering = pin!(http.serve_connection_with_upgrades(
        TokioIo::new(connection),
        TowerToHyperService::new(routes)
    ));
    let outcome = tokio::select! {
        outcome = answering.as_mut() => outcome,
        () = until_gone(stopped) => {
            answering.as_mut().graceful_shutdown();
            answering.await
        }
    };
    if let Err(why) = outcome {
        tracing::debug!(%why, "a connection has failed");
    }
}

async fn until_gone(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

/// The run's routes once there are some, until then those before.
fn either(run: Arc<OnceLock<Router>>, before: Router) -> Router {
    Router::new().fallback(move |request: Request| {
        let routes = run.get().unwrap_or(&before).clone();
        async move { routes.oneshot(request).await }
    })
}

/// Only what may be let in reaches these routes.
fn let_in(routes: Router, gate: Gate) -> Router {
    // The gate reads bodies itself, up to its own bound.
    routes
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::new(gate), admission::admit))
}

fn routes(runtime: Arc<Runtime>, access: &Arc<Access>) -> Router {
    runtime.allow_control(access.has_token());
    let gate = Gate::of(&runtime, access);
    let described = openapi::Described::default();
    let routes = Router::new()
        .route("/healthz", get(answers::healthz))
        .route("/readyz", get(answers::readyz))
        .route("/metrics", get(metrics::answer))
        .route("/v1/status", get(answers::status))
        .route("/v1/queries", get(queries::list))
        .route("/v1/query/{name}", post(queries::ask))
        .route("/v1/state/{name}", get(answers::page).post(answers::values))
        .route("/drpc/{function}", get(storm::get_without).post(storm::post))
        .route("/drpc/{function}/", get(storm::get_without).post(storm::post))
        .route("/drpc/{function}/{*arguments}", get(storm::get_with))
        .route("/openapi.json", get(move |runtime| described.clone().answer(runtime)))
        .route("/v1/state/{name}/", get(answers::value_of_the_empty_key))
        .route("/v1/state/{name}/{key}", get(answers::value))
        .route("/v1/topology", get(answers::topology))
        .route("/v1/operators", get(answers::operators))
        .route("/v1/batches", get(answers::batches))
        .route("/v1/batches/{txid}", get(answers::batch))
        .route("/v1/sources/pause", post(sources::pause))
        .route("/v1/sources/resume", post(sources::resume))
        .route("/v1/sources/drain", post(sources::drain))
        .merge(grpc::routes())
        .fallback(refusal::no_such_path)
        .method_not_allowed_fallback(refusal::wrong_method)
        .with_state(Arc::clone(&runtime))
        .route("/v1/live", get(live::open).with_state(live::feeds(runtime)));
    let_in(routes, gate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_state::Kind;

    #[test]
    fn an_address_that_others_could_reach_is_refused() {
        for open in ["0.0.0.0:0", "192.0.2.1:7070", "[::]:0"] {
            let address = open.parse().expect("an address");
            let error = Listening::bind(address, Access::default()).err().expect("it is refused");
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().contains("--token-file"), "{error}");
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_the_way_out() {
        let first = Listening::bind("127.0.0.1:0".parse().expect("an address"), Access::default())
            .expect("any port");
        let error = Listening::bind(first.address(), Access::default()).err().expect("it is taken");
        assert_eq!(error.kind(), Kind::Config);
        for part in [first.address().to_string().as_str(), "in use", "--listen"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
