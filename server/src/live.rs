//! `/v1/live`: a web socket on which the status, new batches and the answers of watched queries
//! come by themselves.
//!
//! From the server: `{"type":"operators","operators":[…]}`, as `/v1/operators` has them, and
//! `{"type":"status","status":…}` every second, `{"type":"batches","batches":[…]}` with what was
//! committed since, newest first, at most twice a second; a batch comes again when a sink has
//! confirmed its output or its changes are folded; of more than 500 the newest come, and `left_out`
//! says how many do not; `{"type":"answer","id":…,"txid":…,"lineage":…,"result":…}` for what is
//! watched, and `{"type":"error","id":…,"error":{…}}`. From the client:
//! `{"type":"watch","id":…,"query":…,"arguments":…,"every_ms":…}`, which asks again after commits
//! once its last answer was taken, and `{"type":"unwatch","id":…}`.
//!
//! A socket has one message on its way and one that waits. A feed has its newest message only: who
//! reads slowly misses what was in between, and no feed makes more than is read. All of them count
//! as unsent bytes.

mod feeds;

use self::feeds::{Follower, Live, LiveFeed, Told, refused};
use super::caller::{Caller, OpenRequest};
use super::refusal::Refusal;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidemill_engine::QueryError;
use tidemill_engine::port::UnsentGuard;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// The protocol that a client may name, and is then told.
const PROTOCOL: &str = "tidemill.v1";

/// The most sockets at once.
const MOST_SOCKETS: usize = 256;

/// The most queries that one socket watches.
const MOST_WATCHES: usize = 16;

/// The longest message of a client, in bytes.
const MOST_MESSAGE_BYTES: usize = 64 << 10;

/// The time a client may take to read a message.
const SEND_WITHIN: Duration = Duration::from_secs(30);

/// The time after which an answer is tried again for which there was no room.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The number of times a watched query may be asked.
const WATCH_EVERY_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// The feeds of a run, for its sockets.
pub(super) fn feeds(runtime: Arc<tidemill_engine::Runtime>) -> Arc<Live> {
    Live::new(runtime, MOST_SOCKETS)
}

/// A message of a client.
enum Said<'m> {
    Watch(Watch<'m>),
    Unwatch(Unwatch),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Watch<'m> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    id: String,
    query: String,
    /// Kept as they came: the query reads them by its own types.
    #[serde(borrow)]
    arguments: &'m RawValue,
    #[serde(default = "every_second")]
    every_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unwatch {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    id: String,
}

impl<'m> Said<'m> {
    /// Reads a message. In two steps: an enum that is tagged in its content keeps no raw JSON.
    fn parse(text: &'m str) -> serde_json::Result<Said<'m>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Watch,
            Unwatch,
        }
        #[derive(Deserialize)]
        struct Tag {
            #[serde(rename = "type")]
            kind: Kind,
        }
        match serde_json::from_str::<Tag>(text)?.kind {
            Kind::Watch => serde_json::from_str(text).map(Said::Watch),
            Kind::Unwatch => serde_json::from_str(text).map(Said::Unwatch),
        }
    }
}

fn every_second() -> u64 {
    1_000
}

/// Opens a socket.
pub(super) async fn open(
    State(live): State<Arc<Live>>,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(why) => {
            return Refusal::new(why.status(), why.body_text(), "GET /v1/live".into())
                .remedy(
                    "open it as a web socket; /v1/status and /v1/batches say the same to a request",
                )
                .into_response();
        }
    };
    let Some(room) = live.room() else {
        let what = format!("there are {MOST_SOCKETS} web sockets, as many as there may be");
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what, "GET /v1/live".into())
            .remedy("close another page, or ask for /v1/status from time to time")
            .into_response();
    };
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MOST_MESSAGE_BYTES)
        .max_frame_size(MOST_MESSAGE_BYTES);
    let (address, open) = (caller.address(), caller.open());
    upgrade.on_upgrade(move |socket| async move {
        Client::new(live, address, open).serve(socket).await;
        drop(room);
    })
}

/// A message on its way to a socket.
struct SocketMessage {
    text: Utf8Bytes,
    kept: UnsentGuard,
}

/// One socket.
struct Client {
    live: Arc<Live>,
    address: Option<SocketAddr>,
    _open: OpenRequest,
    /// One message waits here for its turn.
    outbox: (mpsc::Sender<SocketMessage>, mpsc::Receiver<SocketMessage>),
    /// The tasks that bring messages of feeds to the outbox.
    feeds: JoinSet<()>,
    watched: HashMap<String, AbortHandle>,
    /// The size of the largest message so far, and its count: the socket's buffer stays as large.
    largest: (usize, UnsentGuard),
}

impl Client {
    fn new(live: Arc<Live>, address: Option<SocketAddr>, open: OpenRequest) -> Client {
        Client {
            live,
            address,
            _open: open,
            outbox: mpsc::channel(1),
            feeds: JoinSet::new(),
            watched: HashMap::new(),
            largest: (0, UnsentGuard::default()),
        }
    }

    async fn serve(mut self, mut socket: WebSocket) {
        let batches = self.live.batches(0);
        self.follow(&LiveFeed::Batches, String::new(), batches);
        self.follow(&LiveFeed::Operators, String::new(), None);
        let status = self.live.status();
        self.follow(&LiveFeed::Status, String::new(), status);
        loop {
            let message = tokio::select! {
                message = self.outbox.1.recv() => {
                    let Some(SocketMessage { text, kept }) = message else { return };
                    if text.len() > self.largest.0 {
                        self.largest = (text.len(), kept.clone());
                    }
                    Some((text, kept))
                }
                said = socket.recv() => match said {
                    Some(Ok(Message::Text(text))) => self.hear(&text).err().map(|error| {
                        (error.to_string().into(), UnsentGuard::default())
                    }),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                    Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => return,
                }
            };
            if let Some((text, _kept)) = message
                && !self.send(&mut socket, text).await
            {
                return;
            }
        }
    }

    /// Sends a message. `false`: the socket is over.
    async fn send(&self, socket: &mut WebSocket, text: Utf8Bytes) -> bool {
        let bytes = text.len();
        match timeout(SEND_WITHIN, socket.send(Message::Text(text))).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                let (client, watched) = (self.address, self.watched.len());
                tracing::warn!(
                    ?client,
                    watched,
                    bytes,
                    "a web socket has not read a message for {SEND_WITHIN:?}: it is closed"
                );
                false
            }
        }
    }

    /// Does what a client says, or says what is wrong with it.
    fn hear(&mut self, text: &str) -> Result<(), Value> {
        let wrong = |id: &str, what: String, remedy: &str| json!({"type": "error", "id": id, "error": {"what": what, "where": "a message to /v1/live", "do": remedy}});
        let said = Said::parse(text).map_err(|why| {
            wrong(
                "",
                why.to_string(),
                "send {\"type\":\"watch\",\"id\",\"query\",\"arguments\",\"every_ms\"} or \
                 {\"type\":\"unwatch\",\"id\"}",
            )
        })?;
        match said {
            Said::Unwatch(Unwatch { id, .. }) => self.unwatch(&id),
            Said::Watch(Watch { id, query, arguments, every_ms, .. }) => {
                self.unwatch(&id);
                if self.watched.len() >= MOST_WATCHES {
                    return Err(wrong(
                        &id,
                        format!("{MOST_WATCHES} queries are watched already"),
                        "unwatch one of them first",
                    ));
                }
                if !WATCH_EVERY_MS.contains(&every_ms) {
                    let (least, most) = WATCH_EVERY_MS.into_inner();
                    let what = format!("every_ms is {every_ms}, and not from {least} to {most}");
                    return Err(wrong(
                        &id,
                        what,
                        "say how long to wait at least from one answer to the next",
                    ));
                }
                let arguments = arguments.get().as_bytes().to_vec();
                let feed = LiveFeed::Query {
                    name: query,
                    arguments,
                    every: Duration::from_millis(every_ms),
                };
                let following = self.follow(&feed, id.clone(), None);
                self.watched.insert(id, following);
            }
        }
        Ok(())
    }

    fn unwatch(&mut self, id: &str) {
        if let Some(following) = self.watched.remove(id) {
            following.abort();
        }
        while self.feeds.try_join_next().is_some() {}
    }

    /// Brings the messages of a feed to the outbox, and `first` before them, which was made before
    /// this.
    fn follow(&mut self, feed: &LiveFeed, id: String, first: Option<Told>) -> AbortHandle {
        let follower = self.live.join(feed);
        let (live, outbox) = (Arc::clone(&self.live), self.outbox.0.clone());
        let following = Subscription { live, follower, id: Value::String(id), seen: 0 };
        self.feeds.spawn(following.bring(first, outbox))
    }
}

/// A feed on its way to a socket.
struct Subscription {
    live: Arc<Live>,
    follower: Follower,
    id: Value,
    /// The last change of batches that the socket knows of.
    seen: u64,
}

impl Subscription {
    async fn bring(mut self, mut first: Option<Told>, outbox: mpsc::Sender<SocketMessage>) {
        loop {
            if first.is_none() && !self.follower.changed().await {
                return;
            }
            // A place first: what is taken then is the newest, and no answer waits as a copy.
            let Ok(place) = outbox.reserve().await else { return };
            let Some(told) = first.take().or_else(|| self.follower.take()) else { continue };
            match self.message(told) {
                Ok(Some(message)) => place.send(message),
                Ok(None) => {}
                Err(full) => {
                    place.send(full);
                    sleep(TRY_AGAIN).await;
                    self.follower.take_again();
                }
            }
        }
    }

    /// Returns the message as this socket gets it, if it has not had it; or an error instead, if
    /// there is no room for it.
    fn message(&mut self, told: Told) -> Result<Option<SocketMessage>, SocketMessage> {
        match told {
            Told::Whole { text, kept } => Ok(Some(SocketMessage { text, kept })),
            Told::Batches { text, kept, after, last } => {
                if after == self.seen {
                    self.seen = last;
                    return Ok(Some(SocketMessage { text, kept }));
                }
                // It has missed some, or knows some: those since the last that it knows of.
                match self.live.batches(self.seen) {
                    Some(Told::Batches { text, kept, last, .. }) => {
                        self.seen = last;
                        Ok(Some(SocketMessage { text, kept }))
                    }
                    _ => Ok(None),
                }
            }
            Told::OfWatch { kind, rest, _kept: _ } => {
                let bytes = rest.len() + self.id.as_str().map_or(0, str::len) + 64;
                match self.live.keep(bytes) {
                    Some(kept) => {
                        Ok(Some(SocketMessage { text: self.of_watch(kind, &rest), kept }))
                    }
                    None => Err(self.no_room()),
                }
            }
        }
    }

    fn no_room(&self) -> SocketMessage {
        let error = QueryError::unsent(self.live.most_unsent());
        let (kind, rest) = refused(&error, "watching a query");
        SocketMessage { text: self.of_watch(kind, &rest), kept: UnsentGuard::default() }
    }

    fn of_watch(&self, kind: &str, rest: &str) -> Utf8Bytes {
        let rest = rest.trim_start_matches('{');
        format!("{{\"type\":\"{kind}\",\"id\":{},{rest}", self.id).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_kept_as_they_came() {
        let watch = |arguments: &str| {
            format!("{{\"id\":\"w\",\"query\":\"q\",\"arguments\":{arguments},\"type\":\"watch\"}}")
        };
        for arguments in
            ["null", "340282366920938463463374607431768211455", "[0.8961630917649599,\"NaN\"]"]
        {
            let text = watch(arguments);
            let Ok(Said::Watch(said)) = Said::parse(&text) else {
                panic!("{arguments} are arguments")
            };
            assert_eq!((said.arguments.get(), said.every_ms), (arguments, 1000));
        }
        assert!(
            matches!(Said::parse(r#"{"type":"unwatch","id":"w"}"#), Ok(Said::Unwatch(said)) if said.id == "w")
        );
        for (wrong, part) in [
            (r#"{"type":"watch","id":"w","query":"q"}"#, "missing field `arguments`"),
            (r#"{"type":"unwatch","id":"w","query":"q"}"#, "unknown field `query`"),
            (r#"{"type":"listen","id":"w"}"#, "unknown variant `listen`"),
            (r#"{"id":"w"}"#, "missing field `type`"),
        ] {
            let why = Said::parse(wrong).map(drop).expect_err(wrong).to_string();
            assert!(why.contains(part), "{why}");
        }
    }
}
