//! Text files as a source, and a file of JSON lines as a sink: what a user names and sets.
//!
//! # How it works
//!
//! `identity.rs` decides what a file is to a recorded position: a pure function with a table.
//! `locate.rs` reads the facts; `begin.rs` and `discover.rs` carry the decisions out at a start and
//! while running. `names.rs` watches the name of a followed file. `rotated.rs` finds the files that
//! had a name while nobody looked.
//!
//! A look lists the folder after it has read the new files, so that it finds what was copied out of
//! them before. Partitions that one look finds are recorded together, with the first commit of any
//! of them (`engine/src/run/discovery.rs`). A file that has lost its name ends only after two more
//! looks, since a look shows which files came after it. `Looks` in `shared.rs` counts them for the
//! instances of a source on all workers, which share it as the facts of its start.
//!
//! The witness of a position (`witness.rs`, format 2) holds the identity of the file and the
//! running checksum (`running.rs`) of its content. Positions of format 1 get a witness at the first
//! start.
//!
//! A reader whose file was cut or replaced returns an error that is `perhaps_elsewhere`: everything
//! read is committed, the generation ends, and the source begins again with a look at all files at
//! once. That happens at most three times in a row without a commit (`engine/src/run/retry.rs`).
//!
//! ## Idle files
//!
//! `engine/src/batch/turns.rs` gives turns to those partitions of a source that may have records.
//! The others rest until they are due or the waker of their reader is called (`Reader::wake_with`).
//! The reader of a followed file that was empty a few times in a row leaves its file to the watcher
//! (`watcher.rs`), one thread of the process:
//!
//! - inotify (`notices.rs`) wakes the reader at the first change of the file;
//! - every two seconds, a look at all resting files finds what sends no notice: writes by other
//!   machines, links turned elsewhere, files that could not be watched;
//! - one more look after the watch was added finds what came between the last look and the watch.
//!
//! The folders of a source are watched too (`quiet.rs`). While no name has changed there, the look
//! for new files returns at once. A full look comes every two seconds, or less often, so that looks
//! take a hundredth of the time.
//!
//! A resting file keeps its descriptor, since the system does not reuse an inode that is held open.
//! Beyond half of `open_files` (`descriptors.rs`) descriptors are closed, and a file is opened
//! again at its position with the checks of a start. A file that was seen to grow while it was
//! closed, and is gone before it can be opened, has lost lines: its position is recorded as one
//! that had not ended, so that this start and later ones refuse (67).
//!
//! A watch is added without the watcher's lock, since a file system may take long over it.
//! Meanwhile notices of watches that are not known yet are kept.
//!
//! ## Files that cannot be looked at
//!
//! An error hides a name, or a folder with all its content (`disk.rs`, `expand.rs`, `folders.rs`).
//! Looks continue without it and return it beside what they found; the status names it. A hidden
//! file is not gone: its recorded position is kept, an open file does not end while it has a name
//! that was not seen elsewhere, and no file joins under a name that another file may have had
//! before. The policy for unreadable files determines whether the error ends the run.
//!
//! ## Bad input beside good
//!
//! `lines.rs` applies the policy to a line that is no record. A line longer than the limit is
//! skipped piece by piece; the position stays before it until its newline has arrived. Files that
//! are not read at all are `Source::left_out`: the status shows each of them as a partition in
//! trouble.

#[cfg(test)]
mod bad_disk;
mod begin;
mod decode;
mod descriptors;
mod discover;
mod disk;
mod expand;
mod families;
mod folders;
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod input;
mod lines;
mod listing;
mod locate;
mod look;
mod loss;
mod marker;
mod marks;
mod names;
mod newcomers;
mod notices;
mod opened;
mod packed;
mod quiet;
mod quote;
mod reader;
mod rotated;
mod running;
mod settings;
mod shared;
mod sink;
mod watcher;
mod window;
mod witness;

pub use decode::{Decode, JsonLines, Lines};
pub use settings::{Invalid, Malformed, Removed, Unreadable};
pub use sink::FileSink;

use descriptors::Descriptors;
use discover::Memory;
use listing::Listing;
use reader::FileReader;
use settings::{Letters, LongLines, Settings};
use shared::Shared;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidemill_engine::sink::Sink;
use tidemill_engine::source::{
    Begun, Data, DeadLetter, DeadLetterSink, Reader, Source, Start, StartFacts,
};
use tidemill_state::{Error, Position, Result};

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
    /// The lines of all files that match `glob`, as [`Str`](crate::Str), without their line ends
    /// (`\n` or `\r\n`). Empty lines are records.
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
    pub fn json_lines_of<T: Data>(
        globs: impl IntoIterator<Item = impl Into<String>>,
    ) -> FileSource<JsonLines<T>> {
        FileSource::new(globs, JsonLines::default())
    }

    /// A file of JSON lines, one record a line, each committed record in it exactly once. See
    /// [`FileSink`].
    pub fn to<T: Data>(path: impl Into<PathBuf>) -> FileSink<T> {
        FileSink::new(path.into())
    }
}

/// Reads files line by line. Made by [`Files::lines`] and [`Files::json_lines`].
///
/// Each file that matches is a partition; folders and hidden files are passed over (`*` matches no
/// leading dot, as in a shell). Offsets are byte offsets in the content, decompressed.
///
/// - **Compression** is recognised by the first bytes, not by the name: gzip (also several members)
///   and zstd (also several frames), zeros after the last included. A file is decompressed once to
///   check all of it before its first line is given, and once to read it. A restart in the middle
///   decompresses it from the beginning and discards what was read.
/// - **Encoding** is UTF-8; a byte order mark is passed over. UTF-16 and UTF-32 are named in the
///   error.
/// - **To the end** (the default): each file is read to where it ends when the reader gets there; a
///   last line without a newline is a record. A file that was read to its end and has new lines at
///   the next start is continued.
/// - **Followed** ([`FileSource::follow`]): there is no end.
///
/// # The identity of a file
///
/// A file is known by what it is, not by its name. A position remembers device, inode and (where
/// the file system has it) the time of birth, a checksum of the first 4 KiB, the checksums of the
/// first and last 4 KiB before the position, and a running checksum of all content before it. The
/// partition is named by the path at which the file was seen first (`app.log`; `app.log#2`, if
/// another known file has that name).
///
/// | a file with | is |
/// | --- | --- |
/// | the same device, inode and birth, and content that fits | the same file, whatever its name |
/// | the same device, inode and birth, and other content | cut or overwritten: what was read must be found in a copy |
/// | another inode, and all content of one that is gone | its heir: reading resumes there |
/// | another inode, and the content of one that is there, or its beginning | a copy: it is not read, and reported once |
/// | anything else | a new file, read from its beginning. A followed file joins with its first whole line |
///
/// Compressed files are compared by content. Files that share less than 4 KiB, headings for
/// instance, are different files as long as the original is there. From 4 KiB on, a file that
/// begins with all that was read of another is a copy of it, also if it has more.
///
/// # Rotation
///
/// Every line is read once, also if the process is killed in between:
///
/// | what happens to a followed file | glob | what is done |
/// | --- | --- | --- |
/// | renamed (`app.log` to `app.log.1`), a new one begun | `app.log` | read to its end by its inode; it ends after [`FileSource::rotated_after`]. The new one joins |
/// | the same | `app.log*` | it stays the same partition under its new name. The new one joins |
/// | dated names (`app-2026-01-31.log`) | `app-*.log` | each file is a partition |
/// | a link that is turned to the next file | `current` | as renamed |
/// | a link beside its target | `*` | one partition, named by the target |
/// | copied and cut (`copytruncate`) | either | the copy has the place of what was read, and is read to its end; the cut file joins as a new one. A copy under a rotated name that ends before the position, and shares 4 KiB, was read to its end already. Without a copy beside it: refused (67) |
/// | deleted, after it was read to its end | any | it ends |
/// | deleted before | any | refused (67) while it is not running; a running reader still has it, and reads it to its end |
/// | compressed (`app.log.1` to `app.log.1.gz`) | either | the compressed file is compared by content: the rest is read there if the original is gone, else it is passed over |
/// | names shift while nothing runs, also several times | either | as above, by inodes and contents. Files that had the name in between are found by their rotated names beside it (`app.log.1`, `app-20260131.log.gz`), and read |
///
/// Refused means: nothing is read or skipped before the operator decides. Put the file back, or a
/// copy of its content beside it under any name, and the next start resumes there.
/// `--on-loss earliest` (or `latest`) lets go of the rest of it instead, reports that, and never
/// reads a record twice: a file of the same beginning counts as read up to its present end.
///
/// A name is rotated if a number or a date of at least six digits is added: `app.log.1`,
/// `app.1.log`, `app.log-20260131`, `app-2026-01-31.log`.
///
/// Limits. A file that had the name only while nothing ran is found if another known file of that
/// name is still recorded, or matches: after the last one has ended, and was forgotten, it is not.
/// Targets of a link are found by their shape (`app-1.log`, `app-2.log`). A program that writes on
/// to a renamed file after a pause longer than `rotated_after` loses those lines: raise it. What
/// `copytruncate` itself loses, between copying and cutting, is in no file. A change of content
/// further than 64 KiB before a position, in place and under the same inode, is not noticed; one in
/// a copy, or in a compressed file, is. A copy made of a file after that has ended is a new file.
/// Rotation into another folder is followed while running; for restarts, let a glob match there
/// too.
#[derive(Clone, Debug)]
pub struct FileSource<D> {
    settings: Settings,
    decode: D,
    letters: Option<Letters>,
    run: Run,
}

/// The data of a source instance while it runs. A clone is another instance, and begins without.
#[derive(Debug, Default)]
struct Run {
    memory: Memory,
    shared: Mutex<Arc<Shared>>,
}

impl Clone for Run {
    fn clone(&self) -> Run {
        Run::default()
    }
}

impl<D: Decode> FileSource<D> {
    fn new(globs: impl IntoIterator<Item = impl Into<String>>, decode: D) -> FileSource<D> {
        let globs: Arc<[String]> = globs.into_iter().map(Into::into).collect();
        let settings = Settings {
            globs,
            follow: false,
            max_line_bytes: 1 << 20,
            rotated_after: Duration::from_secs(5),
            long_lines: LongLines::Fail,
            sets_aside: false,
            unreadable: None,
            removed: Removed::default(),
            open_files: None,
            descriptors: Descriptors::of_the_process(),
            shared: Arc::default(),
        };
        FileSource { settings, decode, letters: None, run: Run::default() }
    }

    /// The settings of the run that this instance is part of.
    fn settings(&self) -> Settings {
        let shared = Arc::clone(&self.run.shared.lock().unwrap_or_else(PoisonError::into_inner));
        let own = self.settings.open_files.map(|most| Descriptors::own(&shared.descriptors, most));
        let descriptors = own.unwrap_or_else(|| self.settings.descriptors.clone());
        Settings { descriptors, shared, ..self.settings.clone() }
    }

    /// Follows the files as they grow, and new files that match, instead of stopping at their ends.
    /// A last line waits for its newline.
    ///
    /// A file that cannot be followed (it is compressed, not a regular file, may not be read) is
    /// left out with a warning. See the type's documentation for rotation.
    #[must_use]
    pub fn follow(mut self) -> FileSource<D> {
        self.settings.follow = true;
        self
    }

    /// Sets the time nothing may have come from a followed file that no glob leads to any more
    /// until it has ended; 5 s if not set.
    #[must_use]
    pub fn rotated_after(mut self, time: Duration) -> FileSource<D> {
        self.settings.rotated_after = time;
        self
    }

    /// Stops, or reads the other files, if one cannot be read. If not set, a source that follows
    /// leaves it out, and any other stops.
    #[must_use]
    pub fn unreadable(mut self, policy: Unreadable) -> FileSource<D> {
        self.settings.unreadable = Some(policy);
        self
    }

    /// Forgets a file that is removed after it was read to its end, as if not set, or stops.
    #[must_use]
    pub fn removed(mut self, policy: Removed) -> FileSource<D> {
        self.settings.removed = policy;
        self
    }

    /// The most followed files of this source that are open at a time. Sources without a limit of
    /// their own share half of what the process may open.
    ///
    /// Up to half of them are files from which nothing comes. The others are closed meanwhile, and
    /// opened again when something comes: the status names a file that waits for that. A file that
    /// grows while it is closed, and is removed before it is opened again, has lost lines (67). If
    /// nobody saw it grow, it counts as read to its end, and a warning names it.
    #[must_use]
    pub fn open_files(mut self, files: usize) -> FileSource<D> {
        self.settings.open_files = Some(files.max(2));
        self
    }

    /// Passes over lines that are longer than the limit, and counts them.
    #[must_use]
    pub fn skip_long_lines(mut self) -> FileSource<D> {
        self.settings.long_lines = LongLines::Skip;
        self
    }

    /// Gives lines that cannot be decoded, and those that are too long, to this sink, with the
    /// batch that they were read in: exactly once, if the sink is.
    ///
    /// A letter has the partition, the offset, the whole line without its line end, and in its
    /// error the path, the line's number and the byte. Of a line longer than 16 MiB it has the
    /// first 16 MiB. What another policy passes over ([`Malformed::Skip`], a later
    /// [`FileSource::skip_long_lines`]) is not among them.
    ///
    /// ```
    /// use tidemill_connectors::Files;
    ///
    /// let orders = Files::json_lines::<(String,
    /// u64)>("orders/*.json").dead_letters(Files::to("bad-orders.jsonl"));
    /// ```
    #[must_use]
    pub fn dead_letters(mut self, sink: impl Sink<Item = DeadLetter>) -> FileSource<D> {
        (self.settings.sets_aside, self.settings.long_lines) = (true, LongLines::SetAside);
        self.letters = Some(Letters(Arc::new(sink)));
        self
    }

    /// The longest line, in bytes without its line end; 1 MiB if not set. A longer one is an error
    /// that names file, line and byte, unless there is another policy
    /// ([`FileSource::skip_long_lines`], [`FileSource::dead_letters`]).
    #[must_use]
    pub fn max_line_bytes(mut self, bytes: usize) -> FileSource<D> {
        self.settings.max_line_bytes = bytes;
        self
    }

    /// Sets the policy for bytes that are not UTF-8; the default stops the topology.
    #[must_use]
    pub fn invalid_utf8(mut self, policy: Invalid) -> FileSource<D> {
        self.decode.set_invalid_utf8(policy);
        self
    }
}

impl<T: Data> FileSource<JsonLines<T>> {
    /// Sets the policy for lines that are not the JSON of a `T`; the default stops the topology.
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
        let listing = Listing::of(&self.settings.globs)?;
        if let Some(glob) = listing.unmatched.first() {
            return Err(listing::nothing_matches(glob));
        }
        if self.settings.unreadable() == Unreadable::Fail {
            if let Some(hidden) = listing.hidden.into_iter().next() {
                return Err(hidden.error);
            }
            if let Some((_, why)) = listing.left_out.into_iter().next() {
                return Err(Error::config(why));
            }
        }
        Ok(listing.files.into_iter().map(|found| found.path).collect())
    }

    fn discover_every(&self) -> Option<Duration> {
        self.settings.follow.then_some(quiet::DISCOVER_EVERY)
    }

    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        discover::discover(&self.settings(), &self.run.memory, known)
    }

    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        let settings = self.settings();
        let (begun, left_out) = begin::begin(&settings, start)?;
        self.run.memory.begin(&begun.warnings, left_out);
        Ok(Begun { facts: Some(settings.shared), ..begun })
    }

    fn adopt(&self, facts: &StartFacts) {
        if let Ok(shared) = Arc::clone(facts).downcast::<Shared>() {
            *self.run.shared.lock().unwrap_or_else(PoisonError::into_inner) = shared;
        }
    }

    fn committed(&self, positions: &[(String, Position)]) {
        if self.settings.follow {
            self.run.memory.committed(positions);
        }
    }

    fn left_out(&self) -> Vec<(String, String)> {
        self.run.memory.left_out()
    }

    fn dead_letters(&self) -> Option<DeadLetterSink> {
        self.letters.as_ref().map(|letters| Arc::clone(&letters.0))
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<D::Item>>> {
        Ok(Box::new(FileReader::open(partition, self.settings(), self.decode.clone(), from)?))
    }
}
