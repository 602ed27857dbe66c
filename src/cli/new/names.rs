//! Names that a new crate can have: those that cargo takes, and that no dependency has.

use serde::Deserialize;

/// Words of the language, which no crate can be named.
const KEYWORDS: [&str; 52] = [
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Libraries that come with the compiler.
const BUILT_IN: [&str; 5] = ["alloc", "core", "proc_macro", "std", "test"];

/// Folders that cargo makes beside the programs that it builds.
const FOLDERS: [&str; 4] = ["build", "deps", "examples", "incremental"];

/// Names that Windows keeps for devices: the crate could not be checked out there.
const DEVICES: [&str; 6] = ["aux", "com1", "con", "lpt1", "nul", "prn"];

/// The direct dependencies of the crate.
const DEPENDENCIES: [&str; 2] = ["serde", "tidemill"];

/// Packages with their versions, as cargo has written them down.
#[derive(Default, Deserialize)]
pub(super) struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    source: Option<String>,
}

impl Lock {
    /// Reads a `Cargo.lock`. One that cannot be read names nothing.
    pub(super) fn read(text: &str) -> Lock {
        toml::from_str(text).unwrap_or_default()
    }

    /// The packages that come from elsewhere than the folder of the lock.
    pub(super) fn of_others(&self) -> impl Iterator<Item = &str> {
        self.package
            .iter()
            .filter(|package| package.source.is_some())
            .map(|package| package.name.as_str())
    }
}

/// Returns why a crate cannot have this name, if it cannot. `lock` has what it will be built with.
pub(super) fn refusal(name: &str, lock: &Lock) -> Option<String> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if !begins
        || !name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'))
    {
        return Some("begin with a letter, and use letters, digits, _ and - only".into());
    }
    // As its program and its library are called.
    let plain = |name: &str| name.replace('-', "_").to_lowercase();
    let (exact, folded) = (name.replace('-', "_"), plain(name));
    if KEYWORDS.contains(&exact.as_str()) {
        return Some("it is a word of Rust".into());
    }
    if BUILT_IN.contains(&folded.as_str()) {
        return Some("a library of Rust has it".into());
    }
    if FOLDERS.contains(&folded.as_str()) {
        return Some("cargo has a folder of this name where it puts programs".into());
    }
    if DEVICES.contains(&folded.as_str()) {
        return Some("Windows has a device of this name".into());
    }
    let mut dependencies =
        DEPENDENCIES.into_iter().chain(lock.package.iter().map(|package| package.name.as_str()));
    dependencies
        .any(|taken| plain(taken) == folded)
        .then(|| "a crate that Tidemill is built with has it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        let lock = Lock::read(
            "version = 4\n[[package]]\nname = \"crossbeam-channel\"\nversion = \"1.0.0\"\nsource \
             = \"registry\"\n[[package]]\nname = \"tidemill-engine\"\nversion = \"0.1.0\"\n",
        );
        assert_eq!(lock.of_others().collect::<Vec<_>>(), ["crossbeam-channel"]);
        for good in ["orders", "word_count", "a1-b", "builds", "tests", "r"] {
            assert_eq!(refusal(good, &lock), None, "{good}");
        }
        for wrong in [
            "",
            "1st",
            "a b",
            "täglich",
            "a/b",
            ".",
            "_a",
            "-a",
            "tidemill",
            "serde",
            "crossbeam_channel",
            "tidemill-engine",
            "build",
            "deps",
            "examples",
            "incremental",
            "Build",
            "test",
            "core",
            "std",
            "alloc",
            "proc-macro",
            "proc_macro",
            "fn",
            "match",
            "self",
            "Self",
            "async",
            "try",
            "gen",
            "nul",
            "CON",
        ] {
            assert!(refusal(wrong, &lock).is_some(), "{wrong}");
        }
        assert!(Lock::read("not a lock").package.is_empty());
    }
}
