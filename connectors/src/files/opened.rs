//! A file while it is being read: what is in memory of it, and whether it is still the file that it was.

use super::Settings;
use super::input::{self, Compression, Input};
use super::window::{WITNESS_BYTES, Window, to_u64};
use super::witness::{Witness, packed_mark};
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;
use tidemill_state::{Error, Position, Result};

/// How often a followed file is asked for its length: a new line is seen at most this long after it was written.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Every so many polls, whether the name still leads to the same file.
const POLLS_PER_NAME_CHECK: u32 = 50;

/// An opened file, and how far it is read.
pub(super) struct Opened {
    pub(super) path: Arc<str>,
    pub(super) window: Window,
    /// The number of lines before the window's offset.
    pub(super) lines: u64,
    input: Input,
    /// The position that a compressed file is being read up to again.
    rewind_to: Option<Position>,
    /// The mark of a compressed file; none for a plain one.
    packed: Option<u64>,
    /// The line before the offset was given without a newline, because the file ended there. All that may follow is that newline.
    given_without_newline: bool,
    /// The length of a plain file when it was last looked at.
    length: Option<u64>,
    device_and_inode: (u64, u64),
    idle_polls: u32,
}

impl Opened {
    /// Opens the file and checks that it matches `from`, as far as that needs no decompression.
    pub(super) fn open(path: &Arc<str>, settings: Settings, from: Option<&Position>) -> Result<Opened> {
        let offset = from.map_or(0, |from| from.offset);
        let file = File::open(&**path).map_err(|why| cannot_open(path, offset, &why))?;
        let metadata = file.metadata().map_err(|why| input::unreadable(path, offset, &why))?;
        if !metadata.is_file() {
            return Err(Error::config(format!("{path}: is not a regular file; match files only")));
        }
        let compression = Compression::recognise(&input::bytes_at(path, &file, 0, 4)?);
        let packed = match compression {
            None => None,
            Some(_) => {
                let tail = input::bytes_at(path, &file, metadata.len().saturating_sub(to_u64(WITNESS_BYTES)), WITNESS_BYTES)?;
                Some(packed_mark(metadata.len(), &tail))
            }
        };
        let input = Input::new(path, file, compression)?;
        if let (Some(compression), true) = (compression, settings.follow) {
            return Err(followed_compressed(path, compression));
        }
        let mut opened = Opened {
            path: Arc::clone(path),
            window: Window::default(),
            lines: 0,
            rewind_to: None,
            packed,
            input,
            given_without_newline: false,
            length: None,
            device_and_inode: device_and_inode(&metadata),
            idle_polls: 0,
        };
        opened.go_to(&metadata, from.filter(|from| from.offset > 0))?;
        Ok(opened)
    }

    fn go_to(&mut self, metadata: &Metadata, from: Option<&Position>) -> Result<()> {
        let Input::Plain(file) = &mut self.input else {
            if let Some(from) = from {
                Witness::read(&self.path, from)?;
                self.rewind_to = Some(from.clone());
            }
            return Ok(());
        };
        self.length = Some(metadata.len());
        let Some(from) = from else { return Ok(()) };
        let witness = Witness::read(&self.path, from)?;
        if metadata.len() < from.offset {
            return Err(shrunk(&self.path, from.offset, metadata.len()));
        }
        self.window = input::seek(&self.path, file, from.offset)?;
        self.arrived(witness)
    }

    /// At a recorded position: is the content before it what was read?
    fn arrived(&mut self, witness: Witness) -> Result<()> {
        witness.check(&self.path, &self.window)?;
        self.lines = witness.lines;
        self.given_without_newline = self.window.last_consumed().is_some_and(|last| last != b'\n');
        Ok(())
    }

    /// The recorded position, if it is the end of this very file, compressed, as it lies on disk: no need to decompress it to find out.
    pub(super) fn recorded_end(&self) -> Result<Option<Position>> {
        match (&self.rewind_to, self.packed) {
            (Some(from), Some(packed)) => Ok(Witness::read(&self.path, from)?.is_end_of(packed).then(|| from.clone())),
            _ => Ok(None),
        }
    }

    /// Goes a step towards the recorded position, if it is not yet reached.
    pub(super) fn rewind(&mut self) -> Result<bool> {
        let Some(from) = &self.rewind_to else { return Ok(false) };
        let (offset, witness) = (from.offset, Witness::read(&self.path, from)?);
        if self.input.fill(&self.path, &mut self.window)? == 0 {
            return Err(shrunk(&self.path, offset, self.window.end_offset()));
        }
        let left = usize::try_from(offset - self.window.offset()).unwrap_or(usize::MAX);
        self.window.consume(left.min(self.window.unread().len()));
        if self.window.offset() == offset {
            self.arrived(witness)?;
            self.rewind_to = None;
        }
        Ok(true)
    }

    /// Reads on. Gives how many bytes came; 0 is the end, for now.
    pub(super) fn fill(&mut self) -> Result<usize> {
        let from = self.window.end_offset();
        let came = self.input.fill(&self.path, &mut self.window)?;
        // A followed file may have been empty when it was opened. Until here no newline was read, so no record was given.
        if from < 4
            && self.window.offset() == 0
            && matches!(self.input, Input::Plain(_))
            && let Some(compression) = Compression::recognise(self.window.unread())
        {
            return Err(followed_compressed(&self.path, compression));
        }
        Ok(came)
    }

    /// For a followed file: how long to wait for more, if there is nothing to read now.
    pub(super) fn wait_for_growth(&mut self) -> Result<Option<Duration>> {
        self.check_not_cut()?;
        let end = self.window.end_offset();
        if self.length.is_some_and(|length| length > end) {
            if self.idle_polls > 0 {
                self.check_not_rewritten()?;
                self.idle_polls = 0;
            }
            return Ok(None);
        }
        self.idle_polls += 1;
        if self.idle_polls.is_multiple_of(POLLS_PER_NAME_CHECK) {
            self.check_name()?;
        }
        Ok(Some(POLL_EVERY))
    }

    /// Looks at a plain file's length: it may not be shorter than what was read.
    pub(super) fn check_not_cut(&mut self) -> Result<()> {
        let Input::Plain(file) = &self.input else { return Ok(()) };
        let end = self.window.end_offset();
        let length = file.metadata().map_err(|why| input::unreadable(&self.path, end, &why))?.len();
        self.length = Some(length);
        if length < end {
            return Err(Error::source_lost(format!(
                "{}: was cut while it was read: {end} bytes were read, it has only {length} now; \
                 restore the file, or begin anew with --start-over (a followed file may only grow)",
                self.path
            )));
        }
        Ok(())
    }

    /// A file that was cut and has grown again between two polls shows it in the bytes before the end.
    fn check_not_rewritten(&self) -> Result<()> {
        let Input::Plain(file) = &self.input else { return Ok(()) };
        let (newest, end) = (self.window.newest(), self.window.end_offset());
        if input::bytes_at(&self.path, file, end - to_u64(newest.len()), newest.len())? == newest {
            return Ok(());
        }
        Err(Error::source_lost(format!(
            "{}: was rewritten while it was followed: the content before byte {end} is not what was read; \
             restore the file, or begin anew with --start-over (a followed file may only grow)",
            self.path
        )))
    }

    fn check_name(&self) -> Result<()> {
        let what = match fs::metadata(&*self.path) {
            Ok(metadata) if device_and_inode(&metadata) == self.device_and_inode => return Ok(()),
            Ok(_) => "replaced by another file",
            Err(why) if why.kind() == ErrorKind::NotFound => "removed or renamed",
            Err(why) => return Err(input::unreadable(&self.path, self.window.end_offset(), &why)),
        };
        Err(Error::source_lost(format!(
            "{}: was {what} while it was followed, at byte {}; put it back under its name (rotated logs need one name for good: app-2026-01-31.log)",
            self.path,
            self.window.end_offset()
        )))
    }

    /// Whether the line before the offset was given without its newline, which has not come yet.
    pub(super) fn has_given_line(&self) -> bool {
        self.given_without_newline
    }

    /// Passes over the newline of a line that was given without one. Whether lines can be taken now.
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
        Error::source_lost(format!(
            "{}: line {} ended without a newline at byte {}, where the file ended, was read so, and has grown since; \
             restore the file, or begin anew with --start-over (for files that are still written, use .follow())",
            self.path,
            self.lines,
            self.window.offset()
        ))
    }

    pub(super) fn position(&self) -> Position {
        match &self.rewind_to {
            Some(from) => from.clone(),
            None => Witness::of(&self.window, self.lines).position(self.window.offset()),
        }
    }

    /// The position at the end of the file.
    pub(super) fn end_position(&self) -> Position {
        let witness = Witness::of(&self.window, self.lines);
        self.packed.map_or(witness, |packed| witness.at_end_of(packed)).position(self.window.offset())
    }

    /// The bytes that were there and not read when the length was last looked at; unknown for a compressed file.
    pub(super) fn lag(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.window.offset()))
    }
}

fn device_and_inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn shrunk(path: &str, offset: u64, length: u64) -> Error {
    Error::source_lost(format!(
        "{path}: reading must go on at byte {offset}, but the content has only {length} bytes: the file was cut or replaced; \
         restore the file, or begin anew with --start-over"
    ))
}

fn followed_compressed(path: &str, compression: Compression) -> Error {
    Error::config(format!(
        "{path}: is compressed ({compression}) and cannot be followed; read it without .follow(), or match plain files only"
    ))
}

fn cannot_open(path: &str, offset: u64, why: &std::io::Error) -> Error {
    match why.kind() {
        ErrorKind::NotFound => Error::source_lost(format!(
            "{path}: is missing, and reading must go on at byte {offset} of it; restore the file, or begin anew with --start-over"
        )),
        ErrorKind::PermissionDenied => {
            Error::config(format!("{path}: may not be read by this user: {why}; give read permission"))
        }
        _ => Error::try_again(format!("{path}: cannot be opened: {why}")),
    }
}
