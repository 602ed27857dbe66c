//! Notices of the operating system that files and folders have changed: inotify, where it is.

use std::path::Path;
use std::time::Duration;

/// A change of something that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Of what has this watch; and whether it was written to.
    Of(i32, bool),
    /// Some were dropped: anything may have changed.
    Overflow,
}

#[cfg(target_os = "linux")]
pub(super) use linux::Notices;

#[cfg(target_os = "linux")]
mod linux {
    use super::{Duration, Notice, Path};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use rustix::io::Errno;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;

    /// The watches of this process.
    #[derive(Debug)]
    pub(in super::super) struct Notices(OwnedFd);

    impl Notices {
        /// None if the system has none to give.
        pub(in super::super) fn new() -> Option<Notices> {
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok().map(Notices)
        }

        /// Watches the file at `path` until its first change, whatever names it has.
        pub(in super::super) fn file(&self, path: &Path) -> Option<i32> {
            #[cfg(test)]
            super::slow::wait_for(path);
            let changes = WatchFlags::MODIFY
                | WatchFlags::ATTRIB
                | WatchFlags::MOVE_SELF
                | WatchFlags::DELETE_SELF;
            inotify::add_watch(&self.0, path, changes | WatchFlags::ONESHOT).ok()
        }

        /// Watches which files a folder has, and who may read them. Of one on a file system that
        /// other machines write to nothing is seen.
        pub(in super::super) fn folder(&self, path: &Path) -> Option<i32> {
            if is_shared(path) {
                return None;
            }
            let names = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO;
            let own = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            inotify::add_watch(&self.0, path, names | own | WatchFlags::ONLYDIR).ok()
        }

        /// Ends a watch, if it has not ended.
        pub(in super::super) fn forget(&self, watch: i32) {
            let _ = inotify::remove_watch(&self.0, watch);
        }

        /// Waits until there are changes, at most so long.
        pub(in super::super) fn wait(&self, at_most: Duration) {
            let at_most = Timespec::try_from(at_most).ok();
            // An error is a signal: whoever waits looks again.
            let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], at_most.as_ref());
        }

        /// Takes the changes that there are.
        pub(in super::super) fn take(&self) -> Vec<Notice> {
            let mut buffer = [MaybeUninit::uninit(); 16 << 10];
            let mut reader = Reader::new(&self.0, &mut buffer);
            let mut notices = Vec::new();
            loop {
                match reader.next() {
                    Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                        notices.push(Notice::Overflow)
                    }
                    Ok(event) => {
                        notices.push(Notice::Of(
                            event.wd(),
                            event.events().contains(ReadFlags::MODIFY),
                        ));
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => return notices,
                }
            }
        }
    }

    /// The numbers of file systems of a network or of another program, as statfs(2) and the sources
    /// of Linux have them: NFS, SMB, CIFS, SMB 2, FUSE, 9P, Ceph, AFS, Lustre.
    const SHARED: [u32; 9] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x6573_5546,
        0x0102_1997,
        0x00c3_6400,
        0x6b41_4653,
        0x0bd0_0bd0,
    ];

    fn is_shared(path: &Path) -> bool {
        // The number is signed on some machines.
        let number = rustix::fs::statfs(path).map(|system| system.f_type & 0xffff_ffff);
        number.is_ok_and(|number| SHARED.iter().any(|shared| i64::from(*shared) == number))
    }
}

/// Files that are on a slow file system, in tests.
#[cfg(test)]
pub(super) mod slow {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::{Condvar, Mutex};

    /// With whether somebody waits for it.
    static SLOW: (Mutex<BTreeMap<PathBuf, bool>>, Condvar) =
        (Mutex::new(BTreeMap::new()), Condvar::new());

    pub(in super::super) fn begin(path: &Path) {
        SLOW.0.lock().expect("no holder panics").insert(path.to_owned(), false);
    }

    pub(in super::super) fn end(path: &Path) {
        SLOW.0.lock().expect("no holder panics").remove(path);
        SLOW.1.notify_all();
    }

    /// Waits until somebody waits for the file.
    pub(in super::super) fn until_waited_for(path: &Path) {
        let slow = SLOW.0.lock().expect("no holder panics");
        drop(
            SLOW.1
                .wait_while(slow, |slow| slow.get(path) != Some(&true))
                .expect("no holder panics"),
        );
    }

    pub(in super::super) fn wait_for(path: &Path) {
        let mut slow = SLOW.0.lock().expect("no holder panics");
        slow.entry(path.to_owned()).and_modify(|waited_for| *waited_for = true);
        SLOW.1.notify_all();
        drop(SLOW.1.wait_while(slow, |slow| slow.contains_key(path)).expect("no holder panics"));
    }
}

/// No notices: the watcher looks at intervals.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) enum Notices {}

#[cfg(not(target_os = "linux"))]
impl Notices {
    pub(super) fn new() -> Option<Notices> {
        None
    }

    pub(super) fn file(&self, _: &Path) -> Option<i32> {
        match *self {}
    }

    pub(super) fn folder(&self, _: &Path) -> Option<i32> {
        match *self {}
    }

    pub(super) fn forget(&self, _: i32) {
        match *self {}
    }

    pub(super) fn wait(&self, _: Duration) {
        match *self {}
    }

    pub(super) fn take(&self) -> Vec<Notice> {
        match *self {}
    }
}
