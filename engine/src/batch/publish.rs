//! Publishing: each sink's committed output, in order of the batches, from the outbox to the sink.
//! One thread per sink; one that is down stops no other.

use crate::batch::outlets::Outlets;
use crate::ids::SinkIndex;
use crate::sink::{AnySink, Entry, Marker, Outcome, Owner, Publisher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::{CrashPoint, Error, Kind, Points, Result, SinkId, Store, Txid};

/// The number of bytes that go to a sink at once while the sink is behind.
const BYTES_AT_ONCE: usize = 8 << 20;

/// The first and the longest pause after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The run around the publishers.
pub(crate) trait OnPublish: Send + Sync {
    /// The last batch that is shown as committed: nothing after it is published.
    fn committed(&self) -> Txid;

    /// A sink took so long for the output that it was given.
    fn published(&self, sink: &str, took: Duration);

    /// A sink has confirmed the output of these batches.
    fn confirmed(&self, sink: &str, batches: &mut dyn Iterator<Item = Txid>);

    /// A publication has failed, and is tried again.
    fn failed(&self, error: &Error);

    /// Sleeps so long, or until the run is being stopped.
    fn pause(&self, how_long: Duration);
}

pub(crate) struct Publishing {
    pub(crate) id: SinkId,
    pub(crate) index: SinkIndex,
    pub(crate) name: String,
    pub(crate) exactly_once: bool,
    pub(crate) sink: Arc<dyn AnySink>,
    pub(crate) owner: Owner,
    pub(crate) publisher: Option<Box<dyn Publisher>>,
    /// The last batch that the sink holds.
    pub(crate) cursor: Txid,
    pub(crate) store: Arc<Store>,
    pub(crate) outlets: Arc<Outlets>,
    pub(crate) run: Arc<dyn OnPublish>,
    pub(crate) points: Arc<Points>,
}

impl Publishing {
    /// Publishes until the run is stopped and everything is published, or its time for that is
    /// over.
    pub(crate) fn run(mut self) -> Result<()> {
        let (mut pause, mut failing_since) = (BACK_OFF.0, None::<Instant>);
        loop {
            let stopping = self.outlets.ends();
            if stopping.is_some_and(|at| Instant::now() >= at) || self.points.stopped() {
                return Ok(());
            }
            match self.publish_next() {
                Ok(true) => {
                    pause = BACK_OFF.0;
                    self.outlets.set_error(self.index, None);
                    if let Some(since) = failing_since.take() {
                        tracing::info!(sink = self.name, after = ?since.elapsed(), "output is \
                            taken again");
                    }
                }
                Ok(false) if stopping.is_some() => return Ok(()),
                Ok(false) => {
                    self.publisher.iter_mut().for_each(|publisher| publisher.idle());
                    self.outlets.wait_for_output(self.index);
                }
                Err(error)
                    if matches!(error.kind(), Kind::TryAgain | Kind::Unreachable)
                        && !self.points.stopped()
                        && !self.store.has_failed() =>
                {
                    tracing::warn!(sink = self.name, %error, retry_in = ?pause, "publishing \
                        failed");
                    failing_since.get_or_insert_with(Instant::now);
                    self.outlets.set_error(self.index, Some(error.to_string()));
                    self.run.failed(&error);
                    self.publisher = None;
                    self.run.pause(pause);
                    pause = (pause * 2).min(BACK_OFF.1);
                }
                Err(error) => return Err(error.while_doing(&format!("sink \"{}\"", self.name))),
            }
        }
    }

    /// Publishes the next batches' output. Returns whether there was some.
    fn publish_next(&mut self) -> Result<bool> {
        if self.publisher.is_none() {
            self.outlets.set_call(
                self.index,
                Some("its publisher is made anew, and reads what it holds".into()),
            );
            self.reopen()?;
            self.outlets.set_call(self.index, None);
        }
        let entries = self.next_entries()?;
        let Some(last) = entries.last().map(|entry| entry.txid) else { return Ok(false) };
        let began = Instant::now();
        self.outlets.set_call(
            self.index,
            Some(format!("it was given batch {last}, and has not confirmed it")),
        );
        // Only what is durable may be seen.
        self.store.sync_log()?;
        self.points.reach(CrashPoint::BeforePublish)?;
        let publisher = self.publisher.as_mut().expect("it was opened above");
        let prepared = publisher.prepare(&entries)?;
        self.points.reach(CrashPoint::PublishPrepared)?;
        match prepared.commit()? {
            Outcome::Confirmed => {
                self.points.reach(CrashPoint::Published)?;
                self.cursor = last;
                self.confirm(&entries);
            }
            Outcome::AskMarker(why) => {
                tracing::debug!(
                    sink = self.name,
                    why,
                    "the publisher is made anew, and reads its marker"
                );
                self.publisher = None;
                self.reopen()?;
                self.points.reach(CrashPoint::Published)?;
            }
        }
        // The marker may say that nothing of it is there: then it is given again, and counted when
        // it is confirmed.
        if self.cursor >= last {
            self.run.published(&self.name, began.elapsed());
        }
        Ok(true)
    }

    fn confirm(&self, entries: &[Entry]) {
        self.store.confirm(self.id, entries.iter().map(|entry| entry.txid));
        let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
        self.outlets.confirm(self.index, self.cursor, bytes);
        self.run.confirmed(&self.name, &mut entries.iter().map(|entry| entry.txid));
    }

    fn next_entries(&self) -> Result<Vec<Entry>> {
        let (mut entries, mut bytes, mut cursor) = (Vec::new(), 0, self.cursor);
        if self.outlets.last_output(self.index) <= self.cursor {
            return Ok(entries);
        }
        // The outbox may be ahead of what is shown as committed for an instant; what is not shown
        // is not published.
        let committed = self.run.committed();
        self.store.read_outbox(self.id, self.cursor, |txid, prev, payload| {
            if txid > committed {
                return Ok(false);
            }
            if prev > cursor {
                return Err(Error::bug(format!(
                    "the outbox has batch {txid} after {prev}, but the sink is at {cursor}"
                )));
            }
            bytes += payload.len();
            cursor = txid;
            entries.push(Entry { txid, payload: payload.into() });
            Ok(bytes < BYTES_AT_ONCE)
        })?;
        Ok(entries)
    }

    /// After a failure whose outcome is unknown, and after a commit that cannot be trusted: the
    /// sink's marker says what it holds.
    fn reopen(&mut self) -> Result<()> {
        self.outlets.count_rebuild(self.index);
        let mut publisher = self.sink.open(&self.owner)?;
        if self.exactly_once {
            // Looked at before anything is fenced: a run that was taken over must not disturb its
            // successor.
            let settled = publisher.is_settled()?;
            let seen = publisher.marker()?;
            let conclusive =
                settled || seen.as_ref().is_some_and(|marker| !self.owner.is_newer_than(marker));
            self.own(seen).map_err(|error| if conclusive { error } else { not_settled(&error) })?;
            let marker = self.own(publisher.take_over()?)?;
            if marker.txid > self.cursor {
                let mut held = Vec::new();
                self.store.read_outbox(self.id, self.cursor, |txid, _, payload| {
                    if txid > marker.txid {
                        return Ok(false);
                    }
                    held.push(Entry { txid, payload: payload.into() });
                    Ok(true)
                })?;
                self.cursor = marker.txid;
                self.confirm(&held);
            }
        }
        self.publisher = Some(publisher);
        Ok(())
    }

    fn taken_over(&self, marker: &Marker) -> Error {
        Error::foreign(format!(
            "run {} of topology \"{}\" has taken over (this is run {}): nothing more of this run \
             is published. Stop one of the two",
            marker.incarnation, marker.topology, self.owner.incarnation
        ))
    }

    /// The marker, if it is this run's and where it must be.
    fn own(&self, marker: Option<Marker>) -> Result<Marker> {
        let marker = marker.ok_or_else(|| {
            Error::sink("the marker is gone: whether the last output is there is unknown")
        })?;
        if marker.incarnation != self.owner.incarnation {
            return Err(self.taken_over(&marker));
        }
        if marker.txid < self.cursor {
            let (holds, had) = (marker.txid, self.cursor);
            return Err(Error::sink(format!(
                "it was rolled back: it holds batch {holds}, but it had confirmed batch {had}. \
                 Restore its output and marker"
            )));
        }
        Ok(marker)
    }
}

/// Returns the error for a sink that is not settled. The error `found` is not final: the open
/// transaction may hold the missing output.
pub(crate) fn not_settled(found: &Error) -> Error {
    Error::unreachable(format!(
        "a transaction has not ended, and may hold what is missed ({found})"
    ))
}
