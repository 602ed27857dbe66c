//! What metrics gather as a run goes on: times, and sums over batches.

use crate::batch::report::BatchReport;
use crate::request::ask::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfSink {
    pub(crate) sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfQuery {
    pub(crate) query: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfFailure {
    pub(crate) query: String,
    pub(crate) reason: &'static str,
}

/// The times that a run takes, gathered as it goes.
pub(crate) struct Timings {
    pub(crate) fill: Histogram,
    pub(crate) compute: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) publish: Family<OfSink, Histogram>,
    pub(crate) batches: Counter,
    pub(crate) input_bytes: Counter,
    pub(crate) delta_bytes: Counter,
    pub(crate) fold: Histogram,
    pub(crate) query: Family<OfQuery, Histogram>,
    pub(crate) query_failures: Family<OfFailure, Counter>,
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
    pub(crate) fn committed(&self, batch: &BatchReport) {
        let observe = |into: &Histogram, us: u64| into.observe(us as f64 / 1e6);
        observe(&self.fill, batch.fill_us);
        observe(&self.compute, batch.compute_us);
        observe(&self.commit, batch.commit_us);
        self.batches.inc();
        self.input_bytes.inc_by(batch.bytes);
        self.delta_bytes.inc_by(batch.delta_bytes);
    }

    /// A fold is over that took so long.
    pub(crate) fn folded(&self, took: Duration) {
        self.fold.observe(took.as_secs_f64());
    }

    /// A request to a query of the topology is over, after so long.
    pub(crate) fn asked(&self, query: &str, took: Duration, outcome: &Outcome) {
        let labels = OfQuery { query: query.to_string() };
        self.query.get_or_create(&labels).observe(took.as_secs_f64());
        if let Err(why) = outcome {
            self.query_failures.get_or_create(&OfFailure { query: labels.query, reason: why.reason() }).inc();
        }
    }

    /// A sink has confirmed what it was given so long ago.
    pub(crate) fn published(&self, sink: &str, took: Duration) {
        self.publish.get_or_create(&OfSink { sink: sink.to_string() }).observe(took.as_secs_f64());
    }
}
