//! Queries through the Rust client, over the port: what they answer, of which batch, and what
//! becomes of those that have no answer.

use futures_util::stream::{FuturesUnordered, StreamExt};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::QueryLimits;
use tidemill::server::{Access, Listening, Server};
use tidemill::testing::Kit;
use tidemill_client::{Client, Error, blocking};
use tidemill_harness::words::{self, Answer, Row};
use tidemill_proto::{
    Encoding, ErrorKind, HealthCheckRequest, HealthCheckResponse, Position, ProtoCodec,
    QueryRequest, QueryResponse, ServingStatus, path,
};
use tonic::Code;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::Codec;
use tonic::transport::{Channel, Endpoint};

/// A topology that runs, with its port.
struct Place {
    kit: Kit,
    server: Server,
}

impl Place {
    fn new(workers: usize, limits: QueryLimits) -> Place {
        let kit = Kit::with(
            move |settings| {
                settings.workers = workers;
                settings.queries = limits;
            },
            words::topology,
        );
        let server = serve(&kit);
        Place { kit, server }
    }

    fn with(limits: impl FnOnce(&mut QueryLimits)) -> Place {
        let mut wanted =
            QueryLimits { time_out: Duration::from_secs(60), ..QueryLimits::default() };
        limits(&mut wanted);
        Place::new(2, wanted)
    }

    fn feed(&mut self, text: &str) -> u64 {
        self.kit.feed("sentences", [text.to_string()]);
        self.kit.step().0
    }

    fn url(&self) -> String {
        url(self.server.address())
    }

    fn client(&self) -> blocking::Client {
        Client::builder(self.url())
            .time_out(Duration::from_secs(60))
            .connect_blocking()
            .expect("an address")
    }
}

fn serve(kit: &Kit) -> Server {
    Server::start("127.0.0.1:0".parse().expect("an address"), Arc::clone(kit.engine().runtime()))
        .expect("any port")
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(120), what).await.expect("it takes too long")
    })
}

#[test]
fn the_table_of_answers_holds_through_the_client() {
    for workers in 1..=3 {
        words::check(workers, |kit| {
            let server = serve(kit);
            let client = blocking::Client::connect(url(server.address())).expect("an address");
            Box::new(move |row| {
                let _serving = &server;
                ask(&client, row)
            })
        });
    }
}

fn ask(client: &blocking::Client, row: &Row) -> Answer {
    let fails = |error| match error {
        Error::Failed(why) => Answer::Fails(why.split(": ").last().unwrap_or_default().to_string()),
        other => panic!("{}: {other}", row.query),
    };
    match row.query {
        "all" | "twice" => client
            .query(row.query, row.argument)
            .map_or_else(fails, |answer| Answer::Counts(answer.value)),
        "either" | "fails" => client
            .query(row.query, row.argument)
            .map_or_else(fails, |answer| Answer::Words(answer.value)),
        _ => client
            .query(row.query, row.argument)
            .map_or_else(fails, |answer| Answer::Number(answer.value)),
    }
}

#[test]
fn i7_an_answer_names_its_batch_and_its_line() {
    let mut place = Place::with(|_| {});
    let client = place.client();
    let lineage = place.kit.engine().runtime().status().lineage;
    for n in 1..=10 {
        let txid = place.feed("tide");
        let answer = client.query::<_, u64>("words", "tide").expect("an answer");
        assert_eq!((answer.txid, answer.value, answer.lineage), (txid, n, lineage.clone()));
    }
}

#[test]
fn a_thousand_requests_are_under_way_at_once_on_one_connection() {
    let mut place = Place::with(|_| {});
    place.feed("the man on the moon");
    let client = Client::builder(place.url())
        .time_out(Duration::from_secs(60))
        .connect()
        .expect("an address");
    block_on(async {
        let asked: FuturesUnordered<_> = (0..1000u64)
            .map(|n| {
                let client = client.clone();
                async move {
                    let text = vec!["the"; n as usize % 7].join(" ");
                    let answer = client.query::<_, u64>("words", &text).await.expect("an answer");
                    assert_eq!(answer.value, n % 7 * 2, "each has its own answer");
                }
            })
            .collect();
        assert_eq!(asked.count().await, 1000);
    });
}

#[test]
fn those_that_wait_for_a_batch_hold_up_no_other() {
    let mut place = Place::with(|_| {});
    let first = place.feed("tide");
    let client = Client::builder(place.url())
        .time_out(Duration::from_secs(60))
        .connect()
        .expect("an address");
    block_on(async {
        // Twice as many as a connection of HTTP/2 has streams if nobody says how many.
        let waiting: Vec<_> = (0..400)
            .map(|_| {
                let request = client.request("words", "tide").at_least(first + 1);
                tokio::spawn(async move { request.send::<u64>().await.expect("an answer").value })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let quick = client.request("words", "tide").time_out(Duration::from_secs(5));
        let quick = quick.send::<u64>().await.expect("it need not wait");
        assert_eq!((quick.txid, quick.value), (first, 1));
        assert!(waiting.iter().all(|request| !request.is_finished()));
        place.feed("tide");
        for request in waiting {
            assert_eq!(request.await.expect("it does not panic"), 2);
        }
    });
}

#[test]
fn a_request_may_take_longer_than_the_server_gives_one_attempt() {
    let mut place = Place::with(|limits| limits.time_out = Duration::from_millis(100));
    let first = place.feed("tide");
    let request = place.client().request("words", "tide").at_least(first + 1);
    let asked = std::thread::spawn(move || request.send::<u64>());
    std::thread::sleep(Duration::from_millis(500));
    assert!(!asked.is_finished(), "it has a minute");
    let txid = place.feed("tide");
    let answer = asked.join().expect("it does not panic").expect("an answer");
    assert_eq!((answer.txid, answer.value), (txid, 2));
    // Without another attempt it is told how long it has waited.
    let client = Client::builder(place.url())
        .retries(0)
        .time_out(Duration::from_secs(60))
        .connect_blocking()
        .expect("an address");
    let outcome = client.request("words", "tide").at_least(1 << 40).send::<u64>();
    assert!(
        matches!(&outcome, Err(Error::TimedOut { after, .. }) if *after < Duration::from_secs(30)),
        "{outcome:?}"
    );
}

#[test]
fn who_has_written_something_reads_it() {
    let mut place = Place::with(|_| {});
    let first = place.feed("tide");
    let check = |place: &mut Place, request: blocking::Request, count: u64| {
        let asked = std::thread::spawn(move || request.send::<u64>());
        // It waits: there is nothing yet that it could be answered from.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!asked.is_finished());
        let txid = place.feed("tide");
        let answer = asked.join().expect("it does not panic").expect("an answer");
        assert_eq!((answer.txid, answer.value), (txid, count));
    };
    let client = place.client();
    check(&mut place, client.request("words", "tide").at_least(first + 1), 2);
    // The third record has offset 2.
    check(&mut place, client.request("words", "tide").at_least_position("sentences", "fed", 2), 3);
    let request =
        client.request("words", "tide").at_least(first).at_least_position("sentences", "fed", 0);
    assert_eq!(request.send::<u64>().expect("what is there already is not waited for").value, 3);
    let request =
        client.request("words", "tide").at_least(1 << 40).time_out(Duration::from_millis(30));
    assert!(matches!(request.send::<u64>(), Err(Error::TimedOut { .. })));
    let request = client.request("words", "tide").at_least_position("sentence", "fed", 0);
    assert!(
        matches!(request.send::<u64>(), Err(Error::BadRequest(why)) if why.contains("sentences"))
    );
}

#[test]
fn what_has_no_answer_says_why_and_what_to_do() {
    let mut place = Place::with(|limits| {
        limits.answer_bytes = 1000;
        limits.request_bytes = 2000;
    });
    place.feed("the tide");
    let client = place.client();
    let check = |outcome: Result<(), Error>, is: fn(&Error) -> bool, parts: &[&str]| {
        let error = outcome.expect_err("it has no answer");
        assert!(is(&error), "{error:?}");
        let text = error.to_string();
        assert!(parts.iter().chain(&[error.remedy()]).all(|part| text.contains(part)), "{text}");
    };
    let number = |name: &str, argument: &str| client.query::<_, u64>(name, argument).map(|_| ());
    check(
        number("word", "the"),
        |error| matches!(error, Error::NoSuchQuery { .. }),
        &["\"word\"", "words", "square", "ask one"],
    );
    let wrong = client.query::<_, Vec<String>>("repeat", "many").map(|_| ());
    check(wrong, |error| matches!(error, Error::BadRequest(_)), &["repeat", "u64"]);
    let wrong = client.query::<_, Vec<(String, u64)>>("words", "the").map(|_| ());
    check(wrong, |error| matches!(error, Error::WrongType { .. }), &["words", "one value"]);
    let wrong = client.query::<_, u8>("all", "").map(|_| ());
    check(wrong, |error| matches!(error, Error::WrongType { .. }), &["all", "a vector", "u8"]);
    check(number("longest", ""), |error| matches!(error, Error::NoValue { .. }), &["longest"]);
    let large = client.query::<_, Vec<String>>("repeat", &10_000u64).map(|_| ());
    check(large, |error| matches!(error, Error::TooLarge(_)), &["1000 bytes"]);
    check(
        number("words", &"x".repeat(3000)),
        |error| matches!(error, Error::TooLarge(_)),
        &["request", "2000"],
    );
    check(number("words", &"x".repeat(300_000)), |error| matches!(error, Error::TooLarge(_)), &[]);
    let failed = client.query::<_, Vec<String>>("fails", "bad").map(|_| ());
    check(failed, |error| matches!(error, Error::Failed(_)), &["no such word"]);
    // All of them have touched nothing.
    assert_eq!(client.query::<_, u64>("words", "the").expect("an answer").value, 1);
    check(
        Client::connect("tide").map(|_| ()),
        |error| matches!(error, Error::Settings(_)),
        &["tide", "http://127.0.0.1:7070"],
    );
    let tls = Client::connect("https://127.0.0.1:7070").map(|_| ());
    check(tls, |error| matches!(error, Error::Settings(_)), &["http://"]);
}

#[test]
fn a_request_that_takes_too_long_is_given_up_in_time() {
    let place = Place::with(|_| {});
    let client = place.client();
    let began = Instant::now();
    let request = client.request("words", "tide").at_least(1).time_out(Duration::from_millis(100));
    let outcome = request.send::<u64>();
    assert!(
        matches!(&outcome, Err(Error::TimedOut { after, .. }) if *after <= began.elapsed()),
        "{outcome:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(90));
    // Nobody there: it is tried again until the time is over.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|bound| bound.local_addr())
        .expect("a port");
    let client = Client::builder(url(nobody))
        .time_out(Duration::from_millis(200))
        .connect_blocking()
        .expect("an address");
    let (began, outcome) = (Instant::now(), client.query::<_, u64>("words", "tide"));
    assert!(
        matches!(&outcome, Err(Error::Unavailable(why)) if why.contains("cannot be reached")),
        "{outcome:?}"
    );
    assert!(
        began.elapsed() >= Duration::from_millis(50),
        "it was tried more than once: {:?}",
        began.elapsed()
    );
    // A server that takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = url(silent.local_addr().expect("an address"));
    let client = Client::builder(address)
        .time_out(Duration::from_millis(200))
        .connect_blocking()
        .expect("an address");
    let outcome = client.query::<_, u64>("words", "tide");
    assert!(matches!(&outcome, Err(Error::TimedOut { .. } | Error::Unavailable(_))), "{outcome:?}");
}

#[test]
fn who_has_not_the_token_is_refused_at_once_and_who_has_it_is_answered() {
    let mut place = Place::with(|_| ());
    place.feed("the tide");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "a-token-of-the-tests").expect("it can be written");
    let access = Access::default().with_token_file(file.path()).expect("a token");
    let listening =
        Listening::bind("127.0.0.1:0".parse().expect("an address"), access).expect("any port");
    let server = listening.serve(Arc::clone(place.kit.engine().runtime())).expect("it serves");
    let client = |token: Option<&str>| {
        let builder = Client::builder(url(server.address())).time_out(Duration::from_secs(60));
        let builder = token.into_iter().fold(builder, |builder, token| builder.token(token));
        builder.connect_blocking().expect("an address")
    };
    for wrong in [None, Some("a-token-of-the-test"), Some("another")] {
        let began = Instant::now();
        match client(wrong).query::<_, u64>("words", "the") {
            Err(error @ Error::Refused(_)) => {
                assert!(
                    error.to_string().contains("token") && !error.to_string().contains("a-token"),
                    "{error}"
                )
            }
            other => panic!("{wrong:?}: {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it is not asked again");
    }
    assert_eq!(
        client(Some("a-token-of-the-tests"))
            .query::<_, u64>("words", "the")
            .expect("an answer")
            .value,
        1
    );
}

#[test]
fn a_replaced_state_is_reported_once_and_then_taken() {
    let mut place = Place::with(|_| {});
    for _ in 0..5 {
        place.feed("tide");
    }
    let client = place.client();
    let old = client.query::<_, u64>("words", "tide").expect("an answer");
    let address = place.server.address();
    drop(place);
    // Another state, at the same address.
    let mut kit = Kit::new(words::topology);
    kit.feed("sentences", ["tide".to_string()]);
    kit.step();
    let _server =
        Server::start(address, Arc::clone(kit.engine().runtime())).expect("it is free again");
    let other = client.clone();
    match client.query::<_, u64>("words", "tide") {
        Err(Error::StateReplaced { was, now }) => {
            assert_eq!((was, now), (old.lineage, kit.engine().runtime().status().lineage));
        }
        other => panic!("{other:?}"),
    }
    for client in [client, other] {
        let new = client.query::<_, u64>("words", "tide").expect("the new state is taken");
        assert_eq!((new.txid, new.value), (1, 1));
    }
}

fn channel(place: &Place) -> Channel {
    Endpoint::from_shared(place.url()).expect("an address").connect_lazy()
}

async fn call<Sent, Received>(
    channel: &Channel,
    path: &'static str,
    message: Sent,
) -> Result<Received, tonic::Status>
where
    ProtoCodec<Sent, Received>: Codec<Encode = Sent, Decode = Received>,
    Sent: Send + Sync + 'static,
    Received: Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("it can be reached");
    let codec = ProtoCodec::<Sent, Received>::default();
    grpc.unary(tonic::Request::new(message), http::uri::PathAndQuery::from_static(path), codec)
        .await
        .map(tonic::Response::into_inner)
}

#[test]
fn the_health_service_says_whether_queries_are_answered() {
    let mut place = Place::with(|_| {});
    block_on(async {
        let channel = channel(&place);
        let check = async |service: &str| {
            let request = HealthCheckRequest { service: service.into() };
            call::<_, HealthCheckResponse>(&channel, path::HEALTH_CHECK, request)
                .await
                .map(|response| response.status)
        };
        for service in ["", tidemill_proto::SERVICE] {
            assert_eq!(check(service).await.expect("it answers"), ServingStatus::Serving as i32);
        }
        assert_eq!(check("other").await.expect_err("unknown").code(), Code::NotFound);
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.expect("it can be reached");
        let watched = http::uri::PathAndQuery::from_static(path::HEALTH_WATCH);
        let codec = ProtoCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let watch = grpc
            .server_streaming(tonic::Request::new(HealthCheckRequest::default()), watched, codec)
            .await;
        let mut watch = watch.expect("it answers").into_inner();
        assert_eq!(
            watch.message().await.expect("no error").expect("a status").status,
            ServingStatus::Serving as i32
        );
        place.kit.kill();
        assert_eq!(
            watch.message().await.expect("no error").expect("a status").status,
            ServingStatus::NotServing as i32
        );
        assert_eq!(check("").await.expect("it answers"), ServingStatus::NotServing as i32);
        let request = QueryRequest {
            name: "count".into(),
            arguments: b"\"a\"".into(),
            encoding: 1,
            ..QueryRequest::default()
        };
        let away = call::<_, QueryResponse>(&channel, path::QUERY, request)
            .await
            .expect_err("it is stopped");
        assert_eq!(away.code(), Code::Unavailable);
    });
}

/// A request of a pipeline, in JSON.
fn json(number: u64, name: &str, arguments: &str) -> QueryRequest {
    QueryRequest {
        number,
        name: name.into(),
        arguments: arguments.into(),
        encoding: Encoding::Json.into(),
        ..QueryRequest::default()
    }
}

/// The answers to these requests, all sent at once, in the order in which they come.
async fn pipeline(channel: &Channel, requests: Vec<QueryRequest>) -> Vec<QueryResponse> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("it can be reached");
    let codec = ProtoCodec::<QueryRequest, QueryResponse>::default();
    let requests = tonic::Request::new(futures_util::stream::iter(requests));
    let answers =
        grpc.streaming(requests, http::uri::PathAndQuery::from_static(path::PIPELINE), codec).await;
    answers
        .expect("it answers")
        .into_inner()
        .map(|answer| answer.expect("no error"))
        .collect()
        .await
}

#[test]
fn a_pipeline_answers_each_request_once_and_fast_ones_first() {
    let mut place = Place::with(|_| {});
    let txid = place.feed("the man on the moon");
    block_on(async {
        let channel = channel(&place);
        // The first request waits for a batch that does not come in its time.
        let slow =
            QueryRequest { at_least_txid: 1 << 40, timeout_ms: 500, ..json(0, "words", "\"the\"") };
        let more = (1..1000).map(|n| match n % 4 {
            0 => json(n, "words", "\"the\""),
            1 => json(n, "all", "\"\""),
            2 => json(n, "word", "\"the\""),
            _ => json(n, "words", "3"),
        });
        let answers = pipeline(&channel, std::iter::once(slow).chain(more).collect()).await;
        let mut numbers: Vec<u64> = answers.iter().map(|answer| answer.number).collect();
        assert_eq!(numbers.last(), Some(&0), "nothing waits for the slow one");
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        for answer in answers {
            let kind = answer.error.as_ref().map(|error| error.kind);
            let expected = match answer.number {
                0 => Some(ErrorKind::TimedOut),
                n if n % 4 == 2 => Some(ErrorKind::NoSuchQuery),
                n if n % 4 == 3 => Some(ErrorKind::BadRequest),
                _ => None,
            };
            assert_eq!(kind, expected.map(i32::from), "{answer:?}");
            if kind.is_none() {
                assert_eq!((answer.txid, answer.one), (txid, answer.number % 4 == 0));
            }
            if answer.number > 0 && answer.number % 4 == 0 {
                assert_eq!(answer.result, b"2");
            }
        }
        let held = QueryRequest {
            at_least_position: vec![Position {
                source: "sentences".into(),
                partition: "fed".into(),
                offset: 0,
            }],
            ..json(1, "words", "\"the\"")
        };
        assert_eq!(pipeline(&channel, vec![held]).await[0].result, b"2");
        let other_lineage = QueryRequest { lineage: "0".repeat(16), ..json(1, "words", "\"the\"") };
        let error =
            pipeline(&channel, vec![other_lineage]).await.remove(0).error.expect("another lineage");
        assert_eq!(
            (error.kind, error.lineage),
            (ErrorKind::StateReplaced.into(), place.kit.engine().runtime().status().lineage)
        );
    });
}

#[test]
fn a_connection_has_a_bound_on_requests_under_way() {
    let place = Place::with(|limits| limits.per_client = 10);
    block_on(async {
        let (channel, other) = (channel(&place), channel(&place));
        let waiting = |number| QueryRequest {
            at_least_txid: 1,
            timeout_ms: 500,
            ..json(number, "count", "\"a\"")
        };
        let counts = |answers: Vec<QueryResponse>| {
            let count = |kind: ErrorKind| {
                answers
                    .iter()
                    .filter(|answer| {
                        answer.error.as_ref().is_some_and(|error| error.kind == i32::from(kind))
                    })
                    .count()
            };
            (answers.len(), count(ErrorKind::TooMany), count(ErrorKind::TimedOut))
        };
        // Two calls of one connection share its bound; another connection has its own.
        let many = |channel: &Channel| {
            let channel = channel.clone();
            async move { pipeline(&channel, (0..20).map(waiting).collect()).await }
        };
        let (one, two, third) = tokio::join!(many(&channel), many(&channel), many(&other));
        let (one, two) = (counts(one), counts(two));
        assert_eq!((one.0 + two.0, one.1 + two.1, one.2 + two.2), (40, 30, 10));
        assert_eq!(counts(third), (20, 10, 10));
        // So do requests over HTTP, of which HTTP/2 has many on one connection.
        let mut channel_of_http = self::channel(&place);
        let ask = |at_least: u64| {
            http::Request::post(format!("/v1/query/count?timeout_ms=500&at_least={at_least}"))
                .header("content-type", "application/json")
                .body(tonic::body::Body::new(String::from("\"a\"")))
                .expect("a request")
        };
        let mut asked = FuturesUnordered::new();
        for _ in 0..20 {
            std::future::poll_fn(|context| GrpcService::poll_ready(&mut channel_of_http, context))
                .await
                .expect("it is there");
            asked.push(GrpcService::call(&mut channel_of_http, ask(1)));
        }
        let mut statuses = Vec::new();
        while let Some(answer) = asked.next().await {
            statuses.push(answer.expect("an answer").status().as_u16());
        }
        let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
        assert_eq!((count(429), count(504)), (10, 10), "{statuses:?}");
        // What is over makes room.
        let answers =
            pipeline(&channel, (0..10).map(|n| json(n, "count", "\"a b\"")).collect()).await;
        assert!(answers.iter().all(|answer| answer.result == b"2"), "{answers:?}");
    });
}
