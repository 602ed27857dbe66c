//! The way of records from worker to worker: what `shuffle`, `partition_by`, `broadcast` and the
//! like have in common.
//!
//! A record's place in the input goes with it, so that a failure behind the exchange still names
//! source, partition and offset.

use crate::batch::chunk::{AsBytes, Chunk, Origin, Places, SourceRun};
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record};
use serde::{Deserialize, Serialize};
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::Txid;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Records on their way to one worker, of one chunk.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: serde::de::DeserializeOwned"))]
struct Sent<T> {
    to: u64,
    items: Vec<T>,
    places: Option<Places>,
}

/// Which workers a record goes to.
pub(super) enum To {
    /// The worker of this number, modulo the number of workers.
    Worker(usize),
    /// All of them.
    All,
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Sends each record to where `to` says. Records of one source partition that go to the same
    /// worker stay in order.
    pub(super) fn exchange(
        self,
        kind: &'static str,
        at: &'static Location<'static>,
        mut to: impl FnMut(&T, Txid) -> Result<To, String> + 'static,
    ) -> Stream<'s, T> {
        let (raw, site) = self.read();
        let site = site.behind(NodeKind::Repartitioned(kind), at, &[]);
        let (guard, peers) = (Guard::new(&site), site.context.shared.peers);
        let mut builder = OperatorBuilder::new(kind.to_string(), raw.scope());
        let mut input = builder.new_input(raw, Pipeline);
        let (mut output, sent) = builder.new_output::<Vec<Sent<T>>>();
        builder.build(move |_| {
            move |_frontiers| {
                let mut session = output.activate();
                input.for_each(|capability, chunk: &mut Chunk<T>| {
                    let Some(txid) = capability.least().copied() else { return };
                    guard.at_batch(Some(txid));
                    let _busy = guard.meter.busy();
                    guard.meter.took(chunk.items.len());
                    let Chunk { items, origin } = std::mem::take(chunk);
                    if guard.is_running() {
                        session.give(
                            &capability,
                            &mut sort(&guard, items, origin.as_ref(), peers, |item| {
                                to(item, Txid(txid))
                            }),
                        );
                    }
                });
            }
        });
        let (context, meter) = (Rc::clone(&site.context), site.context.meter(site.node));
        let mut builder = OperatorBuilder::new("received".to_string(), sent.scope());
        let mut input = builder.new_input(sent, Exchange::new(|sent: &Sent<T>| sent.to));
        let (mut output, raw) = builder.new_output::<Chunk<T>>();
        builder.build(move |_| {
            move |_frontiers| {
                let mut session = output.activate();
                input.for_each(|capability, sent: &mut Vec<Sent<T>>| {
                    let _busy = meter.busy();
                    for Sent { items, places, .. } in sent.drain(..) {
                        meter.received(items.len());
                        let kept = context
                            .keeps_records
                            .get()
                            .then(|| Box::new(items.clone()) as Box<dyn AsBytes>);
                        let known = places.is_some() || kept.is_some();
                        let origin = known.then(|| Origin::of(SourceRun { places, records: kept }));
                        session.give(&capability, &mut Chunk { items, origin });
                    }
                });
            }
        });
        Stream::at(site, raw)
    }
}

/// Sorts the records of a chunk by the worker that they go to.
fn sort<T: Clone>(
    guard: &Guard,
    items: Vec<T>,
    origin: Option<&Origin>,
    peers: usize,
    mut to: impl FnMut(&T) -> Result<To, String>,
) -> Vec<Sent<T>> {
    let mut by_worker: Vec<(Vec<T>, Vec<usize>)> = vec![(Vec::new(), Vec::new()); peers];
    let well = guard.each(origin, items.into_iter().enumerate(), |(index, item)| {
        match to(&item)? {
            To::Worker(worker) => {
                let (items, indices) = &mut by_worker[worker % peers];
                items.push(item);
                indices.push(index);
            }
            To::All => {
                for (items, indices) in &mut by_worker {
                    items.push(item.clone());
                    indices.push(index);
                }
            }
        }
        Ok(())
    });
    let sorted = by_worker
        .into_iter()
        .enumerate()
        .filter(|(_, (items, _))| well.is_some() && !items.is_empty());
    let sent = sorted.map(|(worker, (items, indices))| Sent {
        to: worker as u64,
        items,
        places: origin.and_then(|origin| origin.places_of(indices.into_iter())),
    });
    sent.collect()
}
