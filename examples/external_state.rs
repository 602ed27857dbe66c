//! A store that is not the topology's: edits of Wikipedia are counted by language, whose names are
//! in a database.
//!
//! ```text
//! cargo run --release --example external_state -- fill target/languages.db
//! cargo run --release --example external_state -- run --state target/languages --exit-at-end
//! cargo run --release --example external_state -- state scan languages --state target/languages
//! ```
//!
//! Look at `get_many`: one call for all keys of a batch, on a thread of its own. Start `run` before
//! `fill`: the first batch waits for the database, a warning reports why, and the counts are the
//! same in the end.

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tidemill::prelude::*;
use tidemill::{ExternalState, clap};

/// Names of some languages. The other channels of the edits have none.
const NAMES: [(&str, &str); 4] = [
    ("#de.wikipedia", "German"),
    ("#en.wikipedia", "English"),
    ("#fr.wikipedia", "French"),
    ("#it.wikipedia", "Italian"),
];

/// The languages of channels, in a database that another program keeps.
struct Languages(PathBuf);

impl ExternalState for Languages {
    type Key = Str;
    type Value = Str;

    fn get_many(&self, channels: &[Str]) -> std::result::Result<Vec<Option<Str>>, String> {
        let failed = |why: rusqlite::Error| format!("{}: {why}", self.0.display());
        // Read-only, so that a missing database is an error: the call is repeated until it
        // succeeds.
        let database = Connection::open_with_flags(&self.0, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(failed)?;
        let mut name =
            database.prepare("SELECT name FROM languages WHERE channel = ?1").map_err(failed)?;
        let mut name_of = |channel: &Str| {
            name.query_row([channel.as_str()], |row| row.get::<_, String>(0))
                .optional()
                .map_err(failed)
        };
        // One value for each key, in the order of the keys; `None` is an answer too.
        channels.iter().map(|channel| Ok(name_of(channel)?.map(Str::from))).collect()
    }
}

/// An edit, as far as it is counted.
#[derive(Clone, Serialize, Deserialize)]
struct Edit {
    channel: Str,
}

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The database with the table "languages"
    #[arg(long, value_name = "FILE", default_value = "target/languages.db")]
    languages: PathBuf,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, path] = &arguments[..]
        && command == "fill"
    {
        return fill(path).map_err(|why| Error::config(format!("{path}: {why}")));
    }
    tidemill::main_with(|topology, arguments: &Arguments| {
        // The defaults: a call may take 10 s, and each batch asks anew. Answers can also be kept
        // for some batches.
        let languages = topology.external_state(
            "languages",
            Languages(arguments.languages.clone()),
            Default::default(),
        );
        topology
            .source(
                "edits",
                Files::json_lines::<Edit>("examples/data/wikipedia-edits-2015-09-12.json.gz"),
            )
            .lookup_external(&languages, |edit| edit.channel.clone())
            .map(|(_, language)| language.unwrap_or_else(|| Str::from("another")))
            .group_by(|language| language.clone())
            .persistent_aggregate("languages", Count);
    })
}

/// Creates the database, in place of the program that keeps it.
fn fill(path: &str) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    let transaction = database.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS languages (channel TEXT PRIMARY KEY, name TEXT NOT NULL)",
    )?;
    for (channel, name) in NAMES {
        transaction.execute("INSERT OR REPLACE INTO languages VALUES (?1, ?2)", [channel, name])?;
    }
    transaction.commit()
}
