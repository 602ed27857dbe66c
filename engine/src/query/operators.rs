//! The operators of queries: one file each, named after it. [`each`] is the skeleton that they
//! share.

mod aggregate;
mod broadcast;
pub(in crate::query) mod driver;
mod each;
mod filter;
mod flat_map;
mod gather;
mod group_by;
pub(super) mod home;
mod lookup;
mod map;
mod merge;
pub(super) mod scan;
mod shuffle;
mod waiting;

pub use group_by::GroupedRequests;
