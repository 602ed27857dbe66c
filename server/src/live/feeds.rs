//! The feeds that sockets follow. Sockets that want the same share a feed: many open pages cost
//! little more than one. A feed has room for one message, its newest.

use crate::queries::answer_of;
use crate::refusal::Refusal;
use axum::extract::ws::Utf8Bytes;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_engine::port::{Changed, UnsentBytes, UnsentGuard};
use tidemill_engine::{Format, QueryError, QueryRequest, Runtime};
use tidemill_state::Txid;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

const STATUS_EVERY: Duration = Duration::from_secs(1);
const BATCHES_EVERY: Duration = Duration::from_millis(500);

/// The most batches in one message.
const MOST_BATCHES: usize = 500;

/// The feeds of one run, shared by all sockets.
pub(crate) struct Live {
    runtime: Arc<Runtime>,
    unsent: Arc<UnsentBytes>,
    room: Arc<Semaphore>,
    feeds: Mutex<HashMap<LiveFeed, Channel>>,
}

/// A subject that sockets can follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LiveFeed {
    Status,
    Operators,
    Batches,
    Query { name: String, arguments: Vec<u8>, every: Duration },
}

/// A message of a feed, with what counts it.
#[derive(Clone)]
pub(super) enum Told {
    Whole {
        text: Utf8Bytes,
        kept: UnsentGuard,
    },
    /// The batches that changed after change `after`, up to `last`.
    Batches {
        text: Utf8Bytes,
        kept: UnsentGuard,
        after: u64,
        last: u64,
    },
    /// The parts of a message behind its kind and the id that the socket has for it.
    OfWatch {
        kind: &'static str,
        rest: Arc<str>,
        _kept: UnsentGuard,
    },
}

/// The room for a feed's newest message.
#[derive(Clone)]
struct Channel {
    newest: watch::Sender<FeedSlot>,
    taken: Arc<Notify>,
}

#[derive(Default)]
struct FeedSlot {
    told: Option<Told>,
    /// Somebody has taken it.
    taken: AtomicBool,
}

impl Channel {
    fn new() -> Channel {
        Channel { newest: watch::Sender::new(FeedSlot::default()), taken: Arc::default() }
    }

    /// Puts a message in the place of the last.
    fn put(&self, told: Told) {
        // Nobody there: that is seen at the next turn.
        self.newest.send_replace(FeedSlot { told: Some(told), taken: AtomicBool::new(false) });
    }

    /// Waits until somebody has taken the newest message, or nobody is there.
    async fn until_taken(&self) {
        while !self.newest.borrow().taken.load(SeqCst) {
            tokio::select! {
                () = self.taken.notified() => {}
                () = self.newest.closed() => return,
            }
        }
    }

    fn follow(&self) -> Follower {
        let mut newest = self.newest.subscribe();
        if newest.borrow().told.is_some() {
            // Who comes later gets the last one.
            newest.mark_changed();
        }
        Follower { newest, taken: Arc::clone(&self.taken) }
    }
}

/// One that takes a feed's messages.
pub(super) struct Follower {
    newest: watch::Receiver<FeedSlot>,
    taken: Arc<Notify>,
}

impl Follower {
    /// Waits for a message that was not taken here. `false`: the feed is over.
    pub(super) async fn changed(&mut self) -> bool {
        self.newest.changed().await.is_ok()
    }

    /// Takes the newest message.
    pub(super) fn take(&mut self) -> Option<Told> {
        let told = {
            let slot = self.newest.borrow_and_update();
            slot.taken.store(true, SeqCst);
            slot.told.clone()
        };
        self.taken.notify_one();
        told
    }

    /// The newest message is to be taken here once more.
    pub(super) fn take_again(&mut self) {
        self.newest.mark_changed();
    }
}

impl Live {
    pub(super) fn new(runtime: Arc<Runtime>, most_sockets: usize) -> Arc<Live> {
        Arc::new(Live {
            unsent: runtime.unsent_bytes(),
            runtime,
            room: Arc::new(Semaphore::new(most_sockets)),
            feeds: Mutex::default(),
        })
    }

    /// Lets one more socket in, if there is room.
    pub(super) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Counts a message of so many bytes, if there is room.
    pub(super) fn keep(&self, bytes: usize) -> Option<UnsentGuard> {
        self.unsent.keep(bytes)
    }

    pub(super) fn most_unsent(&self) -> usize {
        self.unsent.most()
    }

    /// Takes part in a feed, which is begun if nobody did: its last message, if there was one, and
    /// those that follow.
    pub(super) fn join(self: &Arc<Self>, feed: &LiveFeed) -> Follower {
        let mut feeds = self.feeds.lock().expect("no holder of this lock panics");
        if let Some(channel) = feeds.get(feed) {
            return channel.follow();
        }
        let channel = Channel::new();
        let follower = channel.follow();
        feeds.insert(feed.clone(), channel.clone());
        let (live, feed, told) = (Arc::clone(self), feed.clone(), self.runtime.last_change());
        tokio::spawn(async move {
            match &feed {
                LiveFeed::Status => live.tell(&feed, &channel, Live::status).await,
                LiveFeed::Operators => live.tell(&feed, &channel, Live::operators).await,
                LiveFeed::Batches => live.tell_batches(&feed, &channel, told).await,
                LiveFeed::Query { name, arguments, every } => {
                    live.tell_answers(&feed, &channel, name, arguments, *every).await
                }
            }
        });
        follower
    }

    /// Returns whether nobody takes part any more. The feed is then over.
    fn is_left(&self, feed: &LiveFeed, channel: &Channel) -> bool {
        let mut feeds = self.feeds.lock().expect("no holder of this lock panics");
        let left = channel.newest.receiver_count() == 0;
        if left {
            feeds.remove(feed);
        }
        left
    }

    /// Ends a feed: who joins from now on begins another.
    fn end(&self, feed: &LiveFeed) {
        self.feeds.lock().expect("no holder of this lock panics").remove(feed);
    }

    /// A message for all, if there is room for it.
    fn whole(&self, text: String) -> Option<Told> {
        let kept = self.keep(text.len())?;
        Some(Told::Whole { text: text.into(), kept })
    }

    fn operators(&self) -> Option<Told> {
        self.whole(json!({"type": "operators", "operators": self.runtime.operators()}).to_string())
    }

    pub(super) fn status(&self) -> Option<Told> {
        self.whole(json!({"type": "status", "status": self.runtime.status()}).to_string())
    }

    async fn tell(&self, feed: &LiveFeed, channel: &Channel, now: fn(&Live) -> Option<Told>) {
        while !self.is_left(feed, channel) {
            sleep(STATUS_EVERY).await;
            if let Some(told) = now(self) {
                channel.put(told);
            }
        }
    }

    /// Returns the batches that were committed, published or folded after change `after`, newest
    /// first; `None` if there are none, or there is no room for them.
    pub(super) fn batches(&self, after: u64) -> Option<Told> {
        let Changed { batches, left_out, last } = self.runtime.batches_changed(after, MOST_BATCHES);
        if batches.is_empty() {
            return None;
        }
        let message = json!({"type": "batches", "batches": batches, "left_out": left_out});
        let text = message.to_string();
        let kept = self.keep(text.len())?;
        Some(Told::Batches { text: text.into(), kept, after, last })
    }

    /// `told` is the last change that those who take part know of.
    async fn tell_batches(&self, feed: &LiveFeed, channel: &Channel, mut told: u64) {
        while !self.is_left(feed, channel) {
            sleep(BATCHES_EVERY).await;
            if let Some(batches) = self.batches(told) {
                if let Told::Batches { last, .. } = &batches {
                    told = *last;
                }
                channel.put(batches);
            }
        }
    }

    /// Asks a query again whenever something was committed since its last answer and somebody has
    /// taken that, until it is refused for good or nobody wants it.
    async fn tell_answers(
        &self,
        feed: &LiveFeed,
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
                        channel.put(Told::OfWatch { kind: "answer", rest, _kept: answer.kept });
                    }
                    Err(error) => {
                        let for_good = matches!(
                            error,
                            QueryError::NoSuchQuery { .. } | QueryError::BadArguments(_)
                        );
                        let (kind, rest) =
                            refused(&error, &format!("watching the query \"{name}\""));
                        channel.put(Told::OfWatch { kind, rest, _kept: UnsentGuard::default() });
                        if for_good {
                            return self.end(feed);
                        }
                    }
                }
                channel.until_taken().await;
            }
            sleep_until(next).await;
        }
    }
}

/// An error as the parts of a message.
pub(super) fn refused(error: &QueryError, place: &str) -> (&'static str, Arc<str>) {
    ("error", Refusal::of_query(error, place.into()).into_body().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    fn told(text: &str) -> Told {
        Told::Whole { text: text.into(), kept: UnsentGuard::default() }
    }

    fn text(told: Option<Told>) -> Option<String> {
        match told {
            Some(Told::Whole { text, .. }) => Some(text.to_string()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_feed_keeps_its_newest_message_and_waits_until_somebody_has_it() {
        let channel = Channel::new();
        let mut follower = channel.follow();
        let soon = Duration::from_millis(50);
        channel.put(told("1"));
        assert!(timeout(soon, channel.until_taken()).await.is_err(), "nobody has taken it");
        channel.put(told("2"));
        assert!(follower.changed().await);
        assert_eq!(text(follower.take()).as_deref(), Some("2"));
        timeout(soon, channel.until_taken()).await.expect("it was taken");
        assert!(timeout(soon, follower.changed()).await.is_err(), "there is no newer one");
        let mut late = channel.follow();
        assert!(late.changed().await, "who comes later gets the last one");
        assert_eq!(text(late.take()).as_deref(), Some("2"));
        // An older message that was taken does not count for the next.
        channel.put(told("3"));
        assert!(timeout(soon, channel.until_taken()).await.is_err(), "nobody has taken this");
        drop((follower, late));
        timeout(soon, channel.until_taken()).await.expect("nobody is there");
    }
}
