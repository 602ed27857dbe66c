//! A query's request on its way: admission, the workers' tables of requests in flight, and answers.

pub mod ask;
pub(crate) mod backlog;
pub(crate) mod codec;
pub(crate) mod hub;
pub(crate) mod in_flight;
pub(crate) mod input;
pub(crate) mod item;
pub(crate) mod live_requests;
pub(crate) mod pins;
pub(crate) mod unsent_bytes;
pub(crate) mod waits;
pub(crate) mod watchdog;
pub(crate) mod weight;
