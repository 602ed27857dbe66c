//! The files at a start that no recorded position is of.

use super::Beginning;
use crate::files::disk::Hidden;
use crate::files::families::{Families, Missed};
use crate::files::folders::Folders;
use crate::files::listing::Found;
use crate::files::locate::{self, Known};
use crate::files::loss::leaves_out;
use crate::files::newcomers::{Judgement, Newcomers, name_for};
use std::collections::BTreeMap;
use tidemill_state::Result;

impl Beginning<'_> {
    /// Files that no recorded position is of: those that match, then those that were missed.
    pub(super) fn new_files(&mut self, families: &Families) -> Result<()> {
        let follow = self.settings.follow;
        let Missed { files: waiting, unseen } =
            families.missed(self.listing, &mut self.folders, follow);
        self.cannot_see(&unseen)?;
        let mut known = std::mem::take(&mut self.settled);
        let (listing, recorded) = (self.listing, self.begun.partitions.len());
        let newcomers = Newcomers::new(known.iter(), follow);
        let is_waiting = |found: &Found| waiting.iter().any(|(_, missed)| missed.id == found.id);
        for found in listing
            .files
            .iter()
            .filter(|found| !is_waiting(found) && !unseen.contains_key(&found.path))
        {
            self.new_file(&found.path, found, &newcomers)?;
        }
        for (name, position) in &self.begun.partitions[recorded..] {
            known
                .extend(position.as_ref().map(|position| Known::read(name, position)).transpose()?);
        }
        // The folder is listed once more: only then it shows what was copied out of a file before
        // that was read just now.
        let Missed { files: mut missed, unseen } =
            families.missed(listing, &mut Folders::default(), follow);
        self.cannot_see(&unseen)?;
        let new = self.begun.partitions.split_off(recorded);
        self.begun.partitions.extend(
            new.into_iter().filter(|(name, _)| !unseen.contains_key(locate::first_path(name))),
        );
        missed.retain(|(_, found)| is_waiting(found) || listing.by_id(found.id).is_none());
        // One that is compressed by now is read to its end.
        let newcomers = Newcomers::new(known.iter(), false);
        for (path, found) in &missed {
            self.notes
                .push(format!("{}: had the name {path} for a while, and is read", found.path));
            self.new_file(path, found, &newcomers)?;
        }
        Ok(())
    }

    /// Names under which no file is begun now: one that had the name before it may be hidden.
    fn cannot_see(&mut self, unseen: &BTreeMap<String, Hidden>) -> Result<()> {
        unseen.iter().try_for_each(|(name, hidden)| self.leave_out(name, hidden.error.clone()))
    }

    fn new_file(&mut self, path: &str, found: &Found, newcomers: &Newcomers<'_>) -> Result<()> {
        if !self.taken.insert(found.id) {
            return Ok(());
        }
        match newcomers.judge(path, found, self.listing) {
            Ok(Judgement::Joins(position)) => {
                let begun =
                    |name: &str| self.begun.partitions.iter().any(|(begun, _)| begun == name);
                let renewed = self.renewed.remove(&found.id);
                let name = renewed.unwrap_or_else(|| {
                    name_for(path, |name| self.recorded.contains_key(name) || begun(name))
                });
                self.begun.partitions.push((name, Some(position)));
            }
            Ok(Judgement::LeftOut(why, _)) => self.begun.warnings.push(why),
            Ok(Judgement::Later) => {}
            Ok(Judgement::Replaces(name)) => self.begun.warnings.push(format!(
                "{}: has the content of {name} and more, and is not read as long as that file is \
                 there too",
                found.path
            )),
            Err(error) if leaves_out(&error) => self.leave_out(&found.path, error)?,
            // Also one that was removed or renamed since it was listed: it is looked for again.
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
