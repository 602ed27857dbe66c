//! Folders with a state and a file sink: made, copied, damaged, and compared before and after a
//! start.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use tidemill_harness::binary::{
    Outcome, Running, TEXTS, counts_are, folder, newest_in, recount, run, texts,
};
use tidemill_state::{Store, Txid};

/// A folder with a state and its file sink.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    /// The bundled texts, counted in 16 batches, folded in part, and stopped.
    pub(crate) fn counted() -> Place {
        // Kept in memory: what is static is never dropped, and its folder would stay behind.
        static COUNTED: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
        let counted = COUNTED.get_or_init(|| {
            let small = ["--max-batch-records", "500", "--fold-bytes", "20KB"];
            // A fold is in the background: on a busy machine the run may be over before there is
            // one, or but one of the first batch.
            let counted = (0..30).find_map(|_| {
                let place = Place { folder: folder() };
                place.run(&[&small[..], &["--input", TEXTS]].concat()).is(
                    "the first run",
                    0,
                    &["16 batches"],
                );
                // Looked at in a copy: this one stays as it was written.
                let folded =
                    Store::inspect(&place.copy().state()).expect("it can be looked at").folded();
                (folded >= Txid(4)).then_some(place)
            });
            let place = counted.expect("more than a tenth is folded, one time in thirty");
            let within = |path: &Path| {
                path.strip_prefix(place.folder.path()).expect("it lies there").to_path_buf()
            };
            let files = files_in(place.folder.path()).into_iter();
            files.map(|path| (within(&path), fs::read(&path).expect("it can be read"))).collect()
        });
        let place = Place { folder: folder() };
        for (path, bytes) in counted {
            let path = place.folder.path().join(path);
            fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a new folder");
            fs::write(path, bytes).expect("it can be written");
        }
        place
    }

    /// An exact copy, as `cp -r` makes it.
    pub(crate) fn copy(&self) -> Place {
        let copy = Place { folder: folder() };
        copy_folder(self.folder.path(), copy.folder.path());
        copy
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    pub(crate) fn marker(&self) -> PathBuf {
        self.folder.path().join("out.jsonl.marker")
    }

    /// What `run` and `check` are told.
    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let [state, out] =
            [self.state(), self.out()].map(|path| path.to_str().expect("UTF-8").to_string());
        let mut arguments = vec!["--state".to_string(), state, "--listen".into(), "none".into()];
        if !more.contains(&"--follow") {
            arguments.push("--exit-at-end".into());
        }
        if !more.contains(&"--out") {
            arguments.extend(["--out".into(), out]);
        }
        arguments.extend(more.iter().map(|more| (*more).to_string()));
        arguments
    }

    pub(crate) fn start(&self, more: &[&str], environment: &[(&str, &str)]) -> Running {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> =
            std::iter::once("run").chain(arguments.iter().map(String::as_str)).collect();
        Running::start_with("word_count", &arguments, environment)
    }

    pub(crate) fn run(&self, more: &[&str]) -> Outcome {
        self.start(more, &[]).wait()
    }

    pub(crate) fn check(&self, more: &[&str]) -> Outcome {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> =
            std::iter::once("check").chain(arguments.iter().map(String::as_str)).collect();
        run("word_count", &arguments)
    }

    /// The files in a folder of the state whose names end so, by name.
    pub(crate) fn files_like(&self, folder: &str, end: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state().join(folder)).expect("the folder is there");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.to_string_lossy().ends_with(end));
        files.sort();
        files
    }

    /// The largest of them.
    pub(crate) fn largest(&self, end: &str) -> PathBuf {
        let files = self.files_like("db", end);
        files
            .into_iter()
            .max_by_key(|file| fs::metadata(file).expect("it is there").len())
            .expect("there is one")
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a new folder");
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

pub(crate) fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).expect("the file is there");
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("it can be written");
}

/// Every file under a folder with the hash of its content, without those that say nothing of the
/// state: locks and RocksDB's own log.
pub(crate) fn content(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = files_in(folder);
    files.retain(|path| {
        let name = path.file_name().expect("it has a name").to_string_lossy();
        !name.to_lowercase().ends_with("lock") && !name.starts_with("LOG")
    });
    let hashed = files.into_iter().map(|path| {
        let mut hash = DefaultHasher::new();
        fs::read(&path).expect("it can be read").hash(&mut hash);
        (path, hash.finish())
    });
    hashed.collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_in(&path)) } else { files.push(path) }
    }
    files
}

/// What a refused start may not touch: the folded values, and the log as far as it was written
/// before. (A store that opens begins a new log file and a new list of files; the old ones stay.)
pub(crate) fn kept(place: &Place) -> BTreeMap<PathBuf, u64> {
    let mut kept = content(place.folder.path());
    kept.retain(|path, _| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("sst" | "log" | "jsonl" | "marker"))
    });
    kept
}

/// How much of a folder a refused start must leave as it was.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Untouched {
    /// All of it.
    All,
    /// All that was written before: the store could be opened.
    Written,
    /// As `Written`, but the sink was claimed by the run: its marker is of the same batch, written
    /// anew.
    Claimed,
}

/// Refused by `check` and by `run`, with the same code and text, and nothing changed by either.
pub(crate) fn refused(
    case: &str,
    place: &Place,
    more: &[&str],
    code: i32,
    parts: &[&str],
    untouched: Untouched,
) {
    let before = match untouched {
        Untouched::All => content(place.folder.path()),
        Untouched::Written | Untouched::Claimed => kept(place),
    };
    let unchanged = |by: &str, but: Option<PathBuf>| {
        let after = content(place.folder.path());
        for (path, hash) in &before {
            if but.as_ref() != Some(path) {
                assert_eq!(after.get(path), Some(hash), "{case}: {by} changed {}", path.display());
            }
        }
        if untouched == Untouched::All {
            assert_eq!(after.len(), before.len(), "{case}: {by} added files: {:?}", after.keys());
        }
    };
    let checked = place.check(more);
    checked.is(&format!("{case}, check"), code, parts);
    unchanged("check", None);
    let ran = place.run(more);
    ran.is(&format!("{case}, run"), code, parts);
    unchanged("run", (untouched == Untouched::Claimed).then(|| place.marker()));
    let error = |outcome: &Outcome| {
        outcome.err.lines().find(|line| line.starts_with("error: ")).map(str::to_string)
    };
    if untouched == Untouched::All {
        assert_eq!(error(&checked), error(&ran), "{case}: check and run must say the same");
    }
    assert_eq!(ran.err.matches("error: ").count(), 1, "{case}: one line says it: {}", ran.err);
}

/// Accepted by `check`, which changes nothing, and by `run`, which ends well.
pub(crate) fn goes_on(case: &str, place: &Place, more: &[&str], parts: &[&str]) {
    let before = kept(place);
    place.check(more).is(&format!("{case}, check"), 0, parts);
    let after = content(place.folder.path());
    for (path, hash) in &before {
        assert_eq!(after.get(path), Some(hash), "{case}: check changed {}", path.display());
    }
    place.run(more).is(&format!("{case}, run"), 0, parts);
}

pub(crate) fn exact(case: &str, place: &Place) {
    let expected = recount([texts().as_str()]);
    counts_are(case, &place.state(), &expected);
    assert_eq!(newest_in(&place.out()), expected, "{case}: the output");
}

pub(crate) fn newest_marker(place: &Place) -> String {
    fs::read_to_string(place.marker()).unwrap_or_default()
}

/// A topology of lines that a test writes.
pub(crate) fn written() -> (Place, PathBuf) {
    let place = Place { folder: folder() };
    let input = place.folder.path().join("lines.txt");
    fs::write(&input, "a b a\nb c\n").expect("it can be written");
    (place, input)
}

pub(crate) fn append(input: &Path, text: &str) {
    fs::write(input, fs::read_to_string(input).expect("it is there") + text)
        .expect("it can be written");
}
