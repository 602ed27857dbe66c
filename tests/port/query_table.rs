//! What queries answer, as a table: over HTTP as JSON, and over Storm's paths.

use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use tidemill::server::Server;
use tidemill::testing::Kit;
use tidemill_harness::words::{self, Answer, Row};

/// The status and the JSON that are answered; `body` is posted.
fn ask(url: &str, body: Option<String>) -> (u16, Json) {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .proxy(None);
    let agent = config.build().new_agent();
    let answer = match body {
        Some(body) => agent.post(url).send(body),
        None => agent.get(url).call(),
    };
    let mut answer = answer.unwrap_or_else(|why| panic!("{url}: {why}"));
    let text = answer.body_mut().read_to_string().unwrap_or_else(|why| panic!("{url}: {why}"));
    (
        answer.status().as_u16(),
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{url}: {why}: {text}")),
    )
}

/// What a row's answer has in it; `rows` are its outputs, each of them an array of its parts.
fn answer_of(row: &Row, rows: Vec<Vec<Json>>) -> Answer {
    let text = |part: &Json| {
        part.as_str().unwrap_or_else(|| panic!("{} answers no text: {part}", row.query)).to_string()
    };
    let number = |part: &Json| {
        part.as_u64().unwrap_or_else(|| panic!("{} answers no number: {part}", row.query))
    };
    match row.query {
        "all" | "twice" => {
            Answer::Counts(rows.iter().map(|parts| (text(&parts[0]), number(&parts[1]))).collect())
        }
        "either" | "fails" => Answer::Words(rows.iter().map(|parts| text(&parts[0])).collect()),
        _ => {
            assert_eq!(rows.len(), 1, "{} answers one number", row.query);
            Answer::Number(number(&rows[0][0]))
        }
    }
}

/// The last part of what an error says.
fn fails(why: &Json) -> Answer {
    Answer::Fails(
        why.as_str().and_then(|why| why.split(": ").last()).expect("it says why").to_string(),
    )
}

fn array(of: &Json) -> Vec<Json> {
    of.as_array().unwrap_or_else(|| panic!("no array: {of}")).clone()
}

fn over_http(base: &str, row: &Row) -> Answer {
    let (status, answer) =
        ask(&format!("{base}/v1/query/{}", row.query), Some(json!(row.argument).to_string()));
    if status == 500 {
        return fails(&answer["error"]["what"]);
    }
    assert_eq!(status, 200, "{}: {answer}", row.query);
    let rows = match &answer["result"] {
        Json::Array(rows) => rows
            .iter()
            .map(|row| if row.is_array() { array(row) } else { vec![row.clone()] })
            .collect(),
        one => vec![vec![one.clone()]],
    };
    answer_of(row, rows)
}

fn over_storms_paths(base: &str, row: &Row) -> Answer {
    let (status, answer) =
        ask(&format!("{base}/drpc/{}/{}", row.query, row.argument.replace(' ', "%20")), None);
    if status == 400 {
        return fails(&answer["errorMessage"]);
    }
    assert_eq!(status, 200, "{}: {answer}", row.query);
    answer_of(row, array(&answer).iter().map(array).collect())
}

fn check(ask: fn(&str, &Row) -> Answer) {
    for workers in 1..=2 {
        words::check(workers, |kit: &Kit| {
            let server = Server::start(
                "127.0.0.1:0".parse().expect("an address"),
                Arc::clone(kit.engine().runtime()),
            );
            let server = server.expect("any port");
            let base = format!("http://{}", server.address());
            Box::new(move |row| {
                let _serving = &server;
                ask(&base, row)
            })
        });
    }
}

#[test]
fn the_table_of_answers_holds_over_http() {
    check(over_http);
}

#[test]
fn the_table_of_answers_holds_over_storms_paths() {
    check(over_storms_paths);
}
