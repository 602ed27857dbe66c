//! Looks at names and folders on the disk, and what an error hides from such a look.

use std::fs::{self, File, Metadata, ReadDir};
use std::io;
use std::path::Path;
use tidemill_state::{Error, system};

/// Something that could not be looked at: a name, or a folder with all that is in it. What was read
/// there is not gone.
#[derive(Clone, Debug)]
pub(super) struct Hidden {
    pub(super) path: String,
    pub(super) is_folder: bool,
    /// Kind TryAgain if it may pass, Config if not.
    pub(super) error: Error,
}

impl Hidden {
    pub(super) fn folder(path: &Path, why: &io::Error) -> Hidden {
        let path = path.display().to_string();
        let error = system::error(format!("{path} cannot be looked into"), why);
        Hidden { path, is_folder: true, error }
    }

    pub(super) fn name(path: &Path, error: Error) -> Hidden {
        Hidden { path: path.display().to_string(), is_folder: false, error }
    }
}

/// Returns the metadata of what `path` leads to; none if it leads to nothing.
///
/// # Errors
/// It cannot be looked at, so there may be something: Kind TryAgain if that passes, Config if not.
pub(super) fn metadata(path: &Path) -> Result<Option<Metadata>, Error> {
    match told_to_fail(path).map_or_else(|| fs::metadata(path), Err) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(why) if system::leads_nowhere(&why) => Ok(None),
        Err(why) => {
            Err(system::error(format!("{}: its metadata cannot be read", path.display()), &why))
        }
    }
}

/// Returns the entries of a folder; none if there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Option<ReadDir>, Hidden> {
    match told_to_fail(folder).map_or_else(|| fs::read_dir(folder), Err) {
        Ok(entries) => Ok(Some(entries)),
        Err(why) if system::leads_nowhere(&why) => Ok(None),
        Err(why) => Err(Hidden::folder(folder, &why)),
    }
}

/// Opens a file for reading.
pub(super) fn open(path: &Path) -> io::Result<File> {
    before_read(path)?;
    File::open(path)
}

#[cfg(not(test))]
fn told_to_fail(_: &Path) -> Option<io::Error> {
    None
}

/// Called before each read of an opened file: tests let it fail.
#[cfg(not(test))]
#[inline]
pub(super) fn before_read(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use failing::{before_read, fail, fail_reads, slow, told_to_fail};

/// Looks and reads of this thread that fail: the user of tests may look at and read everything.
#[cfg(test)]
mod failing {
    use super::{Path, io};
    use rustix::io::Errno;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::Duration;

    thread_local! {
        static FAILING: RefCell<BTreeMap<PathBuf, Errno>> = const { RefCell::new(BTreeMap::new()) };
        static SLOW: RefCell<BTreeMap<PathBuf, Duration>> = const { RefCell::new(BTreeMap::new()) };
        /// With how many reads do not fail before.
        static FAILING_READS: RefCell<BTreeMap<PathBuf, (usize, Errno)>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Lets opens and reads of this path fail after so many more of them, until the guard is
    /// dropped.
    pub(in super::super) fn fail_reads(path: &Path, after: usize, errno: Errno) -> FailingReads {
        FAILING_READS.with_borrow_mut(|failing| failing.insert(path.to_owned(), (after, errno)));
        FailingReads(path.to_owned())
    }

    pub(in super::super) fn before_read(path: &Path) -> io::Result<()> {
        FAILING_READS.with_borrow_mut(|failing| match failing.get_mut(path) {
            None => Ok(()),
            Some((0, errno)) => Err((*errno).into()),
            Some((before, _)) => {
                *before -= 1;
                Ok(())
            }
        })
    }

    pub(in super::super) struct FailingReads(PathBuf);

    impl Drop for FailingReads {
        fn drop(&mut self) {
            FAILING_READS.with_borrow_mut(|failing| failing.remove(&self.0));
        }
    }

    /// Lets looks at this path fail, until the guard is dropped.
    pub(in super::super) fn fail(path: &Path, errno: Errno) -> Failing {
        FAILING.with_borrow_mut(|failing| failing.insert(path.to_owned(), errno));
        Failing(path.to_owned())
    }

    /// Lets looks at this path take so long, until the guard is dropped.
    pub(in super::super) fn slow(path: &Path, time: Duration) -> Slow {
        SLOW.with_borrow_mut(|slow| slow.insert(path.to_owned(), time));
        Slow(path.to_owned())
    }

    pub(in super::super) struct Slow(PathBuf);

    impl Drop for Slow {
        fn drop(&mut self) {
            SLOW.with_borrow_mut(|slow| slow.remove(&self.0));
        }
    }

    pub(in super::super) fn told_to_fail(path: &Path) -> Option<io::Error> {
        SLOW.with_borrow(|slow| slow.get(path).copied()).into_iter().for_each(std::thread::sleep);
        FAILING.with_borrow(|failing| failing.get(path).copied()).map(io::Error::from)
    }

    pub(in super::super) struct Failing(PathBuf);

    impl Drop for Failing {
        fn drop(&mut self) {
            FAILING.with_borrow_mut(|failing| failing.remove(&self.0));
        }
    }
}
