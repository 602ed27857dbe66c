//! Many cases over a few brokers: each lane has a broker of its own, which faults may hit, and takes the next case when it has done one.

use super::super::asked::long;
use super::super::broker::Broker;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

/// Does all cases in so many lanes, each with a broker and what `begin` makes on it. Ends at the first case that fails.
pub(crate) fn each_case<C: Sync, L>(
    title: &str,
    lanes: usize,
    cases: &[C],
    begin: impl Fn(&Broker) -> L + Sync,
    case: impl Fn(&mut Broker, &mut L, &C) + Sync,
) {
    let (next, done, began) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..lanes.min(cases.len()) {
            scope.spawn(|| {
                let mut broker = Broker::start();
                let mut lane = begin(&broker);
                while let Some(this) = cases.get(next.fetch_add(1, SeqCst)) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut broker, &mut lane, this))) {
                        // No lane begins another case.
                        next.store(usize::MAX / 2, SeqCst);
                        eprintln!("the broker's data is kept: {}", broker.keep().display());
                        resume_unwind(panic);
                    }
                    let done = done.fetch_add(1, SeqCst) + 1;
                    if long() {
                        // Not by a macro: what those print of a test is shown when it has failed.
                        let _ = writeln!(std::io::stderr(), "{title}: {done} of {} after {:?}", cases.len(), began.elapsed());
                    }
                }
            });
        }
    });
}
