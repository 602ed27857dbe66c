//! The operators: one file each, named after it.

mod aggregate;
pub(crate) mod combine;
mod filter;
mod filter_map;
mod flat_map;
mod group_by;
mod inspect;
mod map;
mod merge;
mod persistent_aggregate;
mod sink;
mod source;

pub use flat_map::Emit;
pub use group_by::Grouped;
