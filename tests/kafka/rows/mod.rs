//! Each row of what a start may see of a Kafka sink, its marker and its topic: refused with its
//! exit code, text and nothing changed, or gone on with.

mod place;
mod sinks;
mod sources;
