//! The sources and sinks of Tidemill: one module per source or sink.
//!
//! | module | gives or takes | delivery |
//! | --- | --- | --- |
//! | [`files`] | [`Files::lines`], [`Files::json_lines`]: text files, plain, gzip or zstd, read to the end or followed | each record once |
//! | [`generator`] | [`Generator`]: records computed from a seed | each record once |
//! | [`replay`] | [`Replay`]: another source's records at their own pace, once or endlessly | each record once |
//! | [`files`] | [`Files::to`]: a file of JSON lines with its marker beside it | exactly once |
//! | [`kafka`] | [`Kafka::source`]: topics of Apache Kafka | each record once |
//! | [`kafka`] | [`Kafka::sink`]: a topic of Apache Kafka, in transactions | exactly once |
//! | [`stdout`] | [`Stdout`]: JSON lines on the standard output | **at least once** |
//!
//! A source or sink of your own implements [`tidemill_engine::source::Source`] or
//! [`tidemill_engine::sink::Sink`] and runs the suite that these run:
//! [`tidemill_engine::conformance`].

#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod clock;
pub mod files;
pub mod generator;
mod json;
pub mod kafka;
pub mod replay;
pub mod stdout;
mod threads;

pub use compact_str::CompactString as Str;
pub use files::{
    FileSink, FileSource, Files, Invalid, JsonLines, Lines, Malformed, Removed, Unreadable,
};
pub use generator::{Generator, GeneratorRng};
pub use kafka::Kafka;
pub use replay::Replay;
pub use stdout::Stdout;
