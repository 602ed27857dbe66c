//! The engine's threads: each has a name, and a machine that gives none is an error that passes.

use crate::runtime::Runtime;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use tidemill_state::{Error, Result, background};

/// Starts a named thread; a panic in it is a bug, reported as an error.
///
/// # Errors
/// Kind TryAgain: the operating system gives no thread.
pub(crate) fn spawn<F>(name: &str, body: F) -> Result<JoinHandle<Result<()>>>
where
    F: FnOnce() -> Result<()> + Send + 'static,
{
    spawn_raw(name, move || caught(body)).map_err(|why| no_thread(name, &why))
}

/// Starts a named thread whose body catches the panics of the code that it calls.
///
/// # Errors
/// The operating system gives no thread.
#[expect(clippy::disallowed_methods, reason = "the only place that starts threads")]
pub(crate) fn spawn_raw<R: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> R + Send + 'static,
) -> std::io::Result<JoinHandle<R>> {
    std::thread::Builder::new().name(name.to_string()).spawn(body)
}

/// The error of a thread that there is not.
pub(crate) fn no_thread(name: &str, why: &dyn std::fmt::Display) -> Error {
    Error::try_again(format!(
        "the operating system gives this process no thread for \"{name}\": {why}. Raise its limit \
         of threads (ulimit -u, pids.max), or end other processes"
    ))
}

/// Runs `body`; a panic in it is an error of kind Bug.
pub(crate) fn caught(body: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Error::bug(format!(
            "a broken invariant: {}",
            crate::panics::panic_message(panic.as_ref())
        )))
    })
}

/// Runs `body` on a thread with the priority of work in the background, and waits for it. The
/// thread that waits keeps its own priority: a lowered one could not be raised again.
///
/// # Errors
/// Those of `body`; kind TryAgain: the operating system gives no thread.
#[expect(clippy::disallowed_methods, reason = "the only place that starts threads")]
pub(crate) fn in_background<R: Send>(
    name: &str,
    body: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    std::thread::scope(|scope| {
        let lowered = || {
            background::enter();
            body()
        };
        let thread =
            std::thread::Builder::new().name(name.to_string()).spawn_scoped(scope, lowered);
        let done = thread.map_err(|why| no_thread(name, &why))?.join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn joined(handle: JoinHandle<Result<()>>) -> Result<()> {
    handle.join().unwrap_or_else(|_| Err(Error::bug("a thread of the engine panicked")))
}

/// As [`joined`] for a thread that has ended; one that has not is left behind, and named.
pub(crate) fn joined_or_left(handle: JoinHandle<Result<()>>, runtime: &Runtime) -> Result<()> {
    if handle.is_finished() {
        return joined(handle);
    }
    runtime.leave_behind(match handle.thread().name() {
        Some(PUBLISHER) => {
            "a sink takes nothing now: what is committed and not confirmed is published after the \
             next start"
                .to_string()
        }
        name => {
            format!(
                "the thread {} has not ended in time: it is left behind, nothing is lost",
                name.unwrap_or("without name")
            )
        }
    });
    Ok(())
}

/// The name of the threads that publish.
pub(crate) const PUBLISHER: &str = "publisher";

#[cfg(test)]
mod tests {
    use crate::run::threads::*;

    #[test]
    fn only_the_thread_in_the_background_has_a_lower_priority() {
        let niceness = || rustix::process::nice(0).expect("it can be asked");
        let before = niceness();
        let within = in_background("lowered", || {
            Ok((niceness(), std::thread::current().name().map(str::to_string)))
        });
        let (lowered, name) = within.expect("it runs");
        assert_eq!((niceness(), name.as_deref()), (before, Some("lowered")));
        // The lowest there is cannot be lowered.
        assert!(lowered > before || before >= 15, "{lowered} after {before}");
        let failed =
            in_background::<()>("failing", || Err(Error::try_again("no"))).expect_err("it fails");
        assert_eq!(failed.to_string(), "no");
    }
}
