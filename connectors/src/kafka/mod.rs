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
//!         let count = change.new.unwrap_or_default();
//!         Message::new().key(change.key.as_bytes()).value(count.to_string())
//!     }));
//! # }
//! ```
//!
//! **In**: each partition of a topic is a partition of the source, assigned by the topology and by
//! no consumer group. Positions are offsets, and lie in the store. Only records of committed
//! transactions are read.
//!
//! **Out**: the output of a batch, or of several while the sink is behind, is one Kafka
//! transaction, together with a marker of the last batch that the sink holds. A consumer with
//! `isolation.level=read_committed` sees the output of each batch once. [`KafkaSource`] and
//! [`KafkaSink`] describe what each promises and refuses.
//!
//! All settings of librdkafka pass through under its own names ([`Kafka::set`]): TLS, SASL,
//! buffers. Those that the guarantee rests on are refused.
//!
//! # Rights
//!
//! What a user needs where the brokers have an authorizer, as operations and resources of Kafka's
//! ACLs. A refusal ends the start or the run with 64, and names what is lacking.
//!
//! | for | operation | resource |
//! | --- | --- | --- |
//! | a source | Read, Describe | each topic |
//! | a source, at its first start | Read | the group: the topology's name, or `group.id` |
//! | lag tools; without it a run continues, and warns | Read | the group |
//! | a sink | Write, Describe, DescribeConfigs | the output topic, and that of the dead letters |
//! | a sink | Read, Write, Describe, DescribeConfigs | the topic `<topology>.<sink>.progress` |
//! | a sink, until its progress topic exists | Create | that topic, or the cluster |
//! | a sink with [`KafkaSink::create`] | Create | the output topic, or the cluster |
//! | a sink | Write, Describe | the transactional id `<topology>.<sink>` |
//!
//! After `--start-over` the topology has the name `<name>-<nonce>` in these: grant them by the
//! prefix of its name.
//!
//! # How it works
//!
//! The rest of this page describes the implementation, file by file.
//!
//! **In.** `source.rs` describes topics to the engine: one partition of a topic is one partition of
//! the source. `reader.rs` reads one partition on its worker, from a queue of its own; librdkafka
//! wakes the worker when records arrive. At the end of a partition the position moves past control
//! records and aborted records. The engine stores such a position without a batch (`Message::Moved`
//! in `engine/src/batch/commit.rs`).
//!
//! ## Identity of a topic
//!
//! A topic is identified by the id that its cluster gave it (Kafka 2.8 and later). A name can be
//! used again, an id cannot. A position keeps the id beside the offset, the time and the checksum
//! of the last record (`identity.rs`). The id is compared
//!
//! - at every start, before anything is opened (`begin.rs` decides: a pure function);
//! - every 5 s while the source is read or paused, whatever `discover_every` is (`discovery.rs`);
//! - before each record is emitted (`reader.rs`): librdkafka follows the *name* of a topic, and
//!   continues at the old offset in whatever topic has that name now.
//!
//! The crate `rdkafka` has no call that returns topic ids, and the workspace has no unsafe code.
//! librdkafka writes an id to its log (debug context `metadata`): one line whenever the id of a
//! topic has changed, *before* anything can be fetched from the new topic. One place reads that
//! line (`changed_id` in `identity.rs`), for the client that asks (`topics.rs`) and for the client
//! that reads. The log arrives through the main queue of the client. A callback sets a flag when
//! something enters that queue, and the reader checks the flag between taking a record and emitting
//! it: one atomic load per record. Fetches carry the id from Kafka 3.1 on. With earlier brokers a
//! record of the other topic can be taken before the next check, which then ends the run. With
//! brokers that have no ids, only the checksum of the last record is compared.
//!
//! ## Scale
//!
//! A start sends one ListOffsets request to each leader for all of its partitions (`offsets.rs`),
//! compares the last records of 64 partitions at a time, and lists topics 16 at a time. A worker
//! has one client for all of its partitions. The memory for fetched messages is divided among all
//! partitions of the source (`Share` in `settings.rs`).
//!
//! ## Several instances of one source
//!
//! The instance that begins a source and discovers partitions is not one of those that read: each
//! worker builds its own. The findings of the first instance (name of the consumer group, bounds of
//! partitions, ends of the logs) reach the others as `Begun::facts` through `Source::adopt`
//! (`run_facts.rs`).
//!
//! ## Bounds
//!
//! An end by time, by offset or by `--exit-at-end` becomes an offset at the start (`bounds.rs`),
//! and stays the same for the whole run. A reader ends its partition when it meets a record at or
//! after that offset, or when its position reaches the offset; it then releases its client. If all
//! partitions of a source have an end, the source has one: no partition joins it any more.
//!
//! ## Lag
//!
//! librdkafka learns the end of a log from what it fetches. So the end is unknown while nothing is
//! fetched, because the queue is full or the broker hangs. The discovery of partitions therefore
//! also requests the ends, at most every 3 s, with one call per leader, all at the same time
//! (`ends_by_leader` in `offsets.rs`). A leader that does not answer leaves the lag of its own
//! partitions unknown, and marks no other partition as in trouble. An end that was neither returned
//! nor fetched within 20 s is unknown, and so is the lag. If the last stable offset is before the
//! end (from the statistics) and the position is at the last stable offset, a transaction is open;
//! the status names it once it has lasted for 5 s.
//!
//! ## Doubtful errors
//!
//! An error that librdkafka reports for a partition (offset out of range, unknown topic, another
//! id, no right to read) may be one stale answer of one broker. A worker must not wait for the
//! network, so a thread asks the brokers (`doubts.rs`). Meanwhile the reader emits nothing, and the
//! records that it emitted before are committed. `begin.rs` judges the answers: another id must be
//! confirmed for 2 s; a missing topic, a missing partition or an end before the position for 8 s;
//! records removed by retention are final at once. Otherwise the reader continues from its
//! position. A start asks in the same way before it takes a recorded topic for deleted or replaced,
//! or an end for a truncation (`lost_topics` in `discovery.rs`, `range_with` in `partitions.rs`).
//! Such a start takes up to 8 s longer.
//!
//! ## Schemas
//!
//! `registry` (cargo feature `schema-registry`) decodes by schemas. A decoder may have no record
//! *yet* (`NoRecord::NotYet` in `decode.rs`): the schema with the id of a message has not arrived.
//! The reader then copies the message out of librdkafka's memory, holds it, and emits nothing after
//! it. It passes the message to the decoder again after 20 ms, then after growing pauses of up to a
//! second. The position stays before the message, so that a crash, a rebuild or another client
//! (`reopen`) reads it again.
//!
//! `schemas.rs` keeps schemas for good, since an id never refers to another schema. One thread
//! fetches schemas, as long as any are missing. `beliefs.rs` decides when an answer counts:
//!
//! - An id that the registry does not have (404 with an error code of a registry, for 8 s without
//!   any other answer and without silence, since one of several registries may be behind) makes an
//!   undecodable message, for a minute. Then it is requested again.
//! - A failure that never passes (a refused user, an untrusted certificate, a server that is no
//!   registry) ends the run, after a doubt where a proxy may have answered.
//! - Every other failure is waited for, and is the partition's trouble in the status.
//!
//! Parsed schemas are kept for the life of the process (`avro.rs`): Avro's readers borrow them. A
//! sink finds the id of its schema in `Sink::open`, which a start calls before any record is
//! encoded, and which makes no request if the start only looks (`Owner::only_looks`).
//!
//! ## Stuck clients
//!
//! librdkafka 2.12 can forget every broker that it knew, including the configured ones (its issue
//! 5301); such a client never reads again. A partition that has been in trouble for 30 s, for 15 s
//! of which its leader has answered *another* client, gets a new client (`reading.rs`), and all
//! readers of that worker move to it. Clients that ask, the group's and the progress topic's are
//! replaced after 30 s without an answer. A partition is also in trouble if only its own leader is
//! unreachable: that is in librdkafka's statistics (`events.rs`).
//!
//! ## Out
//!
//! `publisher.rs` sends the entries of the outbox and a marker in one transaction. One producer is
//! a session (`session.rs`): it waits until every delivery is reported, and commits. A commit is
//! not trusted if it failed, if it took four fifths of `retry.backoff.ms` (100 ms unless set) or
//! longer, or if retries followed it in the statistics: such a commit can arrive late, in a later
//! transaction. The producer is then discarded. A new producer with the same transactional id
//! fences everything in flight, and `marker.rs` reads the marker up to the last stable offset;
//! publishing resumes after that marker. Findings about the topics are kept (`findings.rs`): they
//! are looked up again after a failure and after an hour, not for each new producer.
//!
//! A start takes over in the same way: read the marker without fencing and decide, take over, read
//! it again and decide again, then claim it for this run (`SinkTakeover` in
//! `engine/src/run/start.rs`). While a transaction is open, the first look may miss a commit that
//! was acknowledged but has not reached every broker. The start then does not refuse the state for
//! being too old, and waits (`Publisher::is_settled`).
//!
//! A broker that does not know the topic of the sink for a moment does not end the run: a topic
//! that existed must be missing for 30 s (`presence.rs`). A message that the topic refuses for good
//! goes to the dead letters as a whole, if their topic accepts it (`letters.rs`).
//!
//! **Why a quick commit was sent once.** An EndTxn request does not name its transaction.
//! librdkafka sends a request again only from its queue of retries, where it waits for
//! `retry.backoff.ms` plus or minus a fifth, and no longer than `retry.backoff.max.ms`. So a commit
//! that took less than four fifths of the pause was sent once, for any pause, as long as the second
//! setting is not below the first. `backoff.rs` derives all three values from one, and none can be
//! set alone. A longer pause costs no safety: a lost request waits longer.
//!
//! ## Settings from outside
//!
//! Settings given by an operator (`operator.rs`, `src/cli/kafka.rs`) belong to the process, since
//! the closure that builds a topology makes its clusters itself, on every worker. They win over the
//! code as flags win over defaults. Each is checked when it is given, by librdkafka and against the
//! settings that are refused (`setting_names.rs`). Of two names for one setting only one is kept;
//! otherwise the winner would be arbitrary.
//!
//! ## Tokens
//!
//! librdkafka requests a token (`oauth.rs`) on the thread that polls the client, which may be a
//! worker. So the closure runs on a thread of its own, after three fifths of a token's life, and
//! clients get the token that is there. Each worker has a `Kafka` of its own from the closure that
//! builds the topology; a start therefore passes its own to them, with tokens and standing
//! (`run_facts.rs`), and the client that a worker makes waits for no token. A closure that fails is
//! trouble, never a refusal by the brokers. The crate's client for topics cannot be given a token:
//! with tokens, no topic is created or described.
//!
//! ## Errors of rights, and unreachable brokers
//!
//! All clients of a source are in one group with the topology's name, so that one right is enough.
//! A refused group affects lag tools only, except at the first start, where the group shows a lost
//! state. The crate has no error for a topic that may not be described: the topic comes back
//! without settings (`admin.rs`).
//!
//! An error of kind Unreachable (`state/src/error.rs`) is waited for: at a start by
//! `engine/src/runtime/starting.rs`, by publishers with growing pauses, by readers on their own. A
//! failed authentication of a client whose user the brokers accepted before is Unreachable until it
//! has lasted for a minute: the brokers' view of users may be stale.

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
#[doc(hidden)]
pub mod fuzz;
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
