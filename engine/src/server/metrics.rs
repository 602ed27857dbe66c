//! `/metrics`: what Prometheus reads. Of committed batches only.
//!
//! | metric | type | means |
//! | --- | --- | --- |
//! | `tidemill_committed_txid` | gauge | the last committed batch |
//! | `tidemill_batches_total`, `tidemill_records_total` | counter | batches and source records that this run has committed |
//! | `tidemill_batch_fill_seconds` | histogram | from a batch's first record until it was closed |
//! | `tidemill_batch_compute_seconds` | histogram | from then until every worker had completed it |
//! | `tidemill_batch_commit_seconds` | histogram | how long the write took that made it durable |
//! | `tidemill_source_offset`, `tidemill_source_lag` | gauge, by source and partition | the first offset that is not read; what is known to be left |
//! | `tidemill_source_skipped_total` | counter, by source | records skipped by policy |
//! | `tidemill_source_trouble` | gauge, by source | how many partitions cannot be read now |
//! | `tidemill_sink_published_txid`, `tidemill_sink_backlog_bytes` | gauge, by sink | the last batch that it holds; committed output that it has not confirmed |
//! | `tidemill_sink_publish_seconds` | histogram, by sink | from being given output until it was confirmed |
//! | `tidemill_sink_publisher_rebuilds_total` | counter, by sink | publishers made anew, after a failure or a commit that could not be trusted |
//! | `tidemill_state_keys` | gauge, by state | keys that have a value |
//! | `tidemill_unfolded_bytes` | gauge | committed bytes of deltas that are not folded |
//! | `tidemill_generations_total` | counter | how often the dataflows were built |
//! | `tidemill_ready` | gauge | 1 while the workers take records |
//! | `tidemill_start_time_seconds` | gauge | when the run began, in seconds since 1970 |
//!
//! At most 1,000 partitions of all sources have series of their own; the rest are added up as partition `others`.

use crate::reports::{BatchReport, Status};
use crate::runtime::Runtime;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How many partitions have series of their own.
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
struct OfSink {
    sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: String,
}

/// The times that a run takes, gathered as it goes.
pub(crate) struct Timings {
    fill: Histogram,
    compute: Histogram,
    commit: Histogram,
    publish: Family<OfSink, Histogram>,
    batches: Counter,
}

fn seconds() -> Histogram {
    // From 100 µs to 52 s.
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            fill: seconds(),
            compute: seconds(),
            commit: seconds(),
            publish: Family::new_with_constructor(seconds),
            batches: Counter::default(),
        }
    }
}

impl Timings {
    /// A batch was committed.
    pub(crate) fn committed(&self, batch: &BatchReport) {
        let observe = |into: &Histogram, us: u64| into.observe(us as f64 / 1e6);
        observe(&self.fill, batch.fill_us);
        observe(&self.compute, batch.compute_us);
        observe(&self.commit, batch.commit_us);
        self.batches.inc();
    }

    /// A sink has confirmed what it was given so long ago.
    pub(crate) fn published(&self, sink: &str, took: Duration) {
        self.publish.get_or_create(&OfSink { sink: sink.to_string() }).observe(took.as_secs_f64());
    }
}

/// Answers with all metrics.
pub(super) async fn answer(State(runtime): State<Arc<Runtime>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text(&runtime))
}

fn text(runtime: &Runtime) -> String {
    let mut registry = Registry::with_prefix("tidemill");
    let status = runtime.status();
    of_batches(&mut registry, &runtime.timings, &status);
    of_sources(&mut registry, &status);
    of_sinks(&mut registry, &runtime.timings, &status);
    let keys = Family::<OfState, Gauge>::default();
    for state in &status.states {
        keys.get_or_create(&OfState { state: state.name.clone() }).set(signed(state.keys as u64));
    }
    registry.register("state_keys", "Keys that have a value", keys);
    gauge(&mut registry, "unfolded_bytes", "Committed bytes of deltas that are not folded", status.unfolded_bytes);
    counter(&mut registry, "generations", "How often the dataflows were built", status.generations);
    gauge(&mut registry, "ready", "1 while the workers take records", u64::from(runtime.is_ready()));
    gauge(&mut registry, "start_time_seconds", "When the run began, in seconds since 1970", status.started_at_ms / 1000);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn of_batches(registry: &mut Registry, timings: &Timings, status: &Status) {
    gauge(registry, "committed_txid", "The last committed batch", status.committed.0);
    registry.register("batches", "Batches that this run has committed", timings.batches.clone());
    counter(registry, "records", "Source records in batches that this run has committed", status.records);
    let histograms = [
        ("batch_fill_seconds", "From a batch's first record until it was closed", &timings.fill),
        ("batch_compute_seconds", "From then until every worker had completed it", &timings.compute),
        ("batch_commit_seconds", "How long the write took that made it durable", &timings.commit),
    ];
    for (name, help, histogram) in histograms {
        registry.register(name, help, histogram.clone());
    }
}

fn of_sources(registry: &mut Registry, status: &Status) {
    let (offsets, lags) = (Family::<OfPartition, Gauge>::default(), Family::<OfPartition, Gauge>::default());
    let (skipped, trouble) = (Family::<OfSource, Counter>::default(), Family::<OfSource, Gauge>::default());
    for (index, partition) in status.partitions.iter().enumerate() {
        let source = partition.source.clone();
        let name = if index < PARTITIONS { partition.partition.clone() } else { "others".to_string() };
        let labels = OfPartition { source: source.clone(), partition: name };
        offsets.get_or_create(&labels).inc_by(signed(partition.offset));
        if let Some(lag) = partition.lag {
            lags.get_or_create(&labels).inc_by(signed(lag));
        }
        skipped.get_or_create(&OfSource { source: source.clone() }).inc_by(partition.skipped);
        trouble.get_or_create(&OfSource { source }).inc_by(i64::from(partition.trouble.is_some()));
    }
    registry.register("source_offset", "The first offset that is not read", offsets);
    registry.register("source_lag", "What is known to be left to read, in offsets", lags);
    registry.register("source_skipped", "Records skipped by policy", skipped);
    registry.register("source_trouble", "How many partitions cannot be read now", trouble);
}

fn of_sinks(registry: &mut Registry, timings: &Timings, status: &Status) {
    let (published, backlog) = (Family::<OfSink, Gauge>::default(), Family::<OfSink, Gauge>::default());
    let rebuilds = Family::<OfSink, Counter>::default();
    for sink in &status.sinks {
        let labels = OfSink { sink: sink.name.clone() };
        published.get_or_create(&labels).set(signed(sink.published.0));
        backlog.get_or_create(&labels).set(signed(sink.backlog_bytes as u64));
        rebuilds.get_or_create(&labels).inc_by(sink.rebuilds);
    }
    registry.register("sink_published_txid", "The last batch that it holds", published);
    registry.register("sink_backlog_bytes", "Committed output that it has not confirmed", backlog);
    registry.register("sink_publisher_rebuilds", "Publishers made anew", rebuilds);
    registry.register("sink_publish_seconds", "From being given output until it was confirmed", timings.publish.clone());
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
