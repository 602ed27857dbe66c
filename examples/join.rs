//! Two streams joined by key, in both ways that there are: orders, and the payments for them.
//!
//! ```text
//! cargo run --release --example join -- run --state target/join --exit-at-end
//! cargo run --release --example join -- state scan paid --state target/join
//! cargo run --release --example join -- state scan together --state target/join
//! ```
//!
//! `paid` counts every order once: each side is kept as a table, and each change of one side looks
//! up the other. `together` counts only the orders whose payment is in the same batch: `join_batch`
//! keeps nothing between batches. With another `--max-batch-records`, on a new state, `together`
//! differs and `paid` does not.

use tidemill::Inner;
use tidemill::prelude::*;

const ORDERS: u64 = 20_000;

/// The amount of an order.
fn amount(order: u64) -> u64 {
    100 + order % 50
}

/// Payment `number`: the order that it is for, each once and in no order, and the sum. Every tenth
/// sum is too little.
fn payment(number: u64) -> (u64, u64) {
    let order = number * 7_919 % ORDERS;
    (order, amount(order) - u64::from(order.is_multiple_of(10)))
}

fn compare(ordered: u64, paid: u64) -> Str {
    Str::from(if paid < ordered { "too little" } else { "in full" })
}

fn main() -> Result<()> {
    tidemill::main(|topology| {
        let orders = topology
            .source("orders", Generator::new(1, |_, order| (order, amount(order))).records(ORDERS));
        let payments = topology
            .source("payments", Generator::new(2, |_, number| payment(number)).records(ORDERS));

        // Over all batches. A pair of one batch would be found from both sides, and one of two
        // batches from the later side only: so one side looks the other up as of the batch before,
        // and the other side as of the batch itself.
        let order_table =
            orders.clone().map(|(order, amount)| (order, Some(amount))).upsert("orders");
        let payment_table =
            payments.clone().map(|(order, paid)| (order, Some(paid))).upsert("payments");
        let late_orders = order_table.changes().lookup_before(&payment_table, |change| change.key);
        let late_payments = payment_table.changes().lookup_after(&order_table, |change| change.key);
        late_orders
            .filter_map(|(order, paid)| Some(compare(order.new?, paid?)))
            .merge(
                late_payments
                    .filter_map(|(payment, ordered)| Some(compare(ordered?, payment.new?))),
            )
            .group_by(|result| result.clone())
            .persistent_aggregate("paid", Count);

        // Within each batch. `Left`, `Right` and `Full` also give the records without a partner.
        orders
            .group_by(|(order, _)| *order)
            .join_batch(payments.group_by(|(order, _)| *order), Inner)
            .map(|(_, ((_, ordered), (_, paid)))| compare(ordered, paid))
            .group_by(|result| result.clone())
            .persistent_aggregate("together", Count);
    })
}
