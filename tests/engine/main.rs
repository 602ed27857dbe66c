//! Tests of topologies that run in the test's own process: operators, queries, generations, bounds.

#![allow(clippy::disallowed_methods)]

mod bounds;
mod composition;
mod endings;
mod external_state;
mod files;
mod generations;
mod migrations;
mod operators;
mod pins;
mod poison;
mod queries;
mod reports;
mod restarts;
mod skipped;
mod trident;
