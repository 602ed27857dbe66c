//! The plumbing between operators: what a program declares, and what an operator has of its worker.

pub(crate) mod context;
pub(crate) mod declared;
pub(crate) mod guard;
pub(crate) mod meter;
pub(crate) mod migration;
pub(crate) mod source_feed;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod topology;
