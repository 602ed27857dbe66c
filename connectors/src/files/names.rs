//! The names of a followed file while it is read: whether one still leads to it, and when it ends.

use super::Settings;
use super::folders::Folders;
use super::identity::{CONVINCING, Content};
use super::listing::{self, FileId, Listing};
use super::locate::{self, Known, Place};
use super::shared::Looks;
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Result};

/// How often names are looked at while nothing comes; and those that have led where they lead for a while.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY_AT_LEAST: Duration = Duration::from_secs(5);

/// How long names lead where they lead until they are looked at less often.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The names of a followed file.
pub(super) struct Names {
    /// The one that led to it when it was looked at last.
    pub(super) path: String,
    /// Whether a glob matches that. A file that was found beside its name has none.
    matched: bool,
    pub(super) id: FileId,
    seen: Seen,
    /// Since when nothing has come, and the names have been so; and how often new files had been looked for then.
    since: (Instant, u64),
    /// When they were looked at last; and since when that has shown the same, and nothing has come.
    looked: Instant,
    settled: Instant,
}

/// Where the name of a followed file leads.
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
    /// Whether a glob leads to the file, as of the last look.
    pub(super) fn is_matched(&self) -> bool {
        self.matched && self.seen == Seen::Here
    }

    pub(super) fn new(path: String, id: FileId, looks: &Looks) -> Names {
        let now = Instant::now();
        Names { path, matched: false, id, seen: Seen::Here, since: (now, looks.completed()), looked: now, settled: now }
    }

    /// Whether the last name still leads to the file, and a glob matches it: nothing is to be
    /// looked for then.
    pub(super) fn is_here(&mut self, settings: &Settings) -> bool {
        let globs = &settings.globs;
        let here = listing::regular(Path::new(&self.path)).ok().flatten().is_some_and(|found| found.id == self.id);
        self.matched |= here && globs.iter().any(|glob| listing::matches(glob, &self.path));
        if here && self.matched {
            (self.seen, self.looked) = (Seen::Here, Instant::now());
            self.grew(&settings.shared.looks);
        }
        here && self.matched
    }

    /// Called when something has come.
    pub(super) fn grew(&mut self, looks: &Looks) {
        self.since = (Instant::now(), looks.completed());
        self.settled = self.since.0;
    }

    /// Whether they have led where they lead for a while, and nothing has come.
    pub(super) fn are_settled(&self) -> bool {
        self.settled.elapsed() >= SETTLED_AFTER
    }

    fn look_every(&self, rotated_after: Duration) -> Duration {
        if self.are_settled() { LOOK_EVERY_AT_LEAST } else { LOOK_EVERY.min(rotated_after) }
    }

    /// Whether it is time to look at the names.
    pub(super) fn is_due(&self, rotated_after: Duration) -> bool {
        self.looked.elapsed() >= self.look_every(rotated_after)
    }

    /// Called while nothing comes, with whether any name leads to the file. Returns whether the file, read up to `known`, has
    /// ended: no glob leads to it any more, and nothing has come for `rotated_after`, in which new files were looked for.
    pub(super) fn has_ended(&mut self, settings: &Settings, known: &Known, is_linked: bool) -> Result<bool> {
        let Settings { globs, rotated_after, shared, .. } = settings;
        let looks = &shared.looks;
        // After a pause of the process others must be able to look too before anything ends.
        let paused = self.looked.elapsed() > self.look_every(*rotated_after) + 2 * LOOK_EVERY;
        self.looked = Instant::now();
        let seen = match self.look(settings, known, is_linked) {
            Ok(seen) => seen,
            // Nobody can see where its names lead: it is read on by what is open, and ends later.
            Err(error) if matches!(error.kind(), Kind::TryAgain | Kind::Config) => {
                tracing::debug!(%error, path = self.path, "the names of a followed file cannot be looked at");
                self.since = (self.looked, looks.completed());
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let changed = seen != self.seen;
        self.seen = seen;
        if changed || paused {
            self.grew(looks);
        }
        let (since, completed) = self.since;
        let is_long = since.elapsed() >= *rotated_after && looks.have_seen_since(completed);
        let over = matches!(seen, Seen::Nowhere | Seen::Other) && is_long;
        let replaced = seen == Seen::Other && (over || changed) && is_copy(known, self.name(known))?;
        if replaced && !is_only_headed_alike(globs, known)? {
            return Err(moved(known, self.name(known)));
        }
        Ok(over && !self.is_kept_for_a_copy(settings, known)?)
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
        // A glob may lead to it where nobody can look, if it is not seen where none does.
        if let Some(hidden) = listing.hidden.first().filter(|_| is_linked)
            && !Folders::default().beside(known).files.iter().any(|found| found.id == self.id)
        {
            return Err(hidden.error.clone());
        }
        let named = at(self.name(known))?;
        Ok(named.map_or(Seen::Nowhere, |found| if found.length == 0 { Seen::Empty } else { Seen::Other }))
    }

    /// The last name of it that a glob matched.
    fn name<'a>(&'a self, known: &'a Known) -> &'a str {
        if self.matched { &self.path } else { known.first_path() }
    }

    /// A copy that matches would be read as a new file once this one is forgotten.
    fn is_kept_for_a_copy(&mut self, settings: &Settings, known: &Known) -> Result<bool> {
        let globs = &settings.globs;
        let listing = Listing::of(globs)?;
        let mut copy = None;
        for found in listing.files.iter().filter(|found| found.id != self.id) {
            if is_plain_copy(known, &found.path)? {
                copy = Some(found);
                break;
            }
        }
        let Some(copy) = copy else { return Ok(false) };
        if is_only_headed_alike(globs, known)? {
            return Ok(false);
        }
        self.since = (Instant::now(), settings.shared.looks.completed());
        match locate::find(known, &listing, &mut Folders::default())? {
            Place::There(_) => Ok(true),
            Place::Cut(_) | Place::Gone => Err(moved(known, &copy.path)),
        }
    }
}

/// Returns whether so little was read of the file that another may begin as it does by chance, and it is there itself.
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

/// A compressed file is never read by a source that follows, unless it is all there is of one that was read.
fn is_plain_copy(known: &Known, path: &str) -> Result<bool> {
    Ok(locate::is_plain(path)? == Some(true) && is_copy(known, path)?)
}

/// The file's content is to be read on under another name, in another file.
fn moved(known: &Known, path: &str) -> Error {
    Error::source_lost(format!("{}: is replaced by its copy {path}, at byte {}", known.path(), known.offset)).perhaps_elsewhere()
}
