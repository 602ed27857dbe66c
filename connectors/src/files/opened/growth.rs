//! A file as it grows, is removed, or rests: looks at its length and its names.

use super::Opened;
use crate::files::input::{self, Input};
use crate::files::running::to_u64;
use crate::files::settings::Settings;
use crate::files::watcher::RestingFile;
use crate::files::{listing, locate, loss};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};
use tidemill_state::Result;

/// The interval at which the length of a followed file is looked at: a new line is seen at most
/// this long after it was written.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// The interval at which the names of a followed file are looked at that was read to its end and
/// cannot grow.
const LOOK_AFTER_END: Duration = Duration::from_millis(500);

/// The resolution of times of changes, with room to spare: the kernel's clock for them ticks every
/// few milliseconds.
const TICK: Duration = Duration::from_millis(100);

/// Returns whether a change from now on has another time than this one, in nanoseconds since 1970.
fn is_past(modified: i64) -> bool {
    let now = crate::clock::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u128::try_from(modified).is_ok_and(|modified| modified + TICK.as_nanos() < now.as_nanos())
}

/// The result of a look at a followed file's length.
pub(in crate::files) enum Look {
    /// There is more to read.
    Grown,
    /// There is nothing for this long.
    Idle(Duration),
    /// There will be nothing more.
    Ended,
}

impl Opened {
    /// Looks whether a followed file has grown.
    pub(in crate::files) fn look(&mut self, settings: &Settings) -> Result<Look> {
        self.check_not_cut()?;
        if self.file.length > self.window.end_offset() {
            self.names.grew(&settings.shared.looks);
            return Ok(Look::Grown);
        }
        if !self.names.is_due(settings.rotated_after) {
            return Ok(Look::Idle(POLL_EVERY));
        }
        let known = self.known();
        let ended = self.names.has_ended(settings, &known, self.is_linked)?;
        self.file.path.clone_from(&self.names.path);
        Ok(if ended { Look::Ended } else { Look::Idle(POLL_EVERY) })
    }

    /// Looks whether a followed file that cannot grow, and was read to its end, has ended: it stays
    /// as long as a plain one, since it shows where a rotation stands. `None` if a glob leads to
    /// it: it stays for good.
    pub(in crate::files) fn look_after_end(&mut self, settings: &Settings) -> Result<Option<Look>> {
        let wait = settings.rotated_after.min(LOOK_AFTER_END);
        if !self.names.is_due(settings.rotated_after) {
            return Ok(Some(Look::Idle(wait)));
        }
        let known = self.known();
        let ended = self.names.has_ended(settings, &known, self.is_linked)?;
        if self.names.is_matched() {
            return Ok(None);
        }
        Ok(Some(if ended { Look::Ended } else { Look::Idle(wait) }))
    }

    /// Returns whether no name in any folder led to the file, when its length was looked at last.
    pub(in crate::files) fn is_removed(&self) -> bool {
        !self.is_linked
    }

    /// Returns whether a plain file may be lost once it is closed: no name leads to it, or its last
    /// one does not.
    pub(in crate::files) fn may_be_all_there_is(&self) -> bool {
        let Input::Plain(file) = &self.input else { return false };
        let is_linked = file.metadata().map_or(self.is_linked, |metadata| metadata.nlink() > 0);
        !is_linked || self.names.leads_here() == Some(false)
    }

    /// Returns whether it is found again if it is closed, and was read to its end, and its name
    /// leads to an empty file for a while.
    pub(in crate::files) fn can_wait_closed(&self) -> bool {
        let is_read = self.is_plain() && self.file.length == self.offset();
        is_read
            && self.is_linked
            && self.names.have_empty_successor()
            && self.names.are_settled()
            && locate::is_beside(&self.known())
    }

    #[cfg(test)]
    pub(in crate::files) fn settle(&mut self) {
        self.names.settle();
    }

    /// Returns whether its names have led where they lead for a while.
    pub(in crate::files) fn is_settled(&self) -> bool {
        self.names.are_settled()
    }

    /// Checks a plain file's length: the file may not be shorter than what was read. A file of the
    /// same length that was written since may have been cut in between: its end must be what was
    /// read. A longer file is compared when its next bytes are read.
    pub(in crate::files) fn check_not_cut(&mut self) -> Result<()> {
        let Input::Plain(file) = &self.input else { return Ok(()) };
        let end = self.window.end_offset();
        let metadata =
            file.metadata().map_err(|why| loss::unreadable(&self.names.path, end, &why))?;
        if metadata.len() < end {
            return Err(self.cut());
        }
        if self.expected.as_ref().is_some_and(|expected| metadata.len() < to_u64(expected.length)) {
            return Err(self.changed());
        }
        let modified = listing::modified(&metadata);
        if metadata.len() == end && modified != self.compared {
            let before = self.window.before_last(0);
            if input::bytes_at(&self.names.path, file, end - to_u64(before.len()), before.len())?
                != before
            {
                return Err(self.cut());
            }
            self.compared = if is_past(modified) { modified } else { 0 };
        }
        (self.file.length, self.file.modified) = (metadata.len(), modified);
        self.is_linked = metadata.nlink() > 0;
        Ok(())
    }

    /// The file as its reader leaves it to the watcher; `None` as long as it must be looked after.
    pub(in crate::files) fn begin_rest(&mut self, settings: &Settings) -> Option<RestingFile> {
        let is_quiet = self.is_plain()
            && self.long_line.is_none()
            && self.file.length == self.window.end_offset();
        if !is_quiet || !self.names.is_here(settings) {
            return None;
        }
        self.window.shrink();
        let (length, modified) = (self.file.length, self.file.modified);
        Some(RestingFile {
            path: self.names.path.as_str().into(),
            id: self.names.id,
            length,
            modified,
        })
    }

    /// The bytes that were there and not read when the length was last looked at; unknown for a
    /// compressed file.
    pub(in crate::files) fn lag(&self) -> Option<u64> {
        self.is_plain().then(|| self.file.length.saturating_sub(self.offset()))
    }
}
