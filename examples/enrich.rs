//! A stream of orders is looked up in a table of prices that another stream keeps up to date: each
//! order is priced as of its own batch.
//!
//! ```text
//! cargo run --release --example enrich -- run --state target/orders --exit-at-end
//! cargo run --release --example enrich -- state scan turnover --state target/orders
//! cargo run --release --example enrich -- state scan prices --state target/orders
//! ```

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

const ITEMS: [&str; 5] = ["tea", "milk", "sugar", "lemon", "honey"];

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    item: Str,
    number: u64,
}

/// Which item record `number` is about.
fn item(number: u64) -> Str {
    Str::from(ITEMS[(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % ITEMS.len()])
}

/// The price of an item; now and then it is sold out, and has none.
fn price(number: u64) -> (Str, Option<u64>) {
    (item(number), (!number.is_multiple_of(10)).then_some(100 + number % 50))
}

fn main() -> tidemill::Result<()> {
    tidemill::main(|topology| {
        let prices = topology
            .source("prices", Generator::new(1, |_, number| price(number)).records(10_000))
            .upsert("prices");
        let orders =
            Generator::new(2, |_, number| Order { item: item(number), number: 1 + number % 3 })
                .records(100_000);
        let priced =
            topology.source("orders", orders).lookup_after(&prices, |order| order.item.clone());

        let (sold, missed) = priced.flat_map_aside(|(order, price), sold, missed| match price {
            Some(price) => sold.push((order.item, order.number * price)),
            None => missed.push(order.item),
        });
        sold.clone().group_by(|(item, _)| item.clone()).persistent_aggregate("sold", Count);
        sold.group_by(|(item, _)| item.clone())
            .persistent_aggregate("turnover", of(|(_, turnover): &(Str, u64)| *turnover, Sum));
        missed.group_by(|item| item.clone()).persistent_aggregate("missed", Count);
    })
}
