//! The threads of the command line: each has a name.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a named thread.
///
/// # Errors
/// The operating system gives no thread.
#[expect(clippy::disallowed_methods, reason = "the only place that starts threads")]
pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_string()).spawn(body)
}
