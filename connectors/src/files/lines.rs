//! From the window of a file to its lines, and what becomes of those that are no records.

use super::decode::{Decode, Decoded};
use super::marks::{Beginning, beginning};
use super::opened::Opened;
use super::quote;
use super::running::to_u64;
use super::settings::{LongLines, Settings};
use tidemill_engine::source::{DeadLetter, Records};
use tidemill_state::{Error, Result};

/// The most bytes of a too long line that go into its dead letter. They are in memory until the
/// line is over.
pub(super) const LETTER_BYTES: usize = 16 << 20;

/// Takes lines out of the window, for one call of `read`.
pub(super) struct LineTaker<'a, D: Decode> {
    pub(super) decode: &'a D,
    pub(super) skipped: &'a mut u64,
    pub(super) settings: &'a Settings,
    pub(super) into: &'a mut Records<D::Item>,
}

impl<D: Decode> LineTaker<'_, D> {
    /// Takes the lines that are in memory as a whole, as many as there is room for.
    pub(super) fn take_whole(&mut self, file: &mut Opened) -> Result<()> {
        if !file.finish_given_line()? || !self.begin(file, false)? {
            return Ok(());
        }
        while !self.into.is_full() {
            match file.window.line() {
                Some(length) if file.is_in_long_line() => {
                    file.pass(length);
                    self.end_long_line(file, 1);
                }
                Some(length) => self.take(file, length, length - 1)?,
                // It may end in the `\r` of its line end.
                None if file.is_in_long_line()
                    || file.window.unread().len()
                        > self.settings.max_line_bytes.saturating_add(1) =>
                {
                    return self.pass(file);
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Passes over what is in memory of a line that is too long.
    #[cold]
    fn pass(&mut self, file: &mut Opened) -> Result<()> {
        if !file.is_in_long_line() {
            file.begin_long_line(match self.settings.long_lines {
                LongLines::Fail => return Err(self.too_long(file)),
                LongLines::Skip => 0,
                LongLines::SetAside => LETTER_BYTES,
            });
        }
        file.pass(file.window.unread().len());
        Ok(())
    }

    /// Ends such a line, whose last bytes, so many, are its newline.
    fn end_long_line(&mut self, file: &mut Opened, newline: usize) {
        let Some(line) = file.end_long_line() else { return };
        let whole = line.head.len() == line.length;
        let mut head = &line.head[..];
        if whole {
            head = head.strip_suffix(b"\n").unwrap_or(head);
            head = head.strip_suffix(b"\r").unwrap_or(head);
        }
        let cut = if whole {
            String::new()
        } else {
            format!(", of which the first {LETTER_BYTES} are here")
        };
        let why = format!("{}{cut}", longer(line.length - newline, self.settings.max_line_bytes));
        self.long(
            file,
            (line.before.offset, line.before.witness.lines + 1),
            line.length,
            head,
            &why,
        );
    }

    /// Does with a line that is too long what the policy is; it does not fail.
    fn long(
        &mut self,
        file: &Opened,
        (offset, number): (u64, u64),
        length: usize,
        line: &[u8],
        why: &str,
    ) {
        match self.settings.long_lines {
            LongLines::SetAside => {
                self.set_aside(file, (offset, number, offset), length, line, why)
            }
            LongLines::Skip | LongLines::Fail => *self.skipped += 1,
        }
    }

    /// Gives a line to the dead letters, with its offset and number, and the byte at which it is no
    /// record.
    fn set_aside(
        &mut self,
        file: &Opened,
        (offset, number, byte): (u64, u64, u64),
        length: usize,
        line: &[u8],
        why: &str,
    ) {
        let letter = DeadLetter {
            operator: None,
            source: None,
            partition: Some(file.partition().to_owned()),
            offset: Some(offset),
            error: place(file, number, byte, why),
            key: None,
            bytes: Some(line.to_vec()),
            timestamp: None,
            headers: Vec::new(),
        };
        self.into.set_aside(length, letter);
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
                let why = format!(
                    "this is {encoding}, not UTF-8; convert the file: iconv -f {encoding} -t UTF-8"
                );
                return Err(bad_line(file, 0, &why));
            }
            Beginning::Zeros => {
                let why = "the file begins with zeros, as one does that was cut while its writer \
                    wrote on; remove them";
                return Err(bad_line(file, 0, why));
            }
        }
        Ok(true)
    }

    /// Takes the rest of the file as its last line.
    pub(super) fn take_unfinished(&mut self, file: &mut Opened) -> Result<()> {
        if file.is_in_long_line() {
            file.pass(file.window.unread().len());
            self.end_long_line(file, 0);
            return Ok(());
        }
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
            if self.settings.long_lines == LongLines::Fail {
                return Err(self.too_long(file));
            }
            let why = longer(line.len(), self.settings.max_line_bytes);
            self.long(file, (file.window.offset(), file.lines + 1), length, line, &why);
        } else {
            match self.decode.decode(line) {
                Decoded::Record(record) => self.into.push(file.window.offset(), length, record),
                Decoded::Blank => {}
                Decoded::Skipped => *self.skipped += 1,
                Decoded::Refused { at, why } => self.refuse(file, length, line, (at, &why))?,
            }
        }
        file.window.consume(length);
        file.lines += 1;
        Ok(())
    }

    #[cold]
    fn refuse(
        &mut self,
        file: &Opened,
        length: usize,
        line: &[u8],
        (at, why): (usize, &str),
    ) -> Result<()> {
        let (offset, byte) = (file.window.offset(), file.window.offset() + to_u64(at));
        if !self.settings.sets_aside {
            return Err(bad_line(file, byte, &format!("{why}: {}", quote::head(&line[at..]))));
        }
        self.set_aside(file, (offset, file.lines + 1, byte), length, line, why);
        Ok(())
    }

    #[cold]
    fn too_long(&self, file: &Opened) -> Error {
        let why = format!(
            "the line is longer than {} bytes; raise the limit with .max_line_bytes(n), pass over \
             such lines with .skip_long_lines(), set them aside with .dead_letters(sink), or \
             check that these are lines: {}",
            self.settings.max_line_bytes,
            quote::head(file.window.unread())
        );
        bad_line(file, file.window.offset(), &why)
    }
}

fn longer(length: usize, most: usize) -> String {
    format!("the line has {length} bytes, and may have {most}")
}

fn place(file: &Opened, number: u64, byte: u64, why: &str) -> String {
    format!("{}: line {number}, byte {byte}: {why}", file.path())
}

#[cold]
fn bad_line(file: &Opened, byte: u64, why: &str) -> Error {
    Error::user_code(place(file, file.lines + 1, byte, why))
}
