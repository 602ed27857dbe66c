//! The harness of the crash tests: an input made from a seed, a topology run over it in a process
//! of its own, and the recount that says what must have come of it.

pub(crate) mod asked;
pub(crate) mod child;
pub(crate) mod input;
pub(crate) mod place;
pub(crate) mod random;
pub(crate) mod recount;
pub(crate) mod run;
pub(crate) mod seen;
pub(crate) mod store;
pub(crate) mod subject;
