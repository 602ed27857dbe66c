//! The harness of the crash tests with a broker: input in topics, a topology of several sources and
//! sinks over it in a process of its own, faults of process and broker, and the recount that says
//! what must have come of it.

pub mod fault;
pub mod input;
pub mod lane;
pub mod place;
pub mod seen;
pub mod subject;
