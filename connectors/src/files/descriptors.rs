//! The number of followed files that are held open, and its limit. A source may have a limit of its
//! own; all others in this process share one.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Of the sources that have no limit of their own.
static OF_THE_PROCESS: LazyLock<Arc<Count>> = LazyLock::new(Arc::default);

/// The time a reader waits for a descriptor before the status names that.
const NAMED_AFTER: Duration = Duration::from_secs(5);

/// The interval at which a reader looks at least whether it may open its file.
const LOOK_AT_LEAST: Duration = Duration::from_millis(500);

/// The number of files that are held open, and how many readers wait until they may open theirs.
#[derive(Debug, Default)]
pub(super) struct Count {
    held: AtomicUsize,
    waiting: AtomicUsize,
}

/// The descriptors that the readers of a source may have.
#[derive(Clone, Debug)]
pub(super) struct Descriptors {
    count: Arc<Count>,
    most: usize,
    is_own: bool,
}

impl Descriptors {
    /// For a source with a limit of its own.
    pub(super) fn own(count: &Arc<Count>, most: usize) -> Descriptors {
        Descriptors { count: Arc::clone(count), most: most.max(1), is_own: true }
    }

    /// For a source without one: half of what the process may have, since the store and clients
    /// need some too.
    pub(super) fn of_the_process() -> Descriptors {
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = most
            .map_or(1 << 20, |most| usize::try_from(most / 2).unwrap_or(1 << 20))
            .clamp(16, 1 << 20);
        Descriptors { count: Arc::clone(&OF_THE_PROCESS), most, is_own: false }
    }

    /// Takes one, also if there are none left.
    pub(super) fn hold(&self) -> Held {
        self.count.held.fetch_add(1, SeqCst);
        Held(Arc::clone(&self.count))
    }

    /// Begins to wait for one.
    pub(super) fn wait(&self) -> Waiting {
        self.count.waiting.fetch_add(1, SeqCst);
        Waiting { count: Arc::clone(&self.count), since: Instant::now() }
    }

    /// Returns whether a file that rests is not to be held open: the other half is for those from
    /// which something comes.
    pub(super) fn are_scarce(&self) -> bool {
        self.count.held.load(SeqCst) > self.most / 2
    }

    /// Returns whether no more may be opened.
    pub(super) fn are_taken(&self) -> bool {
        self.count.held.load(SeqCst) >= self.most
    }

    /// Returns whether one that is read is to give its turn to another.
    pub(super) fn are_wanted(&self) -> bool {
        self.count.waiting.load(SeqCst) > 0 && self.are_taken()
    }

    /// Returns the reason for a wait that takes long, and its remedy.
    pub(super) fn trouble(&self, path: &str, waiting: &Waiting) -> Option<String> {
        let (most, whose) = match self.is_own {
            true => (self.most, "of this source may be open at a time: raise .open_files"),
            false => (
                self.most,
                "may be open at a time in this process: raise the limit of open files (ulimit -n, \
                 LimitNOFILE)",
            ),
        };
        let is_long = waiting.since.elapsed() >= NAMED_AFTER;
        is_long.then(|| {
            format!("{path}: waits until it can be opened, since {most} followed files {whose}")
        })
    }
}

/// The descriptor of a file that is held open.
#[derive(Debug)]
pub(super) struct Held(Arc<Count>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, SeqCst);
    }
}

/// The wait of a reader until it may open its file.
#[derive(Debug)]
pub(super) struct Waiting {
    count: Arc<Count>,
    since: Instant,
}

impl Waiting {
    /// Returns when to look again: at first after so long, and less often the longer it takes.
    pub(super) fn next_look(&self, at_first: Duration) -> Duration {
        (self.since.elapsed() / 8).clamp(at_first, LOOK_AT_LEAST)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_with_a_limit_of_its_own_counts_its_own_files_only() {
        let (ours, theirs) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (ours, theirs) = (Descriptors::own(&ours, 4), Descriptors::own(&theirs, 4));
        let held: Vec<Held> = (0..4).map(|_| theirs.hold()).collect();
        assert!(theirs.are_taken() && !ours.are_taken() && !ours.are_scarce());
        let waiting = theirs.wait();
        assert!(theirs.are_wanted() && !ours.are_wanted());
        assert_eq!(theirs.trouble("a.log", &waiting), None, "it waits for a moment only");
        let long_ago = Instant::now().checked_sub(NAMED_AFTER).expect("the clock began before");
        let mut waiting = waiting;
        waiting.since = long_ago;
        assert_eq!(waiting.next_look(Duration::from_millis(20)), LOOK_AT_LEAST);
        let long = theirs.trouble("a.log", &waiting);
        assert!(long.is_some_and(|why| why.contains("a.log") && why.contains("4 followed files")));
        drop((held, waiting));
        assert!(!theirs.are_taken() && !theirs.are_wanted());
    }
}
