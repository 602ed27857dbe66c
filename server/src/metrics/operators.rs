//! The work of operators, and their failures.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use tidemill_engine::{OperatorWork, Runtime, Status};

/// The number of operators that have series of their own.
const OPERATORS: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperator {
    operator: String,
}

/// The work of one operator, over all workers.
pub(super) struct Worked {
    pub(super) operator: String,
    pub(super) records: u64,
    pub(super) busy_us: u64,
}

pub(super) fn worked(runtime: &Runtime) -> Vec<Worked> {
    let of_one = |(index, work): (usize, OperatorWork)| Worked {
        operator: if index < OPERATORS {
            runtime.plan().describe(work.id)
        } else {
            "others".into()
        },
        records: work.workers.iter().map(|worker| worker.records).sum(),
        busy_us: work.workers.iter().map(|worker| worker.busy_us).sum(),
    };
    runtime.operators().into_iter().enumerate().map(of_one).collect()
}

pub(super) fn of_operators(registry: &mut Registry, status: &Status, work: &[Worked]) {
    let (records, busy) = (
        Family::<OfOperator, Counter>::default(),
        Family::<OfOperator, Counter<f64, AtomicU64>>::default(),
    );
    for Worked { operator, records: taken, busy_us } in work {
        let labels = OfOperator { operator: operator.clone() };
        records.get_or_create(&labels).inc_by(*taken);
        busy.get_or_create(&labels).inc_by(*busy_us as f64 / 1e6);
    }
    registry.register(
        "operator_records",
        "Records that came to an operator, over all workers",
        records,
    );
    registry.register("operator_busy_seconds", "How long workers worked at an operator", busy);
    let set_aside = Family::<OfOperator, Counter>::default();
    // From zero on, or the first failures of an operator would not be seen as an increase.
    for Worked { operator, .. } in work {
        drop(set_aside.get_or_create(&OfOperator { operator: operator.clone() }));
    }
    for (operator, count) in &status.set_aside {
        set_aside.get_or_create(&OfOperator { operator: operator.clone() }).inc_by(*count);
    }
    registry.register(
        "records_set_aside",
        "Records that were set aside because an operator failed at them, or a source could not \
         decode them",
        set_aside,
    );
}
