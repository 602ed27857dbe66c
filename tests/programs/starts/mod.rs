//! What a start means, end to end: on real folders, damaged, copied, moved, or under a changed
//! program, each refused with its exit code and what to do, or gone on with. Nothing is ever wiped,
//! and nothing wrong is ever counted.

mod changed;
mod damaged;
mod formats;
mod place;
mod sinks;
