//! Files that had one name after the other, and those of them that were missed: they had it while nobody looked.

use super::listing::{Found, Listing};
use super::locate::{self, Folders, Known};
use super::rotated;
use std::collections::BTreeMap;
use tidemill_state::Result;

/// The known files by the path at which they came first.
#[derive(Clone, Debug, Default)]
pub(super) struct Families(BTreeMap<String, Family>);

#[derive(Clone, Debug)]
struct Family {
    one: Known,
    /// The last change and the last birth of any of them.
    modified: i64,
    born: i64,
    /// Whether one of them has the name.
    named: bool,
}

impl Families {
    /// Adds a known file; `found` is where it is, or what has its place. That is what counts then: of a file that was cut, the
    /// recorded change may be one of the content that came after it.
    pub(super) fn add(&mut self, known: &Known, found: Option<&Found>) {
        let Some(file) = &known.witness.file else { return };
        let original = found.filter(|found| found.id == file.id());
        let modified = match (original, found) {
            (Some(original), _) => original.modified.max(file.modified),
            (None, Some(heir)) => heir.modified,
            (None, None) => file.modified,
        };
        let (named, born) = (original.is_some_and(|found| found.path == known.first_path()), file.id().born);
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

    /// Takes those of an earlier look in place of the same of this one.
    pub(super) fn as_before(&mut self, earlier: &Families) {
        self.0.extend(earlier.0.iter().map(|(path, family)| (path.clone(), family.clone())));
    }

    /// The files that had a name and have lost it, with that name, younger than all known ones that had it. One that still matches joins by itself, unless
    /// it is compressed by now and the source follows.
    ///
    /// # Errors
    /// Not all of them can be seen now.
    pub(super) fn missed(&self, listing: &Listing, folders: &mut Folders, follow: bool) -> Result<Vec<(String, Found)>> {
        let mut missed = Vec::new();
        for (path, family) in &self.0 {
            let beside = folders.beside(&family.one)?;
            let target = family.one.witness.file.as_ref().map_or("", |file| &file.real);
            let between = rotated::between(path, target, (family.modified, family.born), &beside);
            missed.extend(between.map(|found| (path.clone(), found.clone())));
        }
        let mut kept = Vec::new();
        for (path, found) in missed {
            let is_missed = match listing.by_id(found.id) {
                None => true,
                Some(found) => follow && locate::is_plain(&found.path)? == Some(false),
            };
            if is_missed {
                kept.push((path, found));
            }
        }
        kept.dedup_by_key(|(_, found)| found.id);
        Ok(kept)
    }
}
