//! `/metrics`: the metrics for Prometheus. Of committed batches only.
//!
//! | metric | type | means |
//! | --- | --- | --- |
//! | `tidemill_committed_txid` | gauge | the last committed batch |
//! | `tidemill_batches_total`, `tidemill_records_total` | counter | batches and source records that this run has committed |
//! | `tidemill_input_bytes_total` | counter | bytes of input that those records were |
//! | `tidemill_batch_fill_seconds` | histogram | from a batch's first record until it was closed |
//! | `tidemill_batch_compute_seconds` | histogram | from then until every worker had completed it |
//! | `tidemill_batch_commit_seconds` | histogram | how long the write took that made it durable |
//! | `tidemill_operator_records_total`, `tidemill_operator_busy_seconds_total` | counter, by operator | records that came to it, and how long workers worked at them; also of batches that are not committed |
//! | `tidemill_source_offset`, `tidemill_source_lag` | gauge, by source and partition | the first offset that no committed batch covers; what is known to come from there on |
//! | `tidemill_records_set_aside_total` | counter, by operator | records that were set aside because the operator failed at them, or the source could not decode them |
//! | `tidemill_source_skipped_total` | counter, by source | records skipped by policy, before that offset |
//! | `tidemill_source_trouble` | gauge, by source and partition | 1 while it cannot be read, for a temporary reason |
//! | `tidemill_sink_published_txid`, `tidemill_sink_backlog_bytes` | gauge, by sink | the last batch that it holds; committed output that it has not confirmed |
//! | `tidemill_sink_trouble` | gauge, by sink | 1 while it does not take output: it has failed, or has not confirmed a batch for 5 s |
//! | `tidemill_sink_publish_seconds` | histogram, by sink | from being given output until it was confirmed |
//! | `tidemill_sink_publisher_rebuilds_total` | counter, by sink | publishers rebuilt, after a failure or a commit that could not be trusted |
//! | `tidemill_state_keys` | gauge, by state | keys that have a value |
//! | `tidemill_delta_bytes_total` | counter | bytes of state changes that this run has committed |
//! | `tidemill_unfolded_bytes` | gauge | committed bytes of deltas that are not folded |
//! | `tidemill_store_bytes` | gauge | the store's tables on the disk: states, and outputs on their way |
//! | `tidemill_fold_seconds` | histogram | how long folds took |
//! | `tidemill_query_seconds` | histogram, by query | from a request over the port until its answer, or its refusal |
//! | `tidemill_query_failures_total` | counter, by query and reason | those that were not answered |
//! | `tidemill_query_requests` | gauge | requests to queries that run or wait |
//! | `tidemill_query_kept_bytes` | gauge | old values kept for batches on their way and for requests that read an earlier batch |
//! | `tidemill_query_cancelled_total` | counter | reads cancelled because the values that they need took too much memory |
//! | `tidemill_generations_total` | counter | how often the dataflows were built |
//! | `tidemill_ready` | gauge | 1 while the workers take records |
//! | `tidemill_start_time_seconds` | gauge | when the run began, in seconds since 1970 |
//! | `tidemill_build_info` | info, with the version | always 1 |
//!
//! On Linux also the figures that Prometheus' own clients give of a process:
//! `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
//! `process_open_fds`, `process_max_fds`, `process_threads`, `process_start_time_seconds`.
//!
//! At most 1,000 partitions of each source, in the order of their names, have series of their own;
//! the rest are added up as partition `others`. So are operators beyond the first 500 of the plan.
//! The counters and histograms begin at zero with each run.

mod operators;
mod text_format;

use self::operators::{Worked, of_operators, worked};
use self::text_format::in_text_format;
use super::process;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tidemill_engine::port::{OfSink, Timings};
use tidemill_engine::{PartitionProgress, Runtime, Status};

/// The number of partitions of a source that have series of their own.
const PARTITIONS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    source: String,
    partition: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: String,
}

/// Answers with all metrics.
pub(super) async fn answer(
    State(runtime): State<Arc<Runtime>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    in_the_format_of(
        &headers,
        text(&runtime.status(), &worked(&runtime), runtime.timings(), runtime.is_ready()),
    )
}

/// Answers before the run has begun: that it is not ready, and how the process is.
pub(super) async fn answer_before(headers: HeaderMap) -> impl IntoResponse {
    let mut registry = registry();
    of_readiness(&mut registry, false);
    in_the_format_of(&headers, written(&registry))
}

/// OpenMetrics to who asks for that, as a Prometheus server does, and else Prometheus' own older
/// format.
fn in_the_format_of(headers: &HeaderMap, text: String) -> impl IntoResponse + use<> {
    let accepted =
        headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
    } else {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], in_text_format(&text))
    }
}

fn text(status: &Status, work: &[Worked], timings: &Timings, ready: bool) -> String {
    let mut registry = registry();
    of_batches(&mut registry, timings, status);
    of_operators(&mut registry, status, work);
    of_sources(&mut registry, status);
    of_sinks(&mut registry, timings, status);
    let keys = Family::<OfState, Gauge>::default();
    for state in &status.states {
        keys.get_or_create(&OfState { state: state.name.clone() }).set(signed(state.keys as u64));
    }
    registry.register("state_keys", "Keys that have a value", keys);
    gauge(
        &mut registry,
        "unfolded_bytes",
        "Committed bytes of deltas that are not folded",
        status.unfolded_bytes,
    );
    gauge(&mut registry, "store_bytes", "The store's tables on the disk", status.store_bytes);
    registry.register(
        "delta_bytes",
        "Bytes of state changes that this run has committed",
        timings.delta_bytes.clone(),
    );
    registry.register("fold_seconds", "How long folds took", timings.fold.clone());
    registry.register(
        "query_seconds",
        "From a request over the port until its answer, or its refusal",
        timings.query.clone(),
    );
    registry.register(
        "query_failures",
        "Requests that were not answered",
        timings.query_failures.clone(),
    );
    gauge(
        &mut registry,
        "query_requests",
        "Requests to queries that run or wait",
        status.queries.requests as u64,
    );
    gauge(
        &mut registry,
        "query_kept_bytes",
        "Old values that are kept",
        status.queries.kept_bytes as u64,
    );
    counter(
        &mut registry,
        "query_cancelled",
        "Reads cancelled because of their memory",
        status.queries.cancelled,
    );
    counter(&mut registry, "generations", "How often the dataflows were built", status.generations);
    of_readiness(&mut registry, ready);
    gauge(
        &mut registry,
        "start_time_seconds",
        "When the run began, in seconds since 1970",
        status.started_at_ms / 1000,
    );
    written(&registry)
}

fn registry() -> Registry {
    let mut registry = Registry::with_prefix("tidemill");
    registry.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry
}

fn of_readiness(registry: &mut Registry, ready: bool) {
    gauge(registry, "ready", "1 while the workers take records", u64::from(ready));
}

/// Returns the registry's metrics, and the process's own figures, as text.
fn written(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode_registry(&mut text, registry);
    let _ = encode_registry(&mut text, &process::figures());
    let _ = encode_eof(&mut text);
    text
}

fn of_batches(registry: &mut Registry, timings: &Timings, status: &Status) {
    gauge(registry, "committed_txid", "The last committed batch", status.committed.0);
    registry.register("batches", "Batches that this run has committed", timings.batches.clone());
    counter(
        registry,
        "records",
        "Source records in batches that this run has committed",
        status.records,
    );
    registry.register(
        "input_bytes",
        "Bytes of input that those records were",
        timings.input_bytes.clone(),
    );
    let histograms = [
        ("batch_fill_seconds", "From a batch's first record until it was closed", &timings.fill),
        (
            "batch_compute_seconds",
            "From then until every worker had completed it",
            &timings.compute,
        ),
        ("batch_commit_seconds", "How long the write took that made it durable", &timings.commit),
    ];
    for (name, help, histogram) in histograms {
        registry.register(name, help, histogram.clone());
    }
}

fn of_sources(registry: &mut Registry, status: &Status) {
    let (offsets, lags) =
        (Family::<OfPartition, Gauge>::default(), Family::<OfPartition, Gauge>::default());
    let (trouble, skipped) =
        (Family::<OfPartition, Gauge>::default(), Family::<OfSource, Counter>::default());
    for (labels, partition) in labelled(status) {
        offsets.get_or_create(&labels).inc_by(signed(partition.offset));
        if let Some(lag) = partition.lag {
            lags.get_or_create(&labels).inc_by(signed(lag));
        }
        trouble.get_or_create(&labels).inc_by(i64::from(partition.trouble.is_some()));
        skipped.get_or_create(&OfSource { source: labels.source }).inc_by(partition.skipped);
    }
    registry.register("source_offset", "The first offset that no committed batch covers", offsets);
    registry.register("source_lag", "What is known to come from there on, in offsets", lags);
    registry.register("source_skipped", "Records skipped by policy", skipped);
    registry.register(
        "source_trouble",
        "1 while it cannot be read, for a reason that passes by itself",
        trouble,
    );
}

/// Each partition with its labels: those of its own, or those of the rest of its source.
fn labelled(status: &Status) -> impl Iterator<Item = (OfPartition, &PartitionProgress)> {
    let mut by_source: BTreeMap<&str, Vec<&PartitionProgress>> = BTreeMap::new();
    for partition in &status.partitions {
        by_source.entry(&partition.source).or_default().push(partition);
    }
    by_source.into_iter().flat_map(|(source, mut partitions)| {
        // Workers tell of them in any order: the same ones are to have series of their own each
        // time.
        partitions.sort_unstable_by(|one, other| one.partition.cmp(&other.partition));
        partitions.into_iter().enumerate().map(move |(index, partition)| {
            let name = if index < PARTITIONS { &partition.partition } else { "others" };
            (OfPartition { source: source.to_string(), partition: name.to_string() }, partition)
        })
    })
}

fn of_sinks(registry: &mut Registry, timings: &Timings, status: &Status) {
    let (published, backlog) =
        (Family::<OfSink, Gauge>::default(), Family::<OfSink, Gauge>::default());
    let (rebuilds, trouble) =
        (Family::<OfSink, Counter>::default(), Family::<OfSink, Gauge>::default());
    for sink in &status.sinks {
        let labels = OfSink { sink: sink.name.clone() };
        published.get_or_create(&labels).set(signed(sink.published.0));
        backlog.get_or_create(&labels).set(signed(sink.backlog_bytes as u64));
        rebuilds.get_or_create(&labels).inc_by(sink.rebuilds);
        trouble.get_or_create(&labels).set(i64::from(sink.error.is_some()));
        // It is there before the first publication too, with nothing in it.
        drop(timings.publish.get_or_create(&labels));
    }
    registry.register("sink_published_txid", "The last batch that it holds", published);
    registry.register("sink_backlog_bytes", "Committed output that it has not confirmed", backlog);
    registry.register("sink_publisher_rebuilds", "Publishers made anew", rebuilds);
    registry.register("sink_trouble", "1 while it does not take output", trouble);
    registry.register(
        "sink_publish_seconds",
        "From being given output until it was confirmed",
        timings.publish.clone(),
    );
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64, AtomicU64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidemill_engine::BatchReport;
    use tidemill_engine::QueryError;
    use tidemill_engine::{QueriesStatus, SinkStatus, StateStatus};
    use tidemill_state::Txid;

    fn partition(
        source: &str,
        partition: &str,
        offset: u64,
        trouble: Option<&str>,
    ) -> PartitionProgress {
        let mut progress = PartitionProgress::default();
        progress.source = source.into();
        progress.partition = partition.into();
        progress.offset = offset;
        progress.lag = Some(2);
        progress.skipped = 1;
        progress.trouble = trouble.map(str::to_string);
        progress
    }

    fn sink() -> SinkStatus {
        let mut sink = SinkStatus::default();
        sink.name = "out".into();
        sink.published = Txid(6);
        sink.backlog_bytes = 9;
        sink.rebuilds = 3;
        sink.error = Some("away".into());
        sink
    }

    fn status(partitions: Vec<PartitionProgress>) -> Status {
        Status {
            topology: "t".into(),
            phase: "running",
            controls: false,
            committed: Txid(7),
            lineage: String::new(),
            incarnation: String::new(),
            workers: 2,
            started_at_ms: 1_700_000_000_999,
            records: 70,
            set_aside: BTreeMap::from([("map#1 (a.rs:2)".to_string(), 3)]),
            notices: Vec::new(),
            records_per_s: 0.0,
            batches_per_s: 0.0,
            sources_at_end: false,
            waiting: None,
            partitions,
            states: vec![StateStatus {
                name: "counts".into(),
                key: String::new(),
                value: String::new(),
                keys: 5,
            }],
            sinks: vec![sink()],
            unfolded_bytes: 11,
            store_bytes: 13,
            longest_slice_us: 0,
            queries: QueriesStatus { requests: 3, kept_bytes: 12, cancelled: 1, held_up_by: None },
            generations: 2,
            last_error: None,
        }
    }

    fn batch(txid: u64) -> BatchReport {
        let mut batch = BatchReport::default();
        batch.txid = Txid(txid);
        batch.records = 10;
        batch.bytes = 70;
        batch.delta_bytes = 6;
        batch.fill_us = 1_000_000;
        batch.compute_us = 250_000;
        batch.commit_us = 500;
        batch
    }

    /// Asserts that the text has exactly this line.
    #[track_caller]
    fn has(text: &str, line: &str) {
        assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line} in\n{text}");
    }

    /// The metrics of a run with these times.
    fn text_with(timings: &Timings) -> String {
        let work = [Worked { operator: "map#1 (a.rs:2)".into(), records: 70, busy_us: 500_000 }];
        let partitions =
            vec![partition("s", "p\"1", 3, Some("away")), partition("s", "p2", 4, None)];
        text(&status(partitions), &work, timings, true)
    }

    /// The metrics of a run in which everything has happened that is timed.
    fn eventful() -> String {
        let timings = Timings::default();
        timings.committed(&batch(6));
        timings.committed(&batch(7));
        timings.published("out", Duration::from_millis(250));
        timings.folded(Duration::from_millis(500));
        timings.asked("words", Duration::from_millis(125), &Err(QueryError::NotHeld));
        text_with(&timings)
    }

    #[test]
    fn every_metric_is_typed_and_valued() {
        let quiet = text_with(&Timings::default());
        has(&quiet, "tidemill_sink_publish_seconds_count{sink=\"out\"} 0");
        let text = eventful();
        for line in [
            "tidemill_committed_txid 7",
            "tidemill_batches_total 2",
            "tidemill_records_total 70",
            "tidemill_batch_fill_seconds_sum 2.0",
            "tidemill_batch_compute_seconds_sum 0.5",
            "tidemill_batch_commit_seconds_sum 0.001",
            "tidemill_batch_commit_seconds_count 2",
            "tidemill_batch_commit_seconds_bucket{le=\"+Inf\"} 2",
            "tidemill_source_offset{source=\"s\",partition=\"p\\\"1\"} 3",
            "tidemill_source_lag{source=\"s\",partition=\"p2\"} 2",
            "tidemill_source_trouble{source=\"s\",partition=\"p\\\"1\"} 1",
            "tidemill_source_trouble{source=\"s\",partition=\"p2\"} 0",
            "tidemill_operator_records_total{operator=\"map#1 (a.rs:2)\"} 70",
            "tidemill_operator_busy_seconds_total{operator=\"map#1 (a.rs:2)\"} 0.5",
            "tidemill_records_set_aside_total{operator=\"map#1 (a.rs:2)\"} 3",
            "tidemill_source_skipped_total{source=\"s\"} 2",
            "tidemill_sink_published_txid{sink=\"out\"} 6",
            "tidemill_sink_backlog_bytes{sink=\"out\"} 9",
            "tidemill_sink_publisher_rebuilds_total{sink=\"out\"} 3",
            "tidemill_sink_trouble{sink=\"out\"} 1",
            "tidemill_sink_publish_seconds_count{sink=\"out\"} 1",
            "tidemill_sink_publish_seconds_sum{sink=\"out\"} 0.25",
            "tidemill_state_keys{state=\"counts\"} 5",
            "tidemill_delta_bytes_total 12",
            "tidemill_unfolded_bytes 11",
            "tidemill_store_bytes 13",
            "tidemill_input_bytes_total 140",
            "tidemill_fold_seconds_sum 0.5",
            "tidemill_query_seconds_sum{query=\"words\"} 0.125",
            "tidemill_query_seconds_count{query=\"words\"} 1",
            "tidemill_query_failures_total{query=\"words\",reason=\"not_held\"} 1",
            "tidemill_query_requests 3",
            "tidemill_query_kept_bytes 12",
            "tidemill_query_cancelled_total 1",
            "tidemill_generations_total 2",
            "tidemill_ready 1",
            "tidemill_start_time_seconds 1700000000",
            &format!("tidemill_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "# TYPE tidemill_batches counter",
            "# TYPE tidemill_batch_fill_seconds histogram",
            "# TYPE tidemill_source_lag gauge",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn the_table_at_the_top_names_every_metric_and_no_other() {
        let text = eventful();
        let table = include_str!("metrics.rs").lines().filter(|line| line.starts_with("//! | `"));
        let named: Vec<String> =
            table.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_string)).collect();
        let named: Vec<&str> =
            named.iter().map(String::as_str).filter(|name| name.starts_with("tidemill_")).collect();
        let types = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter(|line| line.starts_with("tidemill_"));
        let shown: Vec<String> = types
            .map(|line| match line.split_once(' ') {
                Some((name, "counter")) => format!("{name}_total"),
                Some((name, "info")) => format!("{name}_info"),
                _ => line.split(' ').next().unwrap_or_default().to_string(),
            })
            .collect();
        assert_eq!(named.len(), shown.len(), "{named:?} and {shown:?}");
        for name in named {
            assert!(shown.iter().any(|shown| shown == name), "{name} is not in {shown:?}");
        }
    }

    #[test]
    fn the_older_format_names_families_as_samples() {
        let open = text(&status(Vec::new()), &[], &Timings::default(), true);
        let older = in_text_format(&open);
        for line in [
            "# HELP tidemill_batches_total Batches that this run has committed",
            "# TYPE tidemill_batches_total counter",
            "tidemill_batches_total 0",
            "# TYPE tidemill_build_info gauge",
            "# TYPE tidemill_committed_txid gauge",
        ] {
            has(&older, line);
        }
        assert!(!older.contains("# EOF") && open.ends_with("# EOF\n"));
        let samples = |text: &str| {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        let (of_open, of_older) = (samples(&open), samples(&older));
        assert_eq!(of_open.len(), of_older.len());
    }

    #[test]
    fn partitions_beyond_a_thousand_of_a_source_are_added_up() {
        let many = |source: &'static str, count: usize| {
            // The last first: the order in which they are told of does not matter.
            (0..count).rev().map(move |number| {
                partition(
                    source,
                    &format!("{number:04}"),
                    10,
                    Some("away").filter(|_| number == 1002),
                )
            })
        };
        let text = text(
            &status(many("a", 1003).chain(many("b", 1000)).collect()),
            &[],
            &Timings::default(),
            false,
        );
        let own = |source: &str| {
            text.lines()
                .filter(|line| {
                    line.starts_with(&format!("tidemill_source_lag{{source=\"{source}\""))
                })
                .count()
        };
        assert_eq!((own("a"), own("b")), (1001, 1000));
        for line in [
            "tidemill_source_offset{source=\"a\",partition=\"0999\"} 10",
            "tidemill_source_offset{source=\"a\",partition=\"others\"} 30",
            "tidemill_source_lag{source=\"a\",partition=\"others\"} 6",
            "tidemill_source_trouble{source=\"a\",partition=\"others\"} 1",
            "tidemill_source_skipped_total{source=\"a\"} 1003",
            "tidemill_ready 0",
        ] {
            has(&text, line);
        }
        assert!(
            !text.contains("{source=\"b\",partition=\"others\"}"),
            "each source has a thousand of its own"
        );
    }
}
