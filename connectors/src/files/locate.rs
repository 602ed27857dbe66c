//! Finds the file of a recorded position: under its name, under another name, or as a copy.

use super::disk;
use super::folders::{Beside, Folders};
use super::identity::{Content, Facts, Kinship, Original, identify};
use super::input::{self, Input};
use super::listing::{self, FileId, Found, Listing};
use super::loss::{self, leaves_out, missing, shrunk};
use super::packed::Compression;
use super::running::{sum_of, to_u64};
use super::window::WITNESS_BYTES;
use super::witness::{FileWitness, Identity, Witness};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tidemill_state::{Error, Position, Result, system};

/// A partition, and how far it was read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) witness: Witness,
}

impl Known {
    pub(super) fn read(name: &str, position: &Position) -> Result<Known> {
        let witness = Witness::read(name, position)?;
        Ok(Known { name: name.to_owned(), offset: position.offset, witness })
    }

    pub(super) fn path(&self) -> &str {
        self.witness.path(&self.name)
    }

    /// The regular files beside this one, and beside what its path linked to.
    pub(super) fn beside(&self, folders: &mut Folders) -> Beside {
        let real = self.witness.file.as_ref().map(|file| file.real.as_str());
        folders.beside(self.path(), self.first_path(), real)
    }

    pub(super) fn id(&self) -> Option<FileId> {
        self.witness.file.as_ref().map(FileWitness::id)
    }

    /// The path at which the file came first.
    pub(super) fn first_path(&self) -> &str {
        first_path(&self.name)
    }

    /// The same position in the file at `found`.
    pub(super) fn settled_in(&self, found: &Found) -> Result<Position> {
        let at = self.witness.file.as_ref().map(|file| (file.path.as_str(), file.id()));
        let is_there = at == Some((&found.path, found.id));
        let is_plain = self.witness.file.as_ref().is_some_and(FileWitness::is_plain);
        if is_there && (!is_plain || self.witness.ended == (found.length <= self.offset)) {
            return Ok(self.witness.position(self.offset));
        }
        let (file, head) = open_found(found, self.offset)?;
        let metadata = file.metadata().map_err(|why| loss::unreadable(&found.path, 0, &why))?;
        let mut witness =
            self.witness.clone().in_file(FileWitness::of(&found.path, &metadata, &head));
        let is_plain = Compression::recognise(&head).is_none();
        witness.ended = match is_plain {
            true => found.length <= self.offset,
            false if self.id() == Some(found.id) => self.witness.ended,
            false => unless_it_passes(&found.path, length(&found.path))?
                .is_ok_and(|length| length <= self.offset),
        };
        if witness.sum.is_none() {
            let head = unless_it_passes(&found.path, content_head(&found.path))?;
            witness.begins = head.map(|head| Identity::of(&head)).unwrap_or_default();
            // What cannot be decompressed is found by the reader, which names where.
            let sum = content(&found.path).and_then(|content| sum_of(content, self.offset));
            witness.sum = match unless_it_passes(&found.path, sum)? {
                Ok(None) => return Err(shrunk(&found.path, self.offset, found.length)),
                sum => sum.ok().flatten(),
            };
        }
        Ok(witness.position(self.offset))
    }
}

/// Returns the path at which the file of a partition came first: the partition's name without the
/// number that distinguishes it from another of the same path.
pub(super) fn first_path(partition: &str) -> &str {
    let numbered = partition.rsplit_once('#');
    let numbered = numbered.filter(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    numbered.map_or(partition, |(path, _)| path)
}

/// The present place of a recorded file.
#[derive(Debug)]
pub(super) enum Place {
    /// There, with the content that was read.
    There(Found),
    /// Its inode is there with other content.
    Cut(Found),
    Gone,
}

/// Finds the file of a recorded position: among those that match, then beside where it was.
///
/// # Errors
/// It cannot be read, or is in none of the places that can be looked at, and another cannot be.
pub(super) fn find(known: &Known, listing: &Listing, folders: &mut Folders) -> Result<Place> {
    let found = match known.id() {
        Some(id) => {
            let at_path = listing::file_at(Path::new(known.path()));
            let named = at_path.as_ref().ok().cloned().flatten().filter(|found| found.id == id);
            match named.or_else(|| listing.by_id(id).cloned()) {
                None => {
                    at_path?;
                    let beside = known.beside(folders);
                    match beside.files.iter().find(|found| found.id == id) {
                        None => beside.whole().map(|_| None)?,
                        found => found.cloned(),
                    }
                }
                found => found,
            }
        }
        None => listing::regular(Path::new(known.path()))?,
    };
    let Some(found) = found else { return Ok(Place::Gone) };
    Ok(if holds(known, &found)? { Place::There(found) } else { Place::Cut(found) })
}

/// Returns whether the file holds what was read, as far as that takes no decompression.
pub(super) fn holds(known: &Known, found: &Found) -> Result<bool> {
    let (file, head) = open_found(found, known.offset)?;
    if !known.witness.fits(&head) {
        return Ok(false);
    }
    if Compression::recognise(&head).is_some() {
        return Ok(true);
    }
    if found.length < known.offset {
        return Ok(false);
    }
    let (head, tail) = input::ends(&found.path, &file, known.offset)?;
    Ok(known.offset == 0 || known.witness.has_ends(&head, &tail))
}

/// Returns the content of a file beside what is recorded of one that is gone. A file that may not
/// be read, or not to its end, is another one.
///
/// # Errors
/// Kind TryAgain: it cannot be read now, so it may be the same.
pub(super) fn beside_record(known: &Known, path: &str) -> Result<Content> {
    Ok(unless_it_passes(path, read_beside_record(known, path))?.unwrap_or(Content::Other))
}

/// Returns what came of a read of the file at `path`.
///
/// # Errors
/// Kind TryAgain: it failed for a reason that passes, and shows nothing of the file.
pub(super) fn unless_it_passes<T>(path: &str, read: io::Result<T>) -> Result<io::Result<T>> {
    match read {
        Err(why) if system::passes(&why) => Err(loss::unreadable(path, 0, &why)),
        read => Ok(read),
    }
}

fn read_beside_record(known: &Known, path: &str) -> io::Result<Content> {
    let first = content_head(path)?;
    if first.is_empty() {
        return Ok(Content::Empty);
    }
    let (witness, offset) = (&known.witness, known.offset);
    if !witness.begins.fits(&first) {
        return Ok(if witness.begins.begins_as(&first) { Content::Prefix } else { Content::Other });
    }
    let Some(file) = &witness.file else {
        return beside_old_record(known, path);
    };
    // Under another name a common heading is not enough: what came after it must be there too.
    if let (Some(unread), true) = (&witness.unread, path != known.path())
        && !unread.fits(&first)
    {
        return Ok(if unread.begins_as(&first) { Content::Prefix } else { Content::Other });
    }
    if offset == 0 && witness.begins.length == 0 {
        return Ok(Content::Other);
    }
    // Under its own name it may be repaired, where reading ended for what came next.
    let at_least =
        if file.is_plain() && path != known.path() { file.length.max(offset) } else { offset };
    if offset > 0 && sum_of(content(path)?, offset)? != witness.sum {
        return Ok(if length(path)? < offset { Content::Prefix } else { Content::Other });
    }
    Ok(if length(path)? < at_least { Content::Prefix } else { Content::Whole(at_least) })
}

/// A position of the format before remembers the first and the last bytes only.
fn beside_old_record(known: &Known, path: &str) -> io::Result<Content> {
    let file = disk::open(Path::new(path))?;
    let offset = known.offset;
    let failed = |why: Error| io::Error::other(why.to_string());
    let plain = Compression::recognise(&content_head(path)?).is_none();
    if !plain || offset == 0 || file.metadata()?.len() < offset {
        return Ok(Content::Other);
    }
    let (head, tail) = input::ends(path, &file, offset).map_err(failed)?;
    Ok(if known.witness.has_ends(&head, &tail) { Content::Whole(offset) } else { Content::Other })
}

/// Returns the content of the file at `path` beside that of the original.
///
/// # Errors
/// Kind TryAgain: one of them cannot be read now. The inner error is that of one that cannot be
/// read at all.
pub(super) fn beside_original(path: &str, original: &str) -> Result<io::Result<Content>> {
    unless_it_passes(path, read_beside_original(path, original))
}

fn read_beside_original(path: &str, original: &str) -> io::Result<Content> {
    let (mut ours, mut theirs) = (content(path)?, content(original)?);
    let mut common = 0_u64;
    loop {
        let (a, b) = (read_block(&mut ours)?, read_block(&mut theirs)?);
        let length = a.len().min(b.len());
        if a[..length] != b[..length] {
            return Ok(Content::Other);
        }
        common += to_u64(length);
        let (ours_ended, theirs_ended) = (a.len() < BLOCK && a.len() <= b.len(), b.len() < a.len());
        match (ours_ended, theirs_ended) {
            (true, _) => return Ok(if common == 0 { Content::Empty } else { Content::Prefix }),
            (_, true) => {
                return Ok(if common == 0 { Content::Other } else { Content::Whole(common) });
            }
            _ => {}
        }
    }
}

const BLOCK: usize = 64 << 10;

fn read_block(content: &mut Input) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK);
    content.take(to_u64(BLOCK)).read_to_end(&mut block)?;
    Ok(block)
}

fn length(path: &str) -> io::Result<u64> {
    match content(path)? {
        Input::Plain(file) => Ok(file.metadata()?.len()),
        mut packed => io::copy(&mut packed, &mut io::sink()),
    }
}

/// The content of a file from its beginning.
fn content(path: &str) -> io::Result<Input> {
    let file = disk::open(Path::new(path))?;
    let mut head = [0; 4];
    let have = std::os::unix::fs::FileExt::read_at(&file, &mut head, 0)?;
    Ok(Input::new(file, Compression::recognise(&head[..have])))
}

/// The first up to 4 KiB of the content.
pub(super) fn content_head(path: &str) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(WITNESS_BYTES);
    content(path)?.take(to_u64(WITNESS_BYTES)).read_to_end(&mut head)?;
    Ok(head)
}

/// The file that takes the place of one that is gone: among `files`, one that has all that is known
/// of it.
///
/// # Errors
/// One of them cannot be read, which may be it, and no other has its place.
pub(super) fn heir<'a>(
    known: &Known,
    files: impl Iterator<Item = &'a Found>,
) -> Result<Option<Found>> {
    let is_kin = |found: &Found| {
        let content = beside_record(known, &found.path)?;
        let (same_inode, same_path) = (known.id() == Some(found.id), found.path == known.path());
        // Names may have moved meanwhile.
        let unmoved =
            listing::file_at(Path::new(&found.path))?.is_some_and(|now| now.id == found.id);
        Ok(identify(Facts { same_inode, same_path, original: Original::Gone, content })
            == Kinship::Heir
            && unmoved)
    };
    // Under its own name first, then where rotation leaves it: app.log.1, app.log.1.gz.
    let rank =
        |found: &Found| (found.path != known.path(), !found.path.starts_with(known.first_path()));
    let mut kin = Vec::new();
    let mut failed = None;
    for found in files.filter(|found| found.length > 0) {
        match is_kin(found) {
            Ok(true) => kin.push(found),
            Ok(false) => {}
            Err(error) if failed.as_ref().is_none_or(|(other, _)| rank(found) < *other) => {
                failed = Some((rank(found), error))
            }
            Err(_) => {}
        }
    }
    match (kin.into_iter().min_by_key(|found| (rank(found), &found.path)), failed) {
        (Some(heir), Some((other, error))) if other < rank(heir) => Err(error),
        (None, Some((_, error))) => Err(error),
        (heir, _) => Ok(heir.cloned()),
    }
}

/// Returns whether a copy under the old name of a renamed file takes the file's place. A copy that
/// cannot be read does not: reading continues in the file.
pub(super) fn takes_its_place(known: &Known, copy: &Found, original: &Found) -> Result<bool> {
    match heir(known, std::iter::once(copy))
        .and_then(|heir| Ok(heir.is_some() && has_all_of(copy, original)?))
    {
        Err(error) if leaves_out(&error) => Ok(false),
        takes => takes,
    }
}

/// Returns whether a copy has all content of its original, also what was not read.
fn has_all_of(copy: &Found, original: &Found) -> Result<bool> {
    Ok(match beside_original(&copy.path, &original.path)? {
        Ok(Content::Whole(_)) => true,
        Ok(Content::Prefix) => copy.length >= original.length,
        _ => false,
    })
}

/// The first of `files` that has the beginning of one that is gone, and no more.
///
/// # Errors
/// One of them cannot be read, which may be it, and no other is.
pub(super) fn first_prefix(
    known: &Known,
    files: &mut dyn Iterator<Item = &Found>,
) -> Result<Option<FileId>> {
    let mut failed = None;
    for found in files {
        match beside_record(known, &found.path) {
            Ok(Content::Prefix) => return Ok(Some(found.id)),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Opens a file, and reads the first up to 4 KiB that it has on disk.
pub(super) fn open(path: &str, offset: u64) -> Result<(File, Vec<u8>)> {
    let file = disk::open(Path::new(path)).map_err(|why| cannot_open(path, offset, &why))?;
    let head = input::bytes_at(path, &file, 0, WITNESS_BYTES)?;
    Ok((file, head))
}

/// Opens a file that was found under its path, if that still leads to it.
pub(super) fn open_found(found: &Found, offset: u64) -> Result<(File, Vec<u8>)> {
    let (file, head) = open(&found.path, offset)?;
    let metadata = file.metadata().map_err(|why| loss::unreadable(&found.path, offset, &why))?;
    if FileId::of(&metadata) == found.id {
        return Ok((file, head));
    }
    Err(Error::source_lost(format!(
        "{}: leads to another file than a moment ago; start again",
        found.path
    ))
    .perhaps_elsewhere())
}

/// Returns whether the file of a position is where its reader finds it.
pub(super) fn is_beside(known: &Known) -> bool {
    known.beside(&mut Folders::default()).files.iter().any(|found| Some(found.id) == known.id())
}

/// Opens the file of a position for its reader: the one with its device and inode.
pub(super) fn open_known(known: &Known) -> Result<(String, File)> {
    let path = known.path();
    let at_path = listing::regular(Path::new(path))?;
    let found = match known.id() {
        None => at_path,
        Some(id) => {
            // Renamed or replaced since the start looked.
            match at_path.filter(|found| found.id == id) {
                None => {
                    let beside = known.beside(&mut Folders::default());
                    match beside.files.iter().find(|found| found.id == id) {
                        // Another file with its content may be one that another partition reads: a
                        // start, which knows those of all, chooses the heir.
                        None => beside.whole().map(|_| None)?,
                        renamed => renamed.cloned(),
                    }
                }
                named => named,
            }
        }
    };
    let found = found.ok_or_else(|| missing(path, known.offset))?;
    let file = open(&found.path, known.offset)?.0;
    Ok((found.path, file))
}

/// The warning of a file that was read to its end and is gone, if files may go.
pub(super) fn forgotten(known: &Known) -> String {
    format!(
        "{}: is gone, and was read to its end, byte {}: it is forgotten (lines that were written \
         to it after that, and before it was removed, are lost)",
        known.path(),
        known.offset
    )
}

fn cannot_open(path: &str, offset: u64, why: &io::Error) -> Error {
    if system::leads_nowhere(why) {
        missing(path, offset)
    } else {
        system::error(format!("{path}: cannot be opened"), why)
    }
}

/// The form of a file's content, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Compressed,
    /// It may not be read.
    Unknown,
}

/// Returns whether the file is compressed.
///
/// # Errors
/// Kind TryAgain: it cannot be read now.
pub(super) fn form(path: &str) -> Result<Form> {
    Ok(match unless_it_passes(path, content(path))? {
        Ok(Input::Plain(_)) => Form::Plain,
        Ok(_) => Form::Compressed,
        Err(_) => Form::Unknown,
    })
}

/// As [`content_head`]; none if the file may not be read, or cannot be decompressed.
///
/// # Errors
/// Kind TryAgain: it cannot be read now.
pub(super) fn known_head(path: &str) -> Result<Option<Vec<u8>>> {
    Ok(unless_it_passes(path, content_head(path))?.ok())
}
