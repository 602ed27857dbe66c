//! Types of arguments and results over gRPC and in this process: a request of other types than the
//! query's is refused, and never answered for another value.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tidemill::aggregates::Sum;
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::testing::{Io, Kit};
use tidemill::{QueryError, Requests};
use tidemill_client::{Client, Error, blocking};
use tidemill_proto::{ErrorKind, ProtoCodec, QueryRequest, QueryResponse, path};
use tonic::Code;
use tonic::client::Grpc;
use tonic::transport::Endpoint;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Span {
    from: u64,
    to: u64,
}

/// [`Span`] with its fields in another order.
mod swapped {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Span {
        pub(crate) to: u64,
        pub(crate) from: u64,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Small,
    #[serde(alias = "Great", alias = "Big")]
    Large(Option<Box<Kind>>),
    Between {
        #[serde(alias = "first")]
        low: i128,
        high: u128,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    id: uuid::Uuid,
    at: jiff::Timestamp,
    took: Duration,
    from: (IpAddr, Str, char),
    kinds: Vec<Kind>,
    named: BTreeMap<String, BTreeSet<u8>>,
    numbers: (f64, f32, Option<()>),
}

fn topology(topology: &Topology<'_>, io: &Io) {
    topology.source("words", io.source::<String>("words")).sink("out", io.sink::<String>("out"));
    topology.query("top", |n: Requests<u64>| n.flat_map(|n, rows| rows.extend(0..n)));
    topology.query("total", |n: Requests<u64>| n.aggregate(Sum));
    topology.query("length", |span: Requests<Span>| span.map(|span| span.to - span.from));
    topology.query("turned", |span: Requests<Span>| {
        span.map(|Span { from, to }| Span { from: to, to: from })
    });
    topology.query("same", |all: Requests<Everything>| all.map(|all| all));
    topology.query("text", |text: Requests<String>| text.map(|text| text.len() as u64));
}

struct Place {
    kit: Kit,
    server: Server,
}

impl Place {
    fn new() -> Place {
        let kit = Kit::new(topology);
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(any, Arc::clone(kit.engine().runtime())).expect("any port");
        Place { kit, server }
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    fn client(&self) -> blocking::Client {
        let minute = Duration::from_secs(60);
        Client::builder(self.url()).time_out(minute).connect_blocking().expect("an address")
    }
}

const SPAN: Span = Span { from: 3, to: 10 };
const SWAPPED: swapped::Span = swapped::Span { to: 10, from: 3 };

#[track_caller]
fn has_parts(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

/// Asserts that arguments are refused, over gRPC and in this process, with these parts.
#[track_caller]
fn refused<R>(place: &Place, query: &str, arguments: &impl Serialize, parts: &[&str])
where
    R: serde::de::DeserializeOwned + std::fmt::Debug,
{
    match place.client().query::<_, R>(query, arguments) {
        Err(Error::BadRequest(what)) => has_parts(&what, parts),
        other => panic!("{query}: {other:?}"),
    }
    match place.kit.try_ask::<R>(query, arguments) {
        Err(QueryError::BadArguments(what)) => has_parts(&what, parts),
        other => panic!("{query}: {other:?}"),
    }
}

#[test]
fn arguments_of_another_type_are_refused_with_both_types() {
    let place = Place::new();
    let top = |answer: Result<tidemill_client::Answer<Vec<u64>>, Error>| {
        answer.map(|answer| answer.value.len())
    };
    assert_eq!(top(place.client().query("top", &3u64)), Ok(3));
    assert_eq!(top(place.client().query("top", &3usize)), Ok(3), "the same shape");
    refused::<Vec<u64>>(&place, "top", &3, &["\"top\"", "takes u64", "the request has i32"]);
    refused::<Vec<u64>>(&place, "top", &3u32, &["takes u64", "has u32"]);
    refused::<Vec<u64>>(&place, "top", &"many", &["takes u64", "has &str, text"]);
    refused::<Vec<u64>>(&place, "top", &(3u64, 4u64), &["takes u64", "(u64, u64)"]);
    assert_eq!(place.client().query::<_, Vec<u64>>("length", &SPAN).expect("it fits").value, [7]);
    let both = ["Span, {from: u64, to: u64}", "has Span, {to: u64, from: u64}"];
    refused::<Vec<u64>>(&place, "length", &SWAPPED, &both);
    refused::<Vec<u64>>(&place, "length", &(3u64, 10u64), &["{from: u64, to: u64}", "(u64, u64)"]);
    let text = place.client().query::<_, Vec<u64>>("text", "tide").expect("it fits");
    assert_eq!(text.value, [4]);
    refused::<Vec<u64>>(&place, "text", &Some("tide"), &["takes String, text", "option text"]);
}

#[test]
fn results_of_another_type_are_refused_with_both_types() {
    let place = Place::new();
    #[track_caller]
    fn refused<R: serde::de::DeserializeOwned + std::fmt::Debug>(
        place: &Place,
        query: &str,
        arguments: &impl Serialize,
        parts: &[&str],
    ) {
        match place.client().query::<_, R>(query, arguments) {
            Err(Error::WrongType { name, what }) => {
                assert_eq!(name, query);
                has_parts(&what, parts);
            }
            other => panic!("{query}: {other:?}"),
        }
        match place.kit.try_ask::<R>(query, arguments) {
            Err(QueryError::WrongResult(what)) => has_parts(&what, parts),
            other => panic!("{query}: {other:?}"),
        }
    }
    let client = place.client();
    assert_eq!(client.query::<_, u64>("total", &3u64).expect("it fits").value, 3);
    refused::<i64>(&place, "total", &3u64, &["\"total\"", "one value (u64)", "expects i64"]);
    refused::<u32>(&place, "total", &3u64, &["one value (u64)", "expects u32"]);
    refused::<Vec<u64>>(&place, "total", &3u64, &["one value (u64)", "Vec<u64>, [u64]"]);
    refused::<Vec<i64>>(&place, "top", &3u64, &["a vector (Vec<u64>, [u64])", "Vec<i64>, [i64]"]);
    refused::<u64>(&place, "top", &3u64, &["a vector", "expects u64"]);
    let turned = client.query::<_, Vec<Span>>("turned", &SPAN).expect("it fits").value;
    assert_eq!(turned, [Span { from: 10, to: 3 }]);
    let both = ["Vec<Span>, [{from: u64, to: u64}]", "Vec<Span>, [{to: u64, from: u64}]"];
    refused::<Vec<swapped::Span>>(&place, "turned", &SPAN, &both);
    // A set is written as a vector is.
    let set = client.query::<_, BTreeSet<u64>>("top", &3u64).expect("it fits").value;
    assert_eq!(set, BTreeSet::from([0, 1, 2]));
}

#[test]
fn values_of_every_kind_fit_their_own_type() {
    let place = Place::new();
    let between = Kind::Between { low: i128::MIN, high: u128::MAX };
    let everything = Everything {
        id: uuid::Uuid::from_u128(7),
        at: jiff::Timestamp::UNIX_EPOCH,
        took: Duration::from_millis(1500),
        from: ("::1".parse().expect("an address"), "tide".into(), 'ä'),
        kinds: vec![Kind::Small, between, Kind::Large(Some(Box::new(Kind::Large(None))))],
        named: BTreeMap::from([("a".into(), BTreeSet::from([1, 2])), ("b".into(), [].into())]),
        numbers: (-0.0, f32::INFINITY, Some(())),
    };
    let answer = place.client().query::<_, Vec<Everything>>("same", &everything);
    assert_eq!(answer.expect("it fits").value, std::slice::from_ref(&everything));
    let (_, answer) = place.kit.ask::<Vec<Everything>>("same", &everything);
    assert_eq!(answer, [everything]);
}

/// Sends bincode over gRPC.
fn send(place: &Place, request: QueryRequest) -> Result<QueryResponse, tonic::Status> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Endpoint::from_shared(place.url()).expect("an address").connect_lazy();
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.expect("it can be reached");
        let codec = ProtoCodec::<QueryRequest, QueryResponse>::default();
        let at = http::uri::PathAndQuery::from_static(path::QUERY);
        let answer = grpc.unary(tonic::Request::new(request), at, codec).await;
        answer.map(tonic::Response::into_inner)
    })
}

#[test]
fn a_client_that_sends_no_types_is_answered_and_a_mismatch_is_an_invalid_argument() {
    let place = Place::new();
    let request =
        QueryRequest { name: "top".into(), arguments: vec![1, 3], ..QueryRequest::default() };
    let answer = send(&place, request.clone()).expect("it is answered");
    assert_eq!(answer.result, [1, 3, 0, 1, 2]);
    let kind_of = |types: tidemill_proto::QueryTypes| {
        let status = send(&place, QueryRequest { types: Some(types), ..request.clone() })
            .expect_err("it is refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        tidemill_proto::error_of(&status).map(|error| error.kind)
    };
    let other = || tidemill_proto::QueryTypes { argument_kinds: 1, ..Default::default() };
    assert_eq!(kind_of(other()), Some(ErrorKind::BadRequest.into()));
    let result = tidemill_proto::QueryTypes { result_shape: "[i64]".into(), ..other() };
    assert_eq!(kind_of(result), Some(ErrorKind::WrongType.into()));
    // A long type does not make the error too long to be sent.
    let long = "u64, ".repeat(1000);
    let long = tidemill_proto::QueryTypes { arguments: long.clone(), result: long, ..other() };
    assert_eq!(kind_of(long), Some(ErrorKind::BadRequest.into()));
}
