//! A query's request on its way: admission, the workers' tables of requests in flight, and answers.

pub mod ask;
pub(crate) mod backlog;
pub(crate) mod codec;
pub(crate) mod desk;
pub(crate) mod entrance;
pub(crate) mod hub;
pub(crate) mod item;
pub(crate) mod live;
pub(crate) mod pins;
pub(crate) mod stuck;
pub(crate) mod unsent;
pub(crate) mod weight;
