//! The demo and its page: what is counted is what is in the file, whatever is killed; and the page
//! comes from this program alone.

use flate2::read::GzDecoder;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use tidemill_harness::binary::{Running, folder};
use tidemill_harness::edits::{ask, recount, trends};

/// An answer about the changes by `by`, with the batch that it is from.
#[track_caller]
fn trend(running: &mut Running, by: &'static str) -> (&'static str, Json, Json) {
    let answer = ask(&running.url(), "trend", &json!(["", "", by]));
    let (_, batch) = running.get(&format!("/v1/batches/{}", answer["txid"]));
    (by, answer, batch)
}

/// Checks that an answer counts what is in the file up to its batch.
#[track_caller]
fn assert_exact((by, answer, batch): &(&str, Json, Json)) {
    let upto = batch["ranges"][0]["end"]
        .as_u64()
        .unwrap_or_else(|| panic!("a batch covers some edits: {answer} {batch}"));
    let mut counts = recount(usize::try_from(upto).expect("few enough"));
    counts.retain(|(kind, _, _), _| kind == by);
    let rows = answer["result"].as_array().expect("rows").iter();
    let text = |row: &Json, at: usize| row[at].as_str().expect("a text").to_string();
    let rows = rows.map(|row| {
        ((by.to_string(), text(row, 0), text(row, 1)), row[2].as_u64().expect("a count"))
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), counts, "{by} as of batch {}", answer["txid"]);
}

fn start(state: &Path, more: &[&str]) -> Running {
    let state = state.to_str().expect("UTF-8");
    Running::start(
        "wiki_trends",
        &[&["run", "--state", state, "--listen", "127.0.0.1:0"], more].concat(),
    )
}

#[test]
fn the_demo_counts_what_is_in_the_file_also_when_it_is_killed() {
    let folder = folder();
    let state = folder.path().join("state");
    for killed in 1..=3 {
        let mut running = start(&state, &["--speed", "4000", "--workers", "2"]);
        running.says("listening on");
        // So far into the day that each run has some of it, unless the one before was held up until
        // its end.
        let status = running.get_until("/v1/status", |status| {
            let far = status["partitions"][0]["offset"].as_u64() >= Some(9_000 * killed);
            status["partitions"][0]["ended"] == true
                || (far && status["records"].as_u64() > Some(0))
        });
        if status["records"] == 0 {
            running.kill();
            break;
        }
        let answers = ["robot", "channel"].map(|by| trend(&mut running, by));
        // The recount takes time, in which a run would come to the end of the file.
        running.kill();
        answers.iter().for_each(assert_exact);
    }
    let mut running = start(&state, &["--speed", "1000000"]);
    running.says("all sources are at their end");
    let url = running.url();
    let (txid, counts) = trends(&url);
    assert_eq!(running.get("/v1/status").1["committed"], txid);
    assert_eq!(counts, recount(usize::MAX));
    let answer = ask(&url, "top", &json!(2));
    assert_eq!(answer["result"][0], json!(["Wikipedia:Vandalismusmeldung", 33]), "{answer}");
    assert_eq!(ask(&url, "page", &json!("Jeremy Corbyn"))["result"], json!([27]));
    let part = ask(&url, "trend", &json!(["2015-09-12T06:00", "2015-09-12T06:01", "robot"]));
    assert_eq!(
        part["result"].as_array().map(Vec::len),
        Some(4),
        "two minutes of two values: {part}"
    );
}

#[test]
fn the_page_comes_from_the_program_under_a_strict_policy() {
    let folder = folder();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").expect("written");
    let mut running = start(
        &folder.path().join("state"),
        &["--speed", "1000000", "--token-file", token.to_str().expect("UTF-8")],
    );
    running.says("listening on");
    let url = running.url();
    let fetch = |path: &str, gzip: bool| {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let encoding = if gzip { "gzip" } else { "identity" };
        let mut answer = agent
            .get(format!("{url}{path}"))
            .header("accept-encoding", encoding)
            .call()
            .expect("it answers");
        let body = answer.body_mut().read_to_vec().expect("a body");
        (answer.status().as_u16(), answer.headers().clone(), body)
    };
    let header = |headers: &ureq::http::HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().expect("a text").to_string())
    };
    let (code, headers, page) = fetch("/", false);
    let page = String::from_utf8(page).expect("UTF-8");
    assert_eq!(code, 200, "the page asks for the token, not the port for its files");
    let policy = header(&headers, "content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';")
            && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let host = url.trim_start_matches("http://");
    assert!(
        policy.contains(&format!("connect-src 'self' ws://{host} wss://{host};")),
        "to this port alone: {policy}"
    );
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "nothing comes from elsewhere: {page}"
    );
    assert_eq!(fetch("/v1/status", false).0, 401, "the data is another matter");
    let assets: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    if assets.is_empty() {
        assert!(page.contains("make page"), "without the page it is said how to get it: {page}");
        assert!(
            std::env::var_os("TIDEMILL_TEST_BROWSER").is_none(),
            "the page is not built, and TIDEMILL_TEST_BROWSER says that it is"
        );
    }
    let mut packed = 0;
    for asset in assets {
        let (code, headers, plain) = fetch(asset, false);
        assert_eq!(code, 200, "{asset}");
        assert!(
            header(&headers, "cache-control").is_some_and(|how| how.contains("immutable")),
            "{asset}"
        );
        let (_, headers, body) = fetch(asset, true);
        assert_eq!(header(&headers, "content-encoding").as_deref(), Some("gzip"), "{asset}");
        packed += body.len();
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut GzDecoder::new(&body[..]), &mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain, "{asset}");
    }
    assert!(packed < 200 << 10, "the first view is small: {packed} bytes");
    let (code, headers, _) = fetch("/assets/gone.js", false);
    assert_eq!(code, 404);
    assert!(header(&headers, "x-content-type-options").is_some_and(|how| how == "nosniff"));
}
