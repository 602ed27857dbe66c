//! The output on the standard error: log lines, messages for the operator, the progress line, and
//! the error that ends the process.

use super::settings::LogFormat;
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tidemill_state::{Error, Result, printable};
use tracing_subscriber::EnvFilter;

/// Which log lines are written if RUST_LOG does not say: what this program and Tidemill say, and
/// warnings of the libraries.
const DEFAULT_FILTER: &str = "info,axum=warn,h2=warn,hyper=warn,hyper_util=warn,mio=warn,timely=warn,tokio=warn,tower=warn,ureq=warn,ureq_proto=warn";

/// True if log lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// True if the last line of the terminal is the progress line, to be erased before anything else is
/// written.
static PROGRESS_SHOWN: AtomicBool = AtomicBool::new(false);

const ERASE_LINE: &str = "\r\x1b[2K";

/// Begins to write log lines. A program that has set up its own log keeps it.
///
/// # Errors
/// Kind Config: RUST_LOG cannot be understood.
pub(super) fn start(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|why| {
            Error::config(format!(
                "RUST_LOG=\"{text}\" cannot be understood: {why}. Write it as info or \
                 tidemill_engine=debug,info"
            ))
        })?,
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    // A standard error that nobody reads ends no run: an internal error would be printed there too,
    // and panic.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        .log_internal_errors(false);
    JSON.store(format == LogFormat::Json, SeqCst);
    // It fails if there is a log already: the program's own.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}

/// Says what an operator must know, whatever the log's level is: as a line of its own, or, when
/// machines read, as a log line.
pub(super) fn say(what: &str) {
    if JSON.load(SeqCst) {
        tracing::info!("{what}");
    } else {
        let _ = Stderr.write_all(format!("{}\n", printable::lines(what)).as_bytes());
    }
}

/// Says why the process ends.
pub(super) fn error(error: &Error) {
    if JSON.load(SeqCst) {
        tracing::error!(exit_code = error.kind().exit_code(), "error: {error}");
    } else {
        let _ = Stderr.write_all(format!("error: {error}\n").as_bytes());
    }
}

/// Shows the progress line in place of the one before.
pub(super) fn show_progress(line: &str) {
    let mut stderr = io::stderr().lock();
    PROGRESS_SHOWN.store(true, SeqCst);
    let _ = write!(stderr, "{ERASE_LINE}{line}");
    let _ = stderr.flush();
}

/// Erases the progress line, if it is shown.
pub(super) fn hide_progress() {
    let _ = Stderr.flush();
}

/// A message, whose lines after the first are indented: a name with a line break in it cannot begin
/// a line that looks like another message.
fn indented(message: &[u8]) -> Cow<'_, [u8]> {
    let (last, rest) =
        message.split_last().map_or((None, message), |(last, rest)| (Some(*last), rest));
    if !rest.contains(&b'\n') {
        return Cow::Borrowed(message);
    }
    let mut indented = Vec::with_capacity(message.len() + 64);
    for byte in rest {
        indented.push(*byte);
        if *byte == b'\n' {
            indented.extend_from_slice(b"  ");
        }
    }
    indented.extend(last);
    Cow::Owned(indented)
}

/// The standard error, from which the progress line is erased before anything else is written.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.write_all(text).map(|()| text.len())
    }

    fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        if PROGRESS_SHOWN.swap(false, SeqCst) {
            stderr.write_all(ERASE_LINE.as_bytes())?;
        }
        stderr.write_all(&indented(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_all(b"")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_first_line_of_a_message_begins_at_the_margin() {
        let check = |text: &str, expected: &str| {
            assert_eq!(*super::indented(text.as_bytes()), *expected.as_bytes(), "{text:?}")
        };
        check("", "");
        check("\n", "\n");
        check("one\n", "one\n");
        check("one\nerror: two\n", "one\n  error: two\n");
        check("one\ntwo", "one\n  two");
    }
}
