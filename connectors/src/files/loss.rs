//! Errors of input that is lost, or cannot be read now.

use std::io;
use tidemill_state::{Error, Kind, system};

/// The remedies for an operator when content that was read is not there any more.
pub(super) const WAY_ON: &str = "put the file back as it was, or a copy of it beside it under any \
    name: reading resumes there with the next start. Without one, --on-loss earliest lets go of \
    the rest of it, and --start-over begins from scratch";

/// The error of a file with other content than what was read.
pub(super) fn changed(path: &str, offset: u64) -> Error {
    Error::source_lost(format!(
        "{path}: the content before byte {offset} is not what was read: the file was changed or \
         replaced; {WAY_ON}"
    ))
}

pub(super) fn shrunk(path: &str, offset: u64, length: u64) -> Error {
    Error::source_lost(format!(
        "{path}: reading must go on at byte {offset}, but the content has only {length} bytes: \
         the file was cut or replaced; {WAY_ON}"
    ))
}

/// The error of a file that was read up to `offset` and is not there.
pub(super) fn missing(path: &str, offset: u64) -> Error {
    Error::source_lost(format!(
        "{path}: is missing, and reading must go on at byte {offset} of it; {WAY_ON}"
    ))
}

/// The error of a file that was read to its end and is gone, if files are to stay.
pub(super) fn removed(path: &str, offset: u64) -> Error {
    Error::source_lost(format!(
        "{path}: was read to its end, byte {offset}, and is gone, which .removed(Removed::Fail) \
         makes an error: put it back, or let go of it with --on-loss earliest"
    ))
}

pub(super) fn unreadable(path: &str, offset: u64, why: &io::Error) -> Error {
    system::error(format!("{path}: nothing is lost, but it cannot be read at byte {offset}"), why)
}

/// Returns whether this file alone is left out: it cannot be read, now or ever.
pub(super) fn leaves_out(error: &Error) -> bool {
    matches!(error.kind(), Kind::Config | Kind::TryAgain)
}
