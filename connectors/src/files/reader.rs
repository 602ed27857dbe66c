//! Reads one file line by line, from a position, to its end or as it grows.

use super::Settings;
use super::decode::{Decode, Decoded};
use super::opened::Opened;
use super::quote;
use super::witness::Witness;
use std::sync::Arc;
use tidemill_engine::source::{ReadStatus, Reader, Records};
use tidemill_state::{Error, Position, Result};

/// The reader of one file. It holds the file open from its first read to its end only: a glob may match more files than can be open.
pub(super) struct FileReader<D> {
    path: Arc<str>,
    settings: Settings,
    decode: D,
    stage: Stage,
    skipped: u64,
}

enum Stage {
    /// Nothing was read yet. The file was checked, and will be again.
    Before(Option<Position>),
    /// Being read.
    Open(Box<Opened>),
    /// Read to the end.
    Ended(Position),
}

impl<D: Decode> FileReader<D> {
    pub(super) fn open(path: Arc<str>, settings: Settings, decode: D, from: Option<&Position>) -> Result<FileReader<D>> {
        // Opened and closed again, so that a start finds what is wrong before its first batch.
        Opened::open(&path, settings, from)?;
        Ok(FileReader { path, settings, decode, stage: Stage::Before(from.cloned()), skipped: 0 })
    }
}

impl<D: Decode> Reader<D::Item> for FileReader<D> {
    fn read(&mut self, into: &mut Records<D::Item>) -> Result<ReadStatus> {
        if let Stage::Before(from) = &self.stage {
            let file = Opened::open(&self.path, self.settings, from.as_ref())?;
            self.stage = match file.recorded_end()? {
                Some(end) => Stage::Ended(end),
                None => Stage::Open(Box::new(file)),
            };
        }
        let Stage::Open(file) = &mut self.stage else { return Ok(ReadStatus::End) };
        if file.rewind()? {
            return Ok(ReadStatus::More);
        }
        let mut lines = LineTaker { decode: &self.decode, skipped: &mut self.skipped, settings: self.settings, into };
        lines.take_whole(file)?;
        if lines.into.is_full() {
            return Ok(ReadStatus::More);
        }
        if self.settings.follow
            && let Some(wait) = file.wait_for_growth()?
        {
            return Ok(ReadStatus::Idle(wait));
        }
        if file.fill()? > 0 {
            lines.take_whole(file)?;
            return Ok(ReadStatus::More);
        }
        file.check_not_cut()?;
        if self.settings.follow {
            // What came since the last look at the length is there with the next read.
            return Ok(ReadStatus::More);
        }
        lines.take_unfinished(file)?;
        self.stage = Stage::Ended(file.end_position());
        Ok(ReadStatus::End)
    }

    fn position(&self) -> Position {
        match &self.stage {
            Stage::Before(Some(from)) | Stage::Ended(from) => from.clone(),
            Stage::Before(None) => Witness::of_nothing().position(0),
            Stage::Open(file) => file.position(),
        }
    }

    fn lag(&self) -> Option<u64> {
        match &self.stage {
            Stage::Before(_) => None,
            Stage::Open(file) => file.lag(),
            Stage::Ended(_) => Some(0),
        }
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// Takes lines out of the window, for one call of `read`.
struct LineTaker<'a, D: Decode> {
    decode: &'a D,
    skipped: &'a mut u64,
    settings: Settings,
    into: &'a mut Records<D::Item>,
}

impl<D: Decode> LineTaker<'_, D> {
    /// Takes the lines that are in memory as a whole, as many as there is room for.
    fn take_whole(&mut self, file: &mut Opened) -> Result<()> {
        if !file.finish_given_line()? {
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

    /// Takes the rest of the file as its last line.
    fn take_unfinished(&mut self, file: &mut Opened) -> Result<()> {
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
    Error::user_code(format!("{}: line {}, byte {byte}: {why}", file.path, file.lines + 1))
}
