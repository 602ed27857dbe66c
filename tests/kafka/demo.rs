//! The demo from a topic: what it counts is what is in the file, however often it is killed.

use serde_json::{Value as Json, json};
use tidemill_harness::binary::{Running, folder, run};
use tidemill_harness::broker::Broker;
use tidemill_harness::edits::{ask, recount, trends};

/// How many edits are in committed batches, by the topic's offsets.
fn counted(status: &Json) -> u64 {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions.filter_map(|partition| partition["offset"].as_u64()).sum()
}

#[test]
fn the_demo_counts_a_topic_as_it_counts_the_file_also_when_it_is_killed() {
    let brokers = Broker::shared().address();
    run("load_edits", &["--kafka", &brokers, "--topic", "edits"]).is("load_edits", 0, &[]);
    let folder = folder();
    let state = folder.path().join("state");
    let state = state.to_str().expect("UTF-8");
    let start = |more: &[&str]| {
        let from = [
            "run",
            "--state",
            state,
            "--kafka",
            &brokers,
            "--topic",
            "edits",
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "2",
        ];
        let mut running = Running::start("wiki_trends", &[&from[..], more].concat());
        running.says("listening on");
        running
    };
    // Small batches, so that it is in the middle for a while.
    for killed in 1..=2 {
        let mut running = start(&["--max-batch-records", "20"]);
        running.get_until("/v1/status", |status| counted(status) >= 5_000 * killed);
        running.kill();
    }
    let mut running = start(&[]);
    let all = recount(usize::MAX);
    // A topic has no end: it is done when every edit is counted.
    running.get_until("/v1/status", |status| counted(status) == 39_244);
    let url = running.url();
    assert_eq!(trends(&url).1, all);
    assert_eq!(
        ask(&url, "top", &json!(1))["result"][0],
        json!(["Wikipedia:Vandalismusmeldung", 33])
    );
}
