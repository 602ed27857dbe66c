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
//!
//! # Rights
//!
//! What a user needs where the brokers have an authorizer, as operations and resources of Kafka's
//! ACLs. A refusal ends the start or the run with 64, and names what is lacking.
//!
//! | for | operation | resource |
//! | --- | --- | --- |
//! | a source | Read, Describe | each topic |
//! | a source, at its first start | Read | the group: the topology's name, or the setting `group.id` |
//! | lag tools; without it a run goes on, and warns | Read | the group |
//! | a sink | Write, Describe, DescribeConfigs | the output topic, and that of the dead letters |
//! | a sink | Read, Write, Describe, DescribeConfigs | its progress topic, `<topology>.<sink>.progress` |
//! | a sink, until its progress topic is there | Create | the progress topic, or the cluster |
//! | a sink that may make its topic ([`KafkaSink::create`]) | Create | the output topic, or the cluster |
//! | a sink | Write, Describe | the transactional id `<topology>.<sink>` |
//!
//! After `--start-over` the topology has the name `<name>-<nonce>` in these: grant them by the
//! prefix of its name.

mod admin;
mod backoff;
mod begin;
mod bounds;
mod client;
mod decode;
mod discovery;
mod doubts;
mod error_class;
mod events;
mod findings;
mod group;
mod group_name;
mod held;
mod identity;
mod letters;
mod marker;
mod message;
mod oauth;
mod offsets;
mod opened;
mod operator;
mod partition;
mod partitions;
mod payload;
mod presence;
mod publisher;
mod reader;
mod reading;
mod refused;
#[cfg(feature = "schema-registry")]
mod registry;
mod rights;
mod run_facts;
mod secrets;
mod session;
mod setting_names;
mod settings;
mod sink;
mod source;
mod statistics;
mod threads;
mod topic_list;
mod topics;

pub use decode::Incoming;
pub use message::Message;
pub use oauth::Token;
pub use operator::Overrides;
#[cfg(feature = "schema-registry")]
pub use registry::SchemaRegistry;
pub use settings::Kafka;
pub use sink::KafkaSink;
pub use source::{KafkaSource, Topics};
