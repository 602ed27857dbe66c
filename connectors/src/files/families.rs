//! Files that had one name after the other, and those of them that were missed: they had it while
//! nobody looked.

use super::disk::Hidden;
use super::folders::Folders;
use super::listing::{Found, Listing};
use super::locate::{self, Form, Known};
use super::rotated;
use std::collections::BTreeMap;
use std::path::Path;

/// The known files by the path at which they came first.
#[derive(Clone, Debug, Default)]
pub(super) struct Families(BTreeMap<String, Family>);

#[derive(Clone, Debug)]
struct Family {
    one: Known,
    /// The last change and the last birth of any of them.
    modified: i64,
    born: i64,
    /// True if one of them has the name.
    named: bool,
}

impl Families {
    /// Adds a known file; `found` is where it is, or what has its place. That is what counts then:
    /// of a file that was cut, the recorded change may be one of the content that came after it.
    pub(super) fn add(&mut self, known: &Known, found: Option<&Found>) {
        let Some(file) = &known.witness.file else { return };
        let original = found.filter(|found| found.id == file.id());
        let modified = match (original, found) {
            (Some(original), _) => original.modified.max(file.modified),
            (None, Some(heir)) => heir.modified,
            (None, None) => file.modified,
        };
        let named = original.is_some_and(|found| found.path == known.first_path());
        let born = file.first_born();
        let family = self.0.entry(known.first_path().to_owned());
        let family = family.or_insert_with(|| Family { one: known.clone(), modified, born, named });
        family.modified = family.modified.max(modified);
        family.born = family.born.max(born);
        family.named |= named;
    }

    /// Keeps those whose name no known file has: another may have had it and lost it.
    pub(super) fn without_name(mut self) -> Families {
        self.0.retain(|_, family| !family.named);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether these are families of the same names.
    pub(super) fn has_same_names(&self, other: &Families) -> bool {
        self.0.keys().eq(other.0.keys())
    }

    /// Takes those of an earlier look in place of the same of this one.
    pub(super) fn as_before(&mut self, earlier: &Families) {
        self.0.extend(earlier.0.iter().map(|(path, family)| (path.clone(), family.clone())));
    }

    /// Returns the files that had a name and have lost it, and are younger than all known files
    /// that had it. A file that still matches joins automatically, unless it is compressed by now
    /// and the source follows.
    pub(super) fn missed(&self, listing: &Listing, folders: &mut Folders, follow: bool) -> Missed {
        let mut missed = Missed::default();
        for (path, family) in &self.0 {
            match family.missed(path, listing, folders, follow) {
                Ok(found) => {
                    missed.files.extend(found.into_iter().map(|found| (path.clone(), found)))
                }
                // If the younger of two joined now, the older would not be looked for any more.
                Err(hidden) => drop(missed.unseen.insert(path.clone(), hidden)),
            }
        }
        missed.files.dedup_by_key(|(_, found)| found.id);
        missed
    }
}

impl Family {
    fn missed(
        &self,
        path: &str,
        listing: &Listing,
        folders: &mut Folders,
        follow: bool,
    ) -> std::result::Result<Vec<Found>, Hidden> {
        let beside = self.one.beside(folders);
        let target = self.one.witness.file.as_ref().map_or("", |file| &file.real);
        let may_be =
            |hidden: &Hidden| hidden.is_folder || rotated::may_have_had(path, target, &hidden.path);
        if let Some(hidden) = beside.hidden.into_iter().find(may_be) {
            return Err(hidden);
        }
        let mut missed = Vec::new();
        for found in rotated::between(path, target, (self.modified, self.born), &beside.files) {
            let is_missed = match listing.by_id(found.id) {
                None => true,
                Some(found) if follow => {
                    let form = locate::form(&found.path);
                    form.map_err(|error| Hidden::name(Path::new(&found.path), error))?
                        == Form::Compressed
                }
                Some(_) => false,
            };
            if is_missed {
                missed.push(found.clone());
            }
        }
        Ok(missed)
    }
}

/// Findings about names that no known file has.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Each with the name that it had.
    pub(super) files: Vec<(String, Found)>,
    /// The names for which something could not be looked at. No file joins under one of them
    /// meanwhile.
    pub(super) unseen: BTreeMap<String, Hidden>,
}
