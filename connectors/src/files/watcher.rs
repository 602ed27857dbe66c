//! The watcher: a thread of the process that watches followed files while nothing comes from them,
//! and the folders in which new ones may appear.
//!
//! A reader at the end of its file rests: it is not called before the watcher wakes it. The watcher
//! has notices of the operating system, and looks at every file that rests once in a while: notices
//! do not come from other machines, nor of a link that leads elsewhere, and there are not always
//! enough of them.

use super::listing::{self, FileId, Found};
use super::notices::{Notice, Notices};
use crate::threads;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// The interval at which every file that rests is looked at: with notices, and without.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY_WITHOUT_NOTICES: Duration = Duration::from_millis(500);

/// A look at many files takes a while: it is followed by so many times that, at least.
pub(super) const REST_OF_LOOKS: u32 = 100;

/// The longest time between two looks, however long they take.
pub(super) const LONGEST_REST_OF_LOOKS: Duration = Duration::from_secs(15);

/// The number of files that are looked at while others wait to be added.
const AT_ONCE: usize = 256;

/// A look at a file that takes so long is on a slow disk: notices of others are taken after it.
const SLOW_LOOK: Duration = Duration::from_millis(10);

/// The number of notices and watches that are kept at most while watches are added. With more,
/// whatever is being added counts as changed.
const MOST_KEPT: usize = 64 << 10;

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
    /// The number of calls that add watches and are under way.
    adding: usize,
    /// Notices that came meanwhile, of watches that nothing is known to have: they may be what is
    /// being added. With whether there was a write.
    early: HashMap<i32, bool>,
    /// Watches that nothing has any more. What is being added may be given one of them: they end
    /// after that.
    unused: BTreeSet<i32>,
    /// True if notices were dropped meanwhile.
    overflowed: bool,
    /// True if a file had no watch: said once.
    some_unwatched: bool,
}

#[derive(Clone, Debug)]
struct Resting {
    file: RestingFile,
    waker: Waker,
    watch: Option<i32>,
    woken: bool,
    /// True if the file was seen to be written to.
    written: Arc<AtomicBool>,
}

/// A file as it was when its reader began to rest.
#[derive(Clone, Debug)]
pub(super) struct RestingFile {
    pub(super) path: Arc<str>,
    pub(super) id: FileId,
    pub(super) length: u64,
    /// The time of its last change, in nanoseconds since 1970.
    pub(super) modified: i64,
}

impl RestingFile {
    pub(super) fn of(found: &Found) -> RestingFile {
        let Found { path, id, length, modified } = found;
        RestingFile { path: path.as_str().into(), id: *id, length: *length, modified: *modified }
    }

    fn is_as_it_was(&self) -> bool {
        self.is_so(self.look().as_ref())
    }

    /// Returns whether the file that is there now is as it was.
    fn is_so(&self, now: Option<&Found>) -> bool {
        now.is_some_and(|found| (found.length, found.modified) == (self.length, self.modified))
    }

    /// The file now, if its name leads to it.
    fn look(&self) -> Option<Found> {
        let found = listing::regular(Path::new(&*self.path)).ok().flatten();
        found.filter(|found| found.id == self.id)
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
        threads::spawn("file-watcher", move || watch(&watched)).ok()?;
        *shared = Arc::downgrade(&watcher);
        Some(watcher)
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `waker` once the file changes, leads elsewhere or is gone, until the guard is dropped.
    /// What changed before this call is not seen.
    pub(super) fn rest(self: &Arc<Self>, file: RestingFile, waker: Waker) -> Rest {
        let (path, written) = (Arc::clone(&file.path), Arc::<AtomicBool>::default());
        let number = {
            let mut watched = self.lock();
            let number = watched.number();
            let resting =
                Resting { file, waker, watch: None, woken: false, written: Arc::clone(&written) };
            watched.resting.insert(number, resting);
            watched.adding += usize::from(self.notices.is_some());
            number
        };
        let rest = Rest { watcher: Arc::clone(self), number, written };
        let Some(notices) = &self.notices else { return rest };
        // The lock is not held: a file system of a network may take long.
        let watch = notices.file(Path::new(&*path));
        let mut watched = self.lock();
        watched.add(notices, number, watch.as_slice());
        if watch.is_none() && !std::mem::replace(&mut watched.some_unwatched, true) {
            tracing::info!(
                file = &*path,
                "the system has no watch for this followed file (see \
                 fs.inotify.max_user_watches): new lines are seen after up to {LOOK_EVERY:?}"
            );
        }
        drop(watched);
        rest
    }

    /// Watches which files these folders have. Returns none if some cannot be watched.
    pub(super) fn folders(self: &Arc<Self>, folders: &BTreeSet<PathBuf>) -> Option<FolderWatch> {
        let notices = self.notices.as_ref()?;
        let changed = Arc::new(Flag::default());
        let number = {
            let mut watched = self.lock();
            let number = watched.number();
            watched.folders.insert(number, Arc::clone(&changed));
            watched.adding += 1;
            number
        };
        let watches: Vec<i32> = folders.iter().map_while(|folder| notices.folder(folder)).collect();
        self.lock().add(notices, number, &watches);
        let are_all = watches.len() == folders.len();
        let watch = FolderWatch { watcher: Arc::clone(self), number, changed, watches };
        are_all.then_some(watch)
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
            match notice {
                Notice::Of(watch, written) => watched.notice(watch, written),
                Notice::Overflow => {
                    let numbers: Vec<u64> =
                        watched.resting.keys().chain(watched.folders.keys()).copied().collect();
                    numbers.into_iter().for_each(|number| watched.wake(number, false));
                    // Of what is being added too.
                    watched.overflowed = watched.adding > 0;
                }
            }
        }
    }

    /// Looks at every file that rests.
    fn look_at_all(&self) {
        let mut last = None;
        loop {
            let after = last.map_or(Unbounded, Excluded);
            let some: Vec<(u64, RestingFile)> = {
                let watched = self.lock();
                let some =
                    watched.resting.range((after, Unbounded)).filter(|(_, resting)| !resting.woken);
                some.take(AT_ONCE)
                    .map(|(number, resting)| (*number, resting.file.clone()))
                    .collect()
            };
            let Some((number, _)) = some.last() else { return };
            last = Some(*number);
            let mut changed = Vec::new();
            for (number, file) in &some {
                let began = Instant::now();
                let now = file.look();
                if !file.is_so(now.as_ref()) {
                    changed.push((*number, now.is_some_and(|found| found.length > file.length)));
                }
                if began.elapsed() >= SLOW_LOOK {
                    self.take();
                }
            }
            if !changed.is_empty() {
                let mut watched = self.lock();
                changed.into_iter().for_each(|(number, has_grown)| watched.wake(number, has_grown));
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
                watched.unused.insert(watch);
            }
        }
        self.notices.iter().for_each(|notices| watched.end_unused(notices));
    }
}

impl Watched {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Ends a call that adds watches: of what has this number. What changed since they were added
    /// wakes it.
    fn add(&mut self, notices: &Notices, number: u64, watches: &[i32]) {
        for watch in watches {
            self.by_watch.entry(*watch).or_default().insert(number);
            if let Some(resting) = self.resting.get_mut(&number) {
                resting.watch = Some(*watch);
            }
        }
        let early: Vec<bool> =
            watches.iter().filter_map(|watch| self.early.get(watch).copied()).collect();
        if self.overflowed || !early.is_empty() {
            self.wake(number, early.contains(&true));
        }
        self.adding -= 1;
        self.end_unused(notices);
    }

    /// Ends the watches that nothing has, unless what is being added may have been given one of
    /// them.
    fn end_unused(&mut self, notices: &Notices) {
        if self.adding > 0 && self.unused.len() < MOST_KEPT {
            return;
        }
        self.early.clear();
        self.overflowed = self.adding > 0;
        for watch in std::mem::take(&mut self.unused) {
            if !self.by_watch.contains_key(&watch) {
                notices.forget(watch);
            }
        }
    }

    fn notice(&mut self, watch: i32, written: bool) {
        let numbers: Vec<u64> = self.by_watch.get(&watch).into_iter().flatten().copied().collect();
        for number in &numbers {
            self.wake(*number, written);
        }
        // That of a file ends with its first notice.
        if numbers.iter().any(|number| self.resting.contains_key(number)) {
            self.by_watch.remove(&watch);
            for number in numbers {
                self.resting.entry(number).and_modify(|resting| resting.watch = None);
            }
        }
        // What is being added may be given a watch that another has already.
        if self.adding > 0 {
            if self.early.len() >= MOST_KEPT {
                self.early.clear();
                self.overflowed = true;
            }
            *self.early.entry(watch).or_default() |= written;
        }
    }

    fn wake(&mut self, number: u64, written: bool) {
        if let Some(resting) = self.resting.get_mut(&number) {
            resting.written.fetch_or(written, SeqCst);
            if !std::mem::replace(&mut resting.woken, true) {
                resting.waker.wake_by_ref();
            }
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
    written: Arc<AtomicBool>,
}

impl Rest {
    /// Returns whether the file was seen to be written to meanwhile.
    pub(super) fn was_written(&self) -> bool {
        self.written.load(SeqCst)
    }
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

/// A flag that is raised when something has changed.
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
    /// Returns whether a name has come, gone or changed, or a file that is watched beside.
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
            let waited =
                self.1.wait_timeout_while(woken, Duration::from_secs(60), |woken| *woken == 0);
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
            for (name, change) in
                [("append", append), ("rename", rename), ("remove", remove), ("turn", turn)]
            {
                let path = folder.path().join(name);
                fs::write(&path, "a\n").expect("written");
                let notices = if notices { Notices::new() } else { None };
                let watcher = Arc::new(Watcher { notices, ..Watcher::default() });
                let woken = Arc::new(Counted::default());
                let rest = watcher.rest(resting(&path), Waker::from(Arc::clone(&woken)));
                watcher.look_at_all();
                assert_eq!(
                    *woken.0.lock().expect("nobody panics"),
                    0,
                    "{name}: nothing has changed"
                );
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
    fn a_file_system_that_is_slow_to_watch_a_file_holds_up_no_other() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let [slow, quick] = ["slow", "quick"].map(|name| folder.path().join(name));
        [&slow, &quick].iter().for_each(|path| fs::write(path, "a\n").expect("written"));
        let watcher = Arc::new(Watcher { notices: Notices::new(), ..Watcher::default() });
        let rest = |path: &Path| {
            let woken = Arc::new(Counted::default());
            (watcher.rest(resting(path), Waker::from(Arc::clone(&woken))), woken)
        };
        super::super::notices::slow::begin(&slow);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| rest(&slow));
            super::super::notices::slow::until_waited_for(&slow);
            let (first, woken) = rest(&quick);
            fs::write(&quick, "a\nb\n").expect("written");
            watcher.take();
            woken.wait();
            assert!(first.was_written());
            drop(first);
            super::super::notices::slow::end(&slow);
            let (last, woken) = waits.join().expect("no panic");
            fs::write(&slow, "a\nb\n").expect("written");
            watcher.take();
            woken.wait();
            drop(last);
        });
        assert_eq!(left(&watcher), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_change_right_after_a_watch_was_added_wakes_and_a_watch_that_was_given_again_does_not_end()
    {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "a\n").expect("written");
        let watcher = Arc::new(Watcher { notices: Notices::new(), ..Watcher::default() });
        let notices = watcher.notices.as_ref().expect("the system has some");
        // As `Watcher::rest`, step by step.
        let begin = || {
            let (woken, written) = (Arc::new(Counted::default()), Arc::default());
            let mut watched = watcher.lock();
            let (number, waker) = (watched.number(), Waker::from(Arc::clone(&woken)));
            let rest =
                Rest { watcher: Arc::clone(&watcher), number, written: Arc::clone(&written) };
            watched.resting.insert(
                number,
                Resting { file: resting(&path), waker, watch: None, woken: false, written },
            );
            watched.adding += 1;
            (number, rest, woken)
        };
        let (number, rest, woken) = begin();
        let watch = notices.file(&path).expect("it can be watched");
        fs::write(&path, "a\nb\n").expect("written");
        watcher.take();
        watcher.lock().add(notices, number, &[watch]);
        woken.wait();
        assert!(rest.was_written());
        drop(rest);

        let woken = Arc::new(Counted::default());
        let before = watcher.rest(resting(&path), Waker::from(woken));
        let (number, rest, woken) = begin();
        let watch = notices.file(&path).expect("it can be watched");
        drop(before);
        watcher.lock().add(notices, number, &[watch]);
        fs::write(&path, "a\nb\nc\n").expect("written");
        watcher.take();
        woken.wait();
        drop(rest);
        let watched = watcher.lock();
        assert!(watched.early.is_empty() && watched.unused.is_empty() && watched.adding == 0);
        drop(watched);
        assert_eq!(left(&watcher), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_kept_while_a_watch_is_added_is_bounded() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "a\n").expect("written");
        let watcher = Arc::new(Watcher { notices: Notices::new(), ..Watcher::default() });
        let notices = watcher.notices.as_ref().expect("the system has some");
        watcher.lock().adding += 1;
        let rest = watcher.rest(resting(&path), Waker::from(Arc::new(Counted::default())));
        fs::write(&path, "a\nb\n").expect("written");
        watcher.take();
        drop(rest);
        assert_eq!(left(&watcher), 0);
        assert!(watcher.lock().unused.is_empty(), "its watch has ended with the notice");
        let most = i32::try_from(MOST_KEPT).expect("it is small");
        // No watch has such a number.
        let numbers = || (0..most + 10).map(|number| i32::MAX - number);
        let mut watched = watcher.lock();
        numbers().for_each(|number| watched.notice(number, true));
        assert!(watched.early.len() <= MOST_KEPT && watched.overflowed);
        watched.overflowed = false;
        for number in numbers() {
            watched.unused.insert(number);
            watched.end_unused(notices);
        }
        assert!(watched.unused.len() < MOST_KEPT && watched.overflowed && watched.adding == 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_look_at_files_on_a_slow_disk_does_not_put_off_the_notices_of_others() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let [slow, quick] = ["slow", "quick"].map(|name| folder.path().join(name));
        [&slow, &quick].iter().for_each(|path| fs::write(path, "a\n").expect("written"));
        let watcher = Arc::new(Watcher { notices: Notices::new(), ..Watcher::default() });
        let woken = Arc::new(Counted::default());
        let _rests = [&slow, &quick]
            .map(|path| watcher.rest(resting(path), Waker::from(Arc::clone(&woken))));
        // Only a notice shows it: it is as long as before.
        fs::write(&quick, "b\n").expect("written");
        let _slow = super::super::disk::slow(&slow, 2 * SLOW_LOOK);
        watcher.look_at_all();
        assert!(*woken.0.lock().expect("nobody panics") > 0, "its notice was not taken");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_is_watched_for_names() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let notices = Notices::new().expect("the system has some");
        let watcher = Arc::new(Watcher { notices: Some(notices), ..Watcher::default() });
        let folders = BTreeSet::from([folder.path().to_owned()]);
        let [first, second] =
            [(); 2].map(|()| watcher.folders(&folders).expect("it can be watched"));
        assert!(!first.has_changed() && !second.has_changed());
        drop(first);
        fs::write(folder.path().join("new"), "").expect("written");
        assert!(second.has_changed(), "the watch that another had too is kept");
        assert!(watcher.folders(&BTreeSet::from([folder.path().join("none")])).is_none());
        drop(second);
        assert_eq!(left(&watcher), 0);
    }
}
