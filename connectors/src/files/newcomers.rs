//! Files that no recorded position is of: new partitions, copies of known ones, and files that
//! cannot be read.

use super::identity::{CONVINCING, Content, Facts, Kinship, Original, identify};
use super::listing::{self, Found, Listing};
use super::locate::{self, Known};
use super::loss;
use super::packed::Compression;
use super::window::WITNESS_BYTES;
use super::witness::{FileWitness, Identity, Witness};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use tidemill_state::{Error, Kind, Position, Result};

/// The decision about a newcomer.
#[derive(Debug)]
pub(super) enum Judgement {
    /// A partition of its own, which begins here.
    Joins(Position),
    /// It is not read, for this reason; because of this known partition, if it is a copy.
    LeftOut(String, Option<String>),
    /// It is not known yet what it is.
    Later,
    /// It takes the place of this known partition's file.
    Replaces(String),
}

/// The known partitions by how their content begins.
pub(super) struct Newcomers<'a> {
    known: Vec<&'a Known>,
    follow: bool,
    lengths: BTreeSet<usize>,
    /// By the checksum over so many first bytes.
    wholes: HashMap<(usize, u64), Vec<usize>>,
    /// The same over 1, 2, 4, … of them, for files that are shorter.
    parts: HashMap<(usize, u32), Vec<usize>>,
}

impl<'a> Newcomers<'a> {
    pub(super) fn new(known: impl Iterator<Item = &'a Known>, follow: bool) -> Newcomers<'a> {
        let known: Vec<&Known> = known.collect();
        let mut newcomers = Newcomers {
            known: Vec::new(),
            follow,
            lengths: BTreeSet::new(),
            wholes: HashMap::new(),
            parts: HashMap::new(),
        };
        for (at, known) in known.iter().enumerate() {
            let begins = &known.witness.begins;
            if begins.length > 0 {
                newcomers.lengths.insert(begins.length);
                newcomers.wholes.entry((begins.length, begins.whole)).or_default().push(at);
                begins.parts().for_each(|part| newcomers.parts.entry(part).or_default().push(at));
            }
        }
        newcomers.known = known;
        newcomers
    }

    /// The known partitions whose content begins as this one, as far as both go.
    fn alike(&self, head: &[u8]) -> Vec<&'a Known> {
        let ours = Identity::of(head);
        let mut alike: Vec<usize> = Vec::new();
        for length in self.lengths.range(..=head.len()) {
            let whole = if *length == ours.length {
                ours.whole
            } else {
                Identity::of(&head[..*length]).whole
            };
            alike.extend(self.wholes.get(&(*length, whole)).into_iter().flatten());
        }
        if let Some(longest) = ours.parts().last() {
            let longer = |at: &&usize| {
                let begins = &self.known[**at].witness.begins;
                begins.length > head.len() && begins.begins_as(head)
            };
            alike.extend(self.parts.get(&longest).into_iter().flatten().filter(longer));
        }
        alike.into_iter().map(|at| self.known[at]).collect()
    }

    /// Decides what comes of a file that no known partition has, and that came first at the path
    /// `first`.
    ///
    /// # Errors
    /// It cannot be read (kind Config), or not now.
    pub(super) fn judge(&self, first: &str, found: &Found, listing: &Listing) -> Result<Judgement> {
        let path = &found.path;
        let (file, head) = locate::open_found(found, 0)?;
        let metadata = file.metadata().map_err(|why| loss::unreadable(path, 0, &why))?;
        if let Some(format) = Compression::unreadable(&head) {
            return Err(Error::config(format!(
                "{path}: is {format} data, which cannot be read; unpack it, or compress it with \
                 gzip or zstd"
            )));
        }
        // It joins with its first whole line, by which it can be told from others.
        if self.follow
            && head.len() < WITNESS_BYTES
            && !head.contains(&b'\n')
            && Compression::recognise(&head).is_none()
        {
            return Ok(Judgement::Later);
        }
        let compression = Compression::recognise(&head);
        // What cannot be decompressed is a copy of nothing: its reader names the place.
        let content = if compression.is_some() {
            locate::known_head(path)?.unwrap_or_default()
        } else {
            head.clone()
        };
        for known in self.alike(&content) {
            match self.kinship(known, found, listing)? {
                Some(Kinship::Copy) => return Ok(copy(path, known)),
                Some(Kinship::Heir) => return Ok(Judgement::Replaces(known.name.clone())),
                Some(Kinship::Remnant) => return Ok(Judgement::Later),
                _ => {}
            }
        }
        if let (Some(compression), true) = (compression, self.follow) {
            return Err(super::opened::followed_compressed(path, compression));
        }
        let mut file = FileWitness::of(path, &metadata, &head[..head.len().min(WITNESS_BYTES)]);
        if path != first
            && let Some(named) =
                listing::file_at(Path::new(first))?.filter(|named| named.id.born != 0)
        {
            file = file.perhaps_copied_from(named.id.born);
        }
        Ok(Judgement::Joins(Witness::of_new(file, &head).position(0)))
    }

    fn kinship(&self, known: &Known, found: &Found, listing: &Listing) -> Result<Option<Kinship>> {
        let original = match known.id().and_then(|id| listing.by_id(id)) {
            Some(original) => Some(original.clone()),
            None => listing::file_at(Path::new(known.path()))?
                .filter(|original| Some(original.id) == known.id()),
        };
        let there = match original
            .map(|original| locate::holds(known, &original).map(|holds| holds.then_some(original)))
        {
            Some(Err(error)) if error.kind() == Kind::TryAgain => return Err(error),
            there => there.and_then(Result::ok).flatten(),
        };
        let (content, original) = match &there {
            Some(original) => match locate::beside_original(&found.path, &original.path)? {
                Ok(content) => (content, Original::There),
                Err(_) => return Ok(None),
            },
            // Its reader still has it, and a start decides: until then nothing that begins as it
            // did is read.
            None => (Content::Prefix, Original::Gone),
        };
        // A followed file is not edited: one that begins as the one before it may have the same
        // headings.
        let same_path = found.path == known.path() && (!self.follow || known.offset >= CONVINCING);
        Ok(Some(identify(Facts { same_inode: false, same_path, original, content })))
    }
}

fn copy(path: &str, known: &Known) -> Judgement {
    let why = format!(
        "{path}: has the content of {}, whose records are read: it is a copy, and is not read",
        known.path()
    );
    Judgement::LeftOut(why, Some(known.name.clone()))
}

/// A name for the partition of the file at `path` that no other has.
pub(super) fn name_for(path: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u64..).map(|number| format!("{path}#{number}"));
    let mut names = std::iter::once(path.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).expect("there are more numbers than partitions")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_the_path_and_a_number_if_it_is_taken() {
        let name = |taken: &[&str]| super::name_for("a.log", |name| taken.contains(&name));
        assert_eq!(name(&[]), "a.log");
        assert_eq!(name(&["a.log"]), "a.log#2");
        assert_eq!(name(&["a.log", "a.log#2"]), "a.log#3");
        assert_eq!(name(&["a.log#2"]), "a.log");
    }
}
