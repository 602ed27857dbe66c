//! Bounds of settings: outside them nothing would ever be done, or the arithmetic would not hold.

use std::time::Duration;
use tidemill_engine::Settings;
use tidemill_state::{Error, Result};

/// The most of anything that is counted: more would not fit into memory.
const MOST: u64 = 1 << 40;

/// The most requests: each has a place of its own.
const MOST_REQUESTS: usize = 1 << 20;

/// Refuses settings with which a topology could not run.
pub(super) fn check(settings: &Settings) -> Result<()> {
    let (batches, queries) = (&settings.batches, &settings.queries);
    let counted = |count: usize| count as u64;
    let requests = counted(MOST_REQUESTS);
    // A setting, its value, and the least and the most that it may be.
    let bounds: [(&str, u64, u64, u64); 10] = [
        ("workers", counted(settings.workers), 1, 256),
        ("max_batch_records", batches.max_records, 1, MOST),
        ("max_batch_bytes", batches.max_bytes, 1, MOST),
        ("max_batches_in_flight", batches.max_in_flight, 1, 10_000),
        ("outbox_bytes", counted(settings.outbox_bytes), 1, u64::MAX),
        ("fold_bytes", settings.fold_bytes, 1, u64::MAX),
        ("queries_running", counted(queries.running), 1, requests),
        ("queries_waiting", counted(queries.waiting), 0, requests),
        ("request_bytes", counted(queries.request_bytes), 1, u64::MAX),
        ("answer_bytes", counted(queries.answer_bytes), 1, u64::MAX),
    ];
    for (name, value, least, most) in bounds {
        let flag = name.replace('_', "-");
        if value < least {
            return Err(Error::config(format!(
                "{name} is {value}, with which nothing could go on: give at least {least} with \
                 --{flag}"
            )));
        }
        if value > most {
            return Err(Error::config(format!(
                "{name} is {value}: give at most {most} with --{flag}"
            )));
        }
    }
    if queries.time_out < LEAST_TIME_OUT {
        return Err(Error::config(format!(
            "query_time_out is {:?}, in which nothing is answered: give at least \
             {LEAST_TIME_OUT:?} with --query-time-out",
            queries.time_out
        )));
    }
    Ok(())
}

/// The least time in which a request can be answered.
const LEAST_TIME_OUT: Duration = Duration::from_millis(1);
