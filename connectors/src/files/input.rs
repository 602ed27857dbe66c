//! Bytes of an opened file: plain, or decompressed as they are read.

use super::disk;
use super::loss::unreadable;
use super::packed::{self, Compression, Unpacker};
use super::running::{BLOCK_BYTES, Running, Sum, sum_of, to_u64};
use super::window::{WITNESS_BYTES, Window};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tidemill_state::{Error, Result};

/// The origin of the content.
pub(super) enum Input {
    Plain(File),
    Compressed(Compression, Box<Unpacker>),
}

impl Input {
    /// The content of a file from its beginning.
    pub(super) fn new(file: File, compression: Option<Compression>) -> Input {
        match compression {
            None => Input::Plain(file),
            Some(compression) => {
                Input::Compressed(compression, Box::new(Unpacker::new(compression, file)))
            }
        }
    }

    /// Reads the next bytes into the window. Returns how many came; 0 is the end.
    pub(super) fn fill(&mut self, path: &str, window: &mut Window) -> Result<usize> {
        let offset = window.end_offset();
        let filled = window.fill(|room| {
            disk::before_read(Path::new(path))?;
            loop {
                match self.read(room) {
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                    read => return read,
                }
            }
        });
        filled.map_err(|why| match self {
            Input::Plain(_) => unreadable(path, offset, &why),
            Input::Compressed(compression, _) => packed::damaged(path, *compression, offset, &why),
        })
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::Plain(file) => file.read(into),
            Input::Compressed(_, content) => content.read(into),
        }
    }
}

/// Returns a window at `offset` of a plain file, with all that a witness needs from before
/// `offset`. Reading resumes there. Without `sum`, which old positions lack, the file is read up to
/// `offset` once.
pub(super) fn seek(path: &str, file: &mut File, offset: u64, sum: Option<Sum>) -> Result<Window> {
    let failed = |why: io::Error| unreadable(path, offset, &why);
    let sum = match sum {
        Some(sum) => sum,
        None => {
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            let sum = sum_of(&mut *file, offset).map_err(failed)?;
            sum.ok_or_else(|| cut_meanwhile(path))?
        }
    };
    let mut running = Running::resume(sum, offset);
    let block = usize::try_from(offset % BLOCK_BYTES).expect("a block fits into memory");
    running.add(&bytes_at(path, file, running.offset(), block)?);
    if running.offset() < offset {
        return Err(cut_meanwhile(path));
    }
    let (head, tail) = ends(path, file, offset)?;
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    Ok(Window::at(offset, head, tail, running))
}

/// The first and the last up to 4 KiB before `offset`.
pub(super) fn ends(path: &str, file: &File, offset: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let covered = offset.min(to_u64(WITNESS_BYTES));
    let length = usize::try_from(covered).expect("it is at most WITNESS_BYTES");
    Ok((bytes_at(path, file, 0, length)?, bytes_at(path, file, offset - covered, length)?))
}

/// The bytes at `offset`, fewer if the file ends before.
pub(super) fn bytes_at(path: &str, file: &File, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut have = 0;
    while have < length {
        let read = disk::before_read(Path::new(path))
            .and_then(|()| file.read_at(&mut bytes[have..], offset + to_u64(have)));
        match read {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(unreadable(path, offset, &why)),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

fn cut_meanwhile(path: &str) -> Error {
    Error::source_lost(format!(
        "{path}: was cut while it was opened; {}",
        crate::files::loss::WAY_ON
    ))
}
