//! The messages of the standard health service, `grpc.health.v1`, which load balancers and
//! orchestrators ask.

use crate::field::message;

message! {
    /// The question whether a service can be queried.
    HealthCheckRequest {
        /// The service's name; empty for all of the server.
        1 service: String,
    }
}

message! {
    /// The answer to a [`HealthCheckRequest`].
    HealthCheckResponse {
        /// A [`ServingStatus`].
        1 status: i32,
    }
}

/// The status that the health service reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingStatus {
    /// The service takes requests, and answers.
    Serving = 1,
    /// The service is there, and does not answer now.
    NotServing = 2,
    /// There is no such service. Sent by a watch, which continues.
    ServiceUnknown = 3,
}

impl From<ServingStatus> for HealthCheckResponse {
    fn from(status: ServingStatus) -> HealthCheckResponse {
        HealthCheckResponse { status: status as i32 }
    }
}
