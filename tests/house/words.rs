//! Ratchets for names and prose: each count may fall, and its bound falls with it, but never rise.
//!
//! A type is a noun of the field: one word that ends in -ed or -ing is a state or an act, and a
//! name that several types have is found together with the others. Documentation begins with the
//! thing or the verb, and is without idioms.

use super::{is_production, lines_without_tests, nothing_in, numbered, sources};
use std::collections::BTreeMap;

/// How many types have a name of one word that ends in -ed or -ing.
const PARTICIPLES: usize = 76;

/// How many names of types are used more than once.
const SHARED_NAMES: usize = 96;

/// How many documentation comments begin with one of [`QUESTION_WORDS`].
const QUESTIONS: usize = 0;

/// How often one of [`IDIOMS`] stands in a comment.
const IDIOMATIC: usize = 0;

/// Nouns and other words that only look like participles.
const NO_PARTICIPLES: [&str; 6] = ["Feed", "Seed", "Thing", "String", "Speed", "Embed"];

const QUESTION_WORDS: [&str; 5] = ["What", "Who", "Whether", "Where", "How"];

/// Words and phrases of a language of its own, each with what the field says.
const IDIOMS: [(&str, &str); 8] = [
    ("is told", "is given, or receives"),
    ("tells", "reports, or sends"),
    ("is asked", "is requested, or is queried"),
    ("made anew", "rebuilt, or recreated"),
    ("goes on", "continues"),
    ("read on", "continued"),
    ("by itself", "automatically"),
    ("at its end", "exhausted, or at the end"),
];

#[test]
fn types_have_names_of_their_own_that_are_nouns() {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, line, _) in production_lines() {
        if let Some(name) = declared_type(&line) {
            names.entry(name.to_owned()).or_default().push(path);
        }
    }
    let is_one_word = |name: &str| name.chars().filter(char::is_ascii_uppercase).count() == 1;
    let looks_so = |name: &str| name.ends_with("ed") || name.ends_with("ing");
    let is_participle =
        |name: &str| is_one_word(name) && looks_so(name) && !NO_PARTICIPLES.contains(&name);
    let of_paths = |(name, paths): (&String, &Vec<String>)| format!("{name}: {}", paths.join(", "));
    let participles = names.iter().filter(|(name, _)| is_participle(name)).map(of_paths);
    ratchet(
        "PARTICIPLES",
        "types that are named by a participle",
        PARTICIPLES,
        participles.collect(),
    );
    let shared = names.iter().filter(|(_, paths)| paths.len() > 1).map(of_paths);
    ratchet("SHARED_NAMES", "names that several types have", SHARED_NAMES, shared.collect());
}

#[test]
fn documentation_begins_with_the_thing_and_is_without_idioms() {
    let (mut questions, mut idiomatic) = (Vec::new(), Vec::new());
    let mut was_documentation = false;
    for (path, line, number) in production_lines() {
        let Some(comment) = comment_of(&line) else {
            was_documentation = false;
            continue;
        };
        let is_documentation = line.trim_start().starts_with("///") || line.starts_with("//!");
        let begins_so = |word: &str| {
            comment.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', ',']))
        };
        if is_documentation
            && !was_documentation
            && QUESTION_WORDS.iter().any(|word| begins_so(word))
        {
            questions.push(format!("{path}:{number}: {comment}"));
        }
        let said = IDIOMS.iter().filter(|(idiom, _)| has_phrase(comment, idiom));
        idiomatic.extend(
            said.map(|(idiom, instead)| format!("{path}:{number}: \"{idiom}\": {instead}")),
        );
        was_documentation = is_documentation;
    }
    ratchet("QUESTIONS", "documentation that begins as a question", QUESTIONS, questions);
    ratchet("IDIOMATIC", "idioms in comments", IDIOMATIC, idiomatic);
}

#[test]
fn what_a_line_declares_and_comments() {
    assert_eq!(declared_type("pub(crate) struct Waiting<T> {"), Some("Waiting"));
    assert_eq!(declared_type("    enum Seen {"), Some("Seen"));
    assert_eq!(declared_type("pub trait Source: Send {"), Some("Source"));
    assert_eq!(declared_type("pub type Read = (u64, u64);"), Some("Read"));
    assert_eq!(
        declared_type("    type Item = Str;"),
        None,
        "an associated type is named by its trait"
    );
    assert_eq!(declared_type("let structure = 1;"), None);
    assert_eq!(comment_of("    /// A word."), Some("A word."));
    assert_eq!(comment_of("//! A word."), Some("A word."));
    assert_eq!(comment_of("let url = \"http://host\";"), None);
    assert!(has_phrase("It is read on.", "read on"));
    assert!(!has_phrase("It is read once.", "read on"));
}

/// Fails if there are more of them than the bound, which the constant `name` is, or fewer: then
/// that is to fall.
fn ratchet(name: &str, what: &str, bound: usize, found: Vec<String>) {
    let count = found.len();
    if count > bound {
        nothing_in(
            &format!(
                "{count} {what}, and {name} allows {bound}: find other words for those that are new"
            ),
            found,
        );
    }
    assert!(
        count == bound,
        "only {count} {what} are left: lower {name} in tests/house/words.rs from {bound} to {count}"
    );
}

/// The lines of the production code without its tests, each with its path and number.
fn production_lines() -> impl Iterator<Item = (String, String, usize)> {
    let is_ours =
        |path: &str| is_production(path) && !path.starts_with("examples/") && path.contains("src/");
    sources().into_iter().filter(move |(path, _)| is_ours(path)).flat_map(|(path, text)| {
        let most = lines_without_tests(&text);
        let lines: Vec<_> = numbered(&text)
            .take(most)
            .map(|(number, line)| (path.clone(), line.to_owned(), number))
            .collect();
        lines
    })
}

/// The name of the type that a line declares.
fn declared_type(line: &str) -> Option<&str> {
    let item = line.trim_start();
    let item = match item.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => item,
    };
    let name = ["struct ", "enum ", "trait ", "union "]
        .iter()
        .find_map(|keyword| item.strip_prefix(keyword));
    // Those in a trait's implementation are indented.
    let name = name.or_else(|| item.strip_prefix("type ").filter(|_| !line.starts_with(' ')))?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
    name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| &name[..end])
}

/// True if the whole words of a phrase stand in a text: "read on" is not in "read once".
fn has_phrase(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        !text[..at].ends_with(char::is_alphanumeric)
            && !text[at + phrase.len()..].starts_with(char::is_alphanumeric)
    })
}

/// The text of a line that is a comment.
fn comment_of(line: &str) -> Option<&str> {
    let comment = line.trim_start().strip_prefix("//")?;
    Some(comment.trim_start_matches(['/', '!']).trim())
}
