//! What a request is told that cannot be answered: JSON with what, where and what to do.

use super::PATHS;
use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidemill_state::{Error, Kind};

/// An error as it is answered: `{"error": {"what": …, "where": …, "do": …}}`, and what else is known.
pub(super) struct Refusal {
    status: StatusCode,
    what: String,
    place: String,
    remedy: String,
    known: serde_json::Map<String, Value>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, what: impl Into<String>, place: String) -> Refusal {
        Refusal { status, what: what.into(), place, remedy: String::new(), known: serde_json::Map::new() }
    }

    /// An error of the engine's, with what its kind asks of the caller.
    pub(super) fn of(error: &Error, place: String) -> Refusal {
        let (status, remedy) = match error.kind() {
            Kind::Config => (StatusCode::BAD_REQUEST, "correct the request"),
            Kind::TryAgain | Kind::Away => (StatusCode::SERVICE_UNAVAILABLE, "send the same request again in a moment"),
            Kind::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "report it with the log: this is a fault of Tidemill"),
            Kind::Damaged | Kind::Foreign | Kind::SourceLost | Kind::Sink | Kind::UserCode => {
                (StatusCode::INTERNAL_SERVER_ERROR, "look at the log and at /v1/status")
            }
        };
        Refusal::new(status, error.to_string(), place).remedy(remedy)
    }

    /// Says what to do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Refusal {
        self.remedy = remedy.into();
        self
    }

    /// Adds something that is known all the same, beside the error.
    pub(super) fn knowing(mut self, name: &str, value: impl Into<Value>) -> Refusal {
        self.known.insert(name.to_string(), value.into());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = self.known;
        body.insert("error".into(), json!({"what": self.what, "where": self.place, "do": self.remedy}));
        (self.status, Json(Value::Object(body))).into_response()
    }
}

/// Where a refusal happened: the request's method and path.
pub(super) fn place(method: &Method, uri: &Uri) -> String {
    format!("{method} {}", uri.path())
}

pub(super) async fn no_such_path(method: Method, uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), place(&method, &uri))
        .remedy(format!("ask for one of: {}. A / within a name or key is written %2F", PATHS.join(", ")))
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not asked with {method}", uri.path()), place(&method, &uri))
        .remedy("use GET, and POST for /v1/query/{name}, /drpc/{function} and /v1/state/{name}")
}
