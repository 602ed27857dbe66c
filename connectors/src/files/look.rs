//! The result of one look at all files, at a start.

use super::listing::FileId;
use std::collections::BTreeSet;
use tidemill_engine::source::Begun;

/// The findings of one look at all files.
pub(super) struct Look {
    pub(super) begun: Begun,
    pub(super) taken: BTreeSet<FileId>,
    /// True if a recorded file is not under a name that matches.
    pub(super) unusual: bool,
    pub(super) notes: Vec<String>,
    pub(super) unreadable: Vec<(String, String)>,
}

impl Look {
    /// Returns the files, the partitions and those that are retired.
    pub(super) fn seen(&self) -> (BTreeSet<FileId>, Vec<String>, Vec<String>) {
        let names = self.begun.partitions.iter().map(|(name, _)| name.clone()).collect();
        (self.taken.clone(), names, self.begun.retired.clone())
    }

    pub(super) fn report(self) -> (Begun, Vec<(String, String)>) {
        self.notes.iter().for_each(|note| tracing::info!("{note}"));
        (self.begun, self.unreadable)
    }
}
