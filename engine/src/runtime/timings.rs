//! The values that metrics gather during a run: times, and sums over batches.

use crate::batch::report::BatchReport;
use crate::request::ask::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::time::Duration;

/// The label of a figure of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfSink {
    /// The sink's name.
    pub sink: String,
}

/// The label of a figure of a query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfQuery {
    /// The query's name.
    /// The query's name.
    pub query: String,
}

/// The labels of failed requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfFailure {
    /// The query's name.
    pub query: String,
    /// The kind of the failure.
    pub reason: &'static str,
}

/// The times and sums of a run. Times are in seconds.
pub struct Timings {
    /// From a batch's first record until it is closed.
    pub fill: Histogram,
    /// From the close of a batch until all workers have completed it.
    pub compute: Histogram,
    /// The write of a batch's commit.
    pub commit: Histogram,
    /// The publication of a batch, by sink.
    pub publish: Family<OfSink, Histogram>,
    /// Committed batches.
    pub batches: Counter,
    /// Bytes of records in committed batches.
    pub input_bytes: Counter,
    /// Bytes of state changes in committed batches.
    pub delta_bytes: Counter,
    /// Folds of the log.
    pub fold: Histogram,
    /// Requests over the port, from their arrival until their answer or refusal, by query.
    pub query: Family<OfQuery, Histogram>,
    /// Requests without an answer, by query and kind.
    pub query_failures: Family<OfFailure, Counter>,
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
            input_bytes: Counter::default(),
            delta_bytes: Counter::default(),
            fold: seconds(),
            query: Family::new_with_constructor(seconds),
            query_failures: Family::default(),
        }
    }
}

impl Timings {
    /// A batch was committed.
    pub fn committed(&self, batch: &BatchReport) {
        let observe = |into: &Histogram, us: u64| into.observe(us as f64 / 1e6);
        observe(&self.fill, batch.fill_us);
        observe(&self.compute, batch.compute_us);
        observe(&self.commit, batch.commit_us);
        self.batches.inc();
        self.input_bytes.inc_by(batch.bytes);
        self.delta_bytes.inc_by(batch.delta_bytes);
    }

    /// A fold is over that took so long.
    pub fn folded(&self, took: Duration) {
        self.fold.observe(took.as_secs_f64());
    }

    /// A request to a query of the topology is over, after so long.
    pub fn asked(&self, query: &str, took: Duration, outcome: &Outcome) {
        let labels = OfQuery { query: query.to_string() };
        self.query.get_or_create(&labels).observe(took.as_secs_f64());
        if let Err(why) = outcome {
            self.query_failures
                .get_or_create(&OfFailure { query: labels.query, reason: why.reason() })
                .inc();
        }
    }

    /// A sink has confirmed what it was given so long ago.
    pub fn published(&self, sink: &str, took: Duration) {
        self.publish.get_or_create(&OfSink { sink: sink.to_string() }).observe(took.as_secs_f64());
    }
}
