//! From globs to the sorted list of files that are the partitions.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tidemill_state::{Error, Result};

/// The files that match any of the globs, sorted, each once.
pub(super) fn matching(globs: &[String]) -> Result<Vec<String>> {
    if globs.is_empty() {
        return Err(Error::config("the source of files was given no glob; name the files to read"));
    }
    let mut names = Vec::new();
    for glob in globs {
        let before = names.len();
        for found in glob::glob(glob).map_err(|why| Error::config(format!("the glob {glob:?} cannot be understood: {why}")))? {
            let path = found.map_err(|why| {
                Error::config(format!("the glob {glob:?} needs to look into {}: {}", why.path().display(), why.error()))
            })?;
            names.extend(name(&path)?);
        }
        if names.len() == before {
            return Err(nothing_matches(glob));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    names.dedup();
    refuse_aliases(&names)?;
    Ok(names.into_iter().map(|(name, _)| name).collect())
}

/// Device and inode: what a file is, whatever its name.
type Identity = (u64, u64);

/// The partition that `path` is; none for a folder, or for a file that was removed since it was listed.
fn name(path: &Path) -> Result<Option<(String, Identity)>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(None),
        Ok(metadata) => metadata,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(Error::config(format!("{}: cannot be looked at: {why}", path.display()))),
    };
    if !metadata.is_file() {
        return Err(Error::config(format!(
            "{}: is not a regular file, and cannot be read again after a crash; copy its content into a file",
            path.display()
        )));
    }
    let Some(name) = path.to_str() else {
        return Err(Error::config(format!("{}: the name is not UTF-8; rename the file", path.display())));
    };
    Ok(Some((name.to_owned(), (metadata.dev(), metadata.ino()))))
}

/// A file under two names (a link, `a` and `./a`) would be read twice.
fn refuse_aliases(names: &[(String, Identity)]) -> Result<()> {
    let mut seen: HashMap<Identity, &str> = HashMap::with_capacity(names.len());
    for (name, identity) in names {
        if let Some(other) = seen.insert(*identity, name) {
            return Err(Error::config(format!(
                "{other} and {name} are the same file, whose records would be read twice; match it under one name only"
            )));
        }
    }
    Ok(())
}

fn nothing_matches(glob: &str) -> Error {
    let from = match std::env::current_dir() {
        Ok(folder) if Path::new(glob).is_relative() => format!(" (looked from {})", folder.display()),
        _ => String::new(),
    };
    Error::config(format!("no file matches {glob:?}{from}; check the path, or create the file before the start"))
}
