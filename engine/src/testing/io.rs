//! The inputs and outputs of a topology under test: sources that are fed by hand, sinks that are
//! inspected.

use crate::record::Data;
use crate::sink::{Delivery, Entry, Marker, Outcome, Owner, Prepared, Publisher, Sink};
use crate::source::{ReadStatus, Reader, Records, Source};
use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_state::{CrashPoint, Error, Position, Result, Txid, codec, round_trip};

/// The sources and sinks of a topology under test, by name.
#[derive(Default)]
pub struct Io {
    sources: Mutex<BTreeMap<String, Arc<dyn AnyFed>>>,
    sinks: Mutex<BTreeMap<String, Arc<dyn AnyCollected>>>,
}

trait AnyFed: Send + Sync {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// Lets everything be read that was fed. Gives whether there is something that was not read.
    fn release(&self) -> bool;
    fn is_drained(&self) -> bool;
}

impl Io {
    /// A source that [`super::Kit::feed`] feeds.
    #[must_use]
    pub fn source<T: Data>(&self, name: &str) -> FedSource<T> {
        FedSource(self.fed(name))
    }

    /// A sink that [`super::Kit::output`] shows: exactly once, as a transactional one.
    #[must_use]
    pub fn sink<T: Data>(&self, name: &str) -> CollectingSink<T> {
        CollectingSink(self.collected(name))
    }

    pub(super) fn fed<T: Data>(&self, name: &str) -> Arc<Fed<T>> {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        let fed = sources.entry(name.to_string()).or_insert_with(|| Arc::new(Fed::<T>::default()));
        Arc::clone(fed)
            .any()
            .downcast()
            .unwrap_or_else(|_| panic!("the source \"{name}\" has records of another type"))
    }

    pub(super) fn collected<T: Data>(&self, name: &str) -> Arc<Collected<T>> {
        let mut sinks = self.sinks.lock().expect("no holder of this lock panics");
        let collected =
            sinks.entry(name.to_string()).or_insert_with(|| Arc::new(Collected::<T>::default()));
        Arc::clone(collected)
            .any()
            .downcast()
            .unwrap_or_else(|_| panic!("the sink \"{name}\" takes records of another type"))
    }

    /// Returns the records that each sink was given, as JSON.
    pub(super) fn given(&self) -> Vec<(String, Vec<String>)> {
        let sinks = self.sinks.lock().expect("no holder of this lock panics");
        sinks.iter().map(|(name, sink)| (name.clone(), sink.given())).collect()
    }

    pub(super) fn release(&self) -> bool {
        let mut pending = false;
        for source in self.sources.lock().expect("no holder of this lock panics").values() {
            pending |= source.release();
        }
        pending
    }

    pub(super) fn is_drained(&self) -> bool {
        self.sources
            .lock()
            .expect("no holder of this lock panics")
            .values()
            .all(|source| source.is_drained())
    }
}

pub(super) struct Fed<T> {
    pub(super) records: Mutex<Vec<T>>,
    released: AtomicUsize,
    read: AtomicUsize,
}

impl<T> Default for Fed<T> {
    fn default() -> Self {
        Fed { records: Mutex::default(), released: AtomicUsize::new(0), read: AtomicUsize::new(0) }
    }
}

impl<T: Data> AnyFed for Fed<T> {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn release(&self) -> bool {
        let fed = self.records.lock().expect("no holder of this lock panics").len();
        self.released.store(fed, SeqCst);
        self.read.load(SeqCst) < fed
    }

    fn is_drained(&self) -> bool {
        self.read.load(SeqCst) >= self.released.load(SeqCst)
    }
}

/// See [`Io::source`]. One partition; offsets count records.
pub struct FedSource<T>(Arc<Fed<T>>);

impl<T: Data> Source for FedSource<T> {
    type Item = T;

    fn kind(&self) -> String {
        "fed".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(vec!["fed".into()])
    }

    fn discover_every(&self) -> Option<Duration> {
        None
    }

    fn open(&self, _: &str, from: Option<&Position>) -> Result<Box<dyn Reader<T>>> {
        let at = usize::try_from(from.map_or(0, |from| from.offset)).expect("a test is small");
        self.0.read.store(at, SeqCst);
        Ok(Box::new(FedReader { fed: Arc::clone(&self.0), at }))
    }
}

struct FedReader<T> {
    fed: Arc<Fed<T>>,
    at: usize,
}

impl<T: Data> Reader<T> for FedReader<T> {
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus> {
        let records = self.fed.records.lock().expect("no holder of this lock panics");
        let released = self.fed.released.load(SeqCst).min(records.len());
        while self.at < released && !into.is_full() {
            into.push(self.at as u64, 1, records[self.at].clone());
            self.at += 1;
        }
        self.fed.read.store(self.at, SeqCst);
        Ok(if self.at < released {
            ReadStatus::More
        } else {
            ReadStatus::Idle(Duration::from_micros(200))
        })
    }

    fn position(&self) -> Position {
        Position::at(self.at as u64)
    }
}

#[derive(Default)]
pub(super) struct Published {
    marker: Option<Marker>,
    pub(super) records: Vec<(Txid, Vec<u8>)>,
}

pub(super) struct Collected<T> {
    pub(super) published: Arc<Mutex<Published>>,
    records: PhantomData<fn() -> T>,
}

trait AnyCollected: Send + Sync {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// Returns the records that were published, as JSON.
    fn given(&self) -> Vec<String>;
}

impl<T: Data> AnyCollected for Collected<T> {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn given(&self) -> Vec<String> {
        let published = self.published.lock().expect("no holder of this lock panics");
        let decoded = published
            .records
            .iter()
            .map(|(_, record)| codec::decode::<T>(record).expect("the sink wrote it"));
        decoded
            .map(|record| crate::json::to_string(&record).unwrap_or_else(|why| why.to_string()))
            .collect()
    }
}

impl<T> Default for Collected<T> {
    fn default() -> Self {
        Collected { published: Arc::default(), records: PhantomData }
    }
}

/// See [`Io::sink`].
pub struct CollectingSink<T>(Arc<Collected<T>>);

impl<T: Data> Sink for CollectingSink<T> {
    type Item = T;

    fn kind(&self) -> String {
        "collecting".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn encode(&self, item: &T, into: &mut Vec<u8>) -> Result<()> {
        let start = into.len();
        codec::encode(item, into)?;
        round_trip::value_comes_back(item, &into[start..])
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(Collecting { owner: owner.clone(), published: Arc::clone(&self.0.published) }))
    }
}

struct Collecting {
    owner: Owner,
    published: Arc<Mutex<Published>>,
}

impl Publisher for Collecting {
    fn is_settled(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        Ok(self.published.lock().expect("no holder of this lock panics").marker.clone())
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        let marker = self.marker()?;
        self.owner.points.reach(CrashPoint::SinkMarkerRead)?;
        Ok(marker)
    }

    fn claim(&mut self, txid: Txid) -> Result<()> {
        let mut published = self.published.lock().expect("no holder of this lock panics");
        let newer = published
            .marker
            .as_ref()
            .filter(|marker| marker.incarnation.counter > self.owner.incarnation.counter);
        if let Some(marker) = newer {
            return Err(Error::foreign(format!("run {} owns the sink", marker.incarnation)));
        }
        published.marker = Some(Marker {
            topology: self.owner.topology.clone(),
            txid,
            incarnation: self.owner.incarnation,
        });
        self.owner.points.reach(CrashPoint::SinkMarkerClaimed)
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        for point in [CrashPoint::SinkBegun, CrashPoint::SinkProduced, CrashPoint::SinkDelivered] {
            self.owner.points.reach(point)?;
        }
        Ok(Box::new(Collect { sink: self, entries: entries.to_vec() }))
    }
}

struct Collect<'a> {
    sink: &'a mut Collecting,
    entries: Vec<Entry>,
}

impl Prepared for Collect<'_> {
    fn commit(self: Box<Self>) -> Result<Outcome> {
        let mut published = self.sink.published.lock().expect("no holder of this lock panics");
        let ours = published
            .marker
            .as_ref()
            .is_some_and(|marker| marker.incarnation == self.sink.owner.incarnation);
        if !ours {
            return Err(Error::foreign("another run owns the sink"));
        }
        for entry in &self.entries {
            published.records.extend(entry.records().map(|record| (entry.txid, record.to_vec())));
            if let Some(marker) = &mut published.marker {
                marker.txid = entry.txid;
            }
        }
        self.sink.owner.points.reach(CrashPoint::SinkEnded)?;
        Ok(Outcome::Confirmed)
    }
}
