//! The watcher: a thread of the process that watches followed files while nothing comes from them,
//! and the folders in which new ones may appear.
//!
//! A reader at the end of its file rests: it is not called before the watcher wakes it. The watcher
//! has notices of the operating system, and looks at every file that rests once in a while: notices
//! do not come from other machines, nor of a link that leads elsewhere, and there are not always
//! enough of them.

use super::listing::{self, FileId, Found};
use super::notices::{Notice, Notices};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// How often every file that rests is looked at: with notices, and without.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY_WITHOUT_NOTICES: Duration = Duration::from_millis(500);

/// A look at many files takes a while: it is followed by so many times that, at least.
pub(super) const REST_OF_LOOKS: u32 = 100;

/// The longest time between two looks, however long they take.
pub(super) const LONGEST_REST_OF_LOOKS: Duration = Duration::from_secs(15);

/// How many files are looked at while others wait to be added.
const AT_ONCE: usize = 256;

/// The longest wait for a notice: how long the thread outlives the last reader.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    notices: Option<Notices>,
    /// Held from the taking of notices until those that they are of are woken.
    taking: Mutex<()>,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    next: u64,
    resting: BTreeMap<u64, Resting>,
    folders: BTreeMap<u64, Arc<Flag>>,
    /// Which of both a watch is of.
    by_watch: HashMap<i32, BTreeSet<u64>>,
    /// Whether a file had no watch: said once.
    some_unwatched: bool,
}

#[derive(Clone, Debug)]
struct Resting {
    file: RestingFile,
    waker: Waker,
    watch: Option<i32>,
    woken: bool,
}

/// A file as it was when its reader began to rest.
#[derive(Clone, Debug)]
pub(super) struct RestingFile {
    pub(super) path: Arc<str>,
    pub(super) id: FileId,
    pub(super) length: u64,
}

impl RestingFile {
    pub(super) fn of(found: &Found) -> RestingFile {
        RestingFile { path: found.path.as_str().into(), id: found.id, length: found.length }
    }

    fn is_as_it_was(&self) -> bool {
        let found = listing::regular(Path::new(&*self.path)).ok().flatten();
        found.is_some_and(|found| (found.id, found.length) == (self.id, self.length))
    }
}

static WATCHER: Mutex<Weak<Watcher>> = Mutex::new(Weak::new());

impl Watcher {
    /// The watcher of this process, begun if there is none; `None` if its thread cannot be had.
    pub(super) fn shared() -> Option<Arc<Watcher>> {
        let mut shared = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = shared.upgrade() {
            return Some(watcher);
        }
        let watcher = Arc::new(Watcher { notices: Notices::new(), ..Watcher::default() });
        let watched = Arc::downgrade(&watcher);
        std::thread::Builder::new().name("file-watcher".into()).spawn(move || watch(&watched)).ok()?;
        *shared = Arc::downgrade(&watcher);
        Some(watcher)
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `waker` once the file changes, leads elsewhere or is gone, until the guard is dropped.
    /// What changed before this call is not seen.
    pub(super) fn rest(self: &Arc<Self>, file: RestingFile, waker: Waker) -> Rest {
        let mut watched = self.lock();
        let number = watched.number();
        // The lock is held: a notice that comes at once finds what it is of.
        let watch = self.notices.as_ref().and_then(|notices| notices.file(Path::new(&*file.path)));
        match watch {
            Some(watch) => drop(watched.by_watch.entry(watch).or_default().insert(number)),
            None if self.notices.is_some() && !std::mem::replace(&mut watched.some_unwatched, true) => {
                tracing::info!(
                    file = &*file.path,
                    "the system has no watch for this followed file (see fs.inotify.max_user_watches): new lines are seen after up to {LOOK_EVERY:?}"
                );
            }
            None => {}
        }
        watched.resting.insert(number, Resting { file, waker, watch, woken: false });
        Rest { watcher: Arc::clone(self), number }
    }

    /// Watches which files these folders have. Returns none if some cannot be watched.
    pub(super) fn folders(self: &Arc<Self>, folders: &BTreeSet<PathBuf>) -> Option<FolderWatch> {
        let notices = self.notices.as_ref()?;
        let changed = Arc::new(Flag::default());
        let mut watched = self.lock();
        let number = watched.number();
        watched.folders.insert(number, Arc::clone(&changed));
        let mut watch = FolderWatch { watcher: Arc::clone(self), number, changed, watches: Vec::new() };
        for folder in folders {
            let Some(of) = notices.folder(folder) else {
                drop(watched);
                return None;
            };
            watch.watches.push(of);
            watched.by_watch.entry(of).or_default().insert(number);
        }
        drop(watched);
        Some(watch)
    }

    /// Wakes those of which there are notices by now.
    fn take(&self) {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let notices = self.notices.as_ref().map(Notices::take).unwrap_or_default();
        if notices.is_empty() {
            return;
        }
        let mut watched = self.lock();
        for notice in notices {
            let numbers: Vec<u64> = match notice {
                Notice::Of(watch) => watched.by_watch.get(&watch).into_iter().flatten().copied().collect(),
                Notice::Overflow => watched.resting.keys().chain(watched.folders.keys()).copied().collect(),
            };
            numbers.into_iter().for_each(|number| watched.wake(number));
        }
    }

    /// Looks at every file that rests.
    fn look_at_all(&self) {
        let mut last = None;
        loop {
            let after = last.map_or(Unbounded, Excluded);
            let some: Vec<(u64, RestingFile)> = {
                let watched = self.lock();
                let some = watched.resting.range((after, Unbounded)).filter(|(_, resting)| !resting.woken);
                some.take(AT_ONCE).map(|(number, resting)| (*number, resting.file.clone())).collect()
            };
            let Some((number, _)) = some.last() else { return };
            last = Some(*number);
            let changed: Vec<u64> = some.iter().filter(|(_, file)| !file.is_as_it_was()).map(|(number, _)| *number).collect();
            if !changed.is_empty() {
                let mut watched = self.lock();
                changed.into_iter().for_each(|number| watched.wake(number));
            }
        }
    }

    /// Forgets what has this number, and those of its watches that nothing else has.
    fn forget(&self, number: u64, watches: &[i32]) {
        let mut watched = self.lock();
        let resting = watched.resting.remove(&number);
        watched.folders.remove(&number);
        for watch in watches.iter().copied().chain(resting.and_then(|resting| resting.watch)) {
            let Some(numbers) = watched.by_watch.get_mut(&watch) else { continue };
            numbers.remove(&number);
            if numbers.is_empty() {
                watched.by_watch.remove(&watch);
                self.notices.iter().for_each(|notices| notices.forget(watch));
            }
        }
    }
}

impl Watched {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wake(&mut self, number: u64) {
        if let Some(resting) = self.resting.get_mut(&number).filter(|resting| !resting.woken) {
            resting.woken = true;
            resting.waker.wake_by_ref();
        }
        if let Some(changed) = self.folders.get(&number) {
            changed.wake_by_ref();
        }
    }
}

fn watch(watcher: &Weak<Watcher>) {
    let (mut looked, mut took) = (Instant::now(), Duration::ZERO);
    while let Some(watcher) = watcher.upgrade() {
        match &watcher.notices {
            Some(notices) => {
                notices.wait(LONGEST_WAIT);
                watcher.take();
            }
            None => std::thread::sleep(LONGEST_WAIT),
        }
        let every = if watcher.notices.is_some() { LOOK_EVERY } else { LOOK_EVERY_WITHOUT_NOTICES };
        if looked.elapsed() >= every.max((took * REST_OF_LOOKS).min(LONGEST_REST_OF_LOOKS)) {
            let began = Instant::now();
            watcher.look_at_all();
            (looked, took) = (Instant::now(), began.elapsed());
        }
    }
}

/// A reader's rest: while it is kept, the file is watched.
#[derive(Debug)]
pub(super) struct Rest {
    watcher: Arc<Watcher>,
    number: u64,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.watcher.forget(self.number, &[]);
    }
}

/// A watch over folders, while it is kept.
#[derive(Debug)]
pub(super) struct FolderWatch {
    watcher: Arc<Watcher>,
    number: u64,
    changed: Arc<Flag>,
    watches: Vec<i32>,
}

/// Whether something has changed.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl FolderWatch {
    /// Whether a name has come, gone or changed, or a file that is watched beside.
    pub(super) fn has_changed(&self) -> bool {
        self.watcher.take();
        self.changed.0.load(SeqCst)
    }

    /// Watches a file too, while the guard is kept.
    pub(super) fn also(&self, file: RestingFile) -> Rest {
        let rest = self.watcher.rest(file.clone(), Waker::from(Arc::clone(&self.changed)));
        // What came before it was watched gives no notice.
        if !file.is_as_it_was() {
            self.changed.wake_by_ref();
        }
        rest
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.watcher.forget(self.number, &self.watches);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Counted(Mutex<u32>, std::sync::Condvar);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            *self.0.lock().expect("nobody panics") += 1;
            self.1.notify_all();
        }
    }

    impl Counted {
        fn wait(&self) {
            let woken = self.0.lock().expect("nobody panics");
            let waited = self.1.wait_timeout_while(woken, Duration::from_secs(60), |woken| *woken == 0);
            let late = waited.expect("nobody panics").1;
            assert!(!late.timed_out(), "nothing has woken the reader");
        }
    }

    fn resting(path: &Path) -> RestingFile {
        RestingFile::of(&listing::regular(path).expect("it can be read").expect("it is there"))
    }

    /// How much is watched.
    fn left(watcher: &Watcher) -> usize {
        let watched = watcher.lock();
        watched.by_watch.len() + watched.resting.len() + watched.folders.len()
    }

    #[test]
    fn a_file_that_changes_wakes_its_reader_with_notices_and_without() {
        let folder = tempfile::TempDir::new().expect("a folder");
        type Change = fn(&Path);
        let append: Change = |path| {
            let file = fs::OpenOptions::new().append(true).open(path);
            file.and_then(|mut file| file.write_all(b"b\n")).expect("written");
        };
        let rename: Change = |path| fs::rename(path, path.with_extension("1")).expect("renamed");
        let remove: Change = |path| fs::remove_file(path).expect("removed");
        let turn: Change = |path| {
            let link = path.with_extension("new");
            std::os::unix::fs::symlink("other", &link).expect("linked");
            fs::rename(link, path).expect("turned");
        };
        fs::write(folder.path().join("other"), "a\n").expect("written");
        for notices in [true, false] {
            for (name, change) in [("append", append), ("rename", rename), ("remove", remove), ("turn", turn)] {
                let path = folder.path().join(name);
                fs::write(&path, "a\n").expect("written");
                let notices = if notices { Notices::new() } else { None };
                let watcher = Arc::new(Watcher { notices, ..Watcher::default() });
                let woken = Arc::new(Counted::default());
                let rest = watcher.rest(resting(&path), Waker::from(Arc::clone(&woken)));
                watcher.look_at_all();
                assert_eq!(*woken.0.lock().expect("nobody panics"), 0, "{name}: nothing has changed");
                let watched = Arc::downgrade(&watcher);
                let thread = std::thread::spawn(move || watch(&watched));
                change(&path);
                woken.wait();
                drop(rest);
                assert_eq!(left(&watcher), 0);
                drop(watcher);
                thread.join().expect("it ends with the last reader");
                let _ = fs::remove_file(&path);
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_is_watched_for_names() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let notices = Notices::new().expect("the system has some");
        let watcher = Arc::new(Watcher { notices: Some(notices), ..Watcher::default() });
        let folders = BTreeSet::from([folder.path().to_owned()]);
        let [first, second] = [(); 2].map(|()| watcher.folders(&folders).expect("it can be watched"));
        assert!(!first.has_changed() && !second.has_changed());
        drop(first);
        fs::write(folder.path().join("new"), "").expect("written");
        assert!(second.has_changed(), "the watch that another had too is kept");
        assert!(watcher.folders(&BTreeSet::from([folder.path().join("none")])).is_none());
        drop(second);
        assert_eq!(left(&watcher), 0);
    }
}
