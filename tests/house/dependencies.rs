//! Every dependency of the workspace has its reason in a comment.

/// The table of `Cargo.toml` whose lines need a comment.
const TABLE: &str = "[workspace.dependencies]";

#[test]
fn every_dependency_has_a_comment_with_its_reason() {
    let manifest = crate::read(&crate::root().join("Cargo.toml"));
    crate::nothing_in(
        "dependencies without a comment above or beside them",
        uncommented(&manifest),
    );
    assert!(dependencies(&manifest).count() > 40, "the table was read");
}

#[test]
fn a_dependency_without_a_comment_is_found() {
    let check = |lines: &str, expected: &[&str]| {
        let manifest =
            format!("[package]\nname = \"x\"\n\n{TABLE}\n{lines}\n[features]\nother = []\n");
        assert_eq!(uncommented(&manifest), expected, "{lines}");
    };
    check("# Why.\none = \"1\"\n", &[]);
    check("one = \"1\" # Why.\n", &[]);
    check("# Why.\n# And more.\none = \"1\"\n", &[]);
    check("# Why.\none = \"1\"\ntwo = \"1\"\n", &["two"]);
    check("# Why.\n\none = \"1\"\n", &["one"]);
    check("#\none = \"1\"\n", &["one"]);
    check(
        "# Why.\none = { version = \"1\", features = [\n    \"a\",\n] }\n# Why.\ntwo = \"1\"\n",
        &[],
    );
}

/// Returns the names of the dependencies that have no comment.
fn uncommented(manifest: &str) -> Vec<String> {
    let missing =
        dependencies(manifest).filter(|(above, line)| !is_comment(above) && !line.contains(" # "));
    missing.map(|(_, line)| line.split([' ', '=']).next().unwrap_or_default().to_owned()).collect()
}

/// Returns the first line of each dependency, with the line above it.
fn dependencies(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines: Vec<&str> = manifest.lines().skip_while(|line| *line != TABLE).collect();
    let end = lines
        .iter()
        .skip(1)
        .position(|line| line.starts_with('['))
        .map_or(lines.len(), |at| at + 1);
    let pairs: Vec<(&str, &str)> = lines[..end].windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs
        .into_iter()
        .filter(|(_, line)| line.starts_with(|first: char| first.is_ascii_alphanumeric()))
}

fn is_comment(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|text| !text.trim().is_empty())
}
