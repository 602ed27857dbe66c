//! The record of a file that is kept with a position, so that the file is found again under any
//! name, and no other file is taken for it.

use super::listing::{self, FileId};
use super::packed::Compression;
use super::running::Sum;
use super::window::{WITNESS_BYTES, Window};
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use tidemill_state::{Error, Position, Result};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The first byte of a witness: the present format, of which the rest is JSON.
const FORMAT: u8 = 2;

/// Before it: 32 bytes, without the file's identity.
const FORMAT_WITHOUT_IDENTITY: u8 = 1;

/// A position's memory of the content before it and of the file it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Witness {
    /// The number of lines before the position: error messages count on after a restart.
    pub(super) lines: u64,
    /// The checksums of the first and of the last up to 4 KiB before the position.
    pub(super) head: u64,
    pub(super) tail: u64,
    /// At the end of a compressed file its [`packed_mark`]; else 0.
    pub(super) packed: u64,
    /// The [`packed_mark`] of a compressed file whose checksums were all found right; else 0.
    pub(super) verified: u64,
    /// True if all that the file had when it was looked at last is before the position.
    pub(super) ended: bool,
    /// The first bytes of the content before the position; at its beginning, those that are there
    /// if the file is plain.
    pub(super) begins: Identity,
    /// The first bytes of the content, those after the position included, if that is among them.
    pub(super) unread: Option<Identity>,
    /// Of all content before the position; none in positions of the format before.
    pub(super) sum: Option<Sum>,
    /// None in positions of the format before: the partition's name is the path then.
    pub(super) file: Option<FileWitness>,
}

/// A file's identity, and where it was when it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileWitness {
    /// The path as it matched.
    pub(super) path: String,
    /// The same without links.
    pub(super) real: String,
    device: u64,
    inode: u64,
    born: i64,
    pub(super) length: u64,
    pub(super) modified: i64,
    /// Of a compressed file, its first bytes on disk; those of a plain one are its content.
    packed: Option<Identity>,
    /// Of what may be a copy, the birth of its original, which may have been cut, and be written
    /// on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original_born: Option<i64>,
}

/// The checksum over the first bytes of a file: min(4 KiB, its length then) of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) length: usize,
    pub(super) whole: u64,
    /// Over the first 1, 2, 4, … of them, 32 bits each: what a shorter file is compared with.
    doubled: Vec<u32>,
    /// Over the first [`LINES`] lines, each with the number of bytes up to its end: many files
    /// begin with equal bytes, and differ in their first line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<(usize, u32)>,
}

/// The number of first lines that an identity distinguishes.
const LINES: usize = 4;

/// Of nothing, which every file begins with.
impl Default for Identity {
    fn default() -> Identity {
        Identity::of(b"")
    }
}

impl Identity {
    /// Of a file that begins with `head`.
    pub(super) fn of(head: &[u8]) -> Identity {
        let head = &head[..head.len().min(WITNESS_BYTES)];
        let lengths = std::iter::successors(Some(1_usize), |length| Some(length * 2));
        let doubled = lengths
            .take_while(|length| *length <= head.len())
            .map(|length| short_sum(&head[..length]));
        let lines = line_ends(head).take(LINES).map(|end| (end, short_sum(&head[..end])));
        Identity {
            length: head.len(),
            whole: xxh3_64(head),
            doubled: doubled.collect(),
            lines: lines.collect(),
        }
    }

    /// Returns the number of first bytes at least a file that begins with `head` has in common with
    /// this one.
    pub(super) fn shares(&self, head: &[u8]) -> usize {
        let same = |(length, sum): &(usize, u32)| {
            head.get(..*length).is_some_and(|head| short_sum(head) == *sum)
        };
        self.parts().take_while(same).last().map_or(0, |(length, _)| length)
    }

    /// The checksums over the first 1, 2, 4, … bytes, each with their number.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, u32)> {
        let lengths = std::iter::successors(Some(1_usize), |length| length.checked_mul(2));
        lengths.zip(self.doubled.iter().copied())
    }

    /// Returns whether a file that begins with `head` can be this one. Every file can be one that
    /// was empty.
    pub(super) fn fits(&self, head: &[u8]) -> bool {
        head.get(..self.length).is_some_and(|head| xxh3_64(head) == self.whole)
    }

    /// Returns whether a file that begins with `head`, and may be shorter, begins as this one did.
    pub(super) fn begins_as(&self, head: &[u8]) -> bool {
        if head.len() >= self.length {
            return self.length > 0 && self.fits(head);
        }
        let known = self.parts().take_while(|(length, _)| *length <= head.len()).last();
        known.is_some_and(|(length, sum)| short_sum(&head[..length]) == sum)
            && self.has_lines_of(head)
    }

    /// Returns whether these first bytes, which are fewer, have the same lines, as far as those are
    /// known.
    fn has_lines_of(&self, head: &[u8]) -> bool {
        let ours = self.lines.iter().filter(|(end, _)| *end <= head.len());
        let theirs =
            line_ends(head).take(self.lines.len()).map(|end| (end, short_sum(&head[..end])));
        ours.copied().eq(theirs)
    }
}

/// The number of bytes up to the end of each line.
fn line_ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1)
}

fn short_sum(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = xxh3_64(bytes).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl FileWitness {
    /// Of the opened file at `path`, which begins with `head` on disk.
    pub(super) fn of(path: &str, metadata: &Metadata, head: &[u8]) -> FileWitness {
        let real = fs::canonicalize(path)
            .ok()
            .and_then(|real| real.to_str().map(str::to_owned))
            .unwrap_or_default();
        let FileId { device, inode, born } = FileId::of(metadata);
        let (length, modified) = (metadata.len(), listing::modified(metadata));
        let packed = Compression::recognise(head).map(|_| Identity::of(head));
        FileWitness {
            path: path.to_owned(),
            real,
            device,
            inode,
            born,
            length,
            modified,
            packed,
            original_born: None,
        }
    }

    /// Returns the witness of the same file, with reading resumed where `before` was read.
    pub(super) fn read_after(self, before: Option<&FileWitness>) -> FileWitness {
        let original_born = before.and_then(|before| {
            let is_same = before.id() == self.id();
            if is_same { before.original_born } else { Some(before.first_born()) }
        });
        FileWitness { original_born, ..self }
    }

    /// The same file, which is perhaps a copy of one that was born then.
    pub(super) fn perhaps_copied_from(self, born: i64) -> FileWitness {
        FileWitness { original_born: (born < self.born).then_some(born), ..self }
    }

    /// The birth of the file, or that of its original: one that comes after it under its name is no
    /// older.
    pub(super) fn first_born(&self) -> i64 {
        self.original_born.unwrap_or(self.born)
    }

    pub(super) fn id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode, born: self.born }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.packed.is_none()
    }
}

impl Witness {
    /// Of the content before the window's offset.
    pub(super) fn of(window: &Window, lines: u64, file: FileWitness) -> Witness {
        let (head, tail) = window.checksums();
        // What comes after the position may be repaired, if it is why reading ended.
        let read = usize::try_from(window.offset()).unwrap_or(usize::MAX).min(window.head().len());
        let begins = Identity::of(if read == 0 { window.head() } else { &window.head()[..read] });
        let unread = (read > 0 && read < window.head().len()).then(|| Identity::of(window.head()));
        Witness {
            lines,
            head,
            tail,
            begins,
            unread,
            sum: Some(window.sum()),
            file: Some(file),
            ..Witness::default()
        }
    }

    /// Of a file that begins with `head` on disk, and of which nothing was read.
    pub(super) fn of_new(file: FileWitness, head: &[u8]) -> Witness {
        let begins = if file.is_plain() { Identity::of(head) } else { Identity::default() };
        Witness { ended: file.length == 0, begins, ..Witness::of(&Window::default(), 0, file) }
    }

    /// Returns whether the file is known by these first bytes on disk.
    pub(super) fn fits(&self, head: &[u8]) -> bool {
        self.file.as_ref().and_then(|file| file.packed.as_ref()).unwrap_or(&self.begins).fits(head)
    }

    /// The same, at the end of a compressed file.
    pub(super) fn at_end_of(self, packed: u64) -> Witness {
        Witness { packed, ..self }
    }

    /// The same content in another file, or in the same one under another name.
    pub(super) fn in_file(self, file: FileWitness) -> Witness {
        let same = self.file.as_ref().is_some_and(|known| known.id() == file.id());
        let (packed, verified) = if same { (self.packed, self.verified) } else { (0, 0) };
        Witness { packed, verified, file: Some(file.read_after(self.file.as_ref())), ..self }
    }

    /// Returns whether this is the end of the compressed file with that mark.
    pub(super) fn is_end_of(&self, packed: u64) -> bool {
        self.packed != 0 && self.packed == packed
    }

    /// The position at `offset`.
    pub(super) fn position(&self, offset: u64) -> Position {
        let mut witness = vec![FORMAT];
        serde_json::to_writer(&mut witness, self).expect("numbers and strings are JSON");
        Position { offset, witness }
    }

    /// The path at which the file of `partition` was seen last.
    pub(super) fn path<'a>(&'a self, partition: &'a str) -> &'a str {
        self.file.as_ref().map_or(partition, |file| &file.path)
    }

    /// The witness of `partition`'s position.
    pub(super) fn read(partition: &str, position: &Position) -> Result<Witness> {
        let not_ours = || {
            Error::source_lost(format!(
                "{partition}: the recorded position (byte {}) was not written by this version of \
                 the files source, so the file cannot be recognised; run the version that wrote \
                 it, or begin from scratch with --start-over",
                position.offset
            ))
        };
        let (&format, rest) = position.witness.split_first().ok_or_else(not_ours)?;
        if format == FORMAT {
            return serde_json::from_slice(rest).map_err(|_| not_ours());
        }
        match (format, rest.as_chunks::<8>()) {
            (FORMAT_WITHOUT_IDENTITY, (&[lines, head, tail, packed], [])) => {
                let [lines, head, tail, packed] =
                    [lines, head, tail, packed].map(u64::from_le_bytes);
                Ok(Witness { lines, head, tail, packed, ended: packed != 0, ..Witness::default() })
            }
            _ => Err(not_ours()),
        }
    }

    /// Returns whether these are the first and the last up to 4 KiB before the position.
    pub(super) fn has_ends(&self, head: &[u8], tail: &[u8]) -> bool {
        (xxh3_64(head), xxh3_64(tail)) == (self.head, self.tail)
    }

    /// Compares the content before the window's offset with the recorded one.
    pub(super) fn check(&self, path: &str, window: &Window) -> Result<()> {
        let same = window.checksums() == (self.head, self.tail);
        if same && self.sum.is_none_or(|sum| sum == window.sum()) {
            return Ok(());
        }
        Err(Error::source_lost(format!(
            "{path}: the content before byte {} is not what was read: the file was changed or \
             replaced; {}",
            window.offset(),
            crate::files::loss::WAY_ON
        )))
    }
}

/// Recognises a compressed file of `length` bytes that ends with `tail`, where its own checksums
/// are. Never 0.
pub(super) fn packed_mark(length: u64, tail: &[u8]) -> u64 {
    xxh3_64_with_seed(tail, length).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let identity = Identity::of(b"line 1\nline 2\n");
        assert!(identity.fits(b"line 1\nline 2\nline 3\n") && !identity.fits(b"line 1\n"));
        assert!(!identity.fits(b"line 1\nline 4\n"));
        assert!(
            identity.begins_as(b"line 1\n")
                && !identity.begins_as(b"time 1\n")
                && !identity.begins_as(b"")
        );
        assert_eq!((identity.shares(b"line 1\nline 4\n"), identity.shares(b"time")), (8, 0));
        // As long as 64 bytes are equal, and 72 are not.
        let line = |number: u32| format!("{number:070}\n");
        let identity = Identity::of(line(1).repeat(3).as_bytes());
        assert!(identity.begins_as(line(1).as_bytes()) && !identity.begins_as(line(2).as_bytes()));
        assert!(
            identity.begins_as(&line(1).as_bytes()[..68])
                && !identity.begins_as((line(1) + "\n").as_bytes())
        );
        assert!(
            Identity::default().fits(b"anything"),
            "a position of the format before has no identity"
        );
        assert!(Identity::of(b"").fits(b"anything") && !Identity::of(b"").begins_as(b"anything"));
    }

    #[test]
    fn a_witness_is_read_as_it_was_written() {
        let file = FileWitness {
            path: "a\"\u{e4}".into(),
            packed: Some(Identity::of(b"x")),
            ..FileWitness::default()
        };
        let witness =
            Witness { lines: u64::MAX, ended: true, ..Witness::of(&Window::default(), 0, file) };
        assert_eq!(Witness::read("p", &witness.position(7)).expect("ours"), witness);
        let mut old = vec![1];
        [3_u64, 4, 5, 6].iter().for_each(|part| old.extend_from_slice(&part.to_le_bytes()));
        let old = Witness::read("p", &Position { offset: 9, witness: old })
            .expect("of the format before");
        assert_eq!((old.lines, old.head, old.tail, old.packed, old.file), (3, 4, 5, 6, None));
    }
}
