//! New files of a source that follows, while it is read.

use super::Settings;
use super::listing::{self, FileId, Found, Listing};
use super::locate::{self, Known};
use super::newcomers::{Judgement, Newcomers, leaves_out, name_for};
use super::witness::Witness;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tidemill_state::{Error, Kind, Position, Result};

/// What was found of files that are left out, so that each is compared once and reported once.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

/// By a file, its length and the time of its last change: why it is left out, and because of which partition.
type Judged = HashMap<(FileId, u64, i64), (String, Option<String>)>;

#[derive(Clone, Debug, Default)]
struct Remembered {
    reported: BTreeSet<String>,
    judged: Judged,
    /// How far partitions were committed: newer than where they began.
    committed: BTreeMap<String, Position>,
}

impl Memory {
    /// Forgets how far partitions were, and takes these warnings as reported.
    pub(super) fn begin(&self, warnings: &[String]) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.committed.clear();
        memory.reported.extend(warnings.iter().cloned());
    }

    /// What is remembered, and how far those of `partitions` were committed.
    fn of(&self, partitions: &BTreeMap<String, Option<Position>>) -> Remembered {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.committed.retain(|name, _| partitions.contains_key(name));
        memory.clone()
    }

    fn keep(&self, reported: BTreeSet<String>, judged: Judged) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (memory.reported, memory.judged) = (reported, judged);
    }

    pub(super) fn committed(&self, positions: &[(String, Position)]) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.committed.extend(positions.iter().cloned());
    }
}

/// The files that have appeared, with the positions at which they begin.
pub(super) fn discover(
    settings: &Settings,
    memory: &Memory,
    partitions: &BTreeMap<String, Option<Position>>,
) -> Result<Vec<(String, Option<Position>)>> {
    let listing = Listing::of(&settings.globs)?;
    // Not held while files are compared: whoever commits waits for it.
    let remembered = memory.of(partitions);
    let newest = |name: &String, position: &'_ Option<Position>| remembered.committed.get(name).or(position.as_ref()).cloned();
    let known: Vec<Known> = partitions.iter().map(|(name, position)| known(name, newest(name, position).as_ref())).collect();
    let ids: HashMap<FileId, &Known> = known.iter().filter_map(|known| Some((id_of(known)?, known))).collect();
    let newcomers = Newcomers::new(&known, settings.follow);
    let (mut joining, mut left_out, mut judged) = (Vec::new(), listing.left_out.clone(), HashMap::new());
    for found in &listing.files {
        if let Some(known) = ids.get(&found.id) {
            check_known(known, found)?;
            continue;
        }
        let key = (found.id, found.length, found.modified);
        let before = remembered.judged.get(&key).filter(|(_, of)| of.as_ref().is_none_or(|of| partitions.contains_key(of)));
        let judgement = match before {
            Some((why, of)) => Ok(Judgement::LeftOut(why.clone(), of.clone())),
            None => newcomers.judge(found, &listing),
        };
        match judgement {
            Ok(Judgement::Joins(position)) => {
                let taken = |name: &str| partitions.contains_key(name) || joining.iter().any(|(joins, _)| joins == name);
                let name = name_for(&found.path, taken);
                joining.push((name, Some(position)));
            }
            Ok(Judgement::LeftOut(why, of)) => {
                left_out.push(why.clone());
                judged.insert(key, (why, of));
            }
            Ok(Judgement::Later) => {}
            Ok(Judgement::Replaces(name)) => {
                return Err(Error::source_lost(format!("{name}: was replaced by a copy with more lines, {}", found.path))
                    .perhaps_elsewhere());
            }
            Err(error) if leaves_out(&error) => {
                let why = format!("{error}; it is left out");
                left_out.push(why.clone());
                judged.insert(key, (why, None));
            }
            // Removed since it was listed.
            Err(error) if error.kind() == Kind::SourceLost => {}
            Err(error) => return Err(error),
        }
    }
    for why in left_out.iter().filter(|why| !remembered.reported.contains(*why)) {
        tracing::warn!("{why}");
    }
    for alias in listing.aliases.iter().filter(|alias| !remembered.reported.contains(*alias)) {
        tracing::info!("{alias}");
    }
    memory.keep(left_out.into_iter().chain(listing.aliases).collect(), judged);
    Ok(joining)
}

fn known(name: &str, position: Option<&Position>) -> Known {
    let read = position.and_then(|position| Known::read(name, position).ok());
    read.unwrap_or_else(|| Known { name: name.to_owned(), offset: 0, witness: Witness::default() })
}

fn id_of(known: &Known) -> Option<FileId> {
    known.id().or_else(|| listing::regular(Path::new(known.path())).ok().flatten().map(|found| found.id))
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
