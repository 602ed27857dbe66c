//! Settings of a source of files, and its policies for bad input.

use super::descriptors::Descriptors;
use super::shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tidemill_engine::source::DeadLetterSink;

/// The policy for bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invalid {
    /// Stop, with an error that names file, line and byte.
    #[default]
    Fail,
    /// Read each invalid sequence as U+FFFD, the replacement character.
    Lossy,
}

/// The policy for a line that is not the JSON value it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Malformed {
    /// Stop, with an error that names file, line and byte.
    #[default]
    Fail,
    /// Pass over the line, and count it ([`tidemill_engine::source::Reader::take_skipped`]).
    Skip,
}

/// The policy for a file that cannot be read. Reasons are a lack of permission, a file that is not
/// regular, an unsupported format, and a failing disk. The policy holds also for a folder that
/// cannot be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Stop, with an error that names it.
    Fail,
    /// Read the other files. The log, the status, the metrics (`tidemill_source_trouble`) and the
    /// page name the file and the reason. A followed file is tried again every few seconds, any
    /// other by the next start. The same holds for a folder that cannot be looked into. What was
    /// read of a file there is not forgotten.
    ///
    /// A source that is begun and can read nothing at all stops all the same: if it does not
    /// follow, or if this policy was not set and all of its files are named without wildcards.
    LeaveOut,
}

/// The policy for a file that is removed after all of it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removed {
    /// Forget its position, with one line in the log.
    #[default]
    Forget,
    /// Stop (67), with an error that names it: files are to stay.
    Fail,
}

/// The policy for a line that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongLines {
    Fail,
    Skip,
    SetAside,
}

/// The sink of lines that are no records.
#[derive(Clone)]
pub(super) struct Letters(pub(super) DeadLetterSink);

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letters")
    }
}

/// The settings that the reading of each file depends on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) globs: Arc<[String]>,
    pub(crate) follow: bool,
    pub(crate) max_line_bytes: usize,
    pub(crate) rotated_after: Duration,
    pub(crate) long_lines: LongLines,
    /// True if what cannot be decoded goes to the dead letters.
    pub(crate) sets_aside: bool,
    /// None if it is not set.
    pub(crate) unreadable: Option<Unreadable>,
    pub(crate) removed: Removed,
    /// None if it is not set.
    pub(super) open_files: Option<usize>,
    /// Those of the run: [`FileSource::settings`] sets both.
    pub(super) descriptors: Descriptors,
    pub(super) shared: Arc<Shared>,
}

impl Settings {
    pub(crate) fn unreadable(&self) -> Unreadable {
        self.unreadable.unwrap_or(if self.follow { Unreadable::LeaveOut } else { Unreadable::Fail })
    }
}
