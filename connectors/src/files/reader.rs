//! Reads one file line by line, from a position, to its end or as it grows.

use super::decode::Decode;
use super::descriptors::Waiting;
use super::folders::Folders;
use super::lines::LineTaker;
use super::listing::{self, Listing};
use super::locate::{self, Known, Place};
use super::loss;
use super::opened::{Look, Opened};
use super::settings::{Removed, Settings, Unreadable};
use super::shared::Claim;
use super::watcher::{Rest, Watcher};
use super::witness::Witness;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tidemill_engine::source::{ReadStatus, Reader, Records};
use tidemill_state::{Error, Kind, Position, Result};

/// The reader of one file.
///
/// One that is read to its end is held open from the first read to there only: a glob may match
/// more files than can be open. One that is followed is held open, so that its inode is not used
/// again, unless too many are ([`FileSource::open_files`](super::FileSource::open_files)): then it
/// is closed while nothing comes, and opened at its position as by a start.
pub(super) struct FileReader<D> {
    settings: Settings,
    decode: D,
    stage: Stage,
    skipped: u64,
    /// With the watcher, if it was given something to wake.
    waker: Option<(Arc<Watcher>, Waker)>,
    /// While nothing comes.
    rest: Option<Rest>,
    /// The number of looks in a row that found nothing new.
    quiet: u32,
    reads: u32,
    /// While it may not open its file; and when that was looked at last.
    waiting: Option<(Waiting, Instant)>,
    trouble: Option<String>,
    /// To the file, once it is known which it is.
    claim: Option<Claim>,
}

enum Stage {
    /// Not open, and checked again when it is opened; with what was left to read when it was
    /// closed.
    Closed(Box<Known>, Option<u64>),
    /// Being read.
    Open(Box<Opened>),
    /// Compressed, of a source that follows, and read to the end.
    Following(Box<Opened>, Position),
    /// Followed, read to the end, closed, and not there any more since then, when so many looks for
    /// new files that were completed.
    Gone(Box<Known>, (Instant, u64)),
    /// Read to the end.
    Ended(Position),
}

/// After so many looks at which nothing had come a followed file rests.
const LOOKS_BEFORE_REST: u32 = 4;

/// The interval at which a quiet file is looked at that must not rest: no name leads to it any
/// more, say.
const LOOK_AFTER_NAMES: Duration = Duration::from_millis(80);

/// The same, if its names have led where they lead for a while: that of a rotated file whose
/// successor is empty, say.
const LOOK_AFTER_SETTLED_NAMES: Duration = Duration::from_secs(1);

/// The longest rest. The watcher wakes a reader before, if there is something to read.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The same of a reader whose file is closed: to open it costs more than a look.
const LONGEST_REST_CLOSED: Duration = Duration::from_secs(600);

/// When a file that could not be read is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// When a reader that may not open its file now tries again.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// After so many reads one that is held open gives way to one that waits.
const READS_IN_A_ROW: u32 = 64;

/// The interval at which a file is looked at that waits until it can be opened.
const LOOK_WHILE_WAITING: Duration = Duration::from_millis(500);

/// The interval at which it is looked whether a file that is gone is back.
const LOOK_FOR_GONE: Duration = Duration::from_millis(500);

impl<D: Decode> FileReader<D> {
    pub(super) fn open(
        partition: &str,
        settings: Settings,
        decode: D,
        from: Option<&Position>,
    ) -> Result<FileReader<D>> {
        let known = match from {
            Some(from) => Known::read(partition, from)?,
            None => Known { name: partition.to_owned(), offset: 0, witness: Witness::default() },
        };
        let mut reader = FileReader {
            settings,
            decode,
            stage: Stage::Closed(Box::new(known.clone()), None),
            skipped: 0,
            waker: None,
            rest: None,
            quiet: 0,
            reads: 0,
            waiting: None,
            trouble: None,
            claim: None,
        };
        reader.claim = known.id().map(|id| reader.settings.shared.claim(id));
        // A file that is not followed is opened and closed again, so that a start finds what is
        // wrong before its first batch.
        match open(&known, &reader.settings) {
            Ok(opened) if reader.settings.follow && !reader.settings.descriptors.are_scarce() => {
                reader.claim = Some(reader.settings.shared.claim(opened.id()));
                reader.stage = Stage::Open(Box::new(opened));
            }
            Ok(_) => {}
            Err(error) if reader.is_left_out(&error) => drop(reader.leave_out(&error)),
            Err(error) => return Err(error),
        }
        Ok(reader)
    }

    /// At the end of a file that does not grow.
    fn end(&mut self, at: Position) -> ReadStatus {
        match std::mem::replace(&mut self.stage, Stage::Ended(at.clone())) {
            Stage::Open(file) if self.settings.follow => {
                self.stage = Stage::Following(file, at);
                ReadStatus::More
            }
            _ => ReadStatus::End,
        }
    }

    /// Returns whether the run continues without this file for now.
    fn is_left_out(&self, error: &Error) -> bool {
        let unverified = match &self.stage {
            Stage::Open(file) => file.is_being_verified() && file.offset() == 0,
            _ => false,
        };
        let cannot_be_read = matches!(error.kind(), Kind::Config | Kind::TryAgain) || unverified;
        self.settings.unreadable() == Unreadable::LeaveOut && cannot_be_read
    }

    fn leave_out(&mut self, error: &Error) -> ReadStatus {
        let why = error.to_string();
        if self.trouble.is_none() {
            tracing::warn!("{why}; the file is left out until it can be read");
        }
        self.trouble = Some(why);
        // The open descriptor may be all that is left of the file. After a momentary failure of the
        // disk, reading continues with it.
        let is_kept = matches!(&self.stage, Stage::Open(file) if error.kind() == Kind::TryAgain && file.may_be_all_there_is());
        if !is_kept {
            self.close();
        }
        // One that is not followed is tried again by the next start.
        if self.settings.follow { ReadStatus::Idle(TRY_AGAIN_AFTER) } else { ReadStatus::End }
    }

    fn close(&mut self) {
        if let Stage::Open(file) = &self.stage {
            self.stage = Stage::Closed(Box::new(file.known()), file.lag());
        }
    }

    /// Opens the file, if it is not. Returns what to expect if it cannot be opened now.
    fn open_now(&mut self) -> Result<Option<ReadStatus>> {
        let gone = match &self.stage {
            Stage::Closed(..) => None,
            Stage::Gone(_, since) => Some(*since),
            _ => return Ok(None),
        };
        if self.settings.follow && self.settings.descriptors.are_taken() {
            let (waiting, looked) = self
                .waiting
                .get_or_insert_with(|| (self.settings.descriptors.wait(), Instant::now()));
            let wait = waiting.next_look(OPEN_AGAIN_AFTER);
            if looked.elapsed() >= LOOK_WHILE_WAITING {
                *looked = Instant::now();
                self.note_growth(false);
            }
            return Ok(Some(ReadStatus::Idle(wait)));
        }
        self.waiting = None;
        let (Stage::Closed(known, _) | Stage::Gone(known, _)) = &self.stage else {
            return Ok(None);
        };
        match open(known, &self.settings) {
            Ok(opened) => {
                self.settings.shared.is_open(&known.name);
                self.claim = Some(self.settings.shared.claim(opened.id()));
                self.stage = Stage::Open(Box::new(opened));
                Ok(None)
            }
            Err(error) if error.kind() == Kind::SourceLost && self.is_gone(known)? => {
                self.without_file(gone).map(Some)
            }
            // A start looks for a copy.
            Err(error) if error.kind() == Kind::SourceLost => Err(error.perhaps_elsewhere()),
            Err(error) => Err(error),
        }
    }

    /// Checks whether a file that was closed when all of it was read has more by now, or had more
    /// when it was changed. If such a file is removed, that content is lost.
    fn note_growth(&mut self, was_written: bool) {
        let (Stage::Closed(known, _) | Stage::Gone(known, _)) = &mut self.stage else { return };
        let there = listing::file_at(Path::new(known.path()))
            .ok()
            .flatten()
            .filter(|found| Some(found.id) == known.id());
        if known.witness.ended && there.map_or(was_written, |found| found.length > known.offset) {
            known.witness.ended = false;
            self.settings.shared.has_grown(&known.name, known.offset);
        }
    }

    /// Returns whether a followed file was closed when all of it was read, and neither the file nor
    /// a matching copy is there any more. A matching copy would be read as a new file once this one
    /// is forgotten.
    fn is_gone(&self, known: &Known) -> Result<bool> {
        if !(self.settings.follow && known.witness.ended) {
            return Ok(false);
        }
        let listing = Listing::of(&self.settings.globs)?;
        if !matches!(locate::find(known, &listing, &mut Folders::default())?, Place::Gone) {
            return Ok(false);
        }
        if let Some(hidden) = listing.hidden.first() {
            return Err(hidden.error.clone());
        }
        let unread = listing.files.iter().filter(|found| !self.settings.shared.is_read(found.id));
        Ok(locate::heir(known, unread)?.is_none())
    }

    /// Ends the file that is gone, if it has been for long enough, and others were looked for: a
    /// rotation may be under way.
    fn without_file(&mut self, gone: Option<(Instant, u64)>) -> Result<ReadStatus> {
        let (looks, rotated_after) = (&self.settings.shared.looks, self.settings.rotated_after);
        let (since, completed) = gone.unwrap_or_else(|| (Instant::now(), looks.completed()));
        let (Stage::Closed(known, _) | Stage::Gone(known, _)) = &self.stage else {
            return Ok(ReadStatus::End);
        };
        if since.elapsed() < rotated_after || !looks.have_seen_since(completed) {
            self.stage = Stage::Gone(known.clone(), (since, completed));
            return Ok(ReadStatus::Idle(LOOK_FOR_GONE.min(rotated_after)));
        }
        if self.settings.removed == Removed::Fail {
            return Err(loss::removed(known.path(), known.offset));
        }
        tracing::warn!("{}", locate::forgotten(known));
        self.stage = Stage::Ended(known.witness.position(known.offset));
        Ok(ReadStatus::Retired)
    }

    fn read_on(&mut self, into: &mut Records<D::Item>) -> Result<ReadStatus> {
        if let Some(status) = self.open_now()? {
            return Ok(status);
        }
        let file = match &mut self.stage {
            Stage::Open(file) => file,
            Stage::Following(file, at) => {
                let (status, at) = (after_end(file, &self.settings)?, at.clone());
                if !matches!(status, ReadStatus::Idle(_)) {
                    // The file is closed.
                    self.stage = Stage::Ended(at);
                }
                return Ok(status);
            }
            _ => return Ok(ReadStatus::End),
        };
        if let Some(end) = file.recorded_end() {
            return Ok(self.end(end));
        }
        if file.prepare()? {
            return Ok(ReadStatus::More);
        }
        let mut lines = LineTaker {
            decode: &self.decode,
            skipped: &mut self.skipped,
            settings: &self.settings,
            into,
        };
        lines.take_whole(file)?;
        if lines.into.is_full() {
            return Ok(ReadStatus::More);
        }
        let grows = self.settings.follow && file.is_plain();
        if grows {
            match file.look(&self.settings)? {
                Look::Grown => self.quiet = 0,
                Look::Idle(wait) => return self.pause(wait),
                Look::Ended => {
                    lines.take_unfinished(file)?;
                    if self.settings.removed == Removed::Fail && file.is_removed() {
                        return Err(loss::removed(file.path(), file.offset()));
                    }
                    tracing::info!(
                        "{}: no name of it matches any more, and it was read to its end: it is \
                         forgotten",
                        file.path()
                    );
                    self.stage = Stage::Ended(file.end_position());
                    return Ok(ReadStatus::Retired);
                }
            }
            self.reads += 1;
            if self.reads.is_multiple_of(READS_IN_A_ROW)
                && self.settings.descriptors.are_wanted()
                && !file.is_in_long_line()
                && !file.may_be_all_there_is()
            {
                self.close();
                return Ok(ReadStatus::Idle(OPEN_AGAIN_AFTER));
            }
        }
        if file.fill(&self.settings)? > 0 {
            lines.take_whole(file)?;
            return Ok(ReadStatus::More);
        }
        file.check_not_cut()?;
        if grows {
            // What came since the last look at the length is there with the next read.
            return Ok(ReadStatus::More);
        }
        lines.take_unfinished(file)?;
        let end = file.end_position();
        Ok(self.end(end))
    }

    /// Nothing has come: looks again soon, and rests after a while.
    fn pause(&mut self, wait: Duration) -> Result<ReadStatus> {
        let (Some((watcher, waker)), Stage::Open(file)) = (&self.waker, &mut self.stage) else {
            return Ok(ReadStatus::Idle(wait));
        };
        let scarce = self.settings.descriptors.are_scarce();
        self.quiet = (self.quiet + 1).min(LOOKS_BEFORE_REST);
        if self.quiet < LOOKS_BEFORE_REST && !scarce {
            return Ok(ReadStatus::Idle(wait));
        }
        let Some(as_it_is) = file.begin_rest(&self.settings) else {
            // It stays until its successor has something: others do not wait for that.
            if self.settings.descriptors.are_wanted() && file.can_wait_closed() {
                self.close();
                return Ok(ReadStatus::Idle(LOOK_AFTER_SETTLED_NAMES));
            }
            return Ok(ReadStatus::Idle(if file.is_settled() {
                LOOK_AFTER_SETTLED_NAMES
            } else {
                LOOK_AFTER_NAMES
            }));
        };
        let rest = watcher.rest(as_it_is, waker.clone());
        // What came before it was watched wakes nobody.
        if matches!(file.look(&self.settings)?, Look::Grown) {
            return Ok(ReadStatus::More);
        }
        self.rest = Some(rest);
        if scarce {
            self.close();
            return Ok(ReadStatus::Idle(LONGEST_REST_CLOSED));
        }
        Ok(ReadStatus::Idle(LONGEST_REST))
    }
}

impl<D: Decode> Reader<D::Item> for FileReader<D> {
    fn read(&mut self, into: &mut Records<D::Item>) -> Result<ReadStatus> {
        if let Some(rest) = self.rest.take() {
            self.note_growth(rest.was_written());
        }
        match self.read_on(into) {
            Ok(status) => {
                self.trouble = self.waiting.as_ref().and_then(|(waiting, _)| {
                    let (Stage::Closed(known, _) | Stage::Gone(known, _)) = &self.stage else {
                        return None;
                    };
                    self.settings.descriptors.trouble(known.path(), waiting)
                });
                Ok(status)
            }
            Err(error) if self.is_left_out(&error) => Ok(self.leave_out(&error)),
            Err(error) => Err(error),
        }
    }

    fn position(&self) -> Position {
        match &self.stage {
            Stage::Closed(known, _) | Stage::Gone(known, _) => known.witness.position(known.offset),
            Stage::Following(_, at) | Stage::Ended(at) => at.clone(),
            Stage::Open(file) => file.position(),
        }
    }

    fn offset(&self) -> u64 {
        match &self.stage {
            Stage::Closed(known, _) | Stage::Gone(known, _) => known.offset,
            Stage::Following(_, at) | Stage::Ended(at) => at.offset,
            Stage::Open(file) => file.offset(),
        }
    }

    fn lag(&self) -> Option<u64> {
        match &self.stage {
            Stage::Closed(_, lag) => *lag,
            Stage::Open(file) => file.lag(),
            Stage::Following(..) | Stage::Ended(_) | Stage::Gone(..) => Some(0),
        }
    }

    fn wake_with(&mut self, waker: Waker) -> bool {
        self.waker =
            self.settings.follow.then(Watcher::shared).flatten().map(|watcher| (watcher, waker));
        true
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// After the end of a compressed file that was followed by name before it was compressed.
fn after_end(file: &mut Opened, settings: &Settings) -> Result<ReadStatus> {
    Ok(match file.look_after_end(settings)? {
        None => ReadStatus::End,
        Some(Look::Idle(wait)) => ReadStatus::Idle(wait),
        Some(Look::Grown | Look::Ended) => ReadStatus::Retired,
    })
}

/// Opens the file of a position. If its names have moved since the start looked, a look at all
/// files may find it.
///
/// # Errors
/// Kind SourceLost: it is gone, or another one. If it may be where nobody can look, the error is
/// that of the look.
fn open(known: &Known, settings: &Settings) -> Result<Opened> {
    let error = match Opened::open(known, settings) {
        Err(error) if error.kind() == Kind::SourceLost => error.perhaps_elsewhere(),
        opened => return opened,
    };
    let listing = settings.shared.listing(&settings.globs, LOOK_FOR_GONE)?;
    let Some(hidden) = listing.hidden.first() else { return Err(error) };
    let is_gone = matches!(locate::find(known, &listing, &mut Folders::default())?, Place::Gone);
    Err(if is_gone { hidden.error.clone() } else { error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, Lines, Str};
    use std::fs;
    use std::task::Wake;

    struct Sleeper;

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {}
    }

    fn read(reader: &mut FileReader<Lines>) -> (Vec<Str>, ReadStatus) {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into).expect("read");
        (into.iter().map(|(_, line)| line.clone()).collect(), status)
    }

    #[test]
    fn rotated_files_with_empty_successors_make_room_for_files_with_lines() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let names = ["a.log", "b.log", "c.log"];
        names.iter().for_each(|name| fs::write(at(name), "1\n").expect("written"));
        let source = Files::lines_of(names.map(at))
            .follow()
            .open_files(2)
            .rotated_after(Duration::from_millis(30));
        let open = |name: &str| {
            let mut reader = FileReader::open(&at(name), source.settings(), Lines::default(), None)
                .expect("opened");
            reader.wake_with(Waker::from(Arc::new(Sleeper)));
            reader
        };
        let (mut first, mut second) = (open("a.log"), open("b.log"));
        for (reader, name) in [(&mut first, "a.log"), (&mut second, "b.log")] {
            assert_eq!(read(reader).0, ["1"]);
            fs::rename(at(name), at(&format!("{name}.1"))).expect("renamed");
            fs::write(at(name), "").expect("written");
        }
        let mut third = open("c.log");
        let began = Instant::now();
        let mut last = Vec::new();
        while last.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "it waits");
            read(&mut first);
            read(&mut second);
            if began.elapsed() > Duration::from_secs(1) {
                for reader in [&mut first, &mut second] {
                    if let Stage::Open(file) = &mut reader.stage {
                        file.settle();
                    }
                }
            }
            last = read(&mut third).0;
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(last, ["1"]);
        drop(third);
        // The same partition is read on, and ends with its successor.
        fs::write(at("a.log"), "2\n").expect("written");
        let mut end = read(&mut first);
        while !matches!(end.1, ReadStatus::Retired) {
            assert!(end.0.is_empty() && began.elapsed() < Duration::from_secs(120), "{end:?}");
            std::thread::sleep(Duration::from_millis(10));
            end = read(&mut first);
        }
    }
}
