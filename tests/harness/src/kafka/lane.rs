//! Many cases over a few brokers: each lane has a broker of its own, which faults may hit, and
//! takes the next case when it has done one.

use super::super::asked::long;
use super::super::broker::Broker;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

/// What a case has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Everything that was committed.
    Everything,
    /// Nothing: the broker has lost what was committed, see [`Broker::has_dropped_a_commit`]. It is
    /// done once more.
    Nothing,
}

/// How often a case is done that shows nothing.
const ATTEMPTS: usize = 5;

/// Does all cases in so many lanes, each with a broker and what `begin` makes on it. Ends at the
/// first case that fails.
pub fn each_case<C: Sync, L>(
    title: &str,
    lanes: usize,
    cases: &[C],
    begin: impl Fn(&Broker) -> L + Sync,
    case: impl Fn(&mut Broker, &mut L, &C, usize) -> Shown + Sync,
) {
    let (next, done, began) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..lanes.min(cases.len()) {
            scope.spawn(|| {
                let mut broker = Broker::start();
                let mut lane = begin(&broker);
                while let Some(this) = cases.get(next.fetch_add(1, SeqCst)) {
                    let mut attempts = 0..ATTEMPTS;
                    let mut attempt = |number| {
                        let shown = case(&mut broker, &mut lane, this, number);
                        if shown == Shown::Nothing {
                            tell(&format!(
                                "{title}: the broker has lost a commit, so a case is done once more"
                            ));
                        }
                        shown
                    };
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        attempts.any(|number| attempt(number) == Shown::Everything)
                    }));
                    if !matches!(outcome, Ok(true)) {
                        // No lane begins another case.
                        next.store(usize::MAX / 2, SeqCst);
                        eprintln!("the broker's data is kept: {}", broker.keep().display());
                        outcome.map_or_else(
                            |panic| resume_unwind(panic),
                            |_| panic!("a case showed nothing {ATTEMPTS} times"),
                        );
                    }
                    let done = done.fetch_add(1, SeqCst) + 1;
                    tell(&format!(
                        "{title}: {done} of {} after {:?}",
                        cases.len(),
                        began.elapsed()
                    ));
                }
            });
        }
    });
}

/// Shows how far a long run is. Not by a macro: what those print of a test is shown when it has
/// failed.
fn tell(what: &str) {
    if long() {
        let _ = writeln!(std::io::stderr(), "{what}");
    }
}
