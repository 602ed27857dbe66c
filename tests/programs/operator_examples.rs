//! The examples of operators as their users run them: `top_pages`, `bank`, `enrich`,
//! `dead_letters`.

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use tidemill_harness::binary::{Running, folder, run, scan};
use tidemill_harness::edits;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The answer of a query of a running example.
fn ask(program: &str, running: &mut Running, query: &str, arguments: &str) -> Json {
    let url = running.url();
    let answer = run(program, &["query", query, arguments, "--at", &url]);
    serde_json::from_str(&answer.is(query, 0, &[]).out).expect("JSON")
}

#[test]
fn the_top_pages_are_those_of_a_plain_count() {
    let folder = folder();
    let state = folder.path().join("state");
    let mut running =
        Running::start("top_pages", &["run", "--state", text(&state), "--listen", "127.0.0.1:0"]);
    running.get_until("/v1/status", |status| {
        status["records"] == 39_244 && status["sources_at_end"] == true
    });
    let top = ask("top_pages", &mut running, "top", "null");
    let rows: Vec<(String, (u64, u64))> = serde_json::from_value(top).expect("rows");
    assert_eq!(rows.len(), 10);
    let file = std::fs::File::open(edits::file()).expect("the edits");
    let mut pages: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(flate2::read::GzDecoder::new(file)))
    {
        let edit: Json = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let page = pages.entry(edit["page"].as_str().expect("a page").to_string()).or_default();
        *page = (page.0 + 1, page.1 + edit["added"].as_u64().expect("a number"));
    }
    for (page, counts) in &rows {
        assert_eq!(pages.get(page), Some(counts), "{page}");
    }
    assert!(rows.is_sorted_by(|one, other| one.1.0 >= other.1.0), "{rows:?}");
    let least = rows[9].1.0;
    assert!(pages.values().filter(|counts| counts.0 > least).count() < 10, "none is left out");
    let page = ask("top_pages", &mut running, "page", "\"Jeremy Corbyn\"");
    assert_eq!(page, json!([pages["Jeremy Corbyn"]]));
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
}

#[test]
fn i5_the_total_of_the_bank_never_changes_also_when_it_is_killed() {
    let folder = folder();
    let state = folder.path().join("state");
    let arguments =
        ["run", "--state", text(&state), "--listen", "127.0.0.1:0", "--max-batch-records", "2000"];
    let check = |running: &mut Running| {
        let total = ask("bank", running, "total", "null");
        let (number, total): (u64, u64) = serde_json::from_value(total).expect("two numbers");
        assert_eq!(total, number * 1_000, "what {number} accounts have");
        total
    };
    for workers in ["1", "2", "4"] {
        let mut running =
            Running::start("bank", &[&arguments[..], &["--workers", workers]].concat());
        let before = running.get("/v1/status").1["committed"].as_u64().unwrap_or(0);
        running.get_until("/v1/status", |status| status["committed"].as_u64() > Some(before + 20));
        for _ in 0..5 {
            check(&mut running);
        }
        running.kill();
    }
    let mut running = Running::start("bank", &arguments);
    running.get_until("/v1/status", |status| status["sources_at_end"] == true);
    assert_eq!(check(&mut running), 100_000);
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
    let rejected: u64 = scan("bank", "rejected", &state).into_iter().map(|(_, count)| count).sum();
    assert_eq!(rejected, plainly_rejected(), "the rule has seen every transfer once, in order");
}

/// How many transfers a plain loop over the same transfers rejects.
fn plainly_rejected() -> u64 {
    let mut balances = [1_000u64; 100];
    let mut rejected = 0;
    for number in 0..1_000_000u64 {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (from, to, amount) =
            (mixed as usize % 100, mixed as usize / 100 % 100, mixed / 10_000 % 2_000);
        if balances[from] < amount {
            rejected += 1;
        } else {
            balances[from] -= amount;
            balances[to] += amount;
        }
    }
    rejected
}

#[test]
fn every_order_is_priced_or_missed() {
    let folder = folder();
    let state = folder.path().join("state");
    run("enrich", &["run", "--state", text(&state), "--listen", "none", "--exit-at-end"]).is(
        "run",
        0,
        &["110,000 records"],
    );
    let (turnover, missed) = (scan("enrich", "turnover", &state), scan("enrich", "missed", &state));
    assert_eq!(
        turnover.iter().map(|(item, _)| &**item).collect::<Vec<_>>(),
        ["honey", "lemon", "milk", "sugar", "tea"]
    );
    let sum = |counts: &[(String, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
    assert!(sum(&missed) < 50_000, "most are priced: {missed:?}");
    assert_eq!(
        sum(&scan("enrich", "sold", &state)) + sum(&missed),
        100_000,
        "each is one or the other, once"
    );
    assert_eq!(
        scan("enrich", "prices", &state)
            .iter()
            .filter(|(_, price)| *price < 100 || *price >= 150)
            .count(),
        0
    );
}

#[test]
fn what_cannot_be_read_is_in_the_letters_once_and_the_rest_is_counted() {
    let folder = folder();
    let (state, letters) = (folder.path().join("state"), folder.path().join("letters.jsonl"));
    let arguments = [
        "run",
        "--state",
        text(&state),
        "--letters",
        text(&letters),
        "--listen",
        "none",
        "--exit-at-end",
    ];
    run("dead_letters", &arguments).is("run", 0, &["100,000 records"]);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut bad = Vec::new();
    for number in 0..100_000u64 {
        if number % 1_000 == 999 || number == 12_345 || number == 67_890 {
            bad.push(number);
        } else {
            *expected.entry(format!("sensor-{}", number % 7)).or_default() += number % 100;
        }
    }
    assert_eq!(
        scan("dead_letters", "sums", &state).into_iter().collect::<BTreeMap<_, _>>(),
        expected
    );
    let letters = std::fs::read_to_string(&letters).expect("the letters");
    let letters: Vec<Json> =
        letters.lines().map(|letter| serde_json::from_str(letter).expect("JSON")).collect();
    let mut offsets: Vec<u64> =
        letters.iter().map(|letter| letter["offset"].as_u64().expect("it is known")).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, bad);
    let reads = |letter: &&Json| {
        letter["error"].as_str().is_some_and(|error| error.contains("reads 1000000"))
    };
    assert_eq!(letters.iter().filter(reads).count(), 2);
}
