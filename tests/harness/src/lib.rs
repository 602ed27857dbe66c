//! The harness of Tidemill's tests: a real broker and what breaks it, programs as processes, subjects
//! that are killed, seeded input, and recounts that say what must have come of it.

#![allow(clippy::disallowed_methods)]

pub mod acls;
pub mod alone;
pub mod asked;
pub mod binary;
pub mod broker;
pub mod checkout;
pub mod child;
pub mod edits;
pub mod frames;
pub mod gate;
pub mod hooked;
pub mod input;
pub mod kafka;
pub mod link;
pub mod place;
pub mod proxy;
pub mod random;
pub mod recount;
pub mod registry;
pub mod relay;
pub mod run;
pub mod seen;
pub mod store;
pub mod subject;
pub mod topics;
pub mod waiting;
pub mod wire;
pub mod words;
