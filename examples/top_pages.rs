//! The most edited pages of a day of Wikipedia, asked while it counts.
//!
//! ```text
//! cargo run --release --example top_pages -- run --state target/pages
//! cargo run --release --example top_pages -- query top null
//! cargo run --release --example top_pages -- query page '"Jeremy Corbyn"'
//! ```

use serde::{Deserialize, Serialize};
use tidemill::aggregates::top_k_by;
use tidemill::prelude::*;

/// An edit, as far as it is counted.
#[derive(Clone, Serialize, Deserialize)]
struct Edit {
    page: Str,
    added: u64,
}

/// A page with the number of its edits, and how many bytes they have added.
type Row = (Str, (u64, u64));

fn main() -> tidemill::Result<()> {
    tidemill::main(|topology| {
        let edits = topology.source(
            "edits",
            Files::json_lines::<Edit>("examples/data/wikipedia-edits-2015-09-12.json.gz"),
        );
        let of_page = edits.group_by(|edit| edit.page.clone());
        let pages =
            of_page.persistent_aggregate("pages", (Count, of(|edit: &Edit| edit.added, Sum)));

        topology.query("top", |all: Requests<()>| {
            let top = all
                .scan(&pages, |()| Scan::all())
                .aggregate(top_k_by(10, |(_, (edits, _)): &Row| *edits));
            top.flat_map(|top, rows| rows.extend(top.into_iter().map(|ranked| ranked.record)))
        });
        topology.query("page", |page: Requests<Str>| page.lookup(&pages));
    })
}
