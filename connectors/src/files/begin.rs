//! The start of a source of files: which file each recorded position is of now, and which files are
//! new. `files/begin/recorded.rs` settles the recorded positions, `files/begin/new_files.rs` the new
//! files.

mod new_files;
mod recorded;

use super::families::Families;
use super::folders::Folders;
use super::listing::{self, FileId, Listing};
use super::locate::Known;
use super::look::Look;
use super::settings::{Settings, Unreadable};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tidemill_engine::source::{Begun, OnLoss, Start, StartAt};
use tidemill_state::{Error, Kind, Position, Result};

/// The number of times a start looks, and how long it waits in between, until two looks agree: a
/// rotation under way moves names while they are listed.
const MOST_LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Returns the position at which each partition begins or resumes, and the names that are left out,
/// each with the reason.
pub(super) fn begin(
    settings: &Settings,
    start: &Start<'_>,
) -> Result<(Begun, Vec<(String, String)>)> {
    if start.first.is_some_and(|first| first != StartAt::Earliest) && !start.begun {
        return Err(Error::config(
            "this source can be read from its beginning only: leave --from out, or give --from \
             earliest",
        ));
    }
    let mut before = None;
    for _ in 1..MOST_LOOKS {
        let seen = match look(settings, start) {
            Ok(look) if !look.unusual => return Ok(look.report()),
            Ok(look) if before.as_ref() == Some(&Some(look.seen())) => return Ok(look.report()),
            Ok(look) => Some(look.seen()),
            // A name that leads elsewhere than a moment ago shows a rotation under way, however
            // often.
            Err(error) if error.kind() != Kind::SourceLost => return Err(error),
            Err(error) if before == Some(None) && !error.is_perhaps_elsewhere() => {
                return Err(error);
            }
            Err(_) => None,
        };
        before = Some(seen);
        std::thread::sleep(BETWEEN_LOOKS);
    }
    look(settings, start).map(Look::report)
}

fn look(settings: &Settings, start: &Start<'_>) -> Result<Look> {
    let listing = Listing::of(&settings.globs)?;
    let mut beginning = Beginning {
        settings,
        on_loss: start.on_loss,
        recorded: start.recorded,
        listing: &listing,
        folders: Folders::default(),
        taken: BTreeSet::new(),
        settled: Vec::new(),
        families: Families::default(),
        renewed: BTreeMap::new(),
        left_out: None,
        unreadable: Vec::new(),
        unusual: false,
        notes: listing.aliases.clone(),
        begun: Begun::default(),
    };
    beginning.report_listing(start)?;
    beginning.find_recorded()?;
    let families = std::mem::take(&mut beginning.families).without_name();
    beginning.new_files(&families)?;
    let Beginning { mut begun, taken, mut unusual, notes, renewed, left_out, unreadable, .. } =
        beginning;
    begun.retired.extend(renewed.into_values());
    unusual |= !families.is_empty();
    // More files may come, unless all are named: a path that is wrong, or a right that is missing,
    // is then an error of the first start, unless it was said that it is none.
    let all_named = !settings.globs.iter().any(|glob| glob.contains(['*', '?', '[']));
    match left_out {
        Some(error)
            if begun.partitions.is_empty()
                && start.recorded.is_empty()
                && (!settings.follow || (all_named && settings.unreadable.is_none())) =>
        {
            Err(error)
        }
        _ => Ok(Look { begun, taken, unusual, notes, unreadable }),
    }
}

struct Beginning<'a> {
    settings: &'a Settings,
    on_loss: OnLoss,
    recorded: &'a BTreeMap<String, Position>,
    listing: &'a Listing,
    folders: Folders,
    /// Files that belong to a recorded position.
    taken: BTreeSet<FileId>,
    /// The positions whose files are there.
    settled: Vec<Known>,
    families: Families,
    /// Files that are begun again under a recorded name.
    renewed: BTreeMap<FileId, String>,
    /// The first file that cannot be read.
    left_out: Option<Error>,
    /// All of them by name, each with the reason.
    unreadable: Vec<(String, String)>,
    /// True if a recorded file is not as it was.
    unusual: bool,
    notes: Vec<String>,
    begun: Begun,
}

impl Beginning<'_> {
    /// Reports what matches and is not read, and what matches nothing: an error, unless the others
    /// are read.
    fn report_listing(&mut self, start: &Start<'_>) -> Result<()> {
        for (name, why) in &self.listing.left_out {
            self.leave_out(name, Error::config(why))?;
        }
        for hidden in &self.listing.hidden {
            if hidden.is_folder || !self.is_recorded(&hidden.path) {
                self.leave_out(&hidden.path, hidden.error.clone())?;
            }
        }
        for glob in &self.listing.unmatched {
            let error = listing::nothing_matches(glob);
            // One that is followed may come at any time: a service often starts before the first
            // line of its log.
            if start.recorded.is_empty() && !self.settings.follow {
                return Err(error);
            }
            self.unreadable.push((glob.clone(), error.to_string()));
            self.begun.warnings.push(error.to_string());
        }
        Ok(())
    }

    /// Returns whether a recorded file was seen there last: its reader names what is wrong with it.
    fn is_recorded(&self, path: &str) -> bool {
        self.recorded.iter().any(|(name, position)| {
            Known::read(name, position).is_ok_and(|known| known.path() == path)
        })
    }

    /// One file does not end the run of the others, unless it is to.
    fn leave_out(&mut self, name: &str, error: Error) -> Result<()> {
        if self.settings.unreadable() == Unreadable::Fail {
            return Err(error);
        }
        let why = (name.to_owned(), error.to_string());
        if !self.unreadable.contains(&why) {
            self.unreadable.push(why);
            self.begun.warnings.push(format!("{error}; it is left out"));
            self.left_out.get_or_insert(error);
        }
        Ok(())
    }
}
