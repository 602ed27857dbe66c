//! From a glob to the names that match it, and to what could not be looked at on the way.

use super::disk::{self, Hidden};
use glob::{MatchOptions, Pattern};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tidemill_state::{Error, Kind, Result};

/// A name that matches and is no folder's. One without wildcards in its last part may not be there.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) path: PathBuf,
    pub(super) is_link: bool,
}

/// The paths that a glob leads to.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    pub(super) names: Vec<Name>,
    pub(super) hidden: Vec<Hidden>,
    /// The folders that were looked into, those that nobody may look into left out, and those below
    /// them in which the next part of the glob may appear. What matches changes with the names in
    /// them.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The device and inode of each folder above, within `**`.
    above: Vec<(u64, u64)>,
}

/// Within a part of a path.
pub(super) const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Returns the names that a glob matches. As in a shell, `*`, `?` and `[…]` match no leading dot.
///
/// # Errors
/// Kind Config: it is no glob.
pub(super) fn expand(glob: &str) -> Result<Expanded> {
    let wrong = |why: glob::PatternError| {
        Error::config(format!("the glob {glob:?} cannot be understood: {why}"))
    };
    Pattern::new(glob).map_err(wrong)?;
    let parts = glob.split('/').filter(|part| !part.is_empty()).map(Part::new);
    let parts: Vec<Part> = parts.collect::<std::result::Result<_, _>>().map_err(wrong)?;
    let mut expanded = Expanded::default();
    // A folder is not read.
    if !glob.ends_with('/') {
        expanded.walk(Path::new(if glob.starts_with('/') { "/" } else { "." }), &parts, false);
    }
    Ok(expanded)
}

/// A part of a glob, between two slashes.
enum Part {
    Literal(String),
    Pattern(Pattern),
    /// `**`: any number of folders.
    Folders,
}

impl Part {
    fn new(part: &str) -> std::result::Result<Part, glob::PatternError> {
        Ok(match part {
            "**" => Part::Folders,
            part if part.contains(['*', '?', '[']) => Part::Pattern(Pattern::new(part)?),
            part => Part::Literal(part.to_owned()),
        })
    }

    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Part::Folders => !is_dotted(name),
            Part::Literal(part) => name == OsStr::new(part),
            Part::Pattern(pattern) => {
                let hides = is_dotted(name) && !pattern.as_str().starts_with('.');
                !hides && pattern.matches_with(&name.to_string_lossy(), OPTIONS)
            }
        }
    }
}

fn is_dotted(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

impl Expanded {
    fn walk(&mut self, folder: &Path, parts: &[Part], is_below_pattern: bool) {
        match parts {
            [] | [Part::Folders] => {}
            [Part::Literal(part), rest @ ..] => {
                let path = below(folder, OsStr::new(part));
                if is_below_pattern {
                    self.folders.insert(folder.to_owned());
                }
                if rest.is_empty() {
                    let is_link =
                        path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
                    self.names.push(Name { path, is_link });
                } else {
                    self.walk(&path, rest, is_below_pattern);
                }
            }
            [Part::Folders, rest @ ..] => {
                // A link may lead to a folder that it is in: without an end, and to what is found
                // there anyway.
                let id = disk::metadata(folder)
                    .ok()
                    .flatten()
                    .map(|metadata| (metadata.dev(), metadata.ino()));
                if id.is_some_and(|id| self.above.contains(&id)) {
                    return;
                }
                self.above.extend(id);
                for entry in self.entries(folder) {
                    let path = below(folder, &entry.file_name());
                    if Part::Folders.matches(&entry.file_name()) && self.is_folder(&entry, &path) {
                        self.walk(&path, parts, true);
                    }
                    // Several of them are as one.
                    let after = rest
                        .iter()
                        .position(|part| !matches!(part, Part::Folders))
                        .unwrap_or(rest.len());
                    self.take(&entry, path, &rest[after..]);
                }
                self.above.truncate(self.above.len() - usize::from(id.is_some()));
            }
            [Part::Pattern(_), ..] => {
                for entry in self.entries(folder) {
                    let path = below(folder, &entry.file_name());
                    self.take(&entry, path, parts);
                }
            }
        }
    }

    /// Takes what an entry of a folder leads to, if the first of the parts matches it.
    fn take(&mut self, entry: &DirEntry, path: PathBuf, parts: &[Part]) {
        let [part, rest @ ..] = parts else { return };
        if !part.matches(&entry.file_name()) {
            return;
        }
        if rest.is_empty() {
            let kind = entry.file_type();
            let is_link = kind.as_ref().is_ok_and(|kind| kind.is_symlink());
            self.names
                .extend((!kind.is_ok_and(|kind| kind.is_dir())).then_some(Name { path, is_link }));
        } else if self.is_folder(entry, &path) {
            self.walk(&path, rest, true);
        }
    }

    fn entries(&mut self, folder: &Path) -> Vec<DirEntry> {
        let entries = disk::entries(folder);
        // With the right to look into a folder changes what the one above it has.
        if entries
            .as_ref()
            .map_or_else(|hidden| hidden.error.kind() != Kind::Config, Option::is_some)
        {
            self.folders.insert(folder.to_owned());
        }
        let entries = entries.unwrap_or_else(|hidden| {
            self.hidden.push(hidden);
            None
        });
        let (mut found, mut failed) = (Vec::new(), None);
        for entry in entries.into_iter().flatten() {
            match entry {
                Ok(entry) => found.push(entry),
                Err(why) => failed = Some(Hidden::folder(folder, &why)),
            }
        }
        self.hidden.extend(failed);
        found
    }

    fn is_folder(&mut self, entry: &DirEntry, path: &Path) -> bool {
        match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            _ => match disk::metadata(path) {
                Ok(metadata) => metadata.is_some_and(|metadata| metadata.is_dir()),
                Err(error) => {
                    self.hidden.push(Hidden { is_folder: true, ..Hidden::name(path, error) });
                    false
                }
            },
        }
    }
}

/// Returns the path of a name in a folder. Names in the current folder have no `./` before them.
fn below(folder: &Path, name: &OsStr) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::fs;

    /// The paths that a glob leads to below a folder, and those that were hidden from it.
    fn paths(folder: &Path, glob: &str) -> (Vec<String>, Vec<String>) {
        let glob = format!("{}/{glob}", folder.display());
        let expanded = expand(&glob).expect("a glob");
        let short =
            |path: &Path| path.strip_prefix(folder).expect("it is below").display().to_string();
        let mut names: Vec<String> = expanded.names.iter().map(|name| short(&name.path)).collect();
        names.sort_unstable();
        (names, expanded.hidden.iter().map(|hidden| short(Path::new(&hidden.path))).collect())
    }

    fn make(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::TempDir::new().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, "").expect("written");
        }
        folder
    }

    #[test]
    fn a_glob_leads_to_what_it_leads_to_in_a_shell() {
        let folder = make(&["a.log", ".h.log", "x/a.log", "x/y/b.log", "x/.g/c.log", ".x/d.log"]);
        std::os::unix::fs::symlink("x", folder.path().join("link")).expect("linked");
        for (glob, expected) in [
            ("*.log", &["a.log"][..]),
            (".*.log", &[".h.log"]),
            ("a.log", &["a.log"]),
            ("none/a.log", &["none/a.log"]),
            ("*/", &[]),
            ("x/*", &["x/a.log"]),
            ("?/a.log", &["x/a.log"]),
            ("*/a.log", &["link/a.log", "x/a.log"]),
            ("**/b.log", &["link/y/b.log", "x/y/b.log"]),
            ("x/**/**/*.log", &["x/a.log", "x/y/b.log"]),
            ("**", &[]),
            (".x/*", &[".x/d.log"]),
            ("./[ab].log", &["a.log"]),
        ] {
            assert_eq!(
                paths(folder.path(), glob),
                (expected.iter().map(ToString::to_string).collect(), vec![]),
                "{glob}"
            );
        }
        let outside = |glob: &str| {
            expand(glob)
                .expect("a glob")
                .names
                .into_iter()
                .map(|name| name.path)
                .collect::<Vec<_>>()
        };
        assert_eq!(outside("./Cargo.tom[l]"), [PathBuf::from("Cargo.toml")]);
        assert_eq!(outside("src/./lib.rs"), [PathBuf::from("src/./lib.rs")]);
        assert!(expand("a/[b").is_err() && expand("a**").is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_hides_no_other() {
        let folder = make(&["bad/a.log", "good/a.log", "other/deep/a.log"]);
        let _failing = disk::fail(&folder.path().join("bad"), Errno::ACCESS);
        assert_eq!(
            paths(folder.path(), "*/*.log"),
            (vec!["good/a.log".into()], vec!["bad".into()])
        );
        let deep = ["good/a.log", "other/deep/a.log"].map(String::from).to_vec();
        assert_eq!(paths(folder.path(), "**/*.log"), (deep, vec!["bad".into()]));
        assert_eq!(paths(folder.path(), "good/*.log").1, Vec::<String>::new());
    }

    #[test]
    fn links_to_a_folder_above_end_a_search() {
        let folder = make(&["l/a.log", "l/x/b.log"]);
        for link in ["l/up", "l/again", "l/x/top", "l/x/up"] {
            std::os::unix::fs::symlink(folder.path().join("l"), folder.path().join(link))
                .expect("linked");
        }
        let expected = (vec!["l/a.log".into(), "l/x/b.log".into()], vec![]);
        assert_eq!(paths(folder.path(), "l/**/*.log"), expected);
        assert_eq!(paths(folder.path(), "**/l/**/*.log"), expected);
    }
}
