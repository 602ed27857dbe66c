//! The locks, numbers and threads of batch intake, pins, outlets and back-pressure.
//!
//! They are the standard library's. In the engine's unit tests they are also those of the crate
//! shuttle, under which the tests in `interleavings.rs` run these protocols in thousands of orders.
//! A feature of the crate would do the same, but the engine would be compiled and linked twice, and
//! with all features it would not run.

#[cfg(test)]
pub(crate) mod scheduled;

#[cfg(test)]
pub(crate) use scheduled::{
    AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, ThreadHandle as Thread, current,
};
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};
#[cfg(not(test))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(test))]
pub(crate) use std::thread::{Thread, current};
