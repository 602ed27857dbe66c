//! `status`: what runs, as it says itself.

use super::arguments::At;
use super::output::{columns, pretty, print, size, thousands};
use super::remote::Remote;
use serde_json::Value as Json;
use tidemill_engine::Clock;
use tidemill_state::type_names::readable;
use tidemill_state::{Result, printable};

/// Prints what the topology at this address says of itself.
pub(super) fn status(at: &At, json: bool) -> Result<()> {
    let status = Remote::of(at)?.get("/v1/status")?.or_error()?;
    print(&if json { pretty(&status) } else { summary(&status) })
}

/// The status for a person. What an other version does not say is left out.
fn summary(status: &Json) -> String {
    let text = |name: &str| line_of(status, name);
    if status["phase"] == "starting" && status["committed"].is_null() {
        let waits = status["waiting"].as_str().map(|why| {
            format!(", waiting {}: {}", since(&status["waiting_since_ms"]), printable::line(why))
        });
        return format!("{}: starting{}\n", text("topology"), waits.unwrap_or_default());
    }
    let mut lines = format!(
        "{}: {}, batch {} committed\n",
        text("topology"),
        text("phase"),
        number_of(status, "committed")
    );
    lines += &columns(&[figures(status), remarks(status)].concat());
    lines += &section("partitions", &rows(&status["partitions"], partition));
    lines += &section("states", &rows(&status["states"], state));
    lines + &section("sinks", &rows(&status["sinks"], sink))
}

/// The facts that every run has.
fn figures(status: &Json) -> Vec<[String; 2]> {
    let text = |name: &str| line_of(status, name);
    let number = |name: &str| number_of(status, name);
    let per_second = |name: &str| status[name].as_f64().unwrap_or(0.0);
    vec![
        [
            "run".into(),
            format!(
                "{} on lineage {}, {} workers, {}",
                text("incarnation"),
                text("lineage"),
                number("workers"),
                since(&status["started_at_ms"])
            ),
        ],
        [
            "records".into(),
            format!(
                "{} committed in this run; now {}/s in {:.1} batches/s",
                number("records"),
                thousands(per_second("records_per_s").round() as u64),
                per_second("batches_per_s")
            ),
        ],
        [
            "log".into(),
            format!(
                "{} committed and not folded",
                size(status["unfolded_bytes"].as_u64().unwrap_or(0))
            ),
        ],
        [
            "slices".into(),
            format!(
                "the longest took {} µs; generations: {}",
                number("longest_slice_us"),
                number("generations")
            ),
        ],
    ]
}

/// The facts that only some runs have: what happened to them, and what they wait for.
fn remarks(status: &Json) -> Vec<[String; 2]> {
    let mut remarks = Vec::new();
    if status["sources_at_end"] == true {
        remarks.push(["sources".into(), "all at their end".into()]);
    }
    for (operator, count) in status["set_aside"].as_object().into_iter().flatten() {
        remarks.push([
            "set aside".into(),
            format!("{} records at {operator}", thousands(count.as_u64().unwrap_or(0))),
        ]);
    }
    for notice in status["notices"].as_array().into_iter().flatten() {
        remarks.push(["notice".into(), notice.as_str().unwrap_or_default().to_string()]);
    }
    for (name, label) in [("waiting", "waiting"), ("last_error", "last error")] {
        if let Some(text) = status[name].as_str() {
            remarks.push([label.into(), text.to_string()]);
        }
    }
    remarks
}

/// The text of a field, on one line.
fn line_of(status: &Json, name: &str) -> String {
    printable::line(status[name].as_str().unwrap_or("?")).into_owned()
}

/// The number of a field, with its thousands apart.
fn number_of(status: &Json, name: &str) -> String {
    thousands(status[name].as_u64().unwrap_or(0))
}

fn rows(list: &Json, row: fn(&Json) -> [String; 4]) -> Vec<[String; 4]> {
    list.as_array().into_iter().flatten().map(row).collect()
}

fn section(title: &str, rows: &[[String; 4]]) -> String {
    if rows.is_empty() { String::new() } else { format!("{title}\n{}", columns(rows)) }
}

fn text_of(of: &Json, name: &str) -> String {
    of[name].as_str().unwrap_or("?").to_string()
}

fn partition(of: &Json) -> [String; 4] {
    let lag = match (of["ended"].as_bool(), of["lag"].as_u64()) {
        (Some(true), _) => "at its end".to_string(),
        (_, Some(lag)) => format!("lag {}", thousands(lag)),
        (_, None) => "lag unknown".to_string(),
    };
    let skipped = of["skipped"]
        .as_u64()
        .filter(|skipped| *skipped > 0)
        .map_or(String::new(), |skipped| format!(", {} skipped", thousands(skipped)));
    let trouble = of["trouble"]
        .as_str()
        .map_or(String::new(), |why| format!(", {why} ({})", since(&of["trouble_since_ms"])));
    [
        text_of(of, "source"),
        text_of(of, "partition"),
        format!("at {}", thousands(of["offset"].as_u64().unwrap_or(0))),
        lag + &skipped + &trouble,
    ]
}

fn state(of: &Json) -> [String; 4] {
    let types = format!("{} -> {}", readable(&text_of(of, "key")), readable(&text_of(of, "value")));
    [
        text_of(of, "name"),
        types,
        format!("{} keys", thousands(of["keys"].as_u64().unwrap_or(0))),
        String::new(),
    ]
}

fn sink(of: &Json) -> [String; 4] {
    let error = of["error"]
        .as_str()
        .map_or(String::new(), |error| format!("{error} ({})", since(&of["error_since_ms"])));
    let published = format!("holds batch {}", thousands(of["published"].as_u64().unwrap_or(0)));
    [
        text_of(of, "name"),
        published,
        format!("{} unconfirmed", size(of["backlog_bytes"].as_u64().unwrap_or(0))),
        error,
    ]
}

/// Returns the time since a moment, which is given in milliseconds since 1970, in words.
fn since(moment_ms: &Json) -> String {
    let now = Clock::default().now_ms();
    let seconds = now.saturating_sub(moment_ms.as_u64().unwrap_or(now)) / 1000;
    match seconds {
        0..120 => format!("for {seconds} s"),
        120..7200 => format!("for {} min", seconds / 60),
        _ => format!("for {} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_readable_and_one_that_says_less_is_too() {
        let full = summary(&json!({
            "topology": "word_count", "phase": "running", "committed": 1234, "lineage": "0a", "incarnation": "3-0b", "workers": 2, "records": 98765,
            "records_per_s": 1500.4, "batches_per_s": 2.5, "waiting": "the outbox is full", "unfolded_bytes": 2048,
            "partitions": [{"source": "s", "partition": "a.txt", "offset": 10, "lag": 5, "skipped": 0, "ended": false}],
            "states": [{"name": "counts", "key": "compact_str::CompactString", "value": "u64", "keys": 7}],
            "sinks": [{"name": "out", "published": 3, "backlog_bytes": 0, "error": null}],
        }));
        for part in [
            "word_count: running, batch 1,234",
            "98,765",
            "1,500/s",
            "the outbox is full",
            "2.0 KiB",
            "a.txt",
            "lag 5",
            "Str -> u64",
            "7 keys",
            "batch 3",
        ] {
            assert!(full.contains(part), "{part} is not in\n{full}");
        }
        assert!(summary(&json!({})).starts_with("?: ?, batch 0"));
        let starting = json!({"topology": "t", "phase": "starting", "waiting": "the broker is \
            away", "waiting_since_ms": 0});
        assert!(
            summary(&starting).starts_with("t: starting, waiting for ")
                && summary(&starting).contains("the broker is away")
        );
    }
}
