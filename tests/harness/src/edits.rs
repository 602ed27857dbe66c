//! The bundled edits of Wikipedia: an independent recount, and what `wiki_trends` answers of them.

use flate2::read::GzDecoder;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// The bundled edits.
pub fn file() -> PathBuf {
    super::checkout::root().join(EDITS)
}

const EDITS: &str = "examples/data/wikipedia-edits-2015-09-12.json.gz";

/// How often each value of each kind was there in each minute: counted from the file, the first
/// `edits` of them.
pub fn recount(edits: usize) -> BTreeMap<(String, String, String), u64> {
    let file = File::open(file()).expect("the example data is there");
    let mut counts = BTreeMap::new();
    for line in BufReader::new(GzDecoder::new(file)).lines().take(edits) {
        let edit: Json = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let minute = edit["time"].as_str().expect("a time")[..16].to_string();
        let flag = |name: &str, yes: &str, no: &str| {
            if edit[name] == true { yes.to_string() } else { no.to_string() }
        };
        for (by, value) in [
            ("action", flag("isNew", "new page", "edit")),
            ("robot", flag("isRobot", "bot", "human")),
            ("anonymous", flag("isAnonymous", "anonymous", "logged-in")),
            ("channel", edit["channel"].as_str().expect("a text").to_string()),
            ("namespace", edit["namespace"].as_str().expect("a text").to_string()),
        ] {
            *counts.entry((by.to_string(), minute.clone(), value)).or_default() += 1;
        }
    }
    counts
}

/// Asks a query over HTTP, and returns the answer's JSON.
pub fn ask(url: &str, query: &str, arguments: &Json) -> Json {
    let answer = ureq::post(format!("{url}/v1/query/{query}")).send(arguments.to_string());
    let text = answer.expect("it answers").body_mut().read_to_string().expect("a text");
    serde_json::from_str(&text).expect("JSON")
}

/// What the demo answers: the same, and the batch that it is of.
pub fn trends(url: &str) -> (u64, BTreeMap<(String, String, String), u64>) {
    let (mut counts, mut batches) = (BTreeMap::new(), Vec::new());
    for by in ["action", "robot", "anonymous", "channel", "namespace"] {
        let answer = ask(url, "trend", &json!(["", "", by]));
        batches.push(answer["txid"].as_u64().expect("a number"));
        for row in answer["result"].as_array().expect("rows") {
            let text = |at: usize| row[at].as_str().expect("a text").to_string();
            counts.insert((by.to_string(), text(0), text(1)), row[2].as_u64().expect("a count"));
        }
    }
    assert!(
        batches.iter().all(|batch| *batch == batches[0]),
        "nothing was committed between them: {batches:?}"
    );
    (batches[0], counts)
}
