//! A run: its start, its generations and workers, the threads beside them, and its end.

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
