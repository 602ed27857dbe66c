//! From globs to the files that match them, each once, and what is left out.

use super::disk::{self, Hidden};
use super::expand::{Expanded, Name, OPTIONS, expand};
use super::quote;
use glob::Pattern;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tidemill_state::{Error, Result};

/// The identity of a file on its file system, whatever its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// The time of its birth, in nanoseconds since 1970; 0 where there is none. The inode of a
    /// removed file is used again.
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
    /// Paths that could not be looked at. Files that were read may be there: they are not gone.
    pub(super) hidden: Vec<Hidden>,
    /// Names that match and are symbolic links.
    pub(super) links: BTreeSet<PathBuf>,
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
            return Err(Error::config(
                "the source of files was given no glob; name the files to read",
            ));
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
        listing.hidden.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        listing.hidden.dedup_by(|a, b| a.path == b.path);
        listing.unite(named);
        Ok(listing)
    }

    /// Adds the files that a glob matches. Returns whether it matches any name, or may match one
    /// that is hidden.
    fn add(&mut self, glob: &str, named: &mut BTreeMap<String, Found>) -> Result<bool> {
        let Expanded { names, hidden, .. } = expand(glob)?;
        let mut any = !hidden.is_empty();
        self.hidden.extend(hidden);
        for Name { path, is_link } in names {
            if is_link {
                self.links.insert(path.clone());
            }
            match disk::metadata(&path)
                .map(|metadata| metadata.map(|metadata| regular_of(&path, &metadata)))
            {
                Ok(None | Some(Ok(None))) => {}
                Ok(Some(Ok(Some(found)))) => {
                    any = true;
                    named.insert(found.path.clone(), found);
                }
                Ok(Some(Err(error))) => {
                    any = true;
                    let name = path
                        .to_str()
                        .map_or_else(|| quote::head(path.as_os_str().as_bytes()), str::to_owned);
                    self.left_out.push((name, error.to_string()));
                }
                Err(error) => {
                    any = true;
                    self.hidden.push(Hidden::name(&path, error));
                }
            }
        }
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
            let is_link = |found: &Found| {
                fs::symlink_metadata(&found.path).is_ok_and(|metadata| metadata.is_symlink())
            };
            let mut second = found;
            if is_link(other) && !is_link(&second) {
                std::mem::swap(other, &mut second);
            }
            self.aliases.push(format!(
                "{} and {} are the same file, which is read once, as {}",
                second.path, other.path, other.path
            ));
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

/// Returns whether a glob matches this path, without a look at the disk. Of one that is written in
/// another way, such as `./a`, only a listing shows it.
pub(super) fn matches(glob: &str, path: &str) -> bool {
    let plain = |path: &str| path.trim_start_matches("./").to_string();
    let (glob, path) = (&*plain(glob), &*plain(path));
    Pattern::new(glob).is_ok_and(|pattern| pattern.matches_with(path, OPTIONS))
        && !is_hidden(glob, Path::new(path))
}

/// Refuses a glob that matches nothing.
pub(super) fn nothing_matches(glob: &str) -> Error {
    let from = match std::env::current_dir() {
        Ok(folder) if Path::new(glob).is_relative() => {
            format!(" (looked from {})", folder.display())
        }
        _ => String::new(),
    };
    Error::config(format!(
        "no file matches {glob:?}{from}; check the path, or create the file before the start"
    ))
}

/// Returns the regular file at `path`; none for a folder, or for a file that was removed since it
/// was listed.
///
/// # Errors
/// Kind Config: it is no regular file, or may not be looked at; TryAgain: it cannot be looked at
/// now.
pub(super) fn regular(path: &Path) -> Result<Option<Found>> {
    disk::metadata(path)?.map_or(Ok(None), |metadata| regular_of(path, &metadata))
}

fn regular_of(path: &Path, metadata: &Metadata) -> Result<Option<Found>> {
    if metadata.is_dir() {
        return Ok(None);
    }
    let Some(name) = path.to_str() else { return Err(Error::config(not_text(path))) };
    if !metadata.is_file() {
        return Err(Error::config(format!(
            "{name}: is not a regular file, and cannot be read again after a crash; copy its \
             content into a file"
        )));
    }
    Ok(Some(found(name, metadata)))
}

/// Returns the regular file at `path`, if there is one.
///
/// # Errors
/// It cannot be looked at, so there may be one: Kind TryAgain if that passes, Config if not. What
/// was read of it is not taken for gone.
pub(super) fn file_at(path: &Path) -> Result<Option<Found>> {
    let metadata = disk::metadata(path)?.filter(Metadata::is_file);
    Ok(metadata.zip(path.to_str()).map(|(metadata, name)| found(name, &metadata)))
}

fn found(name: &str, metadata: &Metadata) -> Found {
    Found {
        path: name.to_owned(),
        id: FileId::of(metadata),
        length: metadata.len(),
        modified: modified(metadata),
    }
}

/// The time of the last change, in nanoseconds since 1970.
pub(super) fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// As in a shell, `*`, `?` and `[…]` match no leading dot.
fn is_hidden(glob: &str, path: &Path) -> bool {
    let parts = |text: &OsStr| -> Vec<Vec<u8>> {
        let parts = text.as_bytes().split(|byte| *byte == b'/');
        parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
    };
    let (glob, path) = (parts(OsStr::new(glob)), parts(path.as_os_str()));
    let dotted = |part: &Vec<u8>| part.starts_with(b".") && part != b"..";
    let hides =
        |(of_glob, of_path): (&Vec<u8>, &Vec<u8>)| dotted(of_path) && !of_glob.starts_with(b".");
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

fn not_text(path: &Path) -> String {
    format!("{}: the name is not UTF-8; rename the file", quote::head(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{is_hidden, matches};
    use std::path::Path;

    #[test]
    fn a_path_is_matched_as_a_listing_would() {
        assert!(
            matches("/l/app.log*", "/l/app.log.1")
                && matches("/l/**/*.log", "/l/a/b.log")
                && matches("/l/a", "/l/a")
        );
        assert!(
            !matches("/l/*", "/l/a/b")
                && !matches("/l/*", "/l/.a")
                && !matches("/l/app.log", "/l/app.log.1")
        );
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
