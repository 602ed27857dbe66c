//! From globs to the files that match them, each once, and what is left out.

use super::quote;
use glob::{MatchOptions, Pattern};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tidemill_state::{Error, Kind, Result, system};

/// The identity of a file on its file system, whatever its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// The time of its birth, in nanoseconds since 1970; 0 where there is none. The inode of a removed file is used again.
    pub(super) born: i64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> FileId {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0));
        FileId { device: metadata.dev(), inode: metadata.ino(), born }
    }
}

/// A regular file under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) id: FileId,
    pub(super) length: u64,
    pub(super) modified: i64,
}

/// The files that match, sorted by path, and what there is to report about the rest.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<Found>,
    /// Names that match and are not read, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
    /// Files that match under several names.
    pub(super) aliases: Vec<String>,
    /// Globs that match no file.
    pub(super) unmatched: Vec<String>,
    by_id: HashMap<FileId, usize>,
}

impl Listing {
    /// The files that match any of the globs.
    pub(super) fn of(globs: &[String]) -> Result<Listing> {
        if globs.is_empty() {
            return Err(Error::config("the source of files was given no glob; name the files to read"));
        }
        let mut listing = Listing::default();
        let mut named = BTreeMap::new();
        for glob in globs {
            if !listing.add(glob, &mut named)? {
                listing.unmatched.push(glob.clone());
            }
        }
        listing.left_out.sort_unstable();
        listing.left_out.dedup();
        listing.unite(named);
        Ok(listing)
    }

    /// Adds the files that a glob matches. Returns whether it matches any name that could be read.
    fn add(&mut self, glob: &str, named: &mut BTreeMap<String, Found>) -> Result<bool> {
        let found = glob::glob(glob).map_err(|why| Error::config(format!("the glob {glob:?} cannot be understood: {why}")))?;
        let mut left_out = names_that_are_not_text(glob);
        let mut any = false;
        for path in found {
            match path {
                Ok(path) if is_hidden(glob, &path) => {}
                Ok(path) => match regular(&path) {
                    Ok(found) => {
                        any |= found.is_some();
                        named.extend(found.map(|found| (found.path.clone(), found)));
                    }
                    Err(error) if error.kind() == Kind::TryAgain => return Err(error),
                    Err(error) => left_out.push((path.display().to_string(), error.to_string())),
                },
                // It may hold files that were read: they are not gone.
                Err(why) if system::passes(why.error()) => {
                    return Err(system::error(format!("{} cannot be looked into", why.path().display()), why.error()));
                }
                Err(why) => {
                    let (path, error) = (why.path().display(), why.error());
                    let needs = format!("the glob {glob:?} needs to look into {path}: {error}; give read permission");
                    left_out.push((path.to_string(), needs));
                }
            }
        }
        any |= !left_out.is_empty();
        self.left_out.extend(left_out);
        Ok(any)
    }

    /// Keeps one name of each file: its own rather than a link's, and the first of several.
    fn unite(&mut self, named: BTreeMap<String, Found>) {
        let mut kept: BTreeMap<FileId, Found> = BTreeMap::new();
        for found in named.into_values() {
            let Some(other) = kept.get_mut(&found.id) else {
                kept.insert(found.id, found);
                continue;
            };
            let is_link = |found: &Found| fs::symlink_metadata(&found.path).is_ok_and(|metadata| metadata.is_symlink());
            let mut second = found;
            if is_link(other) && !is_link(&second) {
                std::mem::swap(other, &mut second);
            }
            self.aliases
                .push(format!("{} and {} are the same file, which is read once, as {}", second.path, other.path, other.path));
        }
        self.files = kept.into_values().collect();
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.by_id = self.files.iter().enumerate().map(|(at, found)| (found.id, at)).collect();
    }

    /// The file with this device and inode.
    pub(super) fn by_id(&self, id: FileId) -> Option<&Found> {
        self.by_id.get(&id).map(|at| &self.files[*at])
    }
}

/// Whether a glob matches this path, without a look at the disk. Of one that is written in another way, such as `./a`, only a listing shows it.
pub(super) fn matches(glob: &str, path: &str) -> bool {
    let plain = |path: &str| path.trim_start_matches("./").to_string();
    let (glob, path) = (&*plain(glob), &*plain(path));
    Pattern::new(glob).is_ok_and(|pattern| pattern.matches_with(path, OPTIONS)) && !is_hidden(glob, Path::new(path))
}

/// Refuses a glob that matches nothing.
pub(super) fn nothing_matches(glob: &str) -> Error {
    let from = match std::env::current_dir() {
        Ok(folder) if Path::new(glob).is_relative() => format!(" (looked from {})", folder.display()),
        _ => String::new(),
    };
    Error::config(format!("no file matches {glob:?}{from}; check the path, or create the file before the start"))
}

const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Returns the regular file at `path`; none for a folder, or for a file that was removed since it was listed.
///
/// # Errors
/// Kind Config: it is no regular file, or may not be looked at; TryAgain: it cannot be looked at now.
pub(super) fn regular(path: &Path) -> Result<Option<Found>> {
    let Some(metadata) = metadata(path)?.filter(|metadata| !metadata.is_dir()) else { return Ok(None) };
    let Some(name) = path.to_str() else { return Err(Error::config(not_text(path))) };
    if !metadata.is_file() {
        return Err(Error::config(format!(
            "{name}: is not a regular file, and cannot be read again after a crash; copy its content into a file"
        )));
    }
    Ok(Some(found(name, &metadata)))
}

/// Returns the regular file at `path`, if there is one.
///
/// # Errors
/// It cannot be looked at, so there may be one: Kind TryAgain if that passes, Config if not. What was read of it is not taken for gone.
pub(super) fn file_at(path: &Path) -> Result<Option<Found>> {
    let metadata = metadata(path)?.filter(Metadata::is_file);
    Ok(metadata.zip(path.to_str()).map(|(metadata, name)| found(name, &metadata)))
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(why) if system::leads_nowhere(&why) => Ok(None),
        Err(why) => Err(system::error(format!("{}: its metadata cannot be read", path.display()), &why)),
    }
}

fn found(name: &str, metadata: &Metadata) -> Found {
    Found { path: name.to_owned(), id: FileId::of(metadata), length: metadata.len(), modified: modified(metadata) }
}

/// The time of the last change, in nanoseconds since 1970.
pub(super) fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// As in a shell, `*`, `?` and `[…]` match no leading dot. The option of the `glob` crate panics on names that are not UTF-8.
fn is_hidden(glob: &str, path: &Path) -> bool {
    let parts = |text: &OsStr| -> Vec<Vec<u8>> {
        let parts = text.as_bytes().split(|byte| *byte == b'/');
        parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
    };
    let (glob, path) = (parts(OsStr::new(glob)), parts(path.as_os_str()));
    let dotted = |part: &Vec<u8>| part.starts_with(b".") && part != b"..";
    let hides = |(of_glob, of_path): (&Vec<u8>, &Vec<u8>)| dotted(of_path) && !of_glob.starts_with(b".");
    let recursive = |part: &Vec<u8>| part == b"**";
    let Some(first) = glob.iter().position(recursive) else {
        return glob.iter().rev().zip(path.iter().rev()).any(hides);
    };
    let last = glob.len() - 1 - glob.iter().rev().position(recursive).expect("there is one");
    let after = glob.len() - 1 - last;
    let Some(middle) = path.get(first..path.len().saturating_sub(after)) else { return false };
    glob[..first].iter().zip(&path).any(hides)
        || middle.iter().any(dotted)
        || glob.iter().rev().zip(path.iter().rev()).take(after).any(hides)
}

/// Names that the `glob` crate passes over in silence.
fn names_that_are_not_text(glob: &str) -> Vec<(String, String)> {
    let path = Path::new(glob);
    let Some(Ok(pattern)) = path.file_name().and_then(OsStr::to_str).map(Pattern::new) else { return Vec::new() };
    if !pattern.as_str().contains(['*', '?', '[']) {
        return Vec::new();
    }
    let folders: Vec<PathBuf> = match path.parent().and_then(Path::to_str) {
        Some("") | None => vec![PathBuf::from(".")],
        Some(parent) => glob::glob(parent).map(|found| found.flatten().collect()).unwrap_or_default(),
    };
    let mut names = Vec::new();
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_none() && pattern.matches_with(&name.to_string_lossy(), OPTIONS) {
            names.push((quote::head(entry.path().as_os_str().as_bytes()), not_text(&entry.path())));
        }
    }
    names
}

fn not_text(path: &Path) -> String {
    format!("{}: the name is not UTF-8; rename the file", quote::head(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{is_hidden, matches};
    use std::path::Path;

    #[test]
    fn a_path_is_matched_as_a_listing_would() {
        assert!(matches("/l/app.log*", "/l/app.log.1") && matches("/l/**/*.log", "/l/a/b.log") && matches("/l/a", "/l/a"));
        assert!(!matches("/l/*", "/l/a/b") && !matches("/l/*", "/l/.a") && !matches("/l/app.log", "/l/app.log.1"));
    }

    #[test]
    fn only_a_literal_dot_matches_a_hidden_name() {
        for (glob, path, hidden) in [
            ("l/*", "l/.a.log.swp", true),
            ("l/*", "l/a", false),
            ("l/.*", "l/.a", false),
            ("/tmp/.x/*", "/tmp/.x/a", false),
            ("/tmp/*/a", "/tmp/.x/a", true),
            ("./l/?a", "l/.a", true),
            ("l/**/*.log", "l/a/b.log", false),
            ("l/**/*.log", "l/.git/b.log", true),
            ("l/**/*.log", "l/a/.b.log", true),
            ("/tmp/.x/**/*", "/tmp/.x/a", false),
        ] {
            assert_eq!(is_hidden(glob, Path::new(path)), hidden, "{glob} {path}");
        }
    }
}
