//! Text files as a source, and a file of JSON lines as a sink: what a user names and sets.

mod decode;
mod input;
mod marker;
mod opened;
mod partitions;
mod quote;
mod reader;
mod sink;
mod window;
mod witness;

pub use decode::{Decode, JsonLines, Lines};
pub use sink::FileSink;

use reader::FileReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidemill_engine::source::{Data, Reader, Source};
use tidemill_state::{Position, Result};

/// Files, as a source or as a sink.
///
/// ```no_run
/// use tidemill_connectors::Files;
///
/// let sentences = Files::lines("data/sentences/*.txt");
/// let log = Files::lines("/var/log/app/*.log").follow();
/// let orders = Files::json_lines::<(String, u64)>("orders/*.json.zst");
/// let output = Files::to::<(String, u64)>("counts.jsonl");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Files {
    /// The lines of all files that match `glob`, as [`Str`](crate::Str), without their line ends (`\n` or `\r\n`). Empty lines are records.
    ///
    /// See [`FileSource`] for what is read, and how.
    pub fn lines(glob: impl Into<String>) -> FileSource<Lines> {
        Files::lines_of([glob])
    }

    /// As [`Files::lines`], for several globs. A file that several of them match is read once.
    pub fn lines_of(globs: impl IntoIterator<Item = impl Into<String>>) -> FileSource<Lines> {
        FileSource::new(globs, Lines::default())
    }

    /// The JSON values, one a line, of all files that match `glob`. Blank lines are passed over.
    ///
    /// See [`FileSource`] for what is read, and how.
    pub fn json_lines<T: Data>(glob: impl Into<String>) -> FileSource<JsonLines<T>> {
        FileSource::new([glob], JsonLines::default())
    }

    /// As [`Files::json_lines`], for several globs. A file that several of them match is read once.
    pub fn json_lines_of<T: Data>(globs: impl IntoIterator<Item = impl Into<String>>) -> FileSource<JsonLines<T>> {
        FileSource::new(globs, JsonLines::default())
    }

    /// A file of JSON lines, one record a line, each committed record in it exactly once. See [`FileSink`].
    pub fn to<T: Data>(path: impl Into<PathBuf>) -> FileSink<T> {
        FileSink::new(path.into())
    }
}

/// What to do with bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invalid {
    /// Stop, with an error that names file, line and byte.
    #[default]
    Fail,
    /// Read each invalid sequence as U+FFFD, the replacement character.
    Lossy,
}

/// What to do with a line that is not the JSON value it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Malformed {
    /// Stop, with an error that names file, line and byte.
    #[default]
    Fail,
    /// Pass over the line, and count it ([`Reader::take_skipped`]).
    Skip,
}

/// Reads files line by line. Made by [`Files::lines`] and [`Files::json_lines`].
///
/// Each file that matches is a partition, named by its path as matched; folders are passed over. Offsets are byte offsets in the content, decompressed.
///
/// - **Compression** is recognised by the first bytes, not by the name: gzip (also several members) and zstd (also several frames).
///   A restart in the middle of a compressed file decompresses it from the beginning and discards what was read.
/// - **To the end** (the default): each file is read to where it ends when the reader gets there; a last line without a newline is
///   a record. A file that was read to its end and has new lines at the next start is continued.
/// - **Followed** ([`FileSource::follow`]): there is no end.
/// - **Restarts**: a position remembers checksums of the content around it. A file that is missing, shorter than the position, or
///   has other content before it, is an error of kind SourceLost: it is never read from elsewhere.
#[derive(Clone, Debug)]
pub struct FileSource<D> {
    globs: Vec<String>,
    settings: Settings,
    decode: D,
}

/// What the reading of each file depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) follow: bool,
    pub(crate) max_line_bytes: usize,
}

impl<D: Decode> FileSource<D> {
    fn new(globs: impl IntoIterator<Item = impl Into<String>>, decode: D) -> FileSource<D> {
        let globs = globs.into_iter().map(Into::into).collect();
        FileSource { globs, settings: Settings { follow: false, max_line_bytes: 1 << 20 }, decode }
    }

    /// Follows the files as they grow, and new files that match, instead of stopping at their ends. A last line waits for its newline.
    ///
    /// Files must be plain (a compressed one is an error of kind Config) and may only grow: one that is cut, replaced or removed while it is followed is an error of
    /// kind SourceLost. Rotated logs are followed by a glob that matches each file under one name for good, such as `app-2026-*.log`.
    #[must_use]
    pub fn follow(mut self) -> FileSource<D> {
        self.settings.follow = true;
        self
    }

    /// The longest line, in bytes without its line end; 1 MiB if not set. A longer one is an error that names file, line and byte.
    #[must_use]
    pub fn max_line_bytes(mut self, bytes: usize) -> FileSource<D> {
        self.settings.max_line_bytes = bytes;
        self
    }

    /// What to do with bytes that are not UTF-8; to stop, if not set.
    #[must_use]
    pub fn invalid_utf8(mut self, policy: Invalid) -> FileSource<D> {
        self.decode.set_invalid_utf8(policy);
        self
    }
}

impl<T: Data> FileSource<JsonLines<T>> {
    /// What to do with a line that is not JSON, or is not the JSON of a `T`; to stop, if not set.
    #[must_use]
    pub fn malformed(mut self, policy: Malformed) -> FileSource<JsonLines<T>> {
        self.decode.malformed = policy;
        self
    }
}

impl<D: Decode> Source for FileSource<D> {
    type Item = D::Item;

    fn kind(&self) -> String {
        format!("files/{}", D::KIND)
    }

    fn partitions(&self) -> Result<Vec<String>> {
        partitions::matching(&self.globs)
    }

    fn discover_every(&self) -> Option<Duration> {
        self.settings.follow.then_some(Duration::from_millis(500))
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<D::Item>>> {
        Ok(Box::new(FileReader::open(Arc::from(partition), self.settings, self.decode.clone(), from)?))
    }
}
