//! A file while it is being read: the part of it in memory, and the checks that it is still the
//! file that it was.

mod growth;
mod long_line;

use super::descriptors::Held;
use super::input::{self, Input};
use super::listing::FileId;
use super::locate::{self, Known};
use super::loss::{self, WAY_ON, shrunk};
use super::names::Names;
use super::packed::{Compression, Verifier};
use super::running::to_u64;
use super::settings::Settings;
use super::window::{WITNESS_BYTES, Window};
use super::witness::{FileWitness, Identity, Witness, packed_mark};
pub(super) use growth::Look;
pub(super) use long_line::LongLine;
use std::io::{Seek, SeekFrom};
use tidemill_state::{Error, Position, Result};

/// An opened file, and how far it is read.
pub(super) struct Opened {
    partition: String,
    pub(super) window: Window,
    /// The number of lines before the window's offset.
    pub(super) lines: u64,
    input: Input,
    names: Names,
    file: FileWitness,
    /// The offset at which it was opened: no position is before that.
    opened_at: u64,
    /// The position that a compressed file is being read up to again.
    rewind_to: Option<Known>,
    /// The pass over a compressed file that checks it, before a line of it is given.
    verifier: Option<Verifier>,
    /// The mark of a compressed file; none for a plain one.
    packed: Option<u64>,
    /// The line before the offset was given without a newline, because the file ended there. All
    /// that may follow is that newline.
    given_without_newline: bool,
    /// A line of which too much has come to keep it, and which is not over yet.
    long_line: Option<LongLine>,
    /// The beginning that the file had when it was listed, while nothing is read of it. `None` once
    /// its first bytes were read.
    expected: Option<Identity>,
    /// True if a name in any folder led to it, when its length was looked at last.
    is_linked: bool,
    /// The time of its last change when its end was compared with what was read; 0 if it may change
    /// again within that time.
    compared: i64,
    _held: Held,
}

impl Opened {
    /// Opens the file of a position and checks that it holds what was read, as far as that needs no
    /// decompression.
    pub(super) fn open(known: &Known, settings: &Settings) -> Result<Opened> {
        let (path, file) = locate::open_known(known)?;
        let metadata =
            file.metadata().map_err(|why| loss::unreadable(&path, known.offset, &why))?;
        let head = input::bytes_at(&path, &file, 0, WITNESS_BYTES)?;
        let compression = Compression::recognise(&head);
        let is_new = known.witness.file.is_none() && known.offset == 0;
        if let (Some(compression), true, true) = (compression, settings.follow, is_new) {
            return Err(followed_compressed(&path, compression));
        }
        let mut opened = Opened {
            partition: known.name.clone(),
            window: Window::default(),
            lines: 0,
            names: Names::new(path.clone(), FileId::of(&metadata), &settings.shared.looks),
            file: FileWitness::of(&path, &metadata, &head).read_after(known.witness.file.as_ref()),
            opened_at: known.offset,
            rewind_to: None,
            verifier: None,
            packed: None,
            input: Input::new(file, compression),
            given_without_newline: false,
            long_line: None,
            is_linked: true,
            compared: 0,
            _held: settings.descriptors.hold(),
            expected: (known.offset == 0 && compression.is_none())
                .then(|| known.witness.begins.clone()),
        };
        if let Some(compression) = compression {
            opened.prepare_compressed(known, compression)?;
        } else if known.offset > 0 {
            opened.go_to(known)?;
        } else if !known.witness.fits(&head) {
            return Err(opened.changed());
        }
        Ok(opened)
    }

    fn prepare_compressed(&mut self, known: &Known, compression: Compression) -> Result<()> {
        let path = &self.names.path;
        let (file, _) = locate::open(path, 0)?;
        let from = self.file.length.saturating_sub(to_u64(WITNESS_BYTES));
        let mark =
            packed_mark(self.file.length, &input::bytes_at(path, &file, from, WITNESS_BYTES)?);
        self.packed = Some(mark);
        // A file that was verified, and is as it was, is not verified again.
        if known.witness.verified != mark && !known.witness.is_end_of(mark) {
            self.verifier = Some(Verifier::new(compression, file));
        }
        self.rewind_to = (known.offset > 0).then(|| known.clone());
        Ok(())
    }

    fn go_to(&mut self, known: &Known) -> Result<()> {
        let Input::Plain(file) = &mut self.input else { return Ok(()) };
        if self.file.length < known.offset {
            return Err(shrunk(&self.names.path, known.offset, self.file.length));
        }
        self.window = input::seek(&self.names.path, file, known.offset, known.witness.sum)?;
        self.arrived(&known.witness)
    }

    /// At a recorded position: compares the content before it with what was read.
    fn arrived(&mut self, witness: &Witness) -> Result<()> {
        witness.check(&self.names.path, &self.window)?;
        self.lines = witness.lines;
        let only_a_mark =
            self.window.offset() == 3 && self.window.head().starts_with(b"\xef\xbb\xbf");
        self.given_without_newline =
            !only_a_mark && self.window.last_consumed().is_some_and(|last| last != b'\n');
        Ok(())
    }

    /// Passes over all whole lines that are there. Returns the position after them.
    pub(super) fn pass_over(mut self) -> Result<Position> {
        loop {
            while let Some(length) = self.window.line() {
                self.window.consume(length);
                self.lines += 1;
            }
            if self.input.fill(&self.names.path, &mut self.window)? == 0 {
                return Ok(self.position());
            }
        }
    }

    /// The name of the partition.
    pub(super) fn partition(&self) -> &str {
        &self.partition
    }

    pub(super) fn id(&self) -> FileId {
        self.names.id
    }

    /// The path that led to the file last.
    pub(super) fn path(&self) -> &str {
        &self.names.path
    }

    /// The recorded position, if it is the end of this very file, compressed, as it lies on disk:
    /// no need to decompress it to find out.
    pub(super) fn recorded_end(&self) -> Option<Position> {
        let (known, packed) = (self.rewind_to.as_ref()?, self.packed?);
        known.witness.is_end_of(packed).then(|| known.witness.position(known.offset))
    }

    /// Goes a step on in what comes before the first line. Returns whether there is more of that.
    pub(super) fn prepare(&mut self) -> Result<bool> {
        if let Some(verifier) = &mut self.verifier {
            if verifier.step(&self.names.path)? {
                self.verifier = None;
            }
            return Ok(true);
        }
        self.rewind()
    }

    /// Goes a step towards the recorded position, if it is not yet reached.
    fn rewind(&mut self) -> Result<bool> {
        let Some(known) = &self.rewind_to else { return Ok(false) };
        let to = known.offset;
        if self.input.fill(&self.names.path, &mut self.window)? == 0 {
            return Err(shrunk(&self.names.path, to, self.window.end_offset()));
        }
        let left = usize::try_from(to - self.window.offset()).unwrap_or(usize::MAX);
        self.window.consume(left.min(self.window.unread().len()));
        // Until all of it was found right the position is the recorded one: what an error leaves is
        // committed.
        if self.window.offset() == to
            && let Some(known) = self.rewind_to.clone()
        {
            self.arrived(&known.witness)?;
            self.rewind_to = None;
        }
        Ok(true)
    }

    /// Reads the next bytes. Returns how many came; 0 is the end, for now.
    pub(super) fn fill(&mut self, settings: &Settings) -> Result<usize> {
        let from = self.window.end_offset();
        let came = self.input.fill(&self.names.path, &mut self.window)?;
        let Input::Plain(file) = &mut self.input else { return Ok(came) };
        // Compared after the read: what came is then of the file whose end was at `from`, and not
        // of what replaced it.
        let before = self.window.before_last(came);
        match input::bytes_at(&self.names.path, file, from - to_u64(before.len()), before.len()) {
            Ok(now) if now == before => {}
            Ok(_) => {
                self.window.take_back(came);
                return Err(self.cut());
            }
            // What came was not compared: it is read again, if the file is kept open.
            Err(error) => {
                self.window.take_back(came);
                file.seek(SeekFrom::Start(from))
                    .map_err(|why| loss::unreadable(&self.names.path, from, &why))?;
                return Err(error);
            }
        }
        // It may have been cut and rewritten since it was opened: nothing was read yet that would
        // show it.
        if from == 0 && came > 0 {
            if self.expected.as_ref().is_some_and(|expected| !expected.fits(self.window.head())) {
                self.window.take_back(came);
                return Err(self.changed());
            }
            self.expected = None;
        }
        // A followed file may have been empty when it was opened. Until here no newline was read,
        // so no record was given.
        if settings.follow
            && from < 4
            && self.window.offset() == 0
            && let Some(compression) = Compression::recognise(self.window.unread())
        {
            return Err(followed_compressed(&self.names.path, compression));
        }
        Ok(came)
    }

    /// Returns whether a compressed file is still being checked: nothing of it was given.
    pub(super) fn is_being_verified(&self) -> bool {
        self.verifier.is_some()
    }

    /// Returns whether it is a plain file, which may grow.
    pub(super) fn is_plain(&self) -> bool {
        self.packed.is_none()
    }

    /// The error of a file that lost content while it was read: a copy of what was read may be
    /// beside it.
    fn cut(&self) -> Error {
        Error::source_lost(format!(
            "{}: was cut or overwritten while it was read: the content before byte {} is not what \
             was read; {WAY_ON}",
            self.names.path,
            self.window.end_offset()
        ))
        .perhaps_elsewhere()
    }

    fn changed(&self) -> Error {
        Error::source_lost(format!(
            "{}: does not begin as it began when it was seen first; {WAY_ON}",
            self.names.path
        ))
        .perhaps_elsewhere()
    }

    /// Returns whether the line before the offset was given without its newline, which has not come
    /// yet.
    pub(super) fn has_given_line(&self) -> bool {
        self.given_without_newline
    }

    /// Passes over the newline of a line that was given without one. Returns whether lines can be
    /// taken now.
    pub(super) fn finish_given_line(&mut self) -> Result<bool> {
        if !self.given_without_newline {
            return Ok(true);
        }
        let length = match self.window.unread() {
            [] | [b'\r'] => return Ok(false),
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return Err(self.given_line_has_grown()),
        };
        self.window.consume(length);
        self.given_without_newline = false;
        Ok(true)
    }

    #[cold]
    pub(super) fn given_line_has_grown(&self) -> Error {
        let (path, offset) = (&self.names.path, self.window.offset());
        Error::source_lost(format!(
            "{path}: line {} ended without a newline at byte {offset}, where the file ended, was \
             read so, and has grown since; insert a newline at byte {offset}, so that the rest is \
             a line of its own, or begin from scratch with --start-over (for files that are still \
             written, use .follow())",
            self.lines
        ))
    }

    fn witness(&self) -> Witness {
        let verified = if self.verifier.is_none() { self.packed.unwrap_or(0) } else { 0 };
        let ended = self.is_plain() && self.file.length <= self.window.offset();
        Witness { verified, ended, ..Witness::of(&self.window, self.lines, self.file.clone()) }
    }

    /// The partition and how far it is read. A compressed file that had ended before is not read
    /// again; a line that is not over counts as not begun.
    pub(super) fn known(&self) -> Known {
        let before = self.rewind_to.as_ref().or(self.long_line.as_ref().map(|line| &line.before));
        let here = || Known {
            name: self.partition.clone(),
            offset: self.window.offset(),
            witness: self.witness(),
        };
        let known = before.cloned().unwrap_or_else(here);
        // One before it would be committed, and what comes after it read twice.
        assert!(
            known.offset >= self.opened_at,
            "no position is before the one at which its file was opened"
        );
        known
    }

    pub(super) fn position(&self) -> Position {
        let known = self.known();
        known.witness.position(known.offset)
    }

    /// The offset of the position.
    pub(super) fn offset(&self) -> u64 {
        let before = self.rewind_to.as_ref().or(self.long_line.as_ref().map(|line| &line.before));
        before.map_or(self.window.offset(), |known| known.offset)
    }

    /// The position at the end of the file.
    pub(super) fn end_position(&self) -> Position {
        let witness = Witness { ended: true, ..self.witness() };
        self.packed
            .map_or(witness.clone(), |packed| witness.at_end_of(packed))
            .position(self.window.offset())
    }
}

pub(super) fn followed_compressed(path: &str, compression: Compression) -> Error {
    Error::config(format!(
        "{path}: is compressed ({compression}) and cannot be followed; read it by a source \
         without .follow(), or match plain files only"
    ))
}
