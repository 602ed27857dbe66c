//! The rules of the house that the compiler does not know: paths named in the documents exist,
//! every source file says what it owns, no file grows too long, and nothing is left half done.

mod api;
mod baseline;
mod book;
mod circles;
mod dependencies;
mod words;

use std::fs;
use std::path::Path;
use tidemill_harness::checkout::root;

/// The documents whose paths and links are checked, beside those of the book and the records of
/// decisions.
const DOCUMENTS: [&str; 8] = [
    "ARCHITECTURE.md",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
    "docs/errors.md",
    "examples/README.md",
    "examples/data/README.md",
];

/// The folder of the records of decisions.
const DECISIONS: &str = "docs/decisions";

/// The most lines that a production file may have, without its tests.
const MOST_LINES: usize = 500;

/// What must not stand in a source file, in two parts, so that this file does not name it.
const HALF_DONE: [(&str, &str); 4] =
    [("todo", "!"), ("unimplemented", "!"), ("FIX", "ME"), ("dbg", "!")];

#[test]
fn every_path_named_in_the_documents_exists() {
    let root = root();
    let top = names_in(&root);
    let sources = sources();
    let mut offenders = Vec::new();
    for document in documents() {
        let text = read(&root.join(&document));
        let folder = Path::new(&document).parent().unwrap_or(Path::new(""));
        for (number, line) in prose(&text) {
            for path in in_backticks(line).filter_map(|quoted| as_path(quoted, &top)) {
                if !root.join(path).exists() && !names_a_source(path, &sources) {
                    offenders.push(format!("{document}:{number}: `{path}`"));
                }
            }
            for link in link_targets(line) {
                if !root.join(folder).join(link).exists() {
                    offenders.push(format!("{document}:{number}: the link to {link}"));
                }
            }
        }
    }
    nothing_in("paths that a document names, but that do not exist", offenders);
}

/// Paths from the top of the repository, or from the `src` of the file's own crate.
#[test]
fn every_path_named_in_the_documentation_of_a_module_exists() {
    let root = root();
    let top = names_in(&root);
    let sources = sources();
    let (mut named, mut offenders) = (0, Vec::new());
    for (file, text) in &sources {
        let of_crate = file.split_once("src/").map_or("", |(before, _)| before);
        for (number, line) in numbered(text).filter(|(_, line)| line.starts_with("//!")) {
            for path in in_backticks(line).filter_map(|quoted| as_path(quoted, &top)) {
                let found =
                    root.join(path).exists() || root.join(of_crate).join("src").join(path).exists();
                named += 1;
                if !found && !names_a_source(path, &sources) {
                    offenders.push(format!("{file}:{number}: `{path}`"));
                }
            }
        }
    }
    nothing_in("paths that the documentation of a module names, but that do not exist", offenders);
    assert!(named > 50, "the documentation was read");
}

#[test]
fn every_decision_is_listed_in_the_architecture() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let listed = |file: &str, title: &str| {
        architecture.contains(&format!("- [{}]({DECISIONS}/{file}) {title}\n", &file[..4]))
    };
    let offenders = names_in(&root().join(DECISIONS)).into_iter().skip(1).filter_map(|file| {
        let text = read(&root().join(DECISIONS).join(&file));
        let heading = text.lines().next().unwrap_or_default();
        let title = heading
            .strip_prefix(&format!("# {}. ", &file[..4]))
            .unwrap_or("a heading with the record's number");
        (!listed(&file, title)).then(|| format!("{file}: {title}"))
    });
    nothing_in("decisions that ARCHITECTURE.md does not list by their title", offenders);
}

#[test]
fn every_example_is_in_their_table() {
    let table = read(&root().join("examples/README.md"));
    let examples =
        names_in(&root().join("examples")).into_iter().filter(|name| name.ends_with(".rs"));
    let offenders = examples.filter(|name| !table.contains(&format!("[`{name}`]({name})")));
    nothing_in("examples without a row in examples/README.md", offenders);
}

#[test]
fn every_source_file_says_what_it_owns() {
    let offenders =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path);
    nothing_in("files that do not open with `//!` and what they own", offenders);
}

#[test]
fn no_production_file_is_too_long() {
    let offenders =
        sources().into_iter().filter(|(path, _)| is_production(path)).filter_map(|(path, text)| {
            let lines = lines_without_tests(&text);
            (lines > MOST_LINES).then(|| format!("{path}: {lines} lines"))
        });
    nothing_in(
        &format!("files of more than {MOST_LINES} lines, not counting their tests"),
        offenders,
    );
}

#[test]
fn nothing_is_left_half_done() {
    let words = HALF_DONE.map(|(head, tail)| format!("{head}{tail}"));
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        for (number, line) in numbered(&text) {
            offenders.extend(
                words
                    .iter()
                    .filter(|word| names_word(line, word))
                    .map(|word| format!("{path}:{number}: {word}")),
            );
        }
    }
    nothing_in("things left half done", offenders);
}

#[test]
fn what_looks_like_a_path() {
    let top = ["state", "engine", "target", "Makefile"].map(str::to_owned);
    let check = |quoted: &str, expected: Option<&str>| {
        assert_eq!(as_path(quoted, &top), expected, "{quoted}");
    };
    check("state/src/lib.rs", Some("state/src/lib.rs"));
    check("state/src/lib.rs:12", Some("state/src/lib.rs"));
    check("state/", Some("state/"));
    check("state/src/*.rs", Some("state/src"));
    check("gone/src/lib.rs", Some("gone/src/lib.rs"));
    check("gone/README.md", Some("gone/README.md"));
    check("commit.rs", Some("commit.rs"));
    check("Makefile", None);
    check("settings.toml", None);
    check("state", None);
    check("target/demo", None);
    check("DIR/CURRENT", None);
    check("<DIR>/settings.toml", None);
    check("/v1/state/counts", None);
    check("state::Store", None);
    check("https://example.org/state/README.md", None);
    check("application/json", None);
    check("state scan NAME --state DIR", None);
}

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_are_there() {
    let told = read(&root().join("server/src/metrics.rs"));
    let known: Vec<&str> = told.split('`').filter(|name| name.starts_with("tidemill_")).collect();
    let mut asked = 0;
    let unknown = names_in(&root().join("deploy")).into_iter().flat_map(|file| {
        let text = read(&root().join("deploy").join(&file));
        let names = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|name| name.starts_with("tidemill_"));
        let unknown = names.filter(|name| {
            asked += 1;
            let of_histogram =
                ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
            !known.contains(name) && !of_histogram.is_some_and(|name| known.contains(&name))
        });
        unknown.map(|name| format!("{file}: {name}")).collect::<Vec<_>>()
    });
    let unknown: Vec<String> = unknown.collect();
    nothing_in("metrics that nobody gives", unknown);
    assert!(asked > 20, "the folder was read");
}

#[test]
fn what_counts_as_a_line() {
    let text = "//! A.\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    // One.\n}\n";
    assert_eq!(lines_without_tests(text), 3);
    assert_eq!(lines_without_tests("//! A.\n#[cfg(test)]\nfn a() {}\n"), 3);
}

/// Fails with all the offenders, if there are any.
fn nothing_in(what: &str, offenders: impl IntoIterator<Item = String>) {
    let offenders: Vec<String> = offenders.into_iter().collect();
    assert!(offenders.is_empty(), "{what}:\n  {}\n", offenders.join("\n  "));
}

/// Every document whose paths and links are checked.
fn documents() -> Vec<String> {
    let decisions =
        names_in(&root().join(DECISIONS)).into_iter().map(|name| format!("{DECISIONS}/{name}"));
    DOCUMENTS.map(str::to_owned).into_iter().chain(decisions).chain(book::documents()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The names in a folder, in order.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let entries = entries.map(|entry| entry.expect("a folder that opened can be listed"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every source file of the repository, with its path from the top and its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", &mut found);
    assert!(
        found.iter().any(|(path, _)| path == "tests/house/main.rs"),
        "the walk over the repository missed this file"
    );
    found
}

/// Walks a folder, given from the top. Hidden folders and what cargo or a package manager made are
/// not the repository's.
fn collect(folder: &str, found: &mut Vec<(String, String)>) {
    let names = names_in(&root().join(folder));
    if names.iter().any(|name| name == "CACHEDIR.TAG") {
        return;
    }
    for name in names {
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let full = root().join(&path);
        if full.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                collect(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push((path, read(&full)));
        }
    }
}

/// Whether a file is part of what users run: tests and benchmarks are not.
fn is_production(path: &str) -> bool {
    !path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
}

/// The number of lines before a trailing `#[cfg(test)] mod tests { … }`. That nothing follows it,
/// clippy checks.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .rposition(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The numbered lines of a document that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    numbered(text).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Whether `word` stands in `line` by itself, not as the end of a longer one.
fn names_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

/// What stands between single backticks.
fn in_backticks(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of the links in a line that point into the repository, without their fragments.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// What a quoted text names in the repository, if it looks like a path of it: it has only the
/// characters of one, and it begins with an entry of the top folder and goes on below it, or it
/// names a source file, or a document or manifest in a folder. Of `a/b/*.rs` the folder counts, of
/// `a.rs:12` the file. What is built, web addresses and placeholders such as `DIR/x` are not.
fn as_path<'a>(quoted: &'a str, top: &[String]) -> Option<&'a str> {
    let characters = |c: char| c.is_ascii_alphanumeric() || "/._-*:".contains(c);
    if quoted.contains("://") || !quoted.chars().all(characters) {
        return None;
    }
    let path = match quoted.split_once('*') {
        Some((before, _)) => before.rsplit_once('/')?.0,
        None => quoted.split(':').next()?,
    };
    let (first, below) = path.split_once('/').map_or((path, false), |(first, _)| (first, true));
    let outside =
        ["", "..", "target"].contains(&first) || first.chars().all(|c| c.is_ascii_uppercase());
    let in_top = below && top.iter().any(|name| name == first);
    let file = path.ends_with(".rs") || below && (path.ends_with(".md") || path.ends_with(".toml"));
    (!outside && (in_top || file)).then_some(path)
}

/// Whether a bare file name such as `commit.rs` is that of a source file, wherever it is.
fn names_a_source(path: &str, sources: &[(String, String)]) -> bool {
    !path.contains('/') && sources.iter().any(|(source, _)| source.rsplit('/').next() == Some(path))
}
