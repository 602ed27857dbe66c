//! The recorded positions at a start: which file each is of now, what takes the place of one that is
//! gone, and what is lost.

use super::Beginning;
use crate::files::identity::CONVINCING;
use crate::files::listing::{FileId, Found};
use crate::files::locate::{self, Known, Place};
use crate::files::loss::{self, leaves_out, shrunk};
use crate::files::newcomers::name_for;
use crate::files::opened::Opened;
use crate::files::rotated::is_rotated_name;
use crate::files::settings::{Removed, Unreadable};
use crate::files::window::WITNESS_BYTES;
use crate::files::witness::Witness;
use tidemill_engine::source::OnLoss;
use tidemill_state::{Error, Kind, Position, Result};

/// A file that shares so many first bytes with another of the same name is an edited version of
/// that.
const EDITED: usize = 64;

impl Beginning<'_> {
    /// Finds the file of each recorded position: those that are there first, so that no other takes
    /// them.
    pub(super) fn find_recorded(&mut self) -> Result<()> {
        let mut pending = Vec::new();
        for (name, position) in self.recorded {
            let mut known = match Known::read(name, position) {
                Ok(known) => known,
                Err(error) => {
                    self.lose(name, error)?;
                    continue;
                }
            };
            known.witness.ended &= !self.settings.shared.had_more_than(name, known.offset);
            let place = match locate::find(&known, self.listing, &mut self.folders) {
                Err(error) => {
                    self.keep_unread(known, position, error)?;
                    continue;
                }
                Ok(place) => place,
            };
            let is_hidden = matches!(place, Place::Gone) && !self.listing.hidden.is_empty();
            match place {
                Place::Cut(_) | Place::Gone
                    if known.offset == 0 && !self.settings.follow && !is_hidden =>
                {
                    self.renew(known)
                }
                place => {
                    if let Place::There(found) = &place {
                        self.taken.insert(found.id);
                    }
                    pending.push((known, place));
                }
            }
        }
        for (known, place) in pending {
            match place {
                Place::There(found) => self.settle(known, found)?,
                Place::Cut(found) => self.replace(known, Some(&found))?,
                Place::Gone => self.replace(known, None)?,
            }
        }
        Ok(())
    }

    /// A recorded file that cannot be read, or may be where nobody can look, keeps its position:
    /// its reader tries again.
    fn keep_unread(&mut self, known: Known, position: &Position, error: Error) -> Result<()> {
        if !leaves_out(&error) || self.settings.unreadable() == Unreadable::Fail {
            return Err(error);
        }
        self.begun.warnings.push(format!("{error}; it is left out until it can be read"));
        self.taken.extend(known.id());
        self.families.add(&known, known.id().and_then(|id| self.listing.by_id(id)));
        // That it had more than was read is known to this process only: the next start must know it
        // too.
        let is_as_recorded = Witness::read(&known.name, position)?.ended == known.witness.ended;
        let position =
            if is_as_recorded { position.clone() } else { known.witness.position(known.offset) };
        self.begun.partitions.push((known.name.clone(), Some(position)));
        self.settled.push(known);
        Ok(())
    }

    /// A file of which nothing was read is begun as what it is now: it may have been repaired.
    fn renew(&mut self, known: Known) {
        match self.listing.files.iter().find(|found| found.path == known.path()) {
            Some(found) => drop(self.renewed.insert(found.id, known.name)),
            None => {
                self.begun.warnings.push(format!(
                    "{}: is gone, and nothing of it was read: it is forgotten",
                    known.path()
                ));
                self.begun.retired.push(known.name);
            }
        }
    }

    /// A position whose file is there, perhaps under another name.
    fn settle(&mut self, known: Known, found: Found) -> Result<()> {
        let is_renamed = found.path != known.path();
        // Programs that keep the old file as a backup leave a longer copy under its name.
        // One that is followed is not edited, and may begin with the headings of the one before it.
        let is_convincing = !self.settings.follow || known.offset >= CONVINCING;
        if is_renamed
            && is_convincing
            && let Some(copy) = self.listing.files.iter().find(|copy| copy.path == known.path())
            && !self.taken.contains(&copy.id)
            && locate::takes_its_place(&known, copy, &found)?
        {
            return self.inherit(known, copy.clone());
        }
        if is_renamed {
            self.notes.push(format!(
                "{} is {} now, and is read on at byte {}",
                known.path(),
                found.path,
                known.offset
            ));
        }
        self.take(known, found)
    }

    /// A position whose file is not there any more, or has other content: `cut`.
    fn replace(&mut self, known: Known, cut: Option<&Found>) -> Result<()> {
        self.unusual = true;
        let heir = match self.heir(&known) {
            Ok(Some(heir)) => return self.inherit(known, heir),
            // It is not where it was, and may be where nobody can look.
            Ok(None) if cut.is_none() => {
                self.listing.hidden.first().map_or(Ok(()), |hidden| Err(hidden.error.clone()))
            }
            heir => heir.map(drop),
        };
        let copy = if cut.is_some() { self.copied_before_it_was_cut(&known) } else { Ok(None) };
        let position = &self.recorded[&known.name];
        let copy = match (heir, copy) {
            (_, Ok(Some(copy))) => Some(copy),
            (Err(error), _) | (_, Err(error)) if cut.is_some() => return Err(error),
            (Err(error), _) if error.kind() == Kind::Config && self.on_loss != OnLoss::Refuse => {
                // What nobody may look into would keep it for good.
                self.families.add(&known, None);
                self.let_go(&known.name, &error);
                return self.pass_over_remains(&known);
            }
            (Err(error), _) => return self.keep_unread(known, position, error),
            (Ok(()), _) => None,
        };
        let is_changed = match self.is_changed_in_a_new_file(&known) {
            Err(error) if cut.is_none() && leaves_out(&error) => {
                return self.keep_unread(known, position, error);
            }
            is_changed => cut.is_none() && is_changed?,
        };
        self.families.add(&known, None);
        if let Some(copy) = copy {
            // One that no glob matches is not to be taken for a file that was missed.
            if self.listing.by_id(copy).is_none() {
                self.taken.insert(copy);
            }
            self.begun.warnings.push(format!(
                "{}: was cut after it had been copied, and all that the copy has was read, up to \
                 byte {}: what the file has now is read from its beginning",
                known.path(),
                known.offset
            ));
            self.begun.retired.push(known.name.clone());
            return self.pass_over_remains(&known);
        }
        let had_ended = Known::read(&known.name, position)?.witness.ended;
        if cut.is_none() && had_ended && !known.witness.ended && self.on_loss == OnLoss::Refuse {
            // More had come than was recorded. That is recorded first: a start after this one must
            // know it too.
            self.begun
                .partitions
                .push((known.name.clone(), Some(known.witness.position(known.offset))));
            self.settled.push(known);
            return Ok(());
        }
        let Some(error) = self.loss_of(&known, cut, is_changed) else {
            self.begun.warnings.push(locate::forgotten(&known));
            self.begun.retired.push(known.name);
            return Ok(());
        };
        self.lose(&known.name, error)?;
        self.pass_over_remains(&known)
    }

    /// The loss at a file that is not there any more, or has other content: `cut`. None, if it was
    /// read to its end and may be removed.
    fn loss_of(&self, known: &Known, cut: Option<&Found>, is_changed: bool) -> Option<Error> {
        match cut {
            Some(found) if found.length < known.offset => {
                Some(shrunk(&found.path, known.offset, found.length))
            }
            Some(found) => Some(loss::changed(&found.path, known.offset)),
            None if !known.witness.ended => Some(loss::missing(known.path(), known.offset)),
            None if is_changed => Some(loss::changed(known.path(), known.offset)),
            None if self.settings.removed == Removed::Fail => {
                Some(loss::removed(known.path(), known.offset))
            }
            None => None,
        }
    }

    /// The file that takes the place of one that is gone.
    fn heir(&mut self, known: &Known) -> Result<Option<Found>> {
        let beside = known.beside(&mut self.folders);
        let files = self
            .listing
            .files
            .iter()
            .chain(&beside.files)
            .filter(|found| !self.taken.contains(&found.id));
        let heir = locate::heir(known, files)?;
        if heir.is_none() {
            beside.whole()?;
        }
        Ok(heir)
    }

    /// The copy under a rotated name that ends before the position: the program went on writing
    /// while it was made.
    fn copied_before_it_was_cut(&mut self, known: &Known) -> Result<Option<FileId>> {
        if known.offset < CONVINCING || known.witness.begins.length < WITNESS_BYTES {
            return Ok(None);
        }
        let beside = known.beside(&mut self.folders).files;
        let others =
            self.listing.files.iter().chain(&beside).filter(|found| Some(found.id) != known.id());
        let mut rotated = others.filter(|found| {
            !self.taken.contains(&found.id) && is_rotated_name(known.first_path(), &found.path)
        });
        locate::first_prefix(known, &mut rotated)
    }

    /// Returns whether a file was edited by a program that writes a new one and gives it the old
    /// name. Followed files are not edited.
    fn is_changed_in_a_new_file(&self, known: &Known) -> Result<bool> {
        if self.settings.follow {
            return Ok(false);
        }
        let changed = self
            .listing
            .files
            .iter()
            .find(|found| found.path == known.path() && !self.taken.contains(&found.id));
        let head = changed.map(|found| locate::known_head(&found.path)).transpose()?.flatten();
        Ok(head.is_some_and(|head| known.witness.begins.shares(&head) >= EDITED))
    }

    fn inherit(&mut self, known: Known, heir: Found) -> Result<()> {
        self.begun.warnings.push(format!(
            "{} is not there any more, and {} has what was read of it: it is read on there at \
             byte {}",
            known.path(),
            heir.path,
            known.offset
        ));
        self.take(known, heir)
    }

    fn take(&mut self, known: Known, found: Found) -> Result<()> {
        self.taken.insert(found.id);
        self.families.add(&known, Some(&found));
        match known.settled_in(&found) {
            Ok(position) => {
                self.settled.push(Known::read(&known.name, &position)?);
                self.begun.partitions.push((known.name, Some(position)));
                Ok(())
            }
            Err(error) if leaves_out(&error) => {
                let position = &self.recorded[&known.name];
                self.keep_unread(known, position, error)
            }
            Err(error) => self.lose(&known.name, error),
        }
    }

    fn lose(&mut self, name: &str, error: Error) -> Result<()> {
        if error.kind() != Kind::SourceLost || self.on_loss == OnLoss::Refuse {
            return Err(error);
        }
        self.let_go(name, &error);
        Ok(())
    }

    fn let_go(&mut self, name: &str, error: &Error) {
        self.begun.warnings.push(format!("nothing more is read of {name}: {error}"));
        self.begun.retired.push(name.to_owned());
    }

    /// Passes over the remains of a file that is let go of: their present content counts as read,
    /// and is not read again.
    fn pass_over_remains(&mut self, lost: &Known) -> Result<()> {
        let begins = &lost.witness.begins;
        if lost.offset == 0 {
            return Ok(());
        }
        // Also those that no glob matches: one that begins as it did is not a file that was missed.
        let beside = lost.beside(&mut self.folders).files;
        let unmatched = beside.iter().filter(|found| self.listing.by_id(found.id).is_none());
        for found in self.listing.files.iter().chain(unmatched).filter(|found| found.length > 0) {
            let is_listed = self.listing.by_id(found.id).is_some();
            let own = found.path == lost.path()
                || Some(found.id) == lost.id()
                || is_rotated_name(lost.first_path(), &found.path);
            let head = match locate::known_head(&found.path) {
                _ if self.taken.contains(&found.id) => continue,
                Err(error) if own && is_listed => return Err(error),
                // It is of something else, as far as its name shows.
                head => head.ok().flatten().unwrap_or_default(),
            };
            let convincing = begins.length >= WITNESS_BYTES && begins.fits(&head);
            let remains = convincing || (own && begins.begins_as(&head));
            if !remains || !self.taken.insert(found.id) || !is_listed {
                continue;
            }
            self.begun.warnings.push(format!(
                "{}: begins as {} did: all that it has now counts as read, and only what comes \
                 after that is read",
                found.path,
                lost.path()
            ));
            let known = Known { name: found.path.clone(), offset: 0, witness: Witness::default() };
            let position = Opened::open(&known, self.settings).and_then(Opened::pass_over)?;
            let begun = |name: &str| self.begun.partitions.iter().any(|(begun, _)| begun == name);
            let taken = |name: &str| begun(name) || self.recorded.contains_key(name);
            let name =
                if begun(&lost.name) { name_for(&found.path, taken) } else { lost.name.clone() };
            self.begun.retired.retain(|retired| *retired != name);
            self.begun.partitions.push((name, Some(position)));
        }
        Ok(())
    }
}
