//! A sink of your own, exactly once: a table in SQLite, with its marker in the same transaction as
//! its rows.
//!
//! ```text
//! cargo run --release --example custom_sink -- run --state target/table --exit-at-end
//! sqlite3 target/words.db 'SELECT word, max(count) FROM counts GROUP BY word ORDER BY 2 DESC LIMIT 3'
//! cargo test --release --example custom_sink
//! ```
//!
//! Each batch appends the new count of each of its words. However often the program is killed and
//! started again, each row is in the table once. Look at `change` (only the newest run may write)
//! and `commit` (rows and marker, or neither).

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use std::path::PathBuf;
use tidemill::prelude::*;
use tidemill::sink::{Delivery, Entry, Marker, Outcome, Owner, Prepared, Publisher, Sink};
use tidemill::{Incarnation, Txid, clap, json};

/// A row is kept as it was encoded; its columns are made of it. `progress` has one row: the newest
/// run, and the marker.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS counts (
        record TEXT NOT NULL, word TEXT AS (record ->> 0), count INTEGER AS (record ->> 1));
    CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY CHECK (id = 1), run TEXT NOT NULL, marker TEXT);";

/// A table of words and their counts, in the SQLite database of this path.
struct Table(PathBuf);

impl Sink for Table {
    type Item = (Str, u64);

    fn kind(&self) -> String {
        "sqlite/counts".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn encode(&self, item: &(Str, u64), into: &mut Vec<u8>) -> Result<()> {
        json::write(item, into).map_err(|why| Error::user_code(why.to_string()))
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        // SQLite creates the file as it is opened, and a mere look must not.
        let looks_at_nothing = owner.only_looks() && !self.0.exists();
        let opened =
            if looks_at_nothing { Connection::open_in_memory() } else { Connection::open(&self.0) };
        Ok(Box::new(TablePublisher { database: opened.map_err(failed)?, owner: owner.clone() }))
    }
}

struct TablePublisher {
    database: Connection,
    owner: Owner,
}

impl TablePublisher {
    /// Makes a change in one transaction, as the newest run. A run is refused as soon as a newer
    /// one has made a change.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>, &Owner) -> Result<T>,
    ) -> Result<T> {
        let transaction = self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        let newest =
            transaction.query_row("SELECT run FROM progress", [], |row| row.get::<_, String>(0));
        let ours = self.owner.incarnation;
        if let Some(newest) = newest.optional().map_err(failed)? {
            let newest: Incarnation = from_json(&newest)?;
            if newest.counter > ours.counter || (newest.counter == ours.counter && newest != ours) {
                return Err(Error::foreign(format!(
                    "the table belongs to run {newest}, and this is run {ours}: end one of them"
                )));
            }
        }
        let claim =
            "INSERT INTO progress (id, run) VALUES (1, ?1) ON CONFLICT DO UPDATE SET run = ?1";
        transaction.execute(claim, [to_json(&ours)?]).map_err(failed)?;
        let changed = change(&transaction, &self.owner)?;
        transaction.commit().map_err(failed)?;
        Ok(changed)
    }
}

impl Publisher for TablePublisher {
    fn is_settled(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        if !self.database.table_exists(None, "progress").map_err(failed)? {
            return Ok(None);
        }
        read_marker(&self.database, &self.owner)
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        // What an earlier run did not commit is gone: SQLite has rolled it back.
        self.change(|transaction, owner| read_marker(transaction, owner))
    }

    fn claim(&mut self, txid: Txid) -> Result<()> {
        self.change(|transaction, owner| write_marker(transaction, owner, txid))
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        Ok(Box::new(PreparedRows { publisher: self, entries: entries.to_vec() }))
    }
}

/// Rows that are not written yet: dropped, they leave nothing behind.
struct PreparedRows<'a> {
    publisher: &'a mut TablePublisher,
    entries: Vec<Entry>,
}

impl Prepared for PreparedRows<'_> {
    fn commit(self: Box<Self>) -> Result<Outcome> {
        let entries = self.entries;
        self.publisher.change(|transaction, owner| {
            let mut insert = transaction
                .prepare("INSERT INTO counts (record) VALUES (CAST(?1 AS TEXT))")
                .map_err(failed)?;
            for record in entries.iter().flat_map(Entry::records) {
                insert.execute([record]).map_err(failed)?;
            }
            let last = entries.last().map(|entry| write_marker(transaction, owner, entry.txid));
            last.unwrap_or(Ok(()))
        })?;
        Ok(Outcome::Confirmed)
    }
}

fn read_marker(database: &Connection, owner: &Owner) -> Result<Option<Marker>> {
    let text = database
        .query_row("SELECT marker FROM progress", [], |row| row.get::<_, Option<String>>(0));
    let Some(text) = text.optional().map_err(failed)?.flatten() else { return Ok(None) };
    let marker: Marker = from_json(&text)?;
    if marker.topology != owner.topology {
        return Err(Error::foreign(format!(
            "the table is that of topology {}; give another database",
            marker.topology
        )));
    }
    Ok(Some(marker))
}

fn write_marker(transaction: &Transaction<'_>, owner: &Owner, txid: Txid) -> Result<()> {
    let marker = Marker { topology: owner.topology.clone(), txid, incarnation: owner.incarnation };
    transaction.execute("UPDATE progress SET marker = ?1", [to_json(&marker)?]).map_err(failed)?;
    Ok(())
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    json::to_string(value).map_err(|why| Error::bug(why.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    json::from_str(text).map_err(|why| {
        Error::sink(format!("the table progress is damaged: {why}; restore the database"))
    })
}

/// Sorts SQLite's errors by what the operator must do: restore a damaged database, or start again.
fn failed(why: rusqlite::Error) -> Error {
    match why.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::sink(format!("the database is damaged: {why}; restore it, or give another path"))
        }
        Some(ErrorCode::CannotOpen) => {
            Error::config(format!("the database cannot be opened: {why}; create its folder"))
        }
        _ => Error::try_again(format!("the database failed: {why}; nothing is lost, start again")),
    }
}

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The texts: a glob
    #[arg(long, value_name = "GLOB", default_value = "examples/data/text/*.txt")]
    input: String,
    /// The database to write to
    #[arg(long, value_name = "FILE", default_value = "target/words.db")]
    out: PathBuf,
}

fn main() -> Result<()> {
    tidemill::main_with(|topology, arguments: &Arguments| {
        let counts = topology
            .source("sentences", Files::lines(&arguments.input))
            .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
            .group_by(|word| word.clone())
            .persistent_aggregate("counts", Count);
        let rows = counts.changes().map(|change| (change.key, change.new.unwrap_or_default()));
        rows.sink("table", Table(arguments.out.clone()));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_keeps_the_contract_of_a_sink() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("counts.db");
        let items: Vec<(Str, u64)> =
            (0..9).map(|n| (Str::from(format!("word \"{n}\"\n")), n)).collect();
        let read_back = || {
            let database = Connection::open(&path).expect("it opens");
            if !database.table_exists(None, "counts").expect("it can be read") {
                return Vec::new();
            }
            let mut rows = database
                .prepare("SELECT record FROM counts ORDER BY rowid")
                .expect("it is a query");
            let rows = rows.query_map([], |row| row.get::<_, String>(0)).expect("it can be read");
            rows.map(|record| record.expect("a text").into_bytes()).collect()
        };
        tidemill::conformance::sink(|| Table(path.clone()), &items, read_back);
    }
}
