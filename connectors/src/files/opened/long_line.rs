//! A line that is longer than the limit, while it is passed over.

use super::Opened;
use crate::files::locate::Known;

/// A line that is longer than the limit, while it is passed over.
pub(in crate::files) struct LongLine {
    /// The position before it.
    pub(in crate::files) before: Known,
    /// The number of bytes of it that have come, its newline included.
    pub(in crate::files) length: usize,
    /// The first of them.
    pub(in crate::files) head: Vec<u8>,
    keep: usize,
}

impl Opened {
    /// Begins to pass over a line, and keeps so many first bytes of it.
    pub(in crate::files) fn begin_long_line(&mut self, keep: usize) {
        self.long_line = Some(LongLine { before: self.known(), length: 0, head: Vec::new(), keep });
    }

    /// Returns whether the window is in the middle of a line that is passed over.
    pub(in crate::files) fn is_in_long_line(&self) -> bool {
        self.long_line.is_some()
    }

    /// Passes over the next bytes of such a line.
    pub(in crate::files) fn pass(&mut self, length: usize) {
        let line = self.long_line.as_mut().expect("such a line has begun");
        let kept = length.min(line.keep - line.head.len());
        line.head.extend_from_slice(&self.window.unread()[..kept]);
        line.length += length;
        self.window.consume(length);
    }

    /// Ends such a line, if there is one.
    pub(in crate::files) fn end_long_line(&mut self) -> Option<LongLine> {
        let line = self.long_line.take()?;
        self.lines += 1;
        Some(line)
    }
}
