//! `external_state`, `lookup_external`: a store of the user's own, read-only.
//!
//! A store of keys that is not the topology's. A thread of its own requests a batch's keys from the
//! store at once. The answers are kept for some batches. While the store is unreachable, the
//! batches that need it wait, and with them, by and by, the sources.

mod remembered;

use super::open_batches::{OpenBatches, Progress};
use super::route::{Parcel, Routing, by_owner, number_in, route};
use crate::batch::chunk::Chunk;
use crate::batch::slice::TimeSlice;
use crate::dataflow::context::Context;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::dataflow::topology::Topology;
use crate::plan::NodeKind;
use crate::record::{Data, Record, Storable};
use crate::run::threads::{spawn, spawn_raw};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use remembered::Remembered;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tidemill_state::keys::Key;
use tidemill_state::{Error, Txid};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::SyncActivator;

/// A store of the user's own that a topology reads: see [`Topology::external_state`].
///
/// # Contract
///
/// 1. *Checked at each call.* `get_many` gives one value, or none, for each key, in the order of
///    the keys.
/// 2. *Not checkable.* Nothing in a batch may depend on what it answers being the same the next
///    time: a batch that is done again may see other values.
/// 3. *Not checkable.* `get_many` may take as long as a network does, and may be called again while
///    an earlier call has not returned: one that takes longer than [`LookupCache::time_out`] is
///    given up, but cannot be interrupted. Of such calls at most 8 are open at a time, on each
///    worker and in each generation of the dataflows: after that it is not called until one
///    returns.
pub trait ExternalState: Send + Sync + 'static {
    /// Its keys.
    type Key: Key + Sync;
    /// Its values.
    type Value: Storable;

    /// The values of these keys.
    ///
    /// # Errors
    /// The store cannot answer now. The call is repeated, after a pause that grows up to 10 s.
    fn get_many(&self, keys: &[Self::Key]) -> Result<Vec<Option<Self::Value>>, String>;
}

/// The settings of the requests to an external state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupCache {
    /// The time one call may take before it is given up and made again.
    pub time_out: Duration,
    /// For how many batches an answer is kept, that of its own counted: 0 and 1 ask in each batch
    /// for all of its keys. On each worker at most as many answers are kept as these batches have
    /// keys.
    pub batches: u64,
}

impl Default for LookupCache {
    /// 10 seconds; each batch asks for all of its keys.
    fn default() -> Self {
        LookupCache { time_out: Duration::from_secs(10), batches: 1 }
    }
}

/// A store of the user's own, as a topology reads it: see [`Topology::external_state`].
pub struct External<E> {
    name: String,
    store: Arc<E>,
    caching: LookupCache,
    /// The number of calls that have not returned: of those that took too long too.
    calls: Arc<AtomicUsize>,
}

impl<E> Clone for External<E> {
    fn clone(&self) -> Self {
        External {
            name: self.name.clone(),
            store: Arc::clone(&self.store),
            caching: self.caching,
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Topology<'_> {
    /// A store of the user's own, to look things up in: a database, a service. Read-only: what a
    /// topology writes elsewhere are its sinks.
    ///
    /// # Contract
    /// See [`ExternalState`], and [`Stream::lookup_external`] for an example. The name is for
    /// messages.
    pub fn external_state<E: ExternalState>(
        &self,
        name: &str,
        store: E,
        caching: LookupCache,
    ) -> External<E> {
        External { name: name.to_string(), store: Arc::new(store), caching, calls: Arc::default() }
    }
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives each record with the value of `key(&record)` in the external state; `None` if it has
    /// none there.
    ///
    /// # Contract
    /// Each worker asks for all keys of a batch that it does not remember in one call. The answer
    /// is as of some moment since the batch was opened, or of as many batches earlier as answers
    /// are kept: not of one moment for all. While the store is away, the batch waits, and the log
    /// says why; this is never taken for a failure of a record. Records come out on the worker that
    /// owns the key, in no particular order.
    ///
    /// ```
    /// # use tidemill_engine::{LookupCache, ExternalState, testing::Kit};
    /// struct Names;
    ///
    /// impl ExternalState for Names {
    ///     type Key = u64;
    ///     type Value = String;
    ///     fn get_many(&self, keys: &[u64]) -> Result<Vec<Option<String>>, String> {
    ///         Ok(keys.iter().map(|key| (*key == 1).then(|| "Ada".to_string())).collect())
    ///     }
    /// }
    ///
    /// let mut kit = Kit::new(|topology, io| {
    ///     let names = topology.external_state("names", Names, LookupCache::default());
    ///     topology.source("in", io.source::<u64>("in")).lookup_external(&names, |id| *id).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2]);
    /// kit.step();
    /// let mut out = kit.output::<(u64, Option<String>)>("out");
    /// out.sort();
    /// assert_eq!(out, [(1, Some("Ada".to_string())), (2, None)]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn lookup_external<E: ExternalState>(
        self,
        external: &External<E>,
        key: impl FnMut(&T) -> E::Key + 'static,
    ) -> Stream<'s, (T, Option<E::Value>)> {
        let site = self.site.behind(NodeKind::Exchange("lookup_external"), Location::caller(), &[]);
        let parcels = route(self.group_by(key), &site, Routing::WHOLE, |record| record);
        let mut builder = OperatorBuilder::new("lookup_external".to_string(), parcels.scope());
        let address = builder.operator_info().address;
        let activator = parcels.scope().worker().sync_activator_for(address.to_vec());
        let mut input = builder.new_input(parcels, by_owner());
        let (mut output, raw) = builder.new_output::<Chunk<(T, Option<E::Value>)>>();
        let mut hub = RequestHub::<E> {
            guard: Rc::new(Guard::new(&site)),
            context: Rc::clone(&site.context),
            external: external.clone(),
            activator,
            known: Remembered::new(external.caching.batches),
            asked: None,
            trouble: None,
        };
        let guard = Rc::clone(&hub.guard);
        builder.build(move |_| {
            let mut open: OpenBatches<Open<E::Key, T>> = OpenBatches::new();
            move |frontiers: &[MutableAntichain<u64>]| {
                input.for_each(|capability, parcels: &mut Vec<Parcel<E::Key, T>>| {
                    guard.meter.received(number_in(parcels));
                    if let Some(capability) = capability.retain_least(0) {
                        let batch = open.entry(*capability.time(), || Open {
                            capability,
                            records: Vec::new(),
                            complete: false,
                        });
                        batch.records.extend(
                            parcels
                                .drain(..)
                                .flat_map(|parcel| parcel.items)
                                .map(|(_, key, record)| (key, record)),
                        );
                    }
                });
                let (mut session, _busy) = (output.activate(), guard.meter.busy());
                let slice = &mut TimeSlice::begin();
                let left = open.advance(&frontiers[0], &guard, slice, |txid, open, slice| {
                    hub.advance(txid, open, slice, |capability, mut found| {
                        session.give(capability, &mut found)
                    })
                });
                if left == Progress::More {
                    let _ = hub.activator.activate();
                }
            }
        });
        Stream::at(site, raw)
    }
}

/// A message of the thread that calls the store.
enum Told<K, V> {
    Answer(Vec<(K, Option<V>)>),
    Failed(String),
}

type TellOf<E> = Told<<E as ExternalState>::Key, <E as ExternalState>::Value>;

/// A batch's records at the owner of their keys.
struct Open<K, T> {
    capability: Capability<u64>,
    records: Vec<(K, T)>,
    /// True if the values of all keys are there: what is left is to be given.
    complete: bool,
}

/// The number of records that are given in one chunk: those behind take each in one go.
const RECORDS_AT_ONCE: usize = 256;

struct RequestHub<E: ExternalState> {
    guard: Rc<Guard>,
    context: Rc<Context>,
    external: External<E>,
    activator: SyncActivator,
    known: Remembered<E::Key, E::Value>,
    /// The batch whose keys are asked for, and where the answer comes.
    asked: Option<(Txid, Receiver<TellOf<E>>)>,
    /// The last logged reason why there is no answer.
    trouble: Option<String>,
}

impl<E: ExternalState> RequestHub<E> {
    fn advance<T: Record>(
        &mut self,
        txid: Txid,
        open: &mut Open<E::Key, T>,
        slice: &mut TimeSlice,
        mut give: impl FnMut(&Capability<u64>, Chunk<(T, Option<E::Value>)>),
    ) -> Progress {
        if !open.complete && !self.has_all(txid, &open.records) {
            return Progress::Waits;
        }
        open.complete = true;
        let value = |key: &E::Key| self.known.get(key, txid).cloned().flatten();
        while !open.records.is_empty() {
            let rest = open.records.split_off(open.records.len().saturating_sub(RECORDS_AT_ONCE));
            let found = rest.into_iter().map(|(key, record)| (record, value(&key)));
            give(&open.capability, Chunk::of(found.collect()));
            slice.look();
            if slice.was_over() && !open.records.is_empty() {
                return Progress::More;
            }
        }
        self.known.forget_some(txid.next());
        Progress::Done
    }

    /// Returns whether the answers for all keys of a batch are there; if not, they are on their
    /// way.
    fn has_all<T>(&mut self, txid: Txid, records: &[(E::Key, T)]) -> bool {
        if let Some((of, told)) = &self.asked {
            loop {
                match told.try_recv() {
                    Ok(Told::Answer(answers)) => {
                        self.known.keep(*of, answers);
                        (self.asked, self.trouble) = (None, None);
                        return true;
                    }
                    Ok(Told::Failed(why)) if self.context.shared.intake.is_stopping() => {
                        let text = format!(
                            "external state \"{}\" cannot be asked: {why}",
                            self.external.name
                        );
                        self.guard.fail_for_good(&Error::unreachable(text));
                        return false;
                    }
                    Ok(Told::Failed(why)) if self.trouble.as_ref() == Some(&why) => {}
                    Ok(Told::Failed(why)) => {
                        tracing::warn!(
                            name = self.external.name,
                            batch = %txid,
                            why,
                            "an external state cannot be asked; it is asked again"
                        );
                        self.trouble = Some(why);
                    }
                    Err(_) => return false,
                }
            }
        }
        // Batches without a record for this worker may have passed since the last one.
        self.known.forget_some(txid);
        let is_missing = |key: &&E::Key| self.known.get(key, txid).is_none();
        let missing: HashSet<&E::Key> =
            records.iter().map(|(key, _)| key).filter(is_missing).collect();
        if missing.is_empty() {
            return true;
        }
        let keys: Vec<E::Key> = missing.into_iter().cloned().collect();
        let (tell, told) = crossbeam_channel::unbounded();
        let (external, activator) = (self.external.clone(), self.activator.clone());
        let asker = move || {
            ask(&external, keys, &tell, &activator);
            Ok(())
        };
        match spawn("external state", asker) {
            Ok(_) => self.asked = Some((txid, told)),
            Err(why) => self.guard.fail_for_good(&why),
        }
        false
    }
}

/// The first and the longest pause between two calls.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// The interval at which the one who asked is looked for while a pause lasts, or told again that
/// nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks until there is an answer, or nobody waits for it any more.
fn ask<E: ExternalState>(
    external: &External<E>,
    keys: Vec<E::Key>,
    tell: &Sender<TellOf<E>>,
    activator: &SyncActivator,
) {
    let (keys, mut pause) = (Arc::new(keys), PAUSES.0);
    loop {
        let why = match ask_once(external, &keys) {
            Ok(values) => {
                let keys = Arc::unwrap_or_clone(keys);
                let _ = tell.send(Told::Answer(keys.into_iter().zip(values).collect()));
                let _ = activator.activate();
                return;
            }
            Err(why) => why,
        };
        // Told again and again: it may be that the topology is to stop meanwhile.
        let mut left = pause;
        while !left.is_zero() {
            let told = tell.send(Told::Failed(why.clone())).is_ok() && activator.activate().is_ok();
            if !told {
                return;
            }
            let slept = left.min(LOOK_EVERY);
            std::thread::sleep(slept);
            left -= slept;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// The number of calls that may not have returned, on one worker, before no more are made: each
/// holds a thread.
const MOST_CALLS: usize = 8;

/// One call, on a thread that is left to itself when it takes too long.
fn ask_once<E: ExternalState>(
    external: &External<E>,
    keys: &Arc<Vec<E::Key>>,
) -> Result<Vec<Option<E::Value>>, String> {
    let open = external.calls.load(SeqCst);
    if open >= MOST_CALLS {
        return Err(format!("{open} earlier calls have not returned, so it is not called again"));
    }
    let (reply, answer) = crossbeam_channel::bounded(1);
    let (store, asked) = (Arc::clone(&external.store), Arc::clone(keys));
    let calls = Arc::clone(&external.calls);
    calls.fetch_add(1, SeqCst);
    let spawned = spawn_raw("external call", move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| store.get_many(&asked)));
        calls.fetch_sub(1, SeqCst);
        let _ = reply.send(outcome.unwrap_or_else(|panic| {
            Err(format!("panicked: {}", crate::panics::panic_message(&*panic)))
        }));
    });
    if let Err(why) = spawned {
        external.calls.fetch_sub(1, SeqCst);
        return Err(format!("no thread to ask it: {why}"));
    }
    match answer.recv_timeout(external.caching.time_out) {
        Ok(Ok(values)) if values.len() == keys.len() => Ok(values),
        Ok(Ok(values)) => Err(format!("it gave {} values for {} keys", values.len(), keys.len())),
        Ok(Err(why)) => Err(why),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("no answer within {:?}", external.caching.time_out))
        }
        Err(RecvTimeoutError::Disconnected) => Err("the call ended without an answer".into()),
    }
}
