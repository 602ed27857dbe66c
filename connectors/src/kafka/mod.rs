//! Apache Kafka as a source and as a sink, exactly once in and out.
//!
//! ```no_run
//! use tidemill_connectors::kafka::{Kafka, Message};
//! use tidemill_connectors::Str;
//! use tidemill_engine::{Change, aggregates::Count};
//! # fn build(topology: &tidemill_engine::Topology<'_>) {
//! let kafka = Kafka::new("localhost:9092");
//! topology
//!     .source("words", kafka.source(["words"]).utf8())
//!     .group_by(|word: &Str| word.clone())
//!     .persistent_aggregate("counts", Count)
//!     .changes()
//!     .sink("out", kafka.sink("counts", |change: &Change<Str, u64>| {
//!         Message::new().key(change.key.as_bytes()).value(change.new.unwrap_or_default().to_string())
//!     }));
//! # }
//! ```
//!
//! **In**: each partition of a topic is a partition of the source, assigned by the topology and by no consumer group; positions are offsets, and lie in the
//! store. Only records of committed transactions are read. **Out**: the output of a batch, or of several while the sink is behind, is one Kafka
//! transaction, together with a marker that says up to which batch the sink has come; a consumer with `isolation.level=read_committed` sees the output of each batch
//! once. See [`KafkaSource`] and [`KafkaSink`] for what each promises and refuses.
//!
//! All settings of librdkafka pass through under its own names ([`Kafka::set`]): TLS, SASL, buffers. Those that the guarantee rests on are refused.

mod admin;
mod begin;
mod client;
mod decode;
mod discovery;
mod doubts;
mod events;
mod group;
mod identity;
mod letters;
mod marker;
mod message;
mod payload;
mod presence;
mod publisher;
mod reader;
mod reading;
mod refused;
#[cfg(feature = "schema-registry")]
mod registry;
mod settings;
mod sink;
mod source;
mod statistics;
mod topics;

pub use decode::Incoming;
pub use message::Message;
#[cfg(feature = "schema-registry")]
pub use registry::SchemaRegistry;
pub use settings::Kafka;
pub use sink::KafkaSink;
pub use source::{KafkaSource, Topics};
