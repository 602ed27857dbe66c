//! `broadcast` in a query: each record to every worker.

use crate::plan::NodeKind;
use crate::query::operators::each::each_value;
use crate::query::requests::{Many, Part, Raw, Requests};
use crate::record::{Data, Record};
use crate::request::item::{Held, Item, give_shared};
use serde::{Deserialize, Serialize};
use std::panic::Location;
use timely::dataflow::channels::pact::{Exchange, Pipeline};

/// Something on its way to a worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sent<T> {
    pub(super) to: u64,
    pub(super) what: T,
}

/// Returns the exchange by which sent values reach their worker. An item without a value stays
/// where it is.
#[allow(clippy::type_complexity, reason = "a closure has no name, and so the type no shorter one")]
pub(super) fn by_address<T: 'static>(
    part: &Part,
) -> Exchange<Item<Sent<T>>, impl FnMut(&Item<Sent<T>>) -> u64 + use<T>> {
    let here = part.context.index as u64;
    Exchange::new(move |item: &Item<Sent<T>>| match &item.held {
        Held::Value(sent) => sent.to,
        Held::Nothing | Held::Failed(_) => here,
    })
}

/// A copy of each value for every worker, addressed to it.
pub(super) fn for_all<'q, T: Record>(raw: Raw<'q, T>, part: &Part) -> Raw<'q, Sent<T>> {
    let (peers, mut copies) = (part.context.shared.peers as u64, Vec::new());
    each_value(raw, part, "broadcast", Pipeline, move |ticket, weight, what: T, given| {
        copies.clear();
        copies.extend((1..peers).map(|to| Sent { to, what: what.clone() }));
        copies.push(Sent { to: 0, what });
        give_shared(ticket, weight, &mut copies, given);
        Ok(())
    })
}

impl<'q, T: Data, N> Requests<'q, T, N> {
    /// Sends each record to every worker.
    ///
    /// # Contract
    /// What follows sees each record once on each worker: with two workers, twice.
    /// [`Requests::scan`] needs no broadcast before it.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, aggregates::Count, testing::Kit};
    /// let kit = Kit::with(|settings| settings.workers = 3, |topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("workers", |any: Requests<()>| any.broadcast().aggregate(Count));
    /// });
    /// assert_eq!(kit.ask::<u64>("workers", &()).1, 3);
    /// ```
    #[track_caller]
    pub fn broadcast(self) -> Requests<'q, T> {
        let part = self.part.behind(NodeKind::Exchange("broadcast"), Location::caller(), &[]);
        let sent = for_all(self.raw, &part);
        let raw = each_value(
            sent,
            &part.counted(),
            "arrive",
            by_address(&part),
            |ticket, weight, sent: Sent<T>, given| {
                given.push(Item { ticket, weight, held: Held::Value(sent.what) });
                Ok(())
            },
        );
        part.away().requests::<T, Many>(raw)
    }
}
