//! Money is moved between a hundred accounts, by a rule that rejects what an account does not have.
//! However it is killed, the total never changes.
//!
//! ```text
//! cargo run --release --example bank -- run --state target/bank
//! cargo run --release --example bank -- query total null
//! cargo run --release --example bank -- state scan rejected --state target/bank
//! ```

use serde::{Deserialize, Serialize};
use tidemill::Part;
use tidemill::prelude::*;

const ACCOUNTS: u64 = 100;
const OPENED_WITH: u64 = 1_000;

#[derive(Clone, Serialize, Deserialize)]
struct Transfer {
    from: u64,
    to: u64,
    amount: u64,
}

fn transfer(number: u64) -> Transfer {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    Transfer {
        from: mixed % ACCOUNTS,
        to: mixed / ACCOUNTS % ACCOUNTS,
        amount: mixed / 10_000 % (2 * OPENED_WITH),
    }
}

fn main() -> tidemill::Result<()> {
    tidemill::main(|topology| {
        let transfers = topology.source(
            "transfers",
            Generator::new(1, |_, number| transfer(number)).records(1_000_000),
        );
        // Ungrouped: a transfer touches two accounts, so one worker has them all.
        let (accounts, rejected) = transfers.update_state_with(
            "accounts",
            |_, transfers, accounts: &mut Part<'_, u64, u64>, rejected| {
                for Transfer { from, to, amount } in transfers {
                    let balance = accounts.get(&from).copied().unwrap_or(OPENED_WITH);
                    if balance < amount {
                        rejected.push(from);
                        continue;
                    }
                    accounts.put(from, balance - amount);
                    let there = accounts.get(&to).copied().unwrap_or(OPENED_WITH);
                    accounts.put(to, there + amount);
                }
            },
        );
        rejected.group_by(|account| *account).persistent_aggregate("rejected", Count);

        // How many accounts there are by now, and what is in them: a thousand each.
        topology.query("total", |all: Requests<()>| {
            all.scan(&accounts, |()| Scan::all())
                .map(|(_, balance)| balance)
                .aggregate((Count, Sum))
        });
    })
}
