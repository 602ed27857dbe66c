//! The threads of sources and sinks: each has a name, and the operating system may refuse any of
//! them.

use std::io;
use std::thread::{Builder, Result, Thread};

/// Starts a thread of this name that nobody joins.
///
/// # Errors
/// The operating system gives no thread.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    spawn_on(Builder::new(), name, body)
}

/// As [`spawn`], on a thread that a test may have made impossible.
#[expect(clippy::disallowed_methods, reason = "the only place that starts threads")]
pub(crate) fn spawn_on(
    thread: Builder,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Thread> {
    Ok(thread.name(name.to_string()).spawn(body)?.thread().clone())
}

/// Runs a job for each of these at the same time, one of them on the caller's thread; those that
/// get no thread run there too. The results have the order of the jobs; that of a job that panicked
/// is an error.
pub(crate) fn at_once<J: Sync, A: Send>(
    jobs: &[J],
    run: impl Fn(&J) -> A + Sync,
) -> Vec<Result<A>> {
    at_once_on(jobs, run, Builder::new)
}

#[expect(clippy::disallowed_methods, reason = "the only place that starts threads")]
fn at_once_on<J: Sync, A: Send>(
    jobs: &[J],
    run: impl Fn(&J) -> A + Sync,
    thread: impl Fn() -> Builder,
) -> Vec<Result<A>> {
    let Some((last, others)) = jobs.split_last() else { return Vec::new() };
    let run = &run;
    std::thread::scope(|scope| {
        let running: Vec<_> = others
            .iter()
            .map(|job| {
                (job, thread().name("kafka requests".into()).spawn_scoped(scope, move || run(job)))
            })
            .collect();
        let last = run(last);
        let join = |(job, running): (_, std::io::Result<std::thread::ScopedJoinHandle<'_, A>>)| {
            match running {
                Ok(running) => running.join(),
                Err(_) => Ok(run(job)),
            }
        };
        let results: Vec<_> = running.into_iter().map(join).collect();
        results.into_iter().chain([Ok(last)]).collect()
    })
}

/// Drops a client on a thread of its own: that waits for its connections to close, which nobody
/// else has to.
pub(crate) fn let_go(client: impl Send + 'static) {
    // Without a thread the closure is dropped here, and the client with it.
    drop(spawn("kafka close", move || drop(client)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No operating system has so much memory for a stack.
    fn refused() -> Builder {
        Builder::new().stack_size(1 << 60)
    }

    #[test]
    fn jobs_run_in_place_where_there_is_no_thread_for_them() {
        let double = |job: &u32| job * 2;
        for jobs in [&[][..], &[1], &[1, 2, 3]] {
            let expected: Vec<u32> = jobs.iter().map(double).collect();
            for results in [at_once(jobs, double), at_once_on(jobs, double, refused)] {
                let results: Vec<u32> =
                    results.into_iter().map(|result| result.expect("it does not panic")).collect();
                assert_eq!(results, expected);
            }
        }
        assert!(refused().spawn(|| ()).is_err());
    }

    #[test]
    fn one_job_needs_no_thread() {
        let here = std::thread::current().id();
        assert!(
            at_once(&[()], |()| std::thread::current().id() == here)
                .pop()
                .is_some_and(|result| result.is_ok_and(|it| it))
        );
    }
}
