//! The baseline of the benchmarks: each entry is a figure that a benchmark prints.

use serde_json::Value;

#[test]
fn every_entry_of_the_baseline_is_a_figure_of_a_benchmark() {
    let text = crate::read(&crate::root().join("benches/baseline.json"));
    let baseline: Value = serde_json::from_str(&text).expect("the baseline is JSON");
    let entries = baseline["entries"].as_array().expect("a list of entries");
    let offenders = entries
        .iter()
        .filter_map(|entry| wrong_in(entry, &baseline).map(|why| format!("{entry}: {why}")));
    crate::nothing_in("wrong entries of benches/baseline.json", offenders);
    assert!(entries.len() > 20, "the baseline was read");
    // `scripts/bench-baseline.sh` reads it line by line.
    let lines = text.lines().filter(|line| line.contains("\"bench\":")).count();
    assert_eq!(lines, entries.len(), "each entry has a line of its own");
}

/// Returns the first fault of an entry.
fn wrong_in(entry: &Value, baseline: &Value) -> Option<String> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let source = crate::root().join("benches").join(format!("{}.rs", text("bench")));
    if !source.exists() {
        return Some(format!("there is no {}", source.display()));
    }
    if !crate::read(&source).contains(&format!(" {}=", text("figure"))) {
        return Some(format!("{} prints no such figure", source.display()));
    }
    if baseline["machines"].get(text("machine")).is_none() {
        return Some("the machine is not described".to_owned());
    }
    if !["higher", "lower"].contains(&text("better")) {
        return Some("neither a higher nor a lower figure is better".to_owned());
    }
    let bounds = (entry["least"].as_f64(), entry["greatest"].as_f64());
    (!matches!(bounds, (Some(least), Some(greatest)) if least <= greatest))
        .then(|| "it has no range".to_owned())
}
