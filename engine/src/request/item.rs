//! The items that travel in a query's dataflow: a value, its request, and its share of that
//! request's weight.

use crate::request::live_requests::RequestId;
use crate::request::weight::Weight;
use serde::{Deserialize, Serialize};
use tidemill_state::Txid;

/// Which request something belongs to, and the batch as of which it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) id: RequestId,
    pub(crate) at: Txid,
}

/// One record of a query's dataflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item<T> {
    pub(crate) ticket: Ticket,
    pub(crate) weight: Weight,
    pub(crate) held: Held<T>,
}

/// The content of an item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Held<T> {
    Value(T),
    /// Only the weight of what was dropped.
    Nothing,
    Failed(Failure),
}

/// Why a request has failed inside the dataflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The function's own code, in words.
    Function(String),
    /// The batch as of which it reads is no longer held.
    NotHeld,
}

impl<T> Item<T> {
    pub(crate) fn failed(ticket: Ticket, weight: Weight, why: Failure) -> Item<T> {
        Item { ticket, weight, held: Held::Failed(why) }
    }
}

/// Gives `values`, which share a weight; if there are none, the weight alone.
pub(crate) fn give_shared<T>(
    ticket: Ticket,
    weight: Weight,
    values: &mut Vec<T>,
    into: &mut Vec<Item<T>>,
) {
    if values.is_empty() {
        return give_nothing(ticket, weight, into);
    }
    match weight.shared(values.len()) {
        Some((first, each)) => {
            let weights = std::iter::once(first).chain(std::iter::repeat(each));
            let items = values.drain(..).zip(weights);
            into.extend(items.map(|(value, weight)| Item {
                ticket,
                weight,
                held: Held::Value(value),
            }));
        }
        None => {
            let why = format!(
                "one record became {} records, after many others had: the request's weight cannot \
                 be shared any further",
                values.len()
            );
            values.clear();
            into.push(Item::failed(ticket, weight, Failure::Function(why)));
        }
    }
}

/// Gives the weight of what was dropped, together with what the same request dropped just before.
pub(crate) fn give_nothing<T>(ticket: Ticket, weight: Weight, into: &mut Vec<Item<T>>) {
    match into.last_mut() {
        Some(Item { ticket: last, weight: sum, held: Held::Nothing }) if last.id == ticket.id => {
            *sum = sum.plus(weight)
        }
        _ => into.push(Item { ticket, weight, held: Held::Nothing }),
    }
}
