//! A run: its start, its generations and workers, the threads beside them, and its end.
//!
//! **A start.** `start.rs` reads the facts; `state/src/resolve.rs` decides, a pure function tested
//! as a table. Once every source has been opened for a look, `start.rs` carries the decision out:
//! it raises the incarnation, claims the sinks, and records schema and registrations. Then the
//! workers load the folded values and the log after them, sources are opened at their positions,
//! and the next batch is C+1, where C is the last committed batch.
//!
//! **A failure** in a generation sets the latch (`batch/latch.rs`) before any capability is
//! dropped. The committer then takes no more batches of that generation. The workers meet at a
//! barrier, drop their dataflows, and meet again. `retry.rs` decides what follows, a pure function
//! with a table: another generation after C, a search for the records to blame, or the end of the
//! run. `generations.rs` carries that out. The state that outlives generations and is read from
//! outside is in `runtime.rs`.
//!
//! **A loss at a source** is no failure of the records read before it. An error of kind SourceLost,
//! from a reader or from `Source::discover`, closes the current batch (`Intake::end_with`). The
//! generation ends with the error once everything read before is committed. A partition that has
//! ended for good (`ReadStatus::Retired`) leaves the store with the first write after its last
//! batch.
//!
//! **An end** has four phases: the workers finish the current batch, the committer commits every
//! complete batch, the sinks receive what is committed, and the store and all clients are closed.
//! `ending.rs` decides, as a table, what the supervisor (`engine.rs`) does in each. A phase that
//! does not end within `--drain` of the stop is named and left behind. No phase waits for the
//! discovery of partitions (`discovery.rs`): it carries the number of its generation, and a late
//! result is dropped. The name of a retired partition is free only once its position is gone from
//! the disk.
//!
//! **A migration** is planned by `state/src/migration.rs` from declarations alone, and carried out
//! by `migrate.rs`. Conversions run over all rows before anything is changed. Then the log is
//! folded, and converted rows are written under a *new* state number, which is unknown to
//! everything before the one write of `Store::register` that records schema and names and deletes
//! the old rows. Numbers are never assigned twice, and the rows of a number are deleted when it is
//! assigned: rows that a start left under it when it was cut short belong to no state.

pub(crate) mod discovery;
pub(crate) mod ending;
pub(crate) mod engine;
pub(crate) mod generations;
pub(crate) mod housekeeping;
pub(crate) mod migrate;
pub(crate) mod retry;
pub(crate) mod start;
pub(crate) mod threads;
pub(crate) mod worker;
