//! Reads one file line by line, from a position, to its end or as it grows.

use super::Settings;
use super::decode::{Decode, Decoded};
use super::locate::Known;
use super::marks::{Beginning, beginning};
use super::opened::{Look, Opened};
use super::quote;
use super::witness::Witness;
use tidemill_engine::source::{ReadStatus, Reader, Records};
use tidemill_state::{Error, Kind, Position, Result};

/// The reader of one file. One that is read to its end is held open from the first read to there only: a glob may match more
/// files than can be open. One that is followed is held open always: its inode is not used again meanwhile.
pub(super) struct FileReader<D> {
    settings: Settings,
    decode: D,
    stage: Stage,
    skipped: u64,
}

enum Stage {
    /// Nothing was read yet. The file was checked, and will be again.
    Before(Box<Known>),
    /// Being read.
    Open(Box<Opened>),
    /// Compressed, of a source that follows, and read to the end.
    Following(Box<Opened>, Position),
    /// Read to the end.
    Ended(Position),
}

impl<D: Decode> FileReader<D> {
    pub(super) fn open(partition: &str, settings: Settings, decode: D, from: Option<&Position>) -> Result<FileReader<D>> {
        let known = match from {
            Some(from) => Known::read(partition, from)?,
            None => Known { name: partition.to_owned(), offset: 0, witness: Witness::default() },
        };
        // A file that is not followed is opened and closed again, so that a start finds what is wrong before its first batch.
        let opened = open(&known, &settings)?;
        let stage = if settings.follow { Stage::Open(Box::new(opened)) } else { Stage::Before(Box::new(known)) };
        Ok(FileReader { settings, decode, stage, skipped: 0 })
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
}

impl<D: Decode> Reader<D::Item> for FileReader<D> {
    fn read(&mut self, into: &mut Records<D::Item>) -> Result<ReadStatus> {
        if let Stage::Before(known) = &self.stage {
            self.stage = Stage::Open(Box::new(open(known, &self.settings)?));
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
        let mut lines = LineTaker { decode: &self.decode, skipped: &mut self.skipped, settings: &self.settings, into };
        lines.take_whole(file)?;
        if lines.into.is_full() {
            return Ok(ReadStatus::More);
        }
        let grows = self.settings.follow && file.is_plain();
        if grows {
            match file.look(&self.settings)? {
                Look::Grown => {}
                Look::Idle(wait) => return Ok(ReadStatus::Idle(wait)),
                Look::Ended => {
                    lines.take_unfinished(file)?;
                    self.stage = Stage::Ended(file.end_position());
                    return Ok(ReadStatus::Retired);
                }
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

    fn position(&self) -> Position {
        match &self.stage {
            Stage::Before(known) => known.witness.position(known.offset),
            Stage::Following(_, at) | Stage::Ended(at) => at.clone(),
            Stage::Open(file) => file.position(),
        }
    }

    fn offset(&self) -> u64 {
        match &self.stage {
            Stage::Before(known) => known.offset,
            Stage::Following(_, at) | Stage::Ended(at) => at.offset,
            Stage::Open(file) => file.offset(),
        }
    }

    fn lag(&self) -> Option<u64> {
        match &self.stage {
            Stage::Before(_) => None,
            Stage::Open(file) => file.lag(),
            Stage::Following(..) | Stage::Ended(_) => Some(0),
        }
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

/// Opens the file of a position. If its names have moved since the start looked, a look at all files may find it.
fn open(known: &Known, settings: &Settings) -> Result<Opened> {
    Opened::open(known, settings).map_err(|error| match error.kind() {
        Kind::SourceLost => error.perhaps_elsewhere(),
        _ => error,
    })
}

/// Takes lines out of the window, for one call of `read`.
struct LineTaker<'a, D: Decode> {
    decode: &'a D,
    skipped: &'a mut u64,
    settings: &'a Settings,
    into: &'a mut Records<D::Item>,
}

impl<D: Decode> LineTaker<'_, D> {
    /// Takes the lines that are in memory as a whole, as many as there is room for.
    fn take_whole(&mut self, file: &mut Opened) -> Result<()> {
        if !file.finish_given_line()? || !self.begin(file, false)? {
            return Ok(());
        }
        while !self.into.is_full() {
            let Some(length) = file.window.line() else {
                // It may end in the `\r` of its line end.
                if file.window.unread().len() > self.settings.max_line_bytes.saturating_add(1) {
                    return Err(self.too_long(file));
                }
                return Ok(());
            };
            self.take(file, length, length - 1)?;
        }
        Ok(())
    }

    /// Passes over a byte order mark. Returns whether lines can be taken now.
    #[inline]
    fn begin(&self, file: &mut Opened, whole: bool) -> Result<bool> {
        if file.window.offset() > 0 { Ok(true) } else { self.begin_first(file, whole) }
    }

    #[cold]
    fn begin_first(&self, file: &mut Opened, whole: bool) -> Result<bool> {
        match beginning(file.window.unread(), whole) {
            Beginning::Text(mark) => file.window.consume(mark),
            Beginning::Unclear => return Ok(false),
            Beginning::Encoded(encoding) => {
                let why = format!("this is {encoding}, not UTF-8; convert the file: iconv -f {encoding} -t UTF-8");
                return Err(bad_line(file, 0, &why));
            }
            Beginning::Zeros => {
                let why = "the file begins with zeros, as one does that was cut while its writer wrote on; remove them";
                return Err(bad_line(file, 0, why));
            }
        }
        Ok(true)
    }

    /// Takes the rest of the file as its last line.
    fn take_unfinished(&mut self, file: &mut Opened) -> Result<()> {
        if file.window.offset() == 0 {
            self.begin(file, true)?;
        }
        match file.window.unread().len() {
            0 => Ok(()),
            _ if file.has_given_line() => Err(file.given_line_has_grown()),
            length => self.take(file, length, length),
        }
    }

    /// Takes the next `length` bytes, whose first `content` are before the newline.
    #[inline]
    fn take(&mut self, file: &mut Opened, length: usize, content: usize) -> Result<()> {
        let line = &file.window.unread()[..content];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.settings.max_line_bytes {
            return Err(self.too_long(file));
        }
        match self.decode.decode(line) {
            Decoded::Record(record) => self.into.push(file.window.offset(), length, record),
            Decoded::Blank => {}
            Decoded::Skipped => *self.skipped += 1,
            Decoded::Refused { at, why } => {
                let byte = file.window.offset() + super::window::to_u64(at);
                return Err(bad_line(file, byte, &format!("{why}: {}", quote::head(&line[at..]))));
            }
        }
        file.window.consume(length);
        file.lines += 1;
        Ok(())
    }

    #[cold]
    fn too_long(&self, file: &Opened) -> Error {
        let why = format!(
            "the line is longer than {} bytes; raise the limit with .max_line_bytes(n), or check that these are lines: {}",
            self.settings.max_line_bytes,
            quote::head(file.window.unread())
        );
        bad_line(file, file.window.offset(), &why)
    }
}

#[cold]
fn bad_line(file: &Opened, byte: u64, why: &str) -> Error {
    Error::user_code(format!("{}: line {}, byte {byte}: {why}", file.path(), file.lines + 1))
}
