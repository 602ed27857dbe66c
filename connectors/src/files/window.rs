//! The part of a file's content that is in memory: what is not read yet, and the last bytes before
//! it, which a position's witness needs.

use super::running::{Running, Sum, to_u64};
use std::io;
use xxhash_rust::xxh3::xxh3_64;

/// The number of bytes read at once. Decoding as much JSON takes about as long as one `read`
/// should.
pub(super) const READ_BYTES: usize = 64 << 10;

/// The most bytes that a position's witness covers at the beginning of the content, and also before
/// the position.
pub(super) const WITNESS_BYTES: usize = 4 << 10;

/// A window that moves over the content. Before `start` the window keeps the last [`WITNESS_BYTES`]
/// (or all there are), so that a requested position costs two checksums, and a record or read costs
/// none.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to here no newline was found, so that a long line is searched once.
    scanned: usize,
    /// The offset of `start` in the content.
    offset: u64,
    /// The first bytes of the content, at most [`WITNESS_BYTES`] of them.
    head: Vec<u8>,
    /// The checksum of the content, up to somewhere before `start`.
    running: Running,
}

impl Window {
    /// A window at `offset`, before which the content begins with `head`, ends with `tail`, and has
    /// this checksum.
    pub(super) fn at(offset: u64, head: Vec<u8>, tail: Vec<u8>, running: Running) -> Window {
        Window {
            start: tail.len(),
            end: tail.len(),
            scanned: tail.len(),
            bytes: tail,
            offset,
            head,
            running,
        }
    }

    /// The first bytes of the content, at most [`WITNESS_BYTES`] of them.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The running checksum before the offset.
    pub(super) fn sum(&self) -> Sum {
        let mut running = self.running.clone();
        running.add(self.not_summed());
        running.sum()
    }

    fn not_summed(&self) -> &[u8] {
        let left = usize::try_from(self.offset - self.running.offset()).expect("it is in memory");
        &self.bytes[self.start - left..self.start]
    }

    /// The offset of the first unread byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The offset after the last byte in memory.
    pub(super) fn end_offset(&self) -> u64 {
        self.offset + to_u64(self.end - self.start)
    }

    /// Returns the bytes that are in memory and not yet consumed.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The bytes before the last `came`, consumed or not, at most [`WITNESS_BYTES`] of them.
    pub(super) fn before_last(&self, came: usize) -> &[u8] {
        let end = self.end - came;
        &self.bytes[end.saturating_sub(WITNESS_BYTES)..end]
    }

    /// Forgets the last `came` bytes, of which none is consumed.
    pub(super) fn take_back(&mut self, came: usize) {
        self.end -= came;
        assert!(self.start <= self.end, "only what is not consumed is taken back");
        self.scanned = self.scanned.min(self.end);
        let end_offset = usize::try_from(self.end_offset()).unwrap_or(usize::MAX);
        self.head.truncate(end_offset);
    }

    /// The last consumed byte.
    pub(super) fn last_consumed(&self) -> Option<u8> {
        self.bytes[..self.start].last().copied()
    }

    /// The checksums of the first and of the last up to [`WITNESS_BYTES`] before the offset.
    pub(super) fn checksums(&self) -> (u64, u64) {
        let head = usize::try_from(self.offset).unwrap_or(usize::MAX).min(self.head.len());
        let tail = self.start.saturating_sub(WITNESS_BYTES);
        (xxh3_64(&self.head[..head]), xxh3_64(&self.bytes[tail..self.start]))
    }

    /// The length of the next line with its newline, if all of it is in memory.
    #[inline]
    pub(super) fn line(&mut self) -> Option<usize> {
        match memchr::memchr(b'\n', &self.bytes[self.scanned..self.end]) {
            Some(found) => {
                self.scanned += found + 1;
                Some(self.scanned - self.start)
            }
            None => {
                self.scanned = self.end;
                None
            }
        }
    }

    /// Moves over the next `length` bytes.
    #[inline]
    pub(super) fn consume(&mut self, length: usize) {
        self.start += length;
        assert!(self.start <= self.end, "only what is in memory is consumed");
        self.scanned = self.scanned.max(self.start);
        self.offset += to_u64(length);
    }

    /// Reads on with one call of `read`. Gives how many bytes came; 0 is the end.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.make_room();
        let end_offset = self.end_offset();
        let read = read(&mut self.bytes[self.end..][..READ_BYTES])?;
        let new = &self.bytes[self.end..self.end + read];
        if end_offset < to_u64(WITNESS_BYTES) {
            self.head.extend_from_slice(&new[..new.len().min(WITNESS_BYTES - self.head.len())]);
        }
        self.end += read;
        Ok(read)
    }

    /// Gives memory back that only the next read needs.
    pub(super) fn shrink(&mut self) {
        self.move_to_front();
        self.bytes.truncate(self.end);
        self.bytes.shrink_to_fit();
    }

    /// Moves to the front what is not consumed, and what a witness needs from before that.
    fn move_to_front(&mut self) {
        let left = usize::try_from(self.offset - self.running.offset()).expect("it is in memory");
        self.running.add(&self.bytes[self.start - left..self.start]);
        let keep_from = self.start.saturating_sub(WITNESS_BYTES);
        self.bytes.copy_within(keep_from..self.end, 0);
        self.start -= keep_from;
        self.end -= keep_from;
        self.scanned -= keep_from;
    }

    /// Makes room when the end is near, and grows only for a line that is longer than the window.
    fn make_room(&mut self) {
        if self.end + READ_BYTES > self.bytes.len() {
            self.move_to_front();
        }
        if self.end + READ_BYTES > self.bytes.len() {
            let unread = self.end - self.start;
            self.bytes.resize(self.end + 2 * READ_BYTES + unread, 0);
        }
    }
}
