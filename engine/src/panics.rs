//! Panics of user code outside of the operators: caught, with the place at which they happened.

use crate::dataflow::guard::panic_message;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is not printed, because it is reported otherwise.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where this thread has panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `body`. A panic in it becomes an error with its place and text, and is not printed, unless `RUST_BACKTRACE` asks for that.
///
/// ```
/// let error = tidemill_engine::panics::located(|| None::<u32>.expect("there is one")).expect_err("it panics");
/// assert!(error.starts_with("panicked at ") && error.ends_with(": there is one"), "{error}");
/// ```
///
/// # Errors
/// "panicked at FILE:LINE:COLUMN: TEXT".
pub fn located<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    watch_panics();
    let quiet = std::env::var_os("RUST_BACKTRACE").is_none_or(|set| set == "0");
    let outcome = quietly(quiet, body);
    outcome.map_err(|panic| {
        let place = PLACE.take().map_or(String::new(), |place| format!(" at {place}"));
        format!("panicked{place}: {}", panic_message(panic.as_ref()))
    })
}

/// Whether this is the text of a print to a standard output that its reader has closed, as `| head` does.
#[must_use]
pub fn is_of_a_closed_output(message: &str) -> bool {
    message.contains("failed printing to stdout") && message.contains("Broken pipe")
}

/// Calls `body`, and catches its panic, which is not printed if `quiet` and [`watch_panics`] was called before.
#[inline]
pub(crate) fn quietly<R>(quiet: bool, body: impl FnOnce() -> R) -> std::thread::Result<R> {
    let before = quiet.then(|| QUIET.replace(true));
    let outcome = catch_unwind(AssertUnwindSafe(body));
    before.into_iter().for_each(|before| QUIET.set(before));
    outcome
}

/// Keeps panics that are reported otherwise from being printed, each with its backtrace: there may be ten thousand in a batch. Notes where
/// they happen. Panics elsewhere are printed as before.
pub(crate) fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PLACE.set(info.location().map(ToString::to_string));
            if !QUIET.get() {
                before(info);
            }
        }));
    });
}
