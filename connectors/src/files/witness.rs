//! What a recorded position remembers of its file, so that another content is never taken for it.
//!
//! 33 bytes: the format, the number of lines before the position, the checksums (xxh3) of the first and of the last up to 4 KiB before it, and,
//! at the end of a compressed file, the mark of that file as it lies on disk, so that it need not be decompressed again to find that it has ended.

use super::window::Window;
use tidemill_state::{Error, Position, Result};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const FORMAT: u8 = 1;

/// What is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    /// The number of lines before the position: error messages go on counting after a restart.
    pub(super) lines: u64,
    head: u64,
    tail: u64,
    /// At the end of a compressed file [`packed_mark`]; else 0.
    packed: u64,
}

impl Witness {
    /// What to remember at the beginning of a file.
    pub(super) fn of_nothing() -> Witness {
        Witness::of(&Window::default(), 0)
    }

    /// What to remember of the content before the window's offset.
    pub(super) fn of(window: &Window, lines: u64) -> Witness {
        let (head, tail) = window.checksums();
        Witness { lines, head, tail, packed: 0 }
    }

    /// The same, at the end of a compressed file.
    pub(super) fn at_end_of(self, packed: u64) -> Witness {
        Witness { packed, ..self }
    }

    /// Whether this is the end of the compressed file with that mark.
    pub(super) fn is_end_of(self, packed: u64) -> bool {
        self.packed != 0 && self.packed == packed
    }

    /// The position at the window's offset.
    pub(super) fn position(self, offset: u64) -> Position {
        let mut witness = vec![FORMAT];
        for part in [self.lines, self.head, self.tail, self.packed] {
            witness.extend_from_slice(&part.to_le_bytes());
        }
        Position { offset, witness }
    }

    /// What `position` remembers of the file at `path`.
    pub(super) fn read(path: &str, position: &Position) -> Result<Witness> {
        let not_ours = || {
            Error::source_lost(format!(
                "{path}: the recorded position (byte {}) was not written by this version of the files source, so the file cannot be recognised; \
                 run the version that wrote it, or begin anew with --start-over",
                position.offset
            ))
        };
        let (&format, parts) = position.witness.split_first().ok_or_else(not_ours)?;
        let (parts, rest) = parts.as_chunks::<8>();
        match (format, parts, rest) {
            (FORMAT, &[lines, head, tail, packed], []) => {
                let [lines, head, tail, packed] = [lines, head, tail, packed].map(u64::from_le_bytes);
                Ok(Witness { lines, head, tail, packed })
            }
            _ => Err(not_ours()),
        }
    }

    /// Compares the content before the window's offset with what is remembered.
    pub(super) fn check(self, path: &str, window: &Window) -> Result<()> {
        if window.checksums() == (self.head, self.tail) {
            return Ok(());
        }
        Err(Error::source_lost(format!(
            "{path}: the content before byte {} is not what was read: the file was changed or replaced; \
             restore the file as it was, or begin anew with --start-over",
            window.offset()
        )))
    }
}

/// Recognises a compressed file of `length` bytes that ends with `tail`, where its own checksums are. Never 0.
pub(super) fn packed_mark(length: u64, tail: &[u8]) -> u64 {
    xxh3_64_with_seed(tail, length).max(1)
}
