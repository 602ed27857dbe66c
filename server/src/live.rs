//! `/v1/live`: a web socket on which the status, new batches and the answers of watched queries
//! come by themselves.
//!
//! From the server: `{"type":"operators","operators":[…]}`, as `/v1/operators` has them, and
//! `{"type":"status","status":…}` every second, `{"type":"batches","batches":[…]}` with what was
//! committed since, newest first, at most twice a second; a batch comes again when a sink has
//! confirmed its output or its changes are folded; of more than 500 the newest come, and `left_out`
//! says how many do not; `{"type":"answer","id":…,"txid":…,"lineage":…,"result":…}` for what is
//! watched, and `{"type":"error","id":…,"error":{…}}`. From the client:
//! `{"type":"watch","id":…,"query":…,"arguments":…,"every_ms":…}`, which asks again after commits,
//! and `{"type":"unwatch","id":…}`.
//!
//! What several sockets want alike is made once for all of them: many open pages cost little more
//! than one.

use super::queries::answer_of;
use super::refusal::Refusal;
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
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_engine::port::Changed;
use tidemill_engine::{Format, QueryError, QueryRequest, Runtime};
use tidemill_state::Txid;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The protocol that a client may name, and is then told.
const PROTOCOL: &str = "tidemill.v1";

/// The most sockets at once.
const MOST_SOCKETS: usize = 256;

/// The most queries that one socket watches.
const MOST_WATCHES: usize = 16;

/// The longest message of a client, in bytes.
const MOST_MESSAGE_BYTES: usize = 64 << 10;

/// The number of messages that may wait for a client that reads slowly; it misses those that come
/// meanwhile.
const MESSAGES_KEPT: usize = 16;

/// The time a client may take to read a message.
const SEND_WITHIN: Duration = Duration::from_secs(30);

const STATUS_EVERY: Duration = Duration::from_secs(1);
const BATCHES_EVERY: Duration = Duration::from_millis(500);

/// The most batches in one message.
const MOST_BATCHES: usize = 500;

/// The number of times a watched query may be asked.
const WATCH_EVERY_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// The feeds of one run, shared by all sockets.
pub(super) struct Live {
    runtime: Arc<Runtime>,
    room: Arc<Semaphore>,
    feeds: Mutex<HashMap<Feed, Channel>>,
}

/// The channel of a feed's messages.
#[derive(Clone)]
struct Channel {
    sender: broadcast::Sender<Told>,
    /// The last one, for those who come later.
    latest: Arc<Mutex<Option<Told>>>,
}

impl Channel {
    fn send(&self, told: Told) {
        *self.latest.lock().expect("no holder of this lock panics") = Some(told.clone());
        // Nobody there: that is seen at the next turn.
        let _ = self.sender.send(told);
    }
}

/// A subject that sockets can follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Feed {
    Status,
    Batches,
    Query { name: String, arguments: Vec<u8>, every: Duration },
}

/// A message of a feed.
#[derive(Clone)]
enum Told {
    Whole(Utf8Bytes),
    /// The parts of a message behind its kind and the id that the socket has for it.
    OfWatch {
        kind: &'static str,
        rest: Arc<str>,
    },
}

impl Live {
    pub(super) fn new(runtime: Arc<Runtime>) -> Arc<Live> {
        Arc::new(Live {
            runtime,
            room: Arc::new(Semaphore::new(MOST_SOCKETS)),
            feeds: Mutex::default(),
        })
    }

    /// Takes part in a feed, which is begun if nobody did. Its last message, if there was one, and
    /// those that follow.
    fn join(self: &Arc<Self>, feed: &Feed) -> (Option<Told>, broadcast::Receiver<Told>) {
        let mut feeds = self.feeds.lock().expect("no holder of this lock panics");
        if let Some(channel) = feeds.get(feed) {
            let receiver = channel.sender.subscribe();
            return (
                channel.latest.lock().expect("no holder of this lock panics").clone(),
                receiver,
            );
        }
        let (sender, receiver) = broadcast::channel(MESSAGES_KEPT);
        let channel = Channel { sender, latest: Arc::default() };
        feeds.insert(feed.clone(), channel.clone());
        let (live, feed, told) = (Arc::clone(self), feed.clone(), self.runtime.last_change());
        tokio::spawn(async move {
            match &feed {
                Feed::Status => live.tell_status(&feed, &channel).await,
                Feed::Batches => live.tell_batches(&feed, &channel, told).await,
                Feed::Query { name, arguments, every } => {
                    live.tell_answers(&feed, &channel, name, arguments, *every).await
                }
            }
        });
        (None, receiver)
    }

    /// Returns whether nobody takes part any more. The feed is then over.
    fn is_left(&self, feed: &Feed, channel: &Channel) -> bool {
        let mut feeds = self.feeds.lock().expect("no holder of this lock panics");
        let left = channel.sender.receiver_count() == 0;
        if left {
            feeds.remove(feed);
        }
        left
    }

    /// Ends a feed: who joins from now on begins another.
    fn end(&self, feed: &Feed) {
        self.feeds.lock().expect("no holder of this lock panics").remove(feed);
    }

    fn operators(&self) -> Told {
        Told::Whole(
            json!({"type": "operators", "operators": self.runtime.operators()}).to_string().into(),
        )
    }

    fn status(&self) -> Told {
        Told::Whole(json!({"type": "status", "status": self.runtime.status()}).to_string().into())
    }

    async fn tell_status(&self, feed: &Feed, channel: &Channel) {
        while !self.is_left(feed, channel) {
            sleep(STATUS_EVERY).await;
            channel.send(self.operators());
            // The status last: it is what those who come later are told at once.
            channel.send(self.status());
        }
    }

    /// Returns the batches that were committed, published or folded after change `after`, newest
    /// first, and the last change; `None` if there are none.
    fn batches(&self, after: u64) -> Option<(Told, u64)> {
        let Changed { batches, left_out, last } = self.runtime.batches_changed(after, MOST_BATCHES);
        let any = !batches.is_empty();
        let message = || json!({"type": "batches", "batches": batches, "left_out": left_out});
        any.then(|| (Told::Whole(message().to_string().into()), last))
    }

    /// `told` is the last change that those who take part know of.
    async fn tell_batches(&self, feed: &Feed, channel: &Channel, mut told: u64) {
        while !self.is_left(feed, channel) {
            sleep(BATCHES_EVERY).await;
            if let Some((batches, last)) = self.batches(told) {
                told = last;
                channel.send(batches);
            }
        }
    }

    /// Asks a query again whenever something was committed since its last answer, until it is
    /// refused for good or nobody wants it.
    async fn tell_answers(
        &self,
        feed: &Feed,
        channel: &Channel,
        name: &str,
        arguments: &[u8],
        every: Duration,
    ) {
        let mut answered: Option<Txid> = None;
        while !self.is_left(feed, channel) {
            let next = Instant::now() + every;
            if answered.is_none_or(|answered| answered < self.runtime.committed()) {
                let request = QueryRequest {
                    name,
                    arguments,
                    format: Format::Json,
                    time_out: None,
                    at_least: &[],
                    types: None,
                };
                match self.runtime.ask(request).await {
                    Ok(answer) => {
                        answered = Some(answer.txid);
                        let rest =
                            String::from_utf8_lossy(&answer_of(&self.runtime, &answer)).into();
                        channel.send(Told::OfWatch { kind: "answer", rest });
                    }
                    Err(error) => {
                        let for_good = matches!(
                            error,
                            QueryError::NoSuchQuery { .. } | QueryError::BadArguments(_)
                        );
                        channel.send(refused(&error, name));
                        if for_good {
                            return self.end(feed);
                        }
                    }
                }
            }
            sleep_until(next).await;
        }
    }
}

fn refused(error: &QueryError, name: &str) -> Told {
    let refusal = Refusal::of_query(error, format!("watching the query \"{name}\""));
    Told::OfWatch { kind: "error", rest: refusal.into_body().into() }
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
    let Ok(room) = Arc::clone(&live.room).try_acquire_owned() else {
        let what = format!("there are {MOST_SOCKETS} web sockets, as many as there may be");
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what, "GET /v1/live".into())
            .remedy("close another page, or ask for /v1/status from time to time")
            .into_response();
    };
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MOST_MESSAGE_BYTES)
        .max_frame_size(MOST_MESSAGE_BYTES);
    upgrade.on_upgrade(move |socket| async move {
        Client::new(live).serve(socket).await;
        drop(room);
    })
}

/// One socket.
struct Client {
    live: Arc<Live>,
    outbox: (mpsc::Sender<Utf8Bytes>, mpsc::Receiver<Utf8Bytes>),
    /// The tasks that bring messages of feeds to the outbox.
    feeds: JoinSet<()>,
    watched: HashMap<String, AbortHandle>,
}

impl Client {
    fn new(live: Arc<Live>) -> Client {
        Client {
            live,
            outbox: mpsc::channel(MESSAGES_KEPT),
            feeds: JoinSet::new(),
            watched: HashMap::new(),
        }
    }

    async fn serve(mut self, mut socket: WebSocket) {
        self.follow(&Feed::Batches, String::new(), |live| {
            live.batches(0).map(|(batches, _)| batches)
        });
        self.follow(&Feed::Status, String::new(), |live| Some(live.status()));
        loop {
            tokio::select! {
                message = self.outbox.1.recv() => {
                    let Some(message) = message else { return };
                    if !matches!(timeout(SEND_WITHIN, socket.send(Message::Text(message))).await, Ok(Ok(()))) {
                        return;
                    }
                }
                said = socket.recv() => match said {
                    Some(Ok(Message::Text(text))) => {
                        if let Err(error) = self.hear(&text) {
                            // A full outbox drops the error: such a client does not read its
                            // messages.
                            let _ = self.outbox.0.try_send(error.to_string().into());
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => return,
                }
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
                let feed =
                    Feed::Query { name: query, arguments, every: Duration::from_millis(every_ms) };
                let following = self.follow(&feed, id.clone(), |_| None);
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

    /// Brings the messages of a feed to the outbox, and what is `now` before them, or else the
    /// feed's last.
    fn follow(&mut self, feed: &Feed, id: String, now: fn(&Live) -> Option<Told>) -> AbortHandle {
        let (latest, mut feed) = self.live.join(feed);
        // The value is taken only after joining: the feed reports all later changes, and nothing in
        // between is missed.
        let (live, first) = (Arc::clone(&self.live), now(&self.live));
        let (outbox, id) = (self.outbox.0.clone(), Value::String(id));
        self.feeds.spawn(async move {
            let mut told = first.or(latest);
            loop {
                let message = match told.take() {
                    Some(Told::Whole(message)) => Some(message),
                    Some(Told::OfWatch { kind, rest }) => Some(
                        format!(
                            "{{\"type\":\"{kind}\",\"id\":{id},{}",
                            rest.trim_start_matches('{')
                        )
                        .into(),
                    ),
                    None => None,
                };
                if let Some(message) = message
                    && outbox.send(message).await.is_err()
                {
                    return;
                }
                told = match feed.recv().await {
                    Ok(told) => Some(told),
                    // Who reads slowly has missed some: what is now stands for them.
                    Err(broadcast::error::RecvError::Lagged(_)) => now(&live),
                    Err(broadcast::error::RecvError::Closed) => return,
                };
            }
        })
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
