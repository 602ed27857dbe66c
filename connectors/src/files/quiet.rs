//! When the folders of a source must be looked at again: as long as nothing has changed there, they
//! are not.

use super::expand::expand;
use super::watcher::{
    FolderWatch, LONGEST_REST_OF_LOOKS, REST_OF_LOOKS, Rest, RestingFile, Watcher,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The interval at which the source is polled for new files.
pub(super) const DISCOVER_EVERY: Duration = Duration::from_millis(500);

/// The interval at which folders are looked at that are watched, though nothing has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A watch over all that a look depends on, begun before it.
pub(super) struct Watch(Option<FolderWatch>);

impl Watch {
    /// Over what decides which names these globs match, and what these of them, which are links,
    /// lead to.
    pub(super) fn over(globs: &[String], links: &BTreeSet<PathBuf>) -> Watch {
        let mut folders: BTreeSet<PathBuf> =
            globs.iter().flat_map(|glob| folders_of(glob)).collect();
        links.iter().for_each(|link| add_folders_of_links(link, &mut folders));
        Watch(Watcher::shared().and_then(|watcher| watcher.folders(&folders)))
    }
}

/// The questions that a look has left open.
pub(super) struct Left {
    /// Files of which it is not known yet what they are.
    pub(super) waiting: Vec<RestingFile>,
    /// True if it left another question open.
    pub(super) open: bool,
    /// When the next one must come if nothing is watched: a file must not end before it.
    pub(super) at_most: Duration,
}

/// The time after a look in which another one would find nothing.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    until: Option<Instant>,
    watch: Option<FolderWatch>,
    _waiting: Vec<Rest>,
}

impl Quiet {
    /// After a look that began then. It is over too with a known partition more, or another one.
    pub(super) fn after(began: Instant, watch: Watch, left: Left) -> Quiet {
        let watch = watch.0.filter(|_| !left.open);
        let rests = watch
            .iter()
            .flat_map(|watch| left.waiting.iter().map(|file| watch.also(file.clone())))
            .collect();
        let took = began.elapsed() * if left.open { REST_OF_LOOKS / 10 } else { REST_OF_LOOKS };
        let took = took.min(LONGEST_REST_OF_LOOKS);
        // A look after the usual period is not put off.
        let unwatched = || took.min(left.at_most).saturating_sub(DISCOVER_EVERY);
        let every = if watch.is_some() { LOOK_EVERY.max(took) } else { unwatched() };
        Quiet { until: Some(Instant::now() + every), watch, _waiting: rests }
    }

    /// Returns whether a change would end it.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Returns whether it lasts, as long as the known partitions are the same.
    pub(super) fn lasts(&self) -> bool {
        let unchanged = !self.watch.as_ref().is_some_and(FolderWatch::has_changed);
        unchanged && self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// The folders whose names decide what a glob matches. Where one is not there, the folder in which
/// it would appear.
fn folders_of(glob: &str) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let parent = Path::new(glob).parent().unwrap_or(Path::new(""));
    let is_literal = |part: &Path| !part.to_string_lossy().contains(['*', '?', '[']);
    let parts: Vec<&Path> = parent.ancestors().collect();
    let literal = parts.iter().find(|part| is_literal(part)).copied().unwrap_or(Path::new(""));
    let there = literal.ancestors().find(|part| part.is_dir()).unwrap_or(Path::new("."));
    folders.insert(there.to_owned());
    // What is no glob is an error of the look after it.
    folders.extend(expand(glob).unwrap_or_default().folders);
    // What one of them is called may lead elsewhere.
    for folder in folders.clone() {
        add_folders_of_links(&folder, &mut folders);
    }
    folders
}

/// The most links that a path may lead over, as for the operating system.
const MOST_LINKS: usize = 40;

/// Adds the folders that hold the links in `path`, and that of what it leads to at last.
fn add_folders_of_links(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let is_link =
            |part: &&Path| part.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        let parts: Vec<&Path> = path.ancestors().collect();
        let Some(link) = parts.into_iter().rev().find(is_link) else { return };
        let (Ok(target), Ok(rest)) = (link.read_link(), path.strip_prefix(link)) else { return };
        let holder = folder_of(link);
        let target = holder.join(target);
        path = if rest == Path::new("") { target } else { target.join(rest) };
        folders.insert(holder);
        folders.extend(Some(folder_of(&path)).filter(|folder| folder.is_dir()));
    }
}

fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_folders_of_a_glob_are_those_in_which_names_appear() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("a/x/y")).expect("made");
        fs::create_dir_all(at("b")).expect("made");
        fs::write(at("b/file"), "").expect("written");
        for (glob, expected) in [
            ("a/*.log", &["a"][..]),
            ("a/x/app.log", &["a/x"]),
            ("none/deep/*.log", &[""]),
            ("*/x/*.log", &["", "a", "a/x", "b"]),
            ("a/**/*.log", &["a", "a/x", "a/x/y"]),
        ] {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|path| at(path)).collect();
            let found: BTreeSet<PathBuf> =
                folders_of(at(glob).to_str().expect("UTF-8")).into_iter().collect();
            let same = |folders: &BTreeSet<PathBuf>| {
                folders
                    .iter()
                    .map(|path| path.components().collect())
                    .collect::<BTreeSet<PathBuf>>()
            };
            assert_eq!(same(&found), same(&expected), "{glob}");
        }
        assert_eq!(folders_of("*.log"), BTreeSet::from([PathBuf::from(".")]));
    }

    #[test]
    fn a_folder_without_the_right_to_look_into_it_and_a_cycle_of_links_leave_the_others_watched() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("a/x")).expect("made");
        fs::create_dir_all(at("b")).expect("made");
        ["a/up", "a/x/up", "a/x/again"].iter().for_each(|link| {
            std::os::unix::fs::symlink(at("a"), at(link)).expect("linked");
        });
        let glob = at("**/*.log");
        let folders = || folders_of(glob.to_str().expect("UTF-8"));
        assert_eq!(
            folders(),
            ["", "a", "a/x", "b"]
                .map(|path| folder.path().join(path).components().collect())
                .into()
        );
        let _failing = super::super::disk::fail(&at("b"), rustix::io::Errno::ACCESS);
        assert_eq!(
            folders(),
            ["", "a", "a/x"].map(|path| folder.path().join(path).components().collect()).into()
        );
    }

    #[test]
    fn what_a_link_leads_to_is_watched_where_it_is_and_where_the_link_is() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let root = fs::canonicalize(folder.path()).expect("it is there");
        let at = |path: &str| root.join(path);
        ["logs", "releases/2", "far"]
            .iter()
            .for_each(|path| fs::create_dir_all(at(path)).expect("made"));
        let link = |target: &Path, path: &str| {
            std::os::unix::fs::symlink(target, at(path)).expect("linked")
        };
        link(&at("releases/2"), "current");
        link(Path::new("../far/near.log"), "logs/app.log");
        link(&at("none/app.log"), "logs/dangling.log");
        link(Path::new("turn.log"), "logs/turn.log");
        let below =
            |glob: &str| -> BTreeSet<PathBuf> { folders_of(at(glob).to_str().expect("UTF-8")) };
        assert!(
            below("current/*.log")
                .is_superset(&[at("current"), root.clone(), at("releases")].into())
        );
        let of_links = |name: &str| {
            let mut folders = BTreeSet::new();
            add_folders_of_links(&at(name), &mut folders);
            folders.iter().filter_map(|path| fs::canonicalize(path).ok()).collect::<BTreeSet<_>>()
        };
        assert_eq!(of_links("logs/app.log"), [at("logs"), at("far")].into());
        assert_eq!(of_links("logs/dangling.log"), [at("logs")].into());
        assert_eq!(of_links("logs/turn.log"), [at("logs")].into(), "one that leads to itself");
        assert_eq!(of_links("logs/plain.log"), BTreeSet::new());
        // A file that comes where a link leads to ends it.
        let globs = [at("logs/*").to_str().expect("UTF-8").to_owned()];
        let links = [at("logs/app.log")].into();
        let left = || Left { waiting: Vec::new(), open: false, at_most: Duration::from_secs(1) };
        let quiet = Quiet::after(Instant::now(), Watch::over(&globs, &links), left());
        let long = Quiet { until: Some(Instant::now() + Duration::from_secs(3600)), ..quiet };
        assert!(long.lasts());
        fs::write(at("far/near.log"), "a\n").expect("written");
        let began = Instant::now();
        while long.lasts() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "what the link leads to is not watched"
            );
            std::thread::yield_now();
        }
    }

    #[test]
    fn quiet_ends_with_a_new_name_or_a_line_of_a_file_that_waits() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let globs = [folder.path().join("*").to_str().expect("UTF-8").to_owned()];
        let waits = folder.path().join("waits");
        fs::write(&waits, "no line").expect("written");
        let quiet = |open| {
            let watch = Watch::over(&globs, &BTreeSet::new());
            let found = super::super::listing::regular(&waits)
                .expect("it can be read")
                .expect("it is there");
            let left = Left {
                waiting: vec![RestingFile::of(&found)],
                open,
                at_most: Duration::from_secs(1),
            };
            Quiet::after(Instant::now(), watch, left)
        };
        let ends = |quiet: &Quiet| {
            let began = Instant::now();
            while quiet.lasts() {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "it lasts, whatever has changed"
                );
                std::thread::yield_now();
            }
        };
        assert!(quiet(false).lasts() && !Quiet::default().lasts());
        ends(&quiet(true));
        let left = Left { waiting: Vec::new(), open: false, at_most: Duration::ZERO };
        assert!(!Quiet::after(Instant::now(), Watch(None), left).lasts());
        // Without a change it lasts for seconds: what ends it before is the change.
        let changed = |change: &dyn Fn() -> std::io::Result<()>| {
            let long =
                Quiet { until: Some(Instant::now() + Duration::from_secs(3600)), ..quiet(false) };
            change().expect("written");
            ends(&long);
        };
        changed(&|| fs::write(&waits, "a line\n"));
        changed(&|| fs::write(folder.path().join("new"), "a\n"));
    }
}
