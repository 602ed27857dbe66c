//! The messages between server and client over gRPC, and their encoding. They are those of
//! `tidemill.proto`, written out by hand.
//!
//! Nothing is generated: a generator's own dependencies would change features of those that
//! RocksDB's build script has, and the client is to stay light. A test compares the messages with
//! `tidemill.proto`, from which clients in other languages are made.

mod codec;
mod field;
mod health;
mod messages;
mod status;

pub use codec::ProtoCodec;
pub use health::{HealthCheckRequest, HealthCheckResponse, ServingStatus};
pub use messages::{
    Encoding, ErrorKind, Position, QueryError, QueryRequest, QueryResponse, QueryTypes,
};
pub use status::{Detail, StatusDetails, error_of, status};

/// The paths of the calls.
pub mod path {
    /// One request, one answer.
    pub const QUERY: &str = "/tidemill.v1.Queries/Query";
    /// Many requests at once.
    pub const PIPELINE: &str = "/tidemill.v1.Queries/Pipeline";
    /// The standard health service: now.
    pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
    /// The standard health service: now, and whenever it changes.
    pub const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
}

/// The service's full name, as the health service knows it.
pub const SERVICE: &str = "tidemill.v1.Queries";
