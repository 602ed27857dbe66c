//! New files of a source that follows, while it is read.

use super::Settings;
use super::families::Families;
use super::listing::{self, FileId, Found, Listing};
use super::locate::{self, Folders, Known};
use super::newcomers::{Judgement, Newcomers, leaves_out, name_for};
use super::witness::Witness;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Position, Result};

/// How long a name that no known file had is looked into.
const NAMELESS_FOR: Duration = Duration::from_millis(1_800);

/// What was found of files that are left out, so that each is compared once and reported once.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

/// By a file, its length and the time of its last change: why it is left out, and because of which partition.
type Judged = HashMap<(FileId, u64, i64), (String, Option<String>)>;

#[derive(Debug, Default)]
struct Remembered {
    /// How often the source was begun: a look of an earlier time leaves nothing here.
    begun: u64,
    reported: BTreeSet<String>,
    judged: Judged,
    /// How far partitions were committed since the last look.
    committed: BTreeMap<String, Position>,
    known: BTreeMap<String, Known>,
    /// Whose name no known file had at an earlier look, and how long that is still looked into: less than it takes a file to end.
    nameless: Option<(Families, Instant)>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets how far partitions were, and takes these warnings as reported.
    pub(super) fn begin(&self, warnings: &[String]) {
        let mut memory = self.lock();
        *memory = Remembered { begun: memory.begun + 1, reported: std::mem::take(&mut memory.reported), ..Remembered::default() };
        memory.reported.extend(warnings.iter().cloned());
    }

    pub(super) fn committed(&self, positions: &[(String, Position)]) {
        self.lock().committed.extend(positions.iter().cloned());
    }

    /// Takes everything out for a look. Whoever commits meanwhile does not wait for it.
    fn take(&self) -> Remembered {
        let mut memory = self.lock();
        let begun = memory.begun;
        std::mem::replace(&mut memory, Remembered { begun, ..Remembered::default() })
    }

    fn put_back(&self, mut looked: Remembered) {
        let mut memory = self.lock();
        if memory.begun == looked.begun {
            looked.committed.append(&mut memory.committed);
            *memory = looked;
        }
    }
}

/// The files that have appeared, with the positions at which they begin.
pub(super) fn discover(
    settings: &Settings,
    memory: &Memory,
    partitions: &BTreeMap<String, Option<Position>>,
) -> Result<Vec<(String, Option<Position>)>> {
    let mut remembered = memory.take();
    remembered.learn(partitions);
    let found = look(settings, &mut remembered, partitions);
    memory.put_back(remembered);
    found
}

impl Remembered {
    /// Reads the positions that are new.
    fn learn(&mut self, partitions: &BTreeMap<String, Option<Position>>) {
        self.known.retain(|name, _| partitions.contains_key(name));
        for (name, position) in partitions {
            if let Some(committed) = self.committed.remove(name) {
                self.known.insert(name.clone(), known(name, Some(&committed)));
            } else if !self.known.contains_key(name) {
                self.known.insert(name.clone(), known(name, position.as_ref()));
            }
        }
        // Of partitions that have ended meanwhile.
        self.committed.clear();
    }
}

fn look(
    settings: &Settings,
    remembered: &mut Remembered,
    partitions: &BTreeMap<String, Option<Position>>,
) -> Result<Vec<(String, Option<Position>)>> {
    let listing = Listing::of(&settings.globs)?;
    let earlier = remembered.nameless.take().filter(|(_, until)| Instant::now() < *until);
    let known = &remembered.known;
    let mut ids: HashMap<FileId, &Known> = HashMap::new();
    for known in known.values() {
        ids.extend(id_of(known)?.map(|id| (id, known)));
    }
    let mut families = Families::default();
    known.values().for_each(|known| families.add(known, known.id().and_then(|id| listing.by_id(id))));
    let mut families = families.without_name();
    // What is being renamed may be seen by the next look only, when the name is another known file's.
    if let Some((earlier, _)) = &earlier {
        families.as_before(earlier);
    }
    let mut missed = families.missed(&listing, &mut Folders::default(), settings.follow)?;
    missed.retain(|(_, found)| !ids.contains_key(&found.id));
    let until = Instant::now() + NAMELESS_FOR.min(settings.rotated_after / 2);
    let nameless = earlier.or_else(|| (!families.is_empty()).then_some((families, until)));
    let mut look = Look::new(&remembered.judged, partitions);
    look.left_out.clone_from(&listing.left_out);
    let newcomers = LazyCell::new(|| Newcomers::new(known.values(), settings.follow));
    for found in &listing.files {
        match ids.get(&found.id) {
            Some(known) => check_known(known, found)?,
            None if missed.iter().any(|(_, missed)| missed.id == found.id) => {}
            None => look.take(&found.path, found, || newcomers.judge(found, &listing))?,
        }
    }
    if !missed.is_empty() {
        let joining = look.joining.iter().filter_map(|(name, position)| Known::read(name, position.as_ref()?).ok());
        let joining: Vec<Known> = joining.collect();
        let newcomers = Newcomers::new(known.values().chain(&joining), false);
        for (path, found) in &missed {
            look.take(path, found, || newcomers.judge(found, &listing))?;
        }
    }
    let Look { joining, left_out, judged, .. } = look;
    for why in left_out.iter().filter(|why| !remembered.reported.contains(*why)) {
        tracing::warn!("{why}");
    }
    for alias in listing.aliases.iter().filter(|alias| !remembered.reported.contains(*alias)) {
        tracing::info!("{alias}");
    }
    remembered.nameless = nameless;
    (remembered.reported, remembered.judged) = (left_out.into_iter().chain(listing.aliases).collect(), judged);
    Ok(joining)
}

/// What a look has found so far.
struct Look<'a> {
    /// By the look before.
    before: &'a Judged,
    partitions: &'a BTreeMap<String, Option<Position>>,
    joining: Vec<(String, Option<Position>)>,
    left_out: Vec<String>,
    judged: Judged,
}

impl<'a> Look<'a> {
    fn new(before: &'a Judged, partitions: &'a BTreeMap<String, Option<Position>>) -> Look<'a> {
        Look { before, partitions, joining: Vec::new(), left_out: Vec::new(), judged: Judged::new() }
    }

    /// Takes a file that no known partition has, whose first path is `path`.
    fn take(&mut self, path: &str, found: &Found, judge: impl FnOnce() -> Result<Judgement>) -> Result<()> {
        let key = (found.id, found.length, found.modified);
        let before = self.before.get(&key).filter(|(_, of)| of.as_ref().is_none_or(|of| self.partitions.contains_key(of)));
        let judgement = match before {
            Some((why, of)) => Ok(Judgement::LeftOut(why.clone(), of.clone())),
            None => judge(),
        };
        match judgement {
            Ok(Judgement::Joins(position)) => {
                let joins = |name: &str| self.joining.iter().any(|(joins, _)| joins == name);
                let name = name_for(path, |name| self.partitions.contains_key(name) || joins(name));
                self.joining.push((name, Some(position)));
            }
            Ok(Judgement::LeftOut(why, of)) => {
                self.left_out.push(why.clone());
                self.judged.insert(key, (why, of));
            }
            Ok(Judgement::Later) => {}
            Ok(Judgement::Replaces(name)) => {
                return Err(Error::source_lost(format!("{name}: was replaced by a copy with more lines, {}", found.path))
                    .perhaps_elsewhere());
            }
            Err(error) if leaves_out(&error) => {
                let why = format!("{error}; it is left out");
                self.left_out.push(why.clone());
                self.judged.insert(key, (why, None));
            }
            // Removed or renamed since it was listed.
            Err(error) if error.kind() == Kind::SourceLost => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn known(name: &str, position: Option<&Position>) -> Known {
    let read = position.and_then(|position| Known::read(name, position).ok());
    read.unwrap_or_else(|| Known { name: name.to_owned(), offset: 0, witness: Witness::default() })
}

fn id_of(known: &Known) -> Result<Option<FileId>> {
    match known.id() {
        None => Ok(listing::file_at(Path::new(known.path()))?.map(|found| found.id)),
        id => Ok(id),
    }
}

/// The inode of a file that is held open is not used again. That of a compressed file that was read to its end may be.
fn check_known(known: &Known, found: &Found) -> Result<()> {
    let Some(file) = &known.witness.file else { return Ok(()) };
    let was_changed = (file.length, file.modified) != (found.length, found.modified);
    let may_be_another = found.length < file.length || (!file.is_plain() && was_changed);
    if !may_be_another {
        return Ok(());
    }
    match locate::holds(known, found) {
        Ok(true) => return Ok(()),
        // Renamed since it was listed.
        Err(error) if error.kind() == Kind::SourceLost => return Ok(()),
        Err(error) => return Err(error),
        Ok(false) => {}
    }
    Err(Error::source_lost(format!("{}: was cut, overwritten or replaced; {}", found.path, locate::WAY_ON)).perhaps_elsewhere())
}
