//! The harness of the crash tests with a broker: input in topics, a topology of several sources and
//! sinks over it in a process of its own, faults of process and broker, and the recount that says
//! what must have come of it.

pub(crate) mod fault;
pub(crate) mod input;
pub(crate) mod lane;
pub(crate) mod place;
pub(crate) mod seen;
pub(crate) mod subject;
