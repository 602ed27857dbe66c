//! Facts that the instances of one source share: each worker builds its own, and the one that a
//! start begins looks for new files.

use super::descriptors::Count;
use super::listing::{FileId, Listing};
use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidemill_state::Result;

/// In how many more looks a name is looked into that no known file had: one fewer than it takes a
/// file that joins meanwhile to end, see [`Looks`].
pub(super) const NAMELESS_FOR: usize = 2;

/// See the module's documentation. A start hands it on as its facts.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) looks: Looks,
    /// The descriptors of a source that has a limit of its own.
    pub(super) descriptors: Arc<Count>,
    grown: Mutex<BTreeMap<String, u64>>,
    listing: Mutex<Option<(Instant, Arc<Listing>)>>,
    /// The files that readers have, each with how many.
    read: Mutex<HashMap<FileId, usize>>,
}

/// A reader's claim to its file, while it is kept.
#[derive(Debug)]
pub(super) struct Claim {
    shared: Arc<Shared>,
    id: FileId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut read = self.shared.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut readers) = read.entry(self.id) {
            *readers.get_mut() -= 1;
            if *readers.get() == 0 {
                readers.remove();
            }
        }
    }
}

/// The number of looks for new files that were completed. A followed file ends only after others
/// were looked for: until then it shows where a rotation stands.
#[derive(Debug, Default)]
pub(super) struct Looks(AtomicU64);

impl Looks {
    /// The number of looks so far.
    pub(super) fn completed(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Counts looks that were completed.
    pub(super) fn complete(&self, looks: u64) {
        self.0.fetch_add(looks, SeqCst);
    }

    /// Returns whether three looks have ended since there were so many, the first of which may have
    /// begun before. A source whose new files nobody looks for is not waited for.
    pub(super) fn have_seen_since(&self, completed: u64) -> bool {
        let now = self.completed();
        now == 0 || now > completed + NAMELESS_FOR as u64
    }
}

impl Shared {
    /// Takes note that the closed file of a partition has more than was read of it, up to `offset`.
    /// If it goes away before that is read, the rest is lost.
    pub(super) fn has_grown(&self, partition: &str, offset: u64) {
        self.grown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(partition.to_owned(), offset);
    }

    /// Takes note that the file of a partition is open: what it has can be read.
    pub(super) fn is_open(&self, partition: &str) {
        self.grown.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
    }

    /// Returns whether the file of a partition had more than was read of it up to `offset`, when it
    /// was closed.
    pub(super) fn had_more_than(&self, partition: &str, offset: u64) -> bool {
        let grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        grown.get(partition).is_some_and(|read| *read >= offset)
    }

    /// Takes note that a reader has this file: no other partition resumes in it.
    pub(super) fn claim(self: &Arc<Shared>, id: FileId) -> Claim {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
        Claim { shared: Arc::clone(self), id }
    }

    /// Returns whether a reader has this file.
    pub(super) fn is_read(&self, id: FileId) -> bool {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// The files that match, as of at most so long ago: many readers look at the same time.
    pub(super) fn listing(&self, globs: &[String], at_most: Duration) -> Result<Arc<Listing>> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, listing)) = listing.as_ref().filter(|(began, _)| began.elapsed() <= at_most)
        {
            return Ok(Arc::clone(listing));
        }
        let began = Instant::now();
        let made = Arc::new(Listing::of(globs)?);
        *listing = Some((began, Arc::clone(&made)));
        Ok(made)
    }
}
