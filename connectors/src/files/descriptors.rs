//! How many followed files this process holds open, and how many it may.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

static HELD: AtomicUsize = AtomicUsize::new(0);
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The descriptor of a file that is held open.
#[derive(Debug)]
pub(super) struct Held(());

impl Held {
    pub(super) fn new() -> Held {
        HELD.fetch_add(1, SeqCst);
        Held(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, SeqCst);
    }
}

/// A reader that waits until it may open its file.
#[derive(Debug)]
pub(super) struct Waiting(());

impl Waiting {
    pub(super) fn new() -> Waiting {
        WAITING.fetch_add(1, SeqCst);
        Waiting(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, SeqCst);
    }
}

/// How many files may be open if nothing is set: half of what the process may have, since the store
/// and clients need some too.
pub(super) fn usual() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    most.map_or(1 << 20, |most| usize::try_from(most / 2).unwrap_or(1 << 20)).clamp(16, 1 << 20)
}

/// Whether a file that rests is not to be held open: the other half is for those from which
/// something comes.
pub(super) fn are_scarce(most: usize) -> bool {
    HELD.load(SeqCst) > most / 2
}

/// Whether no more may be opened.
pub(super) fn are_taken(most: usize) -> bool {
    HELD.load(SeqCst) >= most.max(1)
}

/// Whether one that is read is to give its turn to another.
pub(super) fn are_wanted(most: usize) -> bool {
    WAITING.load(SeqCst) > 0 && are_taken(most)
}
