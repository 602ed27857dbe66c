//! The files beside one that was read: where rotation leaves it.

use super::disk::{self, Hidden};
use super::listing::{self, Found};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tidemill_state::{Kind, Result};

/// Files by their folders. The files of each folder are listed once.
#[derive(Default)]
pub(super) struct Folders(HashMap<PathBuf, Beside>);

/// The files beside one, and what could not be looked at there.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    pub(super) files: Vec<Found>,
    pub(super) hidden: Vec<Hidden>,
}

impl Beside {
    /// Returns the files, if they are all that there are.
    ///
    /// # Errors
    /// Something could not be looked at: what is not among the files is not taken for gone.
    pub(super) fn whole(self) -> Result<Vec<Found>> {
        self.hidden.into_iter().next().map_or(Ok(self.files), |hidden| Err(hidden.error))
    }
}

impl Folders {
    /// The regular files beside a file, by its path and the one at which it came first, and beside
    /// the path that it linked to; hidden ones left out, unless it is one.
    pub(super) fn beside(&mut self, path: &str, first_path: &str, real: Option<&str>) -> Beside {
        let paths = [Some(path), Some(first_path), real.filter(|real| !real.is_empty())];
        let mut folders: Vec<PathBuf> = paths.into_iter().flatten().filter_map(folder).collect();
        folders.sort_unstable();
        folders.dedup();
        let mut beside = Beside::default();
        for folder in folders {
            let seen = self.0.entry(folder).or_insert_with_key(|folder| settled_files_in(folder));
            beside.files.extend_from_slice(&seen.files);
            beside.hidden.extend_from_slice(&seen.hidden);
        }
        let is_dotted = |path: &str| {
            Path::new(path)
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        };
        if !is_dotted(first_path) {
            beside.files.retain(|found| !is_dotted(&found.path));
            beside.hidden.retain(|hidden| hidden.is_folder || !is_dotted(&hidden.path));
        }
        beside
    }
}

/// The number of times a folder is listed at most, until two lists are the same.
const MOST_LISTINGS: u32 = 10;

/// The regular files in a folder, by their paths. A file that is renamed while its folder is listed
/// may be in the list twice, or not at all: the folder is listed until nothing has moved.
fn settled_files_in(folder: &Path) -> Beside {
    let mut seen = files_in(folder);
    for _ in 1..MOST_LISTINGS {
        let again = files_in(folder);
        let key = |found: &Found| (found.path.clone(), found.id);
        let is_same = again.files.iter().map(key).eq(seen.files.iter().map(key));
        seen = again;
        if is_same {
            break;
        }
    }
    seen
}

fn files_in(folder: &Path) -> Beside {
    let mut seen = Beside::default();
    let entries = disk::entries(folder).unwrap_or_else(|hidden| {
        seen.hidden.push(hidden);
        None
    });
    let plain = folder == Path::new(".");
    for entry in entries.into_iter().flatten() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(why) => {
                seen.hidden.push(Hidden::folder(folder, &why));
                break;
            }
        };
        let kind = entry.file_type();
        let is_link = kind.as_ref().is_ok_and(|kind| kind.is_symlink());
        if kind.is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if plain { PathBuf::from(name) } else { folder.join(name) };
        match listing::file_at(&path) {
            Ok(found) => seen.files.extend(found),
            // A link to where this user may not go leads to no file that was read.
            Err(error) if is_link && error.kind() == Kind::Config => {}
            Err(error) => seen.hidden.push(Hidden::name(&path, error)),
        }
    }
    seen.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    seen
}

fn folder(path: &str) -> Option<PathBuf> {
    let parent = Path::new(path).parent()?;
    Some(if parent == Path::new("") { PathBuf::from(".") } else { parent.to_owned() })
}
