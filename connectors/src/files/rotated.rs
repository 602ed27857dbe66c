//! Files that had a followed name for a while: what a rotation makes of it.

use super::listing::Found;
use std::path::Path;

/// Returns whether `path` is a name that rotation gives to a file that was `first`: app.log.1,
/// app.log-20260131.gz, app-20260131.log, app.1.log.
pub(super) fn is_rotated_name(first: &str, path: &str) -> bool {
    let name = |path| Path::new(path).file_name().and_then(|name| name.to_str());
    let (Some(first), Some(name)) = (name(first), name(path)) else { return false };
    let name = [".gz", ".zst"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let is_dated = |between: &str| {
        between.bytes().filter(u8::is_ascii_digit).count() >= DATE_DIGITS
            && between.bytes().all(|byte| byte.is_ascii_digit() || b"-_.:T".contains(&byte))
            && between.starts_with(['-', '_', '.'])
    };
    let is_numbered = |between: &str, digits: usize| {
        let number = between.strip_prefix('.').unwrap_or_default();
        (1..=digits).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    if name.strip_prefix(first).is_some_and(|between| is_dated(between) || is_numbered(between, 5))
    {
        return true;
    }
    let Some((stem, extension)) = first.rsplit_once('.') else { return false };
    let between = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension))
        .and_then(|rest| rest.strip_suffix('.'));
    between.is_some_and(|between| is_dated(between) || is_numbered(between, 2))
}

/// The least number of digits of a date, such as 260131: app-8080.log and error-404.log are not
/// rotated files.
const DATE_DIGITS: usize = 6;

/// Returns whether two names differ in their numbers only: the targets of a link that is turned,
/// app-1.log and app-2.log.
fn is_of_the_same_shape(target: &str, path: &str) -> bool {
    let shape = |path| {
        let name: String = Path::new(path).file_name()?.to_str()?.to_owned();
        let digits = name.bytes().filter(u8::is_ascii_digit).count();
        let shape: Vec<String> = name
            .split(|c: char| c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        (digits > 0).then_some(shape)
    };
    shape(target).is_some_and(|shape_of_target| shape(path) == Some(shape_of_target))
}

/// Returns whether a file of this path may have had the name `first`, or may be what that led to as
/// it led to `target`.
pub(super) fn may_have_had(first: &str, target: &str, path: &str) -> bool {
    let name = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
    let is_link = name(first) != name(target) && !is_rotated_name(first, target);
    is_rotated_name(first, path) || (is_link && is_of_the_same_shape(target, path))
}

/// The files that had the name `first`, or that it led to as it led to `target`, after one that was
/// changed and born so: they were changed later, and are no older, if their births are known. A
/// file that was copied and cut is as old as what was read of it. One that lost the name before,
/// and was written on to, is changed later only.
pub(super) fn between<'a>(
    first: &'a str,
    target: &'a str,
    (modified, born): (i64, i64),
    beside: &'a [Found],
) -> impl Iterator<Item = &'a Found> {
    // One that is being compressed has both names.
    let packed =
        |path: &'a str| [".gz", ".zst"].iter().find_map(|suffix| path.strip_suffix(suffix));
    let is_twice = move |path: &'a str| {
        packed(path).is_some_and(|plain| beside.iter().any(|found| found.path == plain))
    };
    let is_no_older = move |found: &Found| born == 0 || found.id.born == 0 || found.id.born >= born;
    let later =
        move |found: &&Found| found.length > 0 && found.modified > modified && is_no_older(found);
    beside
        .iter()
        .filter(later)
        .filter(move |found| may_have_had(first, target, &found.path) && !is_twice(&found.path))
}

#[cfg(test)]
mod tests {
    use super::{between, is_of_the_same_shape, is_rotated_name};
    use crate::files::listing::{FileId, Found};

    #[test]
    fn files_that_had_the_name_later() {
        let file = |path: &str, modified, born| Found {
            path: path.into(),
            id: FileId { born, ..FileId::default() },
            length: 1,
            modified,
        };
        let beside = [
            file("app.log.1", 30, 25),
            // Written on to after it had lost the name: it was read.
            file("app.log.2", 40, 5),
            file("app.log.3", 5, 1),
            file("app.log.4", 30, 0),
            file("app.log.5", 30, 25),
            file("app.log.5.gz", 30, 26),
            file("other.log.1", 30, 25),
        ];
        let paths = |than| -> Vec<&str> {
            between("app.log", "app.log", than, &beside).map(|found| &*found.path).collect()
        };
        assert_eq!(paths((20, 10)), ["app.log.1", "app.log.4", "app.log.5"]);
        assert_eq!(
            paths((20, 0)),
            ["app.log.1", "app.log.2", "app.log.4", "app.log.5"],
            "without births by their times"
        );
    }

    #[test]
    fn targets_of_a_link() {
        assert!(
            is_of_the_same_shape("/l/app-9.log", "l/app-10.log")
                && is_of_the_same_shape("a-2026-01-31", "a-2026-02-01")
        );
        assert!(
            !is_of_the_same_shape("app-9.log", "web-9.log")
                && !is_of_the_same_shape("app.log", "app.log")
        );
        assert!(!is_of_the_same_shape("app-9.log", "app-9.log.gz"));
    }

    #[test]
    fn names_of_rotated_files() {
        for (name, rotated) in [
            ("l/app.log.1", true),
            ("l/app.log.12.gz", true),
            ("l/app.log-20260131", true),
            ("l/app.log-2026-01-31T10:00.zst", true),
            ("l/app-20260131.log", true),
            ("l/app.3.log", true),
            ("l/app-260131.log", true),
            ("l/app.log", false),
            ("l/app.log.bak", false),
            ("l/app.log.old", false),
            ("l/apple.1.log", false),
            ("l/application-2.log", false),
            ("l/app.log1", false),
            ("l/app-8080.log", false),
            ("l/app_2.log", false),
            ("l/app.404.log", false),
            ("l/app.log-2", false),
            ("l/app.log.260131", true),
            ("l/other.log.1", false),
        ] {
            assert_eq!(is_rotated_name("l/app.log", name), rotated, "{name}");
        }
    }
}
