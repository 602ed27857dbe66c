//! Panics of user code outside of the operators: caught, with the place at which they happened.

use crate::panics;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use tidemill_state::Result;

thread_local! {
    /// True if a panic of this thread is not printed, because it is reported otherwise.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The place of this thread's last panic.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The key on which this thread's code worked when it panicked.
    static FAILED_KEY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `body`. A panic in it becomes an error with its place and text, and is not printed, unless
/// `RUST_BACKTRACE` asks for that.
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

/// Returns whether this is the text of a print to a standard output that its reader has closed, as
/// `| head` does.
#[must_use]
pub fn is_of_a_closed_output(message: &str) -> bool {
    message.contains("failed printing to stdout") && message.contains("Broken pipe")
}

/// Calls `body`, and catches its panic, which is not printed if `quiet` and [`watch_panics`] was
/// called before.
#[inline]
pub(crate) fn quietly<R>(quiet: bool, body: impl FnOnce() -> R) -> std::thread::Result<R> {
    let before = quiet.then(|| QUIET.replace(true));
    let outcome = catch_unwind(AssertUnwindSafe(body));
    before.into_iter().for_each(|before| QUIET.set(before));
    outcome
}

/// Keeps panics that are reported otherwise from being printed, each with its backtrace: there may
/// be ten thousand in a batch. Notes where they happen. Panics elsewhere are printed as before.
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

/// Returns the message for a call of the user's code that did not return: by a panic, or because it
/// gave too much.
pub(crate) fn failure_message(ended: &(dyn std::any::Any + Send)) -> String {
    match ended.downcast_ref::<TooMuch>() {
        Some(TooMuch(why)) => why.clone(),
        None => format!("panicked: {}", panic_message(ended)),
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// The end of a call that gives too much: as a panic goes its way.
pub(crate) struct TooMuch(pub(crate) String);

/// Calls `body`. A panic in `body` becomes an error with its text. `quiet`: the panic is not
/// printed, because it is reported otherwise.
#[inline]
pub(crate) fn caught<R>(
    quiet: bool,
    body: impl FnOnce() -> std::result::Result<R, String>,
) -> std::result::Result<R, String> {
    panics::quietly(quiet, body).unwrap_or_else(|panic| {
        let of_key = FAILED_KEY.take().map_or(String::new(), |key| format!(", for the key {key}"));
        Err(format!("{}{of_key}", failure_message(panic.as_ref())))
    })
}

/// Calls `body`, which works on `key`: if it panics, the failure names the key.
#[inline]
pub(crate) fn naming<K: Serialize, R>(key: &K, body: impl FnOnce() -> R) -> R {
    let named = Named(key);
    let made = body();
    std::mem::forget(named);
    made
}

/// Dropped only while its thread panics.
struct Named<'k, K: Serialize>(&'k K);

impl<K: Serialize> Drop for Named<'_, K> {
    fn drop(&mut self) {
        // The key's own code, which may panic in turn.
        let text = catch_unwind(AssertUnwindSafe(|| crate::json::to_string(self.0)));
        if let Ok(Ok(text)) = text {
            FAILED_KEY.with(|key| *key.borrow_mut() = Some(text));
        }
    }
}
