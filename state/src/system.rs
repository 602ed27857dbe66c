//! Errors of the operating system: the kind and the way out of each, in one table.
//!
//! An error that may pass without help, or that somebody else ends (a full disk, too many open
//! files), is [`Kind::TryAgain`]. An error that stays until a path, a right or a limit is changed
//! is [`Kind::Config`]. None of them is damage: only a checksum or a missing file shows damage.
//!
//! Input/output errors (EIO) are `TryAgain`. The same call succeeds after a reset of a controller
//! or the return of a network disk, and whether a disk has lost something is found by the checksums
//! of what is read later. A disk that is gone for good fails again at each start, with the same
//! text.

use crate::{Error, Kind};
use rustix::io::Errno;
use std::fmt::Display;
use std::io;

const FREE_SPACE: &str = "free some space and start again";
const HEALTHY: &str = "make sure that the disk is healthy, then start again";
const LATER: &str = "start again in a moment";
const NETWORK: &str = "make sure that the other side can be reached, then start again";
const RIGHTS: &str = "give this user the right, or another path";
const ANOTHER_PATH: &str = "give another path";
const UNSUPPORTED: &str = "give a path on a file system that can do it";

/// The table: the name of each error, its number, its kind, and the way out.
const TABLE: &[(&str, Errno, Kind, &str)] = &[
    ("EIO", Errno::IO, Kind::TryAgain, HEALTHY),
    ("ENXIO", Errno::NXIO, Kind::TryAgain, HEALTHY),
    ("ENODEV", Errno::NODEV, Kind::TryAgain, HEALTHY),
    ("ESTALE", Errno::STALE, Kind::TryAgain, HEALTHY),
    ("ENOTCONN", Errno::NOTCONN, Kind::TryAgain, HEALTHY),
    ("ENOSPC", Errno::NOSPC, Kind::TryAgain, FREE_SPACE),
    ("EDQUOT", Errno::DQUOT, Kind::TryAgain, FREE_SPACE),
    (
        "ENOMEM",
        Errno::NOMEM,
        Kind::TryAgain,
        "free some memory, or raise the limit of this process, and start again",
    ),
    (
        "EMFILE",
        Errno::MFILE,
        Kind::TryAgain,
        "raise the limit of open files (ulimit -n, LimitNOFILE), or open fewer, and start again",
    ),
    (
        "ENFILE",
        Errno::NFILE,
        Kind::TryAgain,
        "the whole machine has too many files open: close some, or raise fs.file-max, and start \
         again",
    ),
    ("EAGAIN", Errno::AGAIN, Kind::TryAgain, LATER),
    ("EINTR", Errno::INTR, Kind::TryAgain, LATER),
    ("EBUSY", Errno::BUSY, Kind::TryAgain, LATER),
    ("ETXTBSY", Errno::TXTBSY, Kind::TryAgain, LATER),
    ("ENOLCK", Errno::NOLCK, Kind::TryAgain, LATER),
    ("EDEADLK", Errno::DEADLK, Kind::TryAgain, LATER),
    ("ETIMEDOUT", Errno::TIMEDOUT, Kind::TryAgain, NETWORK),
    ("EPIPE", Errno::PIPE, Kind::TryAgain, NETWORK),
    ("ECONNREFUSED", Errno::CONNREFUSED, Kind::TryAgain, NETWORK),
    ("ECONNRESET", Errno::CONNRESET, Kind::TryAgain, NETWORK),
    ("ECONNABORTED", Errno::CONNABORTED, Kind::TryAgain, NETWORK),
    ("ENETDOWN", Errno::NETDOWN, Kind::TryAgain, NETWORK),
    ("ENETUNREACH", Errno::NETUNREACH, Kind::TryAgain, NETWORK),
    ("EHOSTDOWN", Errno::HOSTDOWN, Kind::TryAgain, NETWORK),
    ("EHOSTUNREACH", Errno::HOSTUNREACH, Kind::TryAgain, NETWORK),
    ("EACCES", Errno::ACCESS, Kind::Config, RIGHTS),
    ("EPERM", Errno::PERM, Kind::Config, RIGHTS),
    ("EROFS", Errno::ROFS, Kind::Config, "mount the file system for writing, or give another path"),
    ("ENOENT", Errno::NOENT, Kind::Config, ANOTHER_PATH),
    ("ENOTDIR", Errno::NOTDIR, Kind::Config, ANOTHER_PATH),
    ("EISDIR", Errno::ISDIR, Kind::Config, ANOTHER_PATH),
    ("EEXIST", Errno::EXIST, Kind::Config, ANOTHER_PATH),
    ("ENOTEMPTY", Errno::NOTEMPTY, Kind::Config, ANOTHER_PATH),
    ("ENAMETOOLONG", Errno::NAMETOOLONG, Kind::Config, "give a shorter path"),
    ("ELOOP", Errno::LOOP, Kind::Config, "mend the symbolic links, or give another path"),
    ("EXDEV", Errno::XDEV, Kind::Config, "keep the folder on one file system"),
    (
        "EFBIG",
        Errno::FBIG,
        Kind::Config,
        "raise the limit of a file's size (ulimit -f), or give a path on another file system",
    ),
    ("EMLINK", Errno::MLINK, Kind::Config, UNSUPPORTED),
    ("EOPNOTSUPP", Errno::OPNOTSUPP, Kind::Config, UNSUPPORTED),
    ("ENOSYS", Errno::NOSYS, Kind::Config, UNSUPPORTED),
    ("EINVAL", Errno::INVAL, Kind::Config, UNSUPPORTED),
    (
        "EADDRINUSE",
        Errno::ADDRINUSE,
        Kind::Config,
        "give another address, or end whatever has this one",
    ),
    ("EADDRNOTAVAIL", Errno::ADDRNOTAVAIL, Kind::Config, "give an address of this machine"),
];

/// The class of an error of the operating system, and its remedy for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// [`Kind::TryAgain`], or [`Kind::Config`].
    pub kind: Kind,
    /// The way out, as a part of a sentence: "free some space and start again".
    pub remedy: &'static str,
}

/// An error that is not in the table may pass: whoever starts the process again sees whether it
/// does.
const UNKNOWN: Verdict = Verdict { kind: Kind::TryAgain, remedy: HEALTHY };

/// Returns the verdict on an error of the operating system.
///
/// ```
/// use std::io;
/// use tidemill_state::{Kind, system};
/// let full = io::Error::from(io::ErrorKind::StorageFull);
/// assert_eq!(system::verdict(&full).kind, Kind::TryAgain);
/// let forbidden = io::Error::from(io::ErrorKind::PermissionDenied);
/// assert_eq!(system::verdict(&forbidden).kind, Kind::Config);
/// ```
#[must_use]
pub fn verdict(why: &io::Error) -> Verdict {
    let row = match Errno::from_io_error(why) {
        Some(errno) => TABLE.iter().find(|(_, of, ..)| *of == errno),
        None if why.kind() == io::ErrorKind::InvalidData => {
            return Verdict { kind: Kind::Config, remedy: "correct its content" };
        }
        // One that was made without a number has the kind of one.
        None => TABLE.iter().find(|(_, of, ..)| of.kind() == why.kind()),
    };
    row.map_or(UNKNOWN, |(_, _, kind, remedy)| Verdict { kind: *kind, remedy })
}

/// Returns the error of a call that failed: "`what`: the operating system's text; the way out".
///
/// ```
/// use tidemill_state::{Kind, system};
/// let why = std::fs::read("/no/such/file").expect_err("there is none");
/// let error = system::error("the token in /no/such/file cannot be read", &why);
/// assert_eq!(error.kind(), Kind::Config);
/// assert!(error.to_string().ends_with("; give another path"), "{error}");
/// ```
#[must_use]
pub fn error(what: impl Display, why: &io::Error) -> Error {
    let Verdict { kind, remedy } = verdict(why);
    Error::new(kind, format!("{what}: {}; {remedy}", describe(why)))
}

/// Returns whether an error means that a path leads to nothing: there is no such file, a part of it
/// is none, or it leads to itself. After any other error there may be one.
#[must_use]
pub fn leads_nowhere(why: &io::Error) -> bool {
    matches!(Errno::from_io_error(why), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// Returns whether the operating system's error may pass. An error of a library, such as of data
/// that cannot be decompressed, is none.
#[must_use]
pub fn passes(why: &io::Error) -> bool {
    why.raw_os_error().is_some() && verdict(why).kind == Kind::TryAgain
}

/// Returns the operating system's text for an error, with the limit that was reached if it is one
/// of this process.
#[must_use]
pub fn describe(why: &io::Error) -> String {
    match (Errno::from_io_error(why), most_open_files()) {
        (Some(Errno::MFILE), Some(most)) => format!("{why}: this process may have {most}"),
        _ => why.to_string(),
    }
}

/// The number of files that this process may have open at once; none if it is not limited.
#[must_use]
pub fn most_open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Raises the number of files that this process may have open to the most that it may raise it to.
/// Returns that.
///
/// # Errors
/// Kind TryAgain: the operating system refuses it; the limit is as before.
pub fn raise_open_files() -> Result<Option<u64>, Error> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(|why| {
        Error::try_again(format!(
            "the limit of open files cannot be raised from {current:?} to {maximum:?}: {why}"
        ))
    })?;
    Ok(maximum)
}

/// Returns the verdict on the error whose text a library's message has at the end of a line, as C
/// programs write it: "…: No space left on device".
pub(crate) fn verdict_in(message: &str) -> Option<(Errno, Verdict)> {
    let ends = |line: &str, errno: Errno| {
        line.trim_end().strip_suffix(text(errno).as_str()).is_some_and(|rest| rest.ends_with(": "))
    };
    let found =
        message.lines().find_map(|line| TABLE.iter().find(|(_, errno, ..)| ends(line, *errno)));
    found.map(|(_, errno, kind, remedy)| (*errno, Verdict { kind: *kind, remedy }))
}

/// The operating system's text for an error.
fn text(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_one_row_and_none_of_them_is_damage() {
        for (at, (name, errno, kind, remedy)) in TABLE.iter().enumerate() {
            assert!(TABLE[..at].iter().all(|(_, other, ..)| other != errno), "{name} has two rows");
            assert!(matches!(kind, Kind::TryAgain | Kind::Config) && !remedy.is_empty(), "{name}");
            assert_eq!(verdict(&(*errno).into()), Verdict { kind: *kind, remedy }, "{name}");
            let message = format!(
                "IO error: While open a file: /a/No such file or directory/b: {}",
                text(*errno)
            );
            assert_eq!(verdict_in(&message).map(|(errno, _)| errno), Some(*errno), "{message}");
        }
    }

    #[test]
    fn an_error_that_is_not_in_the_table_or_has_no_number_may_pass() {
        for why in [
            io::Error::from(Errno::BADF),
            io::Error::other("of a library"),
            io::Error::from(io::ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(verdict(&why).kind, Kind::TryAgain, "{why}");
        }
        assert_eq!(verdict_in("IO error: something: that no system says"), None);
        assert_eq!(
            verdict_in("Corruption: in /a/Input/output error/b"),
            None,
            "a path is no error"
        );
    }

    #[test]
    fn too_many_open_files_names_the_limit() {
        let most = most_open_files().expect("tests have a limit");
        let error = error("the input cannot be opened", &Errno::MFILE.into());
        assert!(error.to_string().contains(&format!("this process may have {most}")), "{error}");
    }

    /// The table of the documentation is this one.
    #[test]
    fn the_documentation_has_each_error_with_its_exit_code() {
        let document = include_str!("../../docs/errors.md");
        for (name, _, kind, _) in TABLE {
            let row = document
                .lines()
                .find(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
            let row = row.unwrap_or_else(|| panic!("docs/errors.md has no row with `{name}`"));
            let code = row.rsplit('|').nth(1).map(str::trim);
            assert_eq!(code, Some(kind.exit_code().to_string().as_str()), "{row}");
        }
    }
}
