//! Compressed files: how they are recognised, decompressed member by member, and checked before a
//! line is given.

use flate2::bufread::GzDecoder;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use tidemill_state::{Error, Result};

/// The compression of a file, recognised by its first bytes.
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
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Compression::Zstd)
            }
            _ => None,
        }
    }

    /// The format of a file that begins so, if it is one that cannot be read.
    pub(super) fn unreadable(head: &[u8]) -> Option<&'static str> {
        match head {
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => {
                Some("bzip2")
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
            [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c, ..] => Some("7z"),
            [b'P', b'K', 3, 4, ..] => Some("zip"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
            _ if head.get(257..262) == Some(b"ustar") => Some("tar"),
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

/// The content of a compressed file: of its gzip members or zstd frames, one after the other. Zeros
/// after the last are its end.
pub(super) struct Unpacker {
    compression: Compression,
    member: Member,
}

enum Member {
    Gzip(Box<GzDecoder<BufReader<File>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<File>>>),
    /// None has begun. Whether there was one.
    Between(BufReader<File>, bool),
    /// Its beginning failed.
    Broken,
}

impl Unpacker {
    /// The content of `file` from where it stands.
    pub(super) fn new(compression: Compression, file: File) -> Unpacker {
        let packed = BufReader::with_capacity(64 << 10, file);
        Unpacker { compression, member: Member::Between(packed, false) }
    }

    fn begin_member(&mut self) -> io::Result<()> {
        let Member::Between(packed, _) = std::mem::replace(&mut self.member, Member::Broken) else {
            return Ok(());
        };
        self.member = match self.compression {
            Compression::Gzip => Member::Gzip(Box::new(GzDecoder::new(packed))),
            Compression::Zstd => Member::Zstd(Box::new(
                zstd::stream::read::Decoder::with_buffer(packed)?.single_frame(),
            )),
        };
        Ok(())
    }

    fn end_member(&mut self) {
        self.member = match std::mem::replace(&mut self.member, Member::Broken) {
            Member::Gzip(member) => Member::Between(member.into_inner(), true),
            Member::Zstd(member) => Member::Between(member.finish(), true),
            other => other,
        };
    }
}

impl Read for Unpacker {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.member {
                Member::Gzip(member) => member.read(into)?,
                Member::Zstd(member) => member.read(into)?,
                Member::Between(packed, after_one) => {
                    if !another_begins(packed, *after_one)? {
                        return Ok(0);
                    }
                    self.begin_member()?;
                    continue;
                }
                Member::Broken => return Err(io::Error::other("a member could not be begun")),
            };
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            self.end_member();
        }
    }
}

/// Returns whether another member follows. Zeros, as tapes and block devices pad with, may follow
/// the last.
fn another_begins(packed: &mut impl BufRead, after_one: bool) -> io::Result<bool> {
    let mut padded = false;
    loop {
        let next = packed.fill_buf()?;
        let (zeros, length) = (next.iter().take_while(|byte| **byte == 0).count(), next.len());
        if length == 0 {
            return Ok(false);
        }
        if zeros < length {
            if padded || (zeros > 0 && after_one) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "zeros follow a member, and other bytes after them",
                ));
            }
            return Ok(true);
        }
        padded = true;
        packed.consume(length);
    }
}

/// The error of content that cannot be decompressed after its first `offset` bytes.
pub(super) fn damaged(path: &str, compression: Compression, offset: u64, why: &io::Error) -> Error {
    if why.raw_os_error().is_some() {
        return crate::files::loss::unreadable(path, offset, why);
    }
    let why = why.to_string();
    if why.contains("too much memory") {
        return Error::config(format!(
            "{path}: its zstd window is larger than 128 MiB, as --long=28 and more make it; \
             decompress the file, or compress it again with at most --long=27"
        ));
    }
    Error::source_lost(format!(
        "{path}: the {compression} data is damaged or cut off after byte {offset} of its content: \
         {why}; no line of it was given: restore the file"
    ))
}

/// Decompresses a file once to see that all its checksums are right, a slice at a time.
pub(super) struct Verifier {
    content: Unpacker,
    compression: Compression,
    offset: u64,
    buffer: Vec<u8>,
}

impl Verifier {
    pub(super) fn new(compression: Compression, file: File) -> Verifier {
        Verifier {
            content: Unpacker::new(compression, file),
            compression,
            offset: 0,
            buffer: vec![0; 128 << 10],
        }
    }

    /// Goes one slice on. Returns whether the file is verified to its end.
    pub(super) fn step(&mut self, path: &str) -> Result<bool> {
        match self.content.read(&mut self.buffer) {
            Ok(read) => {
                self.offset += crate::files::running::to_u64(read);
                Ok(read == 0)
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(why) => Err(damaged(path, self.compression, self.offset, &why)),
        }
    }
}
