//! The messages of the standard health service, `grpc.health.v1`, which load balancers and orchestrators ask.

use crate::field::message;

message! {
    /// Whether a service can be asked.
    HealthCheckRequest {
        /// The service's name; empty for all of the server.
        1 service: String,
    }
}

message! {
    /// That it can, or not.
    HealthCheckResponse {
        /// A [`ServingStatus`].
        1 status: i32,
    }
}

/// What the health service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingStatus {
    /// It is asked, and answers.
    Serving = 1,
    /// It is there, and does not answer now.
    NotServing = 2,
    /// There is no such service: said by a watch, which goes on.
    ServiceUnknown = 3,
}

impl From<ServingStatus> for HealthCheckResponse {
    fn from(status: ServingStatus) -> HealthCheckResponse {
        HealthCheckResponse { status: status as i32 }
    }
}
