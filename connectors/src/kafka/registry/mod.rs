//! Avro and Protobuf with a schema registry: messages that name the schema that they were written
//! with by an id.
//!
//! `rest.rs` speaks with the registry, `schemas.rs` keeps what it has answered and fetches what is
//! missing, on a thread of its own. `wire.rs` is the format of a message, `avro.rs` and
//! `protobuf.rs` are decoders and encoders.

mod avro;
mod beliefs;
#[doc(hidden)]
pub mod fuzz;
mod proto_names;
mod protobuf;
mod rest;
mod rust_values;
mod schemas;
mod subject;
mod value;
mod wire;

use super::sink::KafkaSink;
use super::source::{KafkaSource, Topics};
use rest::{Access, Authorization};
use schemas::{Language, Schemas};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use subject::Subject;
use tidemill_engine::source::Data;

/// A schema registry with the REST API of Confluent's: also Karapace's, Redpanda's, and Apicurio's
/// `ccompat`.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use tidemill_connectors::kafka::{Kafka, Message, SchemaRegistry};
/// # use tidemill_engine::Topology;
///
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Order {
///     id: String,
///     cents: i64,
///     #[serde(default)]
///     note: Option<String>,
/// }
///
/// const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
///     {"name": "id", "type": "string"},
///     {"name": "cents", "type": "long"},
///     {"name": "note", "type": ["null", "string"], "default": null}
/// ]}"#;
///
/// # fn build(topology: &Topology<'_>) {
/// let kafka = Kafka::new("localhost:9092");
/// let registry = SchemaRegistry::new("https://registry-1:8081,https://registry-2:8081")
///     .basic_auth("tide", std::env::var("REGISTRY_PASSWORD").unwrap_or_default());
/// topology
///     .source("orders", kafka.source(["orders"]).avro::<Order>(&registry))
///     .filter(|order| order.cents > 100_000)
///     .sink("large", kafka.sink("large-orders", |order: &Order| Message::new().key(&*order.id)).avro(&registry, ORDER));
/// # }
/// ```
///
/// **Schemas are fetched once.** An id stands for one schema for ever, so an answer is kept as long
/// as the registry's value, or a clone of it, lives: made before the closure that builds the
/// topology, it serves all workers and rebuilds.
///
/// **While the registry is unreachable** or slow, a message whose schema is unknown waits, and with
/// it its partition. No other partition does, nothing is lost or reordered, and the status names
/// the reason as the partition's trouble.
///
/// **A message that can never be decoded** is treated by the source's policy
/// ([`KafkaSource::dead_letters`], [`KafkaSource::skip_undecodable`], else the run ends with 69).
/// The reason is one of three: the message does not begin with the magic byte 0 and an id; the
/// registry has no such id (HTTP status 404, for 8 s; a minute later the registry is queried
/// again); or the message's schema does not fit the type.
///
/// **What never passes** ends the run with 64: a registry that refuses the user (401, 403), a
/// certificate that is not trusted, a server that is no schema registry. It is doubted for 8 s
/// where a proxy may have answered, and for a minute if the registry was of use to the process
/// before.
#[derive(Clone)]
pub struct SchemaRegistry {
    access: Access,
    registers: bool,
    schemas: Arc<Schemas>,
}

impl SchemaRegistry {
    /// The registry at these URLs: `http` or `https`, with commas between several of one registry.
    /// They are asked in turn.
    pub fn new(urls: impl AsRef<str>) -> SchemaRegistry {
        let access = Access::of(urls.as_ref());
        SchemaRegistry { schemas: Arc::new(Schemas::new(access.clone())), access, registers: true }
    }

    /// Sends a user and a password with each request.
    #[must_use]
    pub fn basic_auth(
        self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> SchemaRegistry {
        let authorization = Authorization::Basic { user: user.into(), password: password.into() };
        self.with(|access| access.authorization = Some(authorization))
    }

    /// Sends a bearer token with each request.
    #[must_use]
    pub fn bearer_token(self, token: impl Into<String>) -> SchemaRegistry {
        let authorization = Authorization::Bearer(token.into());
        self.with(|access| access.authorization = Some(authorization))
    }

    /// Trusts these certificates, in PEM, for `https`, in addition to those of the system (or, if
    /// the variable `SSL_CERT_FILE` names a file, those of that file).
    #[must_use]
    pub fn certificates(self, pem: impl Into<Vec<u8>>) -> SchemaRegistry {
        let pem = pem.into();
        self.with(|access| access.certificates = pem)
    }

    /// Never registers a schema: that of a sink must be there under its subject, or the start is
    /// refused (64).
    #[must_use]
    pub fn look_up_only(mut self) -> SchemaRegistry {
        self.registers = false;
        self
    }

    /// The same registry, reached in another way: nothing of what was answered before is kept.
    fn with(mut self, change: impl FnOnce(&mut Access)) -> SchemaRegistry {
        change(&mut self.access);
        self.schemas = Arc::new(Schemas::new(self.access.clone()));
        self
    }

    /// The subject of a topic's values, with the schema that a sink writes.
    fn subject(&self, topic: &str, language: Language, schema: &str) -> Subject {
        Subject::of_values(topic, Arc::clone(&self.schemas), self.registers, language, schema)
    }
}

/// Names the URLs without the users in them, and no password or token.
impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> =
            self.access.urls.iter().filter_map(|url| url.rsplit('@').next()).collect();
        f.debug_struct("SchemaRegistry")
            .field("urls", &urls)
            .field("registers", &self.registers)
            .finish()
    }
}

impl Topics {
    /// Values as Avro: each is decoded by the schema that it was written with, and read into `T` by
    /// the names of fields.
    ///
    /// A field that `T` has not is left out; one that a message has not takes the default of
    /// `#[serde(default)]`, and is an error without it. A union with `null` is an `Option`; a field
    /// without a union fits an `Option` too. An enum is one of unit variants; any other union is an
    /// enum with a variant for each of its types, in the same order. Times and dates are the
    /// numbers that they are in Avro, a `decimal` and a `duration` are bytes, an `uuid` is a text.
    ///
    /// Values may nest 64 deep.
    #[must_use]
    pub fn avro<T: Data + DeserializeOwned>(self, registry: &SchemaRegistry) -> KafkaSource<T> {
        self.with_decoder("avro", avro::decoder(&registry.schemas, None))
    }

    /// As [`Topics::avro`], for a type with a schema of its own: each value is resolved against
    /// this schema by Avro's rules, among them its defaults, before it is read into `T`.
    #[must_use]
    pub fn avro_as<T: Data + DeserializeOwned>(
        self,
        registry: &SchemaRegistry,
        schema: &str,
    ) -> KafkaSource<T> {
        self.with_decoder("avro", avro::decoder(&registry.schemas, Some(schema)))
    }

    /// Values as Protobuf messages of one type, `message` with its package: `shop.Order`. A value
    /// of another type cannot be decoded: the registry's schema names the type of each.
    ///
    /// ```no_run
    /// # use tidemill_connectors::kafka::{Kafka, KafkaSource, SchemaRegistry};
    /// # fn source<Order: prost::Message + Default + tidemill_engine::Data>() -> KafkaSource<Order> {
    /// let registry = SchemaRegistry::new("http://localhost:8081");
    /// Kafka::new("localhost:9092").source(["orders"]).protobuf::<Order>(&registry, "shop.Order")
    /// # }
    /// ```
    #[must_use]
    pub fn protobuf<T: Data + prost::Message + Default>(
        self,
        registry: &SchemaRegistry,
        message: &str,
    ) -> KafkaSource<T> {
        self.with_decoder("protobuf", protobuf::decoder(&registry.schemas, message))
    }
}

impl<T: Data> KafkaSink<T> {
    /// Writes the records as Avro of this schema: the value of each message, in place of one that
    /// the closure gives. The schema is registered, or looked up, as a version of the subject
    /// `<topic>-value`, by each start before its first batch. The start waits for a registry that
    /// is unreachable, and is refused (64) if the schema is: not compatible with those before, say.
    ///
    /// Fields are matched by name; one that `T` has not takes the schema's default. A `fixed`, a
    /// `decimal` and a `duration` are written from bytes, such as a `Vec<u8>`; a `decimal` also
    /// from an `i128`, its number without the point, or a `u128` that fits one. A record that does
    /// not fit fails its batch (69).
    #[must_use]
    pub fn avro(self, registry: &SchemaRegistry, schema: &str) -> KafkaSink<T> {
        let subject = registry.subject(self.topic(), Language::Avro, schema);
        let encoder = avro::encoder(subject.clone());
        self.with_values(move || subject.find(), encoder)
    }
}

impl<T: Data + prost::Message> KafkaSink<T> {
    /// Writes the records as Protobuf messages of this type of this schema, a `.proto` file as
    /// text. Else as [`KafkaSink::avro`].
    #[must_use]
    pub fn protobuf(self, registry: &SchemaRegistry, schema: &str, message: &str) -> KafkaSink<T> {
        let subject = registry.subject(self.topic(), Language::Protobuf, schema);
        let encoder = protobuf::encoder(subject.clone(), message);
        self.with_values(move || subject.find(), encoder)
    }
}
