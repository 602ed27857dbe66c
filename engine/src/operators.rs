//! The operators: one file each, named after it.
//!
//! Streams carry chunks (`batch/chunk.rs`), which remember their source records up to the first
//! operator that gathers a batch. Seven files stand behind all operators that see more than one
//! record:
//!
//! | file | content |
//! | --- | --- |
//! | `combine.rs` | pre-aggregation for each worker and batch |
//! | `route.rs` | sends a record with a key to the owner of the key |
//! | `gather.rs` | one result of each key's records of a batch, at the owner |
//! | `apply.rs` | a state's one writing operator: applies batches, encodes their deltas |
//! | `exchange.rs` | `shuffle`, `broadcast` and the like |
//! | `open_batches.rs` | the batches that an operator has input of, worked on once complete |
//! | `lookups.rs` | look-ups of streams, which wait for the frontier of the state's changes |
//!
//! Once the frontier has passed batch N, `apply.rs` applies it to the hot map (`state/src/hot.rs`)
//! and encodes the delta (`state/src/delta.rs`).
//!
//! Long work is cut into slices (`batch/slice.rs`). The probe at the ends of the dataflow (sinks,
//! states, and streams that nothing reads: `dataflow/stream.rs`) determines when a batch is
//! complete.

mod aggregate;
mod apply;
mod batch_aggregate;
mod batch_global;
mod branch;
mod broadcast;
mod co_group_batch;
mod combine;
pub(crate) mod emit;
mod exchange;
mod external_state;
mod filter;
mod filter_map;
mod first_n;
mod flat_map;
mod gather;
mod global;
mod group_by;
mod inspect;
mod join_batch;
mod lookup_after;
mod lookup_before;
mod lookups;
mod map;
mod max_by;
mod merge;
mod min_by;
mod on_failure;
mod open_batches;
mod partition_aggregate;
mod partition_by;
mod partition_with;
mod persistent_aggregate;
mod persistent_reduce;
mod reduce;
pub(crate) mod route;
mod shuffle;
mod side_output;
mod sink;
mod source;
mod update_state;
mod upsert;

pub use emit::Emit;
pub use external_state::{External, ExternalState, LookupCache};
pub use group_by::Grouped;
pub use join_batch::{Full, Inner, Join, Left, Right};
pub use update_state::Part;
