//! The folder around the database: the lock with the pid, how the last run wrote, and moving it
//! aside.

use crate::store::Durability;
use crate::{Error, Kind, Result, system};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The mode in which the last run wrote. The next run reads the log accordingly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mode {
    pub(super) durability: Durability,
    /// True if it was stopped with everything on the disk.
    stopped: bool,
    /// The boot of the operating system that it ran in.
    boot: String,
}

impl Mode {
    pub(super) fn running(durability: Durability) -> Mode {
        Mode { durability, stopped: false, boot: boot() }
    }

    pub(super) fn stopped(durability: Durability) -> Mode {
        Mode { stopped: true, ..Mode::running(durability) }
    }

    /// Returns whether it was stopped with everything on the disk.
    pub(super) fn ended_cleanly(&self) -> bool {
        self.stopped
    }

    /// Returns whether the machine may have lost what the last run had handed to the operating
    /// system.
    pub(super) fn lost_by_the_machine(&self) -> bool {
        self.durability == Durability::Process && !self.stopped && self.boot != boot()
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_string())
        .unwrap_or_default()
}

/// A folder that this process holds.
pub(super) struct Folder {
    dir: PathBuf,
    lock: File,
}

impl Drop for Folder {
    /// Closing the file is not enough: a process that another thread has just forked has it open
    /// until it runs its program, and with it the lock.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Folder {
    pub(super) fn lock(dir: &Path, create: bool) -> Result<Folder> {
        if create {
            fs::create_dir_all(dir).map_err(|why| unwritable(dir, &why))?;
        }
        let path = dir.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|why| unwritable(dir, &why))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
                return Err(Error::try_again(format!(
                    "the state in {} is in use by another instance, pid {pid} (running, or \
                     paused). Stop it, or give another --state folder",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(why)) => return Err(unwritable(dir, &why)),
        }
        let mut write_pid = || -> std::io::Result<()> {
            lock.set_len(0)?;
            lock.rewind()?;
            write!(lock, "{}", std::process::id())
        };
        write_pid().map_err(|why| unwritable(dir, &why))?;
        Ok(Folder { dir: dir.to_path_buf(), lock })
    }

    /// Locks a folder that holds a store.
    pub(super) fn lock_store(dir: &Path) -> Result<Folder> {
        if !holds_store(dir)? {
            return Err(Error::config(format!(
                "there is no state in {}: give the --state folder of a topology that ran",
                dir.display()
            )));
        }
        Folder::lock(dir, false)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("db")
    }

    /// Makes the database under another name first: a crash in between leaves no half-made store.
    pub(super) fn make_database(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let half = self.dir.join("db.new");
        let unwritable = |why| unwritable(&self.dir, &why);
        match fs::remove_dir_all(&half) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(unwritable(why)),
            _ => {}
        }
        self.set_mode(Mode::stopped(Durability::Sync))?;
        make(&half)?;
        fs::rename(&half, self.database()).map_err(unwritable)?;
        sync_dir(&self.dir)
    }

    /// Syncs the database's log files, which a process that was killed may have left to the
    /// operating system. Before RocksDB reads them: it counts what it has read from them as being
    /// on the disk, notes that in files that it syncs, and refuses the store if the machine then
    /// loses the end of a log.
    pub(super) fn sync_logs(&self) -> Result<()> {
        let database = self.database();
        let sync = || -> std::io::Result<()> {
            for entry in fs::read_dir(&database)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "log") {
                    File::open(&path)?.sync_all()?;
                }
            }
            File::open(&database)?.sync_all()
        };
        sync().map_err(|why| {
            system::error(
                format!(
                    "nothing was changed, but the log in {} cannot be synced",
                    database.display()
                ),
                &why,
            )
        })
    }

    pub(super) fn mode(&self) -> Result<Mode> {
        let path = self.dir.join("mode");
        let text = fs::read_to_string(&path).map_err(|why| match why.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidData => Error::damaged(format!(
                "{} cannot be read: {why}. Restore the folder from a copy",
                path.display()
            )),
            _ => system::error(
                format!("nothing is lost, but {} cannot be read", path.display()),
                &why,
            ),
        })?;
        serde_json::from_str(&text).map_err(|why| {
            Error::damaged(format!(
                "{} is damaged: {why}. Restore the folder from a copy",
                path.display()
            ))
        })
    }

    pub(super) fn set_mode(&self, mode: Mode) -> Result<()> {
        let text = serde_json::to_string(&mode)
            .map_err(|why| Error::bug(format!("the mode cannot be written: {why}")))?;
        let (path, half) = (self.dir.join("mode"), self.dir.join("mode.new"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&half)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&half, &path)
        };
        write().map_err(|why| unwritable(&self.dir, &why))?;
        sync_dir(&self.dir)
    }
}

/// Returns whether there is a store in `dir`. A folder that cannot be looked into is an error: it
/// may have one.
pub(super) fn holds_store(dir: &Path) -> Result<bool> {
    match fs::metadata(dir.join("db")) {
        Ok(_) => Ok(true),
        // A store that cannot be made there either is refused when it is made.
        Err(why) if system::leads_nowhere(&why) => Ok(false),
        Err(why) => Err(unreadable(dir, &why)),
    }
}

/// Returns the pid of the process that holds the store in `dir`, if one does.
///
/// # Errors
/// The folder cannot be looked into: Kind TryAgain if that passes, Config if not.
pub fn process_holding(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(why) if system::leads_nowhere(&why) => return Ok(None),
        Err(why) => return Err(unreadable(dir, &why)),
    };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).map(|pid| pid.trim().to_string());
            Ok(Some(pid.ok().filter(|pid| !pid.is_empty()).unwrap_or_else(|| "unknown".into())))
        }
        Ok(()) => {
            let _ = lock.unlock();
            Ok(None)
        }
        Err(TryLockError::Error(why)) => Err(unreadable(dir, &why)),
    }
}

fn unreadable(dir: &Path, why: &std::io::Error) -> Error {
    system::error(
        format!(
            "nothing was changed, but the state folder {} cannot be looked into",
            dir.display()
        ),
        why,
    )
}

/// Moves the store in `dir` aside, to `DIR.old-<txid>` (or `DIR.old-unknown` if it cannot be read),
/// and says where it is. Nothing is deleted.
///
/// # Errors
/// Kind TryAgain if an instance runs on it, or if the disk has an error that passes; Config if it
/// cannot be moved.
pub fn move_aside(dir: &Path, txid: Option<crate::Txid>) -> Result<PathBuf> {
    if let Some(pid) = process_holding(dir)? {
        return Err(Error::try_again(format!(
            "the state in {} is in use by another instance, pid {pid}: stop it first",
            dir.display()
        )));
    }
    let txid = txid.map_or("unknown".to_string(), |txid| txid.to_string());
    let name = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|| "state".into());
    let mut target = dir.with_file_name(format!("{name}.old-{txid}"));
    let mut more = 2;
    while target
        .try_exists()
        .map_err(|why| system::error(format!("{} cannot be looked at", target.display()), &why))?
    {
        target = dir.with_file_name(format!("{name}.old-{txid}-{more}"));
        more += 1;
    }
    fs::rename(dir, &target).map_err(|why| {
        system::error(format!("{} cannot be moved to {}", dir.display(), target.display()), &why)
    })?;
    Ok(target)
}

/// The bytes that are free for this process on the file system of `dir`.
///
/// # Errors
/// Kind TryAgain if the file system does not say.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir).map_err(|why| {
        Error::try_again(format!("the free space of {} is unknown: {why}", dir.display()))
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|why| unwritable(dir, &why))
}

fn unwritable(dir: &Path, why: &std::io::Error) -> Error {
    let message =
        format!("the state folder {} cannot be written: {}", dir.display(), system::describe(why));
    match system::verdict(why) {
        system::Verdict { kind: Kind::TryAgain, remedy } => {
            Error::try_again(format!("{message}. Nothing is lost: {remedy}"))
        }
        _ => Error::config(message + ". Give a --state folder that this user can write"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_looked_into_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().expect("a folder");
        // For any user, and without a disk that fails.
        let hidden = dir.path().join("n".repeat(300));
        for error in [
            holds_store(&hidden).expect_err("nobody can see"),
            process_holding(&hidden).expect_err("nobody can see"),
            move_aside(&hidden, None).expect_err("it may be in use"),
        ] {
            assert_eq!(error.kind(), Kind::Config, "{error}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
        }
        let (none, file) = (dir.path().join("none"), dir.path().join("file"));
        fs::write(&file, "").expect("written");
        for nothing in [none, file] {
            assert!(!holds_store(&nothing).expect("it is seen"));
            assert_eq!(process_holding(&nothing).expect("it is seen"), None);
        }
    }

    #[test]
    fn a_mode_that_is_missing_or_no_mode_is_damage() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::lock(dir.path(), true).expect("it is free");
        let kind = |folder: &Folder| folder.mode().expect_err("it cannot be read").kind();
        assert_eq!(kind(&folder), Kind::Damaged);
        fs::write(dir.path().join("mode"), "{").expect("written");
        assert_eq!(kind(&folder), Kind::Damaged);
        fs::remove_file(dir.path().join("mode")).expect("removed");
        fs::create_dir(dir.path().join("mode")).expect("made");
        assert_eq!(kind(&folder), Kind::Config, "it is there, and cannot be read");
    }

    #[test]
    fn a_folder_is_free_once_its_store_is_closed_though_a_forked_process_has_its_lock_open() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::lock(dir.path(), true).expect("it is free");
        assert!(Folder::lock(dir.path(), true).is_err(), "it is held");
        // As a fork inherits it: the same open file, under another descriptor.
        let _inherited = folder.lock.try_clone().expect("a descriptor");
        drop(folder);
        assert_eq!(process_holding(dir.path()).expect("it is seen"), None);
        Folder::lock(dir.path(), true).expect("it is free again");
    }
}
