//! Errors of RocksDB: the kind of each, in one place.
//!
//! Damage is what RocksDB calls corruption, and a file that is missing. An error of the operating
//! system keeps the kind that it has in [`crate::system`], also where RocksDB reports it as
//! corruption because it found out while it compared its files with its records.

use crate::system::{self, Verdict};
use crate::{Error, Kind};
use rocksdb::ErrorKind;
use rustix::io::Errno;
use std::path::Path;

/// The cause of an error of RocksDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Another process has the database open.
    InUse,
    /// The operating system's, or one of a moment.
    System(Verdict),
    /// The database was written by a newer version.
    Newer,
    /// Its files are damaged or missing.
    Damaged,
}

const LATER: Cause =
    Cause::System(Verdict { kind: Kind::TryAgain, remedy: "start again in a moment" });

fn cause(why: &rocksdb::Error) -> Cause {
    cause_of(why.kind(), why.as_ref())
}

fn cause_of(kind: ErrorKind, message: &str) -> Cause {
    // Corruption that comes of an error of the operating system has that in its text.
    let of_system = kind != ErrorKind::Corruption || message.contains("IO error: ");
    let system = system::verdict_in(message).filter(|_| of_system);
    match (kind, system) {
        // Of the file that keeps others out.
        (ErrorKind::IOError, Some((Errno::AGAIN | Errno::ACCESS | Errno::NOLCK, _)))
            if is_of_the_lock(message) =>
        {
            Cause::InUse
        }
        (
            ErrorKind::IOError | ErrorKind::Corruption | ErrorKind::InvalidArgument,
            Some((Errno::NOENT, _)),
        ) => Cause::Damaged,
        (
            ErrorKind::IOError | ErrorKind::Corruption | ErrorKind::InvalidArgument,
            Some((_, verdict)),
        ) => Cause::System(verdict),
        (ErrorKind::IOError, None) if message.contains("No such file or directory") => {
            Cause::Damaged
        }
        (ErrorKind::IOError, None) => LATER,
        // RocksDB's report of a file that could not be opened when it tried the file system's
        // abilities.
        (ErrorKind::InvalidArgument, None)
            if message.contains("Direct I/O is not supported")
                || message.contains("Found options incompatible with filesystem: IO error") =>
        {
            LATER
        }
        (ErrorKind::InvalidArgument, None) if message.contains("Column families not opened") => {
            Cause::Newer
        }
        (ErrorKind::NotSupported, _) => Cause::Newer,
        (ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound, _) => {
            Cause::Damaged
        }
        _ => LATER,
    }
}

/// A path may have the word "lock" in it.
fn is_of_the_lock(message: &str) -> bool {
    message.contains("While lock file") || message.contains("lock hold by current process")
}

const RESTORE: &str = "Nothing was changed. Restore the folder from a copy, or begin anew with \
    --start-over (the damaged folder is moved aside, never deleted)";

/// Returns the error of a database that cannot be opened.
pub(super) fn opening(database: &Path, why: &rocksdb::Error) -> Error {
    let folder = database.parent().unwrap_or(database).display();
    match cause(why) {
        Cause::InUse => {
            Error::try_again(format!("the state in {folder} is in use by another process: {why}"))
        }
        Cause::System(Verdict { kind, remedy }) => Error::new(
            kind,
            format!("the state in {folder} cannot be opened: {why}. Nothing is lost: {remedy}"),
        ),
        Cause::Newer => Error::config(format!(
            "the state in {folder} was written by a newer version of Tidemill than this \
             program's: {why}. Nothing was changed: run a program built with that version, or \
             give another --state folder"
        )),
        Cause::Damaged => {
            Error::damaged(format!("the state in {folder} is damaged: {why}. {RESTORE}"))
        }
    }
}

/// Returns the error of a read of an opened database.
pub(super) fn reading(folder: &Path, why: &rocksdb::Error) -> Error {
    let what = format!("the store in {} cannot be read: {why}", folder.display());
    match cause(why) {
        Cause::System(Verdict { kind, remedy }) => {
            Error::new(kind, format!("{what}. Nothing is lost: {remedy}"))
        }
        Cause::InUse => {
            Error::try_again(format!("{what}. Nothing is lost: start again in a moment"))
        }
        Cause::Newer | Cause::Damaged => Error::damaged(format!("{what}. {RESTORE}")),
    }
}

/// Returns the error of a write of an opened database, whose outcome is unknown.
pub(super) fn writing(folder: &Path, why: &rocksdb::Error) -> Error {
    let what = format!("writing the store in {} failed: {why}", folder.display());
    const UNKNOWN: &str =
        "Whether the last write is durable is unknown, so this process ends; nothing is lost";
    match cause(why) {
        Cause::System(Verdict { kind, remedy }) => {
            Error::new(kind, format!("{what}. {UNKNOWN}: {remedy}"))
        }
        // Met by a job in the background.
        Cause::Damaged if why.kind() == ErrorKind::Corruption => {
            Error::damaged(format!("{what}. {RESTORE}"))
        }
        // The next start finds out what there is.
        Cause::Damaged | Cause::InUse | Cause::Newer => {
            Error::try_again(format!("{what}. {UNKNOWN}: start again"))
        }
    }
}

/// Returns the error of a file that RocksDB writes beside the database.
pub(crate) fn writing_file(path: &Path, why: &rocksdb::Error) -> Error {
    let what = format!("writing {} failed: {why}. Nothing is lost", path.display());
    match cause(why) {
        Cause::System(Verdict { kind, remedy }) => Error::new(kind, format!("{what}: {remedy}")),
        Cause::InUse | Cause::Newer | Cause::Damaged => {
            Error::try_again(format!("{what}: start again in a moment"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a message about a file.
    const FILE: &str = "While open a file for random read: /s/db/000012.sst: ";

    #[test]
    fn an_error_of_the_system_keeps_its_kind() {
        let system = |message: &str| match cause_of(ErrorKind::IOError, message) {
            Cause::System(verdict) => verdict.kind,
            other => panic!("{message}: {other:?}"),
        };
        for (text, kind) in [
            ("Too many open files", Kind::TryAgain),
            ("Input/output error", Kind::TryAgain),
            ("No space left on device", Kind::TryAgain),
            ("Disk quota exceeded", Kind::TryAgain),
            ("Cannot allocate memory", Kind::TryAgain),
            ("Too many open files in system", Kind::TryAgain),
            ("Permission denied", Kind::Config),
            ("Read-only file system", Kind::Config),
        ] {
            assert_eq!(system(&format!("IO error: {FILE}{text}")), kind, "{text}");
            let found = cause_of(
                ErrorKind::Corruption,
                &format!("Corruption: Can't access /000012.sst: IO error: {FILE}{text}\n"),
            );
            assert!(
                matches!(found, Cause::System(verdict) if verdict.kind == kind),
                "{text}, while files are compared: {found:?}"
            );
        }
        assert_eq!(system("IO error: something went wrong"), Kind::TryAgain);
        let lock_on_a_bad_disk = "IO error: While lock file: /s/db/LOCK: Input/output error";
        assert_eq!(system(lock_on_a_bad_disk), Kind::TryAgain);
    }

    #[test]
    fn damage_is_corruption_and_missing_files_alone() {
        for (kind, message, expected) in [
            (
                ErrorKind::IOError,
                format!("IO error: No such file or directory: {FILE}No such file or directory"),
                Cause::Damaged,
            ),
            (ErrorKind::Corruption, "Corruption: block checksum mismatch".into(), Cause::Damaged),
            (
                ErrorKind::Corruption,
                "Corruption: in /Too many open files/000012.sst".into(),
                Cause::Damaged,
            ),
            (
                ErrorKind::InvalidArgument,
                "Invalid argument: /s/db: does not exist (create_if_missing is false)".into(),
                Cause::Damaged,
            ),
            (
                ErrorKind::InvalidArgument,
                "Invalid argument: Column families not opened: later".into(),
                Cause::Newer,
            ),
            (
                ErrorKind::InvalidArgument,
                "Invalid argument: Direct I/O is not supported by the \
                specified DB."
                    .into(),
                LATER,
            ),
            (ErrorKind::NotSupported, "Not implemented: a format of later".into(), Cause::Newer),
            (ErrorKind::Busy, "Resource busy: ".into(), LATER),
            (ErrorKind::TimedOut, "Operation timed out: ".into(), LATER),
            (ErrorKind::ShutdownInProgress, "Shutdown in progress: ".into(), LATER),
            (
                ErrorKind::IOError,
                "IO error: While lock file: /s/db/LOCK: Resource temporarily \
                unavailable"
                    .into(),
                Cause::InUse,
            ),
            (
                ErrorKind::IOError,
                "IO error: lock hold by current process, acquire time 1 acquiring thread 2: \
                 /s/db/LOCK: No locks available"
                    .into(),
                Cause::InUse,
            ),
        ] {
            assert_eq!(cause_of(kind, &message), expected, "{message}");
        }
    }
}
