//! The book (`docs/book`): every chapter is in its summary, its code is a documentation test, its
//! links lead to something, and its tables of metrics and settings are complete.

use super::{link_targets, names_in, nothing_in, numbered, prose, read, root};
use std::collections::BTreeSet;
use std::path::Path;

/// The folder of the chapters.
const BOOK: &str = "docs/book/src";

/// Documents that lead to the book, or that it includes.
const BESIDE: [&str; 2] = ["README.md", "docs/errors.md"];

/// The beginning of a link to a file of the repository, as the built book needs it.
const REPOSITORY: &str = "https://github.com/tidemill/tidemill/blob/main/";

/// The longest line of prose, in columns.
const MOST_COLUMNS: usize = 100;

/// Every document of the book, with its path from the top of the repository.
pub(super) fn documents() -> Vec<String> {
    let mut found = Vec::new();
    collect(BOOK, &mut found);
    assert!(found.len() > 20, "the book was found");
    found
}

fn collect(folder: &str, found: &mut Vec<String>) {
    for name in names_in(&root().join(folder)) {
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            collect(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The chapters, named from the folder of the book.
fn chapters() -> BTreeSet<String> {
    let names = documents().into_iter().map(|path| path[BOOK.len() + 1..].to_string());
    names.filter(|name| name != "SUMMARY.md").collect()
}

fn chapter(name: &str) -> String {
    read(&root().join(BOOK).join(name))
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let summary = chapter("SUMMARY.md");
    let listed: Vec<&str> = summary.lines().flat_map(link_targets).collect();
    let names: BTreeSet<String> = listed.iter().map(|name| name.to_string()).collect();
    assert_eq!(listed.len(), names.len(), "a chapter is listed twice");
    assert_eq!(names, chapters(), "listed in SUMMARY.md, and files of {BOOK}");
}

#[test]
fn all_code_of_the_book_is_tested() {
    let modules = read(&root().join("src/book.rs"));
    let tested: BTreeSet<&str> = modules.split('"').filter(|name| name.ends_with(".md")).collect();
    let mut offenders = Vec::new();
    for name in &chapters() {
        let text = chapter(name);
        let blocks = languages(&text);
        for (number, language) in &blocks {
            if language.is_empty() {
                offenders.push(format!("{name}:{number}: a block without a language"));
            }
            if language.starts_with("rust") && language.contains("ignore") {
                offenders.push(format!("{name}:{number}: code that is not compiled"));
            }
        }
        let has_code = blocks.iter().any(|(_, language)| language.starts_with("rust"));
        if has_code != tested.contains(name.as_str()) {
            let wrong = if has_code {
                "its code is not in src/book.rs"
            } else {
                "src/book.rs includes it, and it has no code"
            };
            offenders.push(format!("{name}: {wrong}"));
        }
    }
    nothing_in("code of the book that no test compiles", offenders);
}

#[test]
fn links_of_the_book_lead_to_something() {
    let mut offenders = Vec::new();
    for path in documents().into_iter().chain(BESIDE.map(str::to_owned)) {
        let text = read(&root().join(&path));
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in prose(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if let Err(why) = follow(&path, folder, link) {
                    offenders.push(format!("{path}:{number}: {link}: {why}"));
                }
            }
            let file = included_by(line).filter(|file| !root().join(folder).join(file).exists());
            offenders.extend(file.map(|file| format!("{path}:{number}: {file} is not there")));
        }
    }
    nothing_in("links of the book that lead nowhere", offenders);
}

/// Follows a link of a document: to a file of the repository, and to a heading in it.
fn follow(document: &str, folder: &str, link: &str) -> Result<(), String> {
    if let Some(path) = link.strip_prefix(REPOSITORY) {
        return if root().join(path).exists() {
            Ok(())
        } else {
            Err("no such file of the repository".into())
        };
    }
    if link.contains("://") {
        return Ok(());
    }
    let (path, heading) =
        link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target =
        if path.is_empty() { root().join(document) } else { root().join(folder).join(path) };
    if !target.exists() {
        return Err("no such file".into());
    }
    let in_book = target.canonicalize().is_ok_and(|target| target.starts_with(root().join(BOOK)));
    if document.starts_with(BOOK) && !in_book {
        return Err(format!("the built book has only what is below {BOOK}: write {REPOSITORY}…"));
    }
    match heading {
        Some(heading) if !headings(&included(&target)).contains(heading) => {
            Err("no such heading".into())
        }
        _ => Ok(()),
    }
}

/// The text of a document with the files that it includes.
fn included(document: &Path) -> String {
    let text = read(document);
    let folder = document.parent().expect("a document is in a folder");
    let lines = text.lines().map(|line| {
        let file = included_by(line);
        file.map_or_else(|| line.to_string(), |file| read(&folder.join(file)))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The file that a line includes, as mdBook does it.
fn included_by(line: &str) -> Option<&str> {
    line.strip_prefix("{{#include ")?.strip_suffix("}}")
}

/// The names by which links find the headings of a document.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = prose(text).filter(|(_, line)| line.starts_with('#'));
    titles.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn prose_is_narrow() {
    let mut offenders = Vec::new();
    for path in documents().into_iter().chain(BESIDE.map(str::to_owned)) {
        let text = read(&root().join(&path));
        for (number, line) in prose(&text).filter(|(_, line)| !line.starts_with('|')) {
            if line.chars().count() > MOST_COLUMNS {
                offenders.push(format!("{path}:{number}"));
            }
        }
    }
    nothing_in(&format!("lines of more than {MOST_COLUMNS} columns, outside of tables"), offenders);
}

#[test]
fn the_table_of_metrics_is_complete() {
    let source = read(&root().join("server/src/metrics.rs"));
    let documented: String = source.lines().filter(|line| line.starts_with("//! |")).collect();
    assert_eq!(
        metrics(&chapter("reference/metrics.md")),
        metrics(&documented),
        "the chapter, and server/src/metrics.rs"
    );
}

fn metrics(text: &str) -> BTreeSet<&str> {
    text.split('`').filter(|name| name.starts_with("tidemill_")).collect()
}

#[test]
fn the_table_of_settings_is_complete() {
    let text = chapter("reference/settings.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `--")).collect();
    let source = read(&root().join("src/cli/settings.rs"));
    let mut offenders = Vec::new();
    let mut known = 0;
    let mut description = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            description.push_str(text);
        } else if let Some(variable) =
            line.split("env = \"").nth(1).and_then(|rest| rest.split('"').next())
        {
            known += 1;
            let flag = variable.trim_start_matches("TIDEMILL_").to_lowercase().replace('_', "-");
            let row = rows.iter().find(|row| row.contains(&format!("`{variable}`")));
            let default =
                description.split("[default: ").nth(1).and_then(|rest| rest.split(']').next());
            match row {
                None => offenders.push(format!("{variable} has no row")),
                Some(row) if !row.starts_with(&format!("| `--{flag}")) => {
                    offenders.push(format!("{variable} is not of --{flag}"))
                }
                Some(row) => {
                    let word =
                        default.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
                    offenders.extend(
                        word.filter(|word| !row.contains(*word))
                            .map(|word| format!("--{flag}: the default is {word}")),
                    );
                }
            }
        } else if !line.starts_with("#[") {
            description.clear();
        }
    }
    let variables = rows
        .iter()
        .filter(|row| row.contains("`TIDEMILL_") && !row.contains("`TIDEMILL_KAFKA_"))
        .count();
    assert_eq!(variables, known, "rows with a variable, and variables in src/cli/settings.rs");
    nothing_in("settings that the book has not, or has otherwise", offenders);
}

/// The fenced blocks of a document: the number of the line, and what follows the fence.
fn languages(text: &str) -> Vec<(usize, &str)> {
    let fences = numbered(text)
        .filter_map(|(number, line)| Some((number, line.trim_start().strip_prefix("```")?)));
    fences.step_by(2).collect()
}

#[test]
fn what_a_block_and_a_heading_are() {
    assert_eq!(
        languages("a\n```rust,no_run\nx\n```\n\n```\ny\n```\n"),
        [(2, "rust,no_run"), (6, "")]
    );
    assert_eq!(anchor("HTTP, gRPC, web socket"), "http-grpc-web-socket");
    assert!(headings("# A\n```text\n# b\n```\n## It's `c`\n").iter().eq(["a", "its-c"]));
}
