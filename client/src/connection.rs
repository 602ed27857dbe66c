//! The connection: one attempt to have a request answered, and what its failure means.

use crate::Error;
use http::uri::PathAndQuery;
use std::sync::OnceLock;
use std::time::Duration;
use tidemill_proto::{ErrorKind, ProtoCodec, QueryRequest, QueryResponse, path};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// The time it may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The interval of keep-alive pings on a connection without traffic, and the time the answer may
/// take. Without the pings, a server's machine that is gone would not be noticed.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(crate) struct Connection {
    endpoint: Endpoint,
    authorization: Option<MetadataValue<Ascii>>,
    /// Made at the first request: only then there is surely a runtime that it can live in.
    channel: OnceLock<Channel>,
}

/// The failure of an attempt.
pub(crate) enum Failure {
    /// The attempt may succeed when it is repeated.
    Passing(Error),
    /// The attempt fails however often it is repeated.
    Lasting(Error),
    /// The state is of another lineage now.
    Replaced(String),
}

impl Connection {
    pub(crate) fn new(address: &str, token: Option<&str>) -> Result<Connection, Error> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::Settings(format!(
                "\"{address}\" is no server's address, such as http://127.0.0.1:7070: {why}"
            ))
        };
        let endpoint = Endpoint::from_shared(address.to_string()).map_err(|why| wrong(&why))?;
        if endpoint.uri().scheme_str() != Some("http") {
            return Err(wrong(&"it has to begin with http://"));
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_EVERY);
        let authorization = token.map(|token| {
            let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
            value.map_err(|_| {
                Error::Settings("the token has characters that no header can have".into())
            })
        });
        let mut authorization = authorization.transpose()?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Connection { endpoint, authorization, channel: OnceLock::new() })
    }

    /// One attempt.
    pub(crate) async fn attempt(&self, request: QueryRequest) -> Result<QueryResponse, Failure> {
        let name = request.name.clone();
        let mut request = tonic::Request::new(request);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        let channel = self.channel.get_or_init(|| self.endpoint.connect_lazy()).clone();
        // The server has bounds on answers.
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        let away = |why: String| {
            Failure::Passing(Error::Unavailable(format!(
                "{} cannot be reached: {why}",
                self.endpoint.uri()
            )))
        };
        grpc.ready().await.map_err(|why| away(causes(&why)))?;
        let answered = grpc
            .unary(request, PathAndQuery::from_static(path::QUERY), ProtoCodec::default())
            .await;
        match answered.map(tonic::Response::into_inner) {
            Ok(response) => Ok(response),
            Err(status) => Err(match tidemill_proto::error_of(&status) {
                Some(error) => of_query(error, name),
                None => of_connection(&status).unwrap_or_else(|| away(causes(&status))),
            }),
        }
    }
}

/// Returns the meaning of a query's own error.
fn of_query(error: tidemill_proto::QueryError, name: String) -> Failure {
    let what = error.what;
    match ErrorKind::of(error.kind) {
        Some(ErrorKind::NoSuchQuery) => {
            Failure::Lasting(Error::NoSuchQuery { name, known: error.known })
        }
        Some(ErrorKind::BadRequest) => Failure::Lasting(Error::BadRequest(what)),
        Some(ErrorKind::WrongType) => Failure::Lasting(Error::WrongType { name, what }),
        Some(ErrorKind::TimedOut) => {
            Failure::Lasting(Error::TimedOut { after: Duration::ZERO, what })
        }
        Some(ErrorKind::TooMany) => Failure::Lasting(Error::TooMany(what)),
        Some(ErrorKind::TooLarge) => Failure::Lasting(Error::TooLarge(what)),
        Some(ErrorKind::NotHeld) => Failure::Passing(Error::NotHeld(what)),
        Some(ErrorKind::Unavailable) => Failure::Passing(Error::Unavailable(what)),
        Some(ErrorKind::StateReplaced) => Failure::Replaced(error.lineage),
        Some(ErrorKind::FunctionFailed) => Failure::Lasting(Error::Failed(what)),
        Some(ErrorKind::Unspecified) | None => Failure::Lasting(Error::Foreign(what)),
    }
}

/// Returns the meaning of a status that brings no error of a query. `None` if the connection was
/// lost, or if a component before the queries reports that the queries are not there yet.
fn of_connection(status: &Status) -> Option<Failure> {
    let what = status.message().to_string();
    let error = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Error::Refused(what),
        Code::Unimplemented | Code::NotFound => {
            Error::Foreign(format!("there are no queries: {what}"))
        }
        Code::OutOfRange => Error::TooLarge(what),
        Code::InvalidArgument | Code::FailedPrecondition | Code::DataLoss => Error::Foreign(what),
        Code::ResourceExhausted => Error::TooMany(what),
        Code::Ok | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded => return None,
        Code::AlreadyExists | Code::Aborted | Code::Internal | Code::Unavailable => return None,
    };
    Some(Failure::Lasting(error))
}

/// An error with what has caused it, as far as that says anything more.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let says = next.to_string();
        if !text.contains(&says) {
            text = format!("{text}: {says}");
        }
        cause = next.source();
    }
    text
}
