//! The names of a followed file while it is read: whether one still leads to it, and when it ends.

use super::folders::Folders;
use super::identity::{CONVINCING, Content};
use super::listing::{self, FileId, Found, Listing};
use super::locate::{self, Form, Known, Place};
use super::settings::Settings;
use super::shared::Looks;
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Result};

/// The interval of looks at the names while no data arrives, and that of names that have settled.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY_AT_LEAST: Duration = Duration::from_secs(5);

/// The time after which unchanged names have settled, and are looked at less often.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The names of a followed file.
pub(super) struct Names {
    /// The one that led to it when it was looked at last.
    pub(super) path: String,
    /// True if a glob matches the path. The path of a file that was found beside its name matches
    /// none.
    matched: bool,
    pub(super) id: FileId,
    seen: Seen,
    /// Since when nothing has come, and the names have been so; and how often new files had been
    /// looked for then.
    since: (Instant, u64),
    /// When they were looked at last; and since when that has shown the same, and nothing has come.
    looked: Instant,
    settled: Instant,
}

/// The target of a followed file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// To the file.
    Here,
    /// To nothing.
    Nowhere,
    /// To a file that has nothing yet: until it has, this one shows where a rotation stands.
    Empty,
    /// To another file.
    Other,
}

impl Names {
    /// Returns whether a glob led to the file at the last look.
    pub(super) fn is_matched(&self) -> bool {
        self.matched && self.seen == Seen::Here
    }

    pub(super) fn new(path: String, id: FileId, looks: &Looks) -> Names {
        let now = Instant::now();
        Names {
            path,
            matched: false,
            id,
            seen: Seen::Here,
            since: (now, looks.completed()),
            looked: now,
            settled: now,
        }
    }

    /// Looks at the last name. Returns whether it still leads to the file and a glob matches it: the
    /// file need not be searched for then.
    pub(super) fn is_here(&mut self, settings: &Settings) -> bool {
        let globs = &settings.globs;
        let here = listing::regular(Path::new(&self.path))
            .ok()
            .flatten()
            .is_some_and(|found| found.id == self.id);
        self.matched |= here && globs.iter().any(|glob| listing::matches(glob, &self.path));
        if here && self.matched {
            (self.seen, self.looked) = (Seen::Here, Instant::now());
            self.grew(&settings.shared.looks);
        }
        here && self.matched
    }

    /// Returns whether the last name leads to the file, or `None` if that cannot be found out.
    pub(super) fn leads_here(&self) -> Option<bool> {
        let found = listing::file_at(Path::new(&self.path)).ok()?;
        Some(found.is_some_and(|found| found.id == self.id))
    }

    /// Called when something has come.
    pub(super) fn grew(&mut self, looks: &Looks) {
        self.since = (Instant::now(), looks.completed());
        self.settled = self.since.0;
    }

    /// Returns whether the names have not changed for [`SETTLED_AFTER`], in which no data arrived.
    pub(super) fn are_settled(&self) -> bool {
        self.settled.elapsed() >= SETTLED_AFTER
    }

    /// Returns whether the name led to an empty file at the last look.
    pub(super) fn have_empty_successor(&self) -> bool {
        self.seen == Seen::Empty
    }

    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        self.settled = self.settled.checked_sub(SETTLED_AFTER).expect("the clock began before");
    }

    fn look_every(&self, rotated_after: Duration) -> Duration {
        if self.are_settled() { LOOK_EVERY_AT_LEAST } else { LOOK_EVERY.min(rotated_after) }
    }

    /// Returns whether the next look at the names is due.
    pub(super) fn is_due(&self, rotated_after: Duration) -> bool {
        self.looked.elapsed() >= self.look_every(rotated_after)
    }

    /// Called while nothing comes, with whether any name leads to the file. Returns whether the
    /// file, read up to `known`, has ended: no glob leads to it any more, and nothing has come for
    /// `rotated_after`, in which new files were looked for.
    pub(super) fn has_ended(
        &mut self,
        settings: &Settings,
        known: &Known,
        is_linked: bool,
    ) -> Result<bool> {
        // After a pause of the process others must be able to look too before anything ends.
        let paused =
            self.looked.elapsed() > self.look_every(settings.rotated_after) + 2 * LOOK_EVERY;
        self.looked = Instant::now();
        match self.end(settings, known, is_linked, paused) {
            // Where the file's names lead, or whether another file is a copy, cannot be seen.
            // Reading continues with the open descriptor, and the file ends later.
            Err(error) if matches!(error.kind(), Kind::TryAgain | Kind::Config) => {
                tracing::debug!(%error, path = self.path, "the names of a followed file cannot be \
                    looked at");
                self.since = (self.looked, settings.shared.looks.completed());
                Ok(false)
            }
            ended => ended,
        }
    }

    fn end(
        &mut self,
        settings: &Settings,
        known: &Known,
        is_linked: bool,
        paused: bool,
    ) -> Result<bool> {
        let Settings { globs, rotated_after, shared, .. } = settings;
        let looks = &shared.looks;
        let seen = self.look(settings, known, is_linked)?;
        let changed = seen != self.seen;
        self.seen = seen;
        if changed || paused {
            self.grew(looks);
        }
        let (since, completed) = self.since;
        let is_long = since.elapsed() >= *rotated_after && looks.have_seen_since(completed);
        let over = matches!(seen, Seen::Nowhere | Seen::Other) && is_long;
        let replaced =
            seen == Seen::Other && (over || changed) && is_copy(known, self.name(known))?;
        if replaced && !is_only_headed_alike(globs, known)? {
            return Err(moved(known, self.name(known)));
        }
        Ok(over && !self.is_kept(settings, known, is_linked)?)
    }

    fn look(&mut self, settings: &Settings, known: &Known, is_linked: bool) -> Result<Seen> {
        let Settings { globs, rotated_after, shared, .. } = settings;
        let at = |path: &str| listing::file_at(Path::new(path));
        if at(&self.path)?.is_some_and(|found| found.id == self.id) {
            self.matched |= globs.iter().any(|glob| listing::matches(glob, &self.path));
            if self.matched {
                return Ok(Seen::Here);
            }
        }
        let listing = shared.listing(globs, self.look_every(*rotated_after) / 2)?;
        if let Some(found) = listing.by_id(self.id) {
            self.path.clone_from(&found.path);
            self.matched = true;
            return Ok(Seen::Here);
        }
        self.check_not_hidden(&listing, known, is_linked)?;
        let named = at(self.name(known))?;
        Ok(named.map_or(
            Seen::Nowhere,
            |found| if found.length == 0 { Seen::Empty } else { Seen::Other },
        ))
    }

    /// The last name of it that a glob matched.
    fn name<'a>(&'a self, known: &'a Known) -> &'a str {
        if self.matched { &self.path } else { known.first_path() }
    }

    /// A glob may lead to it where nobody can look, if it is not seen where none does.
    fn check_not_hidden(&self, listing: &Listing, known: &Known, is_linked: bool) -> Result<()> {
        match listing.hidden.first().filter(|_| is_linked) {
            Some(hidden)
                if !known
                    .beside(&mut Folders::default())
                    .files
                    .iter()
                    .any(|found| found.id == self.id) =>
            {
                Err(hidden.error.clone())
            }
            _ => Ok(()),
        }
    }

    /// Looks once more before it ends: it may have a name again, and a copy that matches would be
    /// read as a new file once this one is forgotten.
    fn is_kept(&mut self, settings: &Settings, known: &Known, is_linked: bool) -> Result<bool> {
        let Settings { globs, shared, .. } = settings;
        let listing = Listing::of(globs)?;
        if listing.by_id(self.id).is_some() {
            self.since = (Instant::now(), shared.looks.completed());
            return Ok(true);
        }
        self.check_not_hidden(&listing, known, is_linked)?;
        let may_be_copy = |found: &&Found| {
            found.length >= known.offset && found.id != self.id && !shared.is_read(found.id)
        };
        let (mut copy, mut failed) = (None, None);
        for found in listing.files.iter().filter(may_be_copy) {
            match is_plain_copy(known, &found.path) {
                Ok(is_copy) => copy = copy.or(is_copy.then_some(found)),
                Err(error) => failed = Some(error),
            }
            if copy.is_some() {
                break;
            }
        }
        // One that cannot be read now may be the copy.
        let Some(copy) = copy else { return failed.map_or(Ok(false), Err) };
        if is_only_headed_alike(globs, known)? {
            return Ok(false);
        }
        self.since = (Instant::now(), shared.looks.completed());
        match locate::find(known, &listing, &mut Folders::default())? {
            Place::There(_) => Ok(true),
            Place::Cut(_) | Place::Gone => Err(moved(known, &copy.path)),
        }
    }
}

/// Returns whether so little was read of the file that another may begin as it does by chance, and
/// it is there itself.
fn is_only_headed_alike(globs: &[String], known: &Known) -> Result<bool> {
    if known.offset >= CONVINCING {
        return Ok(false);
    }
    let place = locate::find(known, &Listing::of(globs)?, &mut Folders::default())?;
    Ok(matches!(place, Place::There(_)))
}

fn is_copy(known: &Known, path: &str) -> Result<bool> {
    Ok(matches!(locate::beside_record(known, path)?, Content::Whole(_)))
}

/// A compressed file is never read by a source that follows, unless it is all there is of one that
/// was read.
fn is_plain_copy(known: &Known, path: &str) -> Result<bool> {
    Ok(locate::form(path)? == Form::Plain && is_copy(known, path)?)
}

/// The error of a file whose content continues under another name, in another file.
fn moved(known: &Known, path: &str) -> Error {
    Error::source_lost(format!(
        "{}: is replaced by its copy {path}, at byte {}",
        known.path(),
        known.offset
    ))
    .perhaps_elsewhere()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Files;
    use tidemill_engine::source::{Records, Source};

    #[test]
    fn a_file_that_has_a_name_again_when_it_would_end_is_kept() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        std::fs::write(at("a.log"), "a\n").expect("written");
        let source = Files::lines(at("*.log")).follow();
        let mut reader = source.open(&at("a.log"), None).expect("opened");
        reader.read(&mut Records::with_limits(1, usize::MAX)).expect("read");
        let known = Known::read(&at("a.log"), &reader.position()).expect("ours");
        let settings = source.settings();
        let id = known.id().expect("it has one");
        let mut names = Names::new(at("a.log"), id, &settings.shared.looks);
        std::fs::rename(at("a.log"), at("b.log")).expect("renamed");
        assert!(names.is_kept(&settings, &known, true).expect("it can look"));
        std::fs::rename(at("b.log"), at("b.old")).expect("renamed");
        assert!(!names.is_kept(&settings, &known, true).expect("it can look"));
    }
}
