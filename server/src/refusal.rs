//! The answer to a request that is refused: JSON with the problem, its place and the remedy.

use crate::body::json_response;
use crate::paths::PATHS;
use crate::query_errors::row_of;
use axum::Extension;
use axum::extract::rejection::BytesRejection;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidemill_engine::QueryError;
use tidemill_state::{Error, Kind};
use tonic::{Code, Status};

/// An error as it is answered: `{"error": {"kind": …, "what": …, "where": …, "do": …}}`, and what
/// else is known.
pub(super) struct Refusal {
    status: StatusCode,
    kind: Kind,
    what: String,
    place: String,
    remedy: String,
    /// Names, and values as JSON.
    known: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, what: impl Into<String>, place: String) -> Refusal {
        let kind = match status {
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Kind::TryAgain,
            StatusCode::INTERNAL_SERVER_ERROR => Kind::Bug,
            _ => Kind::Config,
        };
        Refusal { status, kind, what: what.into(), place, remedy: String::new(), known: Vec::new() }
    }

    /// An error of the engine's, with what its kind asks of the caller.
    pub(super) fn of(error: &Error, place: String) -> Refusal {
        let (status, remedy) = match error.kind() {
            Kind::Config => (StatusCode::BAD_REQUEST, "correct the request"),
            Kind::TryAgain | Kind::Unreachable => {
                (StatusCode::SERVICE_UNAVAILABLE, "send the same request again in a moment")
            }
            Kind::Bug => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "report it with the log: this is a fault of Tidemill",
            ),
            Kind::Damaged | Kind::Foreign | Kind::SourceLost | Kind::Sink | Kind::UserCode => {
                (StatusCode::INTERNAL_SERVER_ERROR, "look at the log and at /v1/status")
            }
        };
        Refusal::new(status, error.to_string(), place).remedy(remedy).kind(error.kind())
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Sets the kind, if it is not that which the status stands for.
    pub(super) fn kind(self, kind: Kind) -> Refusal {
        Refusal { kind, ..self }
    }

    /// Says what to do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Refusal {
        self.remedy = remedy.into();
        self
    }

    /// Adds something that is known all the same, beside the error: a name, and a value as JSON.
    pub(super) fn knowing(mut self, name: &'static str, json: String) -> Refusal {
        self.known.push((name, json));
        self
    }
}

impl Refusal {
    /// Returns the refusal as JSON.
    pub(super) fn into_body(self) -> String {
        let error = json!({"kind": self.kind.name(), "what": self.what, "where": self.place, "do": self.remedy});
        let known: String =
            self.known.iter().map(|(name, json)| format!("\"{name}\":{json},")).collect();
        format!("{{{known}\"error\":{error}}}")
    }
}

impl Refusal {
    /// A request's body that cannot be read.
    pub(super) fn of_body(why: &BytesRejection, place: String) -> Refusal {
        match why.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why.body_text(), place)
                    .remedy("send less")
            }
            _ => Refusal::new(StatusCode::BAD_REQUEST, why.body_text(), place)
                .remedy("send the whole body"),
        }
    }

    /// A request about batches of another lineage than that of the state, if it is one.
    pub(super) fn of_lineage(asked: Option<&str>, here: &str, place: String) -> Option<Refusal> {
        let asked = asked.filter(|asked| !asked.is_empty() && *asked != here)?;
        let (what, remedy) = replaced(asked, here);
        let refusal = Refusal::new(StatusCode::CONFLICT, what, place).remedy(remedy);
        Some(refusal.knowing("lineage", format!("\"{here}\"")))
    }

    /// A request to a query that has no answer.
    pub(super) fn of_query(error: &QueryError, place: String) -> Refusal {
        let row = row_of(error);
        Refusal::new(row.status, error.to_string(), place).remedy(row.remedy).kind(error.kind())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let said = Said { what: self.what.clone(), remedy: self.remedy.clone() };
        let status = self.status;
        (Extension(said), json_response(status, self.into_body().into_bytes())).into_response()
    }
}

/// The problem and the remedy of a refusal, kept beside its response: for clients that read no
/// JSON.
#[derive(Clone)]
struct Said {
    what: String,
    remedy: String,
}

/// A response as a client of Storm's reads it: a refusal is an error of Storm's, whatever part of
/// the server it comes from.
pub(super) fn in_storm(response: Response) -> Response {
    match response.extensions().get() {
        Some(Said { what, remedy }) => {
            let mut failed = crate::body::failed(response.status(), &format!("{what}: {remedy}"));
            failed.headers_mut().extend(
                response.headers().get(WWW_AUTHENTICATE).map(|how| (WWW_AUTHENTICATE, how.clone())),
            );
            failed
        }
        None => response,
    }
}

/// A response as a gRPC client reads it: a refusal is a status of gRPC's, whatever part of the
/// server it comes from.
pub(super) fn in_grpc(response: Response) -> Response {
    let Some(Said { what, remedy }) = response.extensions().get() else { return response };
    let code = match response.status() {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::PAYLOAD_TOO_LARGE => Code::OutOfRange,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        _ => Code::Internal,
    };
    Status::new(code, format!("{what}: {remedy}")).into_http()
}

/// Returns what is wrong with a request about batches of another lineage, and what to do.
pub(super) fn replaced(asked: &str, here: &str) -> (String, &'static str) {
    let what = format!(
        "the state was replaced: the request is about lineage {asked}, and here is lineage {here}"
    );
    (what, "forget the batches of the other lineage, and send the request without it")
}

/// Returns the place of a refusal: the request's method and path.
pub(super) fn place(method: &Method, uri: &Uri) -> String {
    format!("{method} {}", uri.path())
}

pub(super) async fn no_such_path(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
        place(&method, &uri),
    )
    .remedy(format!(
        "ask for one of: {}. A / within a name or key is written %2F",
        PATHS.join(", ")
    ))
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} is not asked with {method}", uri.path()),
        place(&method, &uri),
    )
    .remedy(
        "use GET, and POST for /v1/query/{name}, /drpc/{function}, /v1/state/{name} and \
            /v1/sources/{pause|resume|drain}",
    )
}
