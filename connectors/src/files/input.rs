//! An opened file: plain, or decompressed as it is read.

use super::window::{WITNESS_BYTES, Window, to_u64};
use flate2::bufread::MultiGzDecoder;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use tidemill_state::{Error, Result};

/// How a file is compressed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// The compression of a file that begins so.
    pub(super) fn recognise(head: &[u8]) -> Option<Compression> {
        match head {
            [0x1f, 0x8b, ..] => Some(Compression::Gzip),
            // A frame, or a skippable frame before one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Compression::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// Where the content comes from.
pub(super) enum Input {
    Plain(File),
    Compressed(Compression, Box<dyn Read + Send>),
}

impl Input {
    /// The content of a file from its beginning.
    pub(super) fn new(path: &str, file: File, compression: Option<Compression>) -> Result<Input> {
        Ok(match compression {
            None => Input::Plain(file),
            Some(Compression::Gzip) => {
                let packed = BufReader::with_capacity(64 << 10, file);
                Input::Compressed(Compression::Gzip, Box::new(MultiGzDecoder::new(packed)))
            }
            Some(Compression::Zstd) => {
                let content = zstd::stream::read::Decoder::new(file).map_err(|why| unreadable(path, 0, &why))?;
                Input::Compressed(Compression::Zstd, Box::new(content))
            }
        })
    }

    /// Reads on into the window. Gives how many bytes came; 0 is the end.
    pub(super) fn fill(&mut self, path: &str, window: &mut Window) -> Result<usize> {
        let offset = window.end_offset();
        let filled = window.fill(|room| {
            loop {
                let read = match self {
                    Input::Plain(file) => file.read(room),
                    Input::Compressed(_, content) => content.read(room),
                };
                match read {
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                    read => return read,
                }
            }
        });
        filled.map_err(|why| match self {
            Input::Plain(_) => unreadable(path, offset, &why),
            Input::Compressed(compression, _) => Error::source_lost(format!(
                "{path}: the {compression} data is damaged or cut off after byte {offset} of its content: {why}; restore the file"
            )),
        })
    }
}

/// A window at `offset` of a plain file, with what a witness needs from before it; the file is read on from there.
pub(super) fn seek(path: &str, file: &mut File, offset: u64) -> Result<Window> {
    let covered = offset.min(to_u64(WITNESS_BYTES));
    let length = usize::try_from(covered).expect("it is at most WITNESS_BYTES");
    let head = bytes_at(path, file, 0, length)?;
    let tail = bytes_at(path, file, offset - covered, length)?;
    file.seek(SeekFrom::Start(offset)).map_err(|why| unreadable(path, offset, &why))?;
    Ok(Window::at(offset, head, tail))
}

/// The bytes at `offset`, fewer if the file ends before.
pub(super) fn bytes_at(path: &str, file: &File, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut have = 0;
    while have < length {
        match file.read_at(&mut bytes[have..], offset + to_u64(have)) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(unreadable(path, offset, &why)),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

pub(super) fn unreadable(path: &str, offset: u64, why: &io::Error) -> Error {
    Error::try_again(format!(
        "{path}: cannot be read at byte {offset}: {why}; nothing is lost: start again when the file can be read"
    ))
}
