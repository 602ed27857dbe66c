//! Target: the messages of gRPC. What is decoded is encoded again, with the length that was
//! announced, to bytes that decode to it; and so are the errors in a call's status.

use crate::{Seed, chosen, is_explained};
use prost::Message;
use std::fmt::Debug;
use tidemill_proto::{
    Detail, ErrorKind, HealthCheckRequest, HealthCheckResponse, Position, QueryError, QueryRequest,
    QueryResponse, StatusDetails, error_of, status,
};
use tonic::{Code, Status};

/// The types that the first byte chooses from.
const TYPES: [fn(&[u8]); 7] = [
    check::<QueryRequest>,
    check::<QueryResponse>,
    check::<QueryError>,
    check::<StatusDetails>,
    check::<HealthCheckRequest>,
    check::<HealthCheckResponse>,
    of_status,
];

/// Runs the target: the first byte chooses what the rest is.
pub fn run(input: &[u8]) {
    if let Some((choice, bytes)) = input.split_first() {
        TYPES[usize::from(*choice) % TYPES.len()](bytes);
    }
}

fn check<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    let Some(message) = is_explained(M::decode(bytes)) else { return };
    let again = message.encode_to_vec();
    assert_eq!(again.len(), message.encoded_len(), "{message:?}");
    assert_eq!(M::decode(&again[..]).expect("it was written so"), message);
}

/// The bytes are the details of a status.
fn of_status(bytes: &[u8]) {
    let received = Status::with_details(Code::Unknown, "", bytes.to_vec().into());
    let Some(error) = error_of(&received) else { return };
    let sent = status(&error);
    assert_eq!(error_of(&sent).as_ref(), Some(&error));
    assert_eq!(sent.code() == Code::NotFound, error.kind == i32::from(ErrorKind::NoSuchQuery));
}

/// Returns a message of each type.
pub fn seeds() -> Vec<Seed> {
    let position = Position { source: "s".into(), partition: "p[0]".into(), offset: 300 };
    let request = QueryRequest {
        number: 7,
        name: "words".into(),
        arguments: vec![1, 4, b't', b'i', b'd', b'e'],
        timeout_ms: 5000,
        lineage: "9".repeat(16),
        at_least_position: vec![position, Position::default()],
        ..QueryRequest::default()
    };
    let error = QueryError {
        kind: ErrorKind::NoSuchQuery.into(),
        what: "there is no query \"word\"".into(),
        remedy: "ask \"words\"".into(),
        known: vec!["words".into()],
        ..QueryError::default()
    };
    let response = QueryResponse {
        txid: u64::MAX,
        one: true,
        result: vec![1, 7],
        error: Some(error.clone()),
        ..QueryResponse::default()
    };
    let detail = Detail { type_url: "a/b".into(), value: vec![8, 1] };
    let details = StatusDetails { code: 5, message: "no".into(), details: vec![detail] };
    let health = HealthCheckRequest { service: "tidemill.v1.Queries".into() };
    vec![
        ("request", chosen(0, &request.encode_to_vec())),
        ("response", chosen(1, &response.encode_to_vec())),
        ("error", chosen(2, &error.encode_to_vec())),
        ("details", chosen(3, &details.encode_to_vec())),
        ("health", chosen(4, &health.encode_to_vec())),
        ("healthy", chosen(5, &HealthCheckResponse { status: 1 }.encode_to_vec())),
        ("status", chosen(6, status(&error).details())),
    ]
}
