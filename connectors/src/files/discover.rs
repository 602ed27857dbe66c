//! New files of a source that follows, while it is read.

use super::Settings;
use super::families::Families;
use super::listing::{self, FileId, Found, Listing};
use super::locate::{self, Folders, Known};
use super::newcomers::{Judgement, Newcomers, leaves_out, name_for};
use super::quiet::{Left, Quiet, Watch};
use super::watcher::RestingFile;
use super::witness::Witness;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;
use tidemill_state::{Error, Kind, Position, Result};

/// In how many more looks a name is looked into that no known file had: one fewer than it takes a file that joins meanwhile
/// to end, see [`Looks`].
const NAMELESS_FOR: usize = 2;

/// How many looks for new files were completed. A followed file ends only after others were looked for: until then it shows
/// where a rotation stands.
#[derive(Clone, Debug)]
pub(super) struct Looks(Arc<AtomicU64>);

/// Each worker has a source of its own, and one of them looks for new files: they meet here, by their globs.
static ALL_LOOKS: Mutex<BTreeMap<Arc<[String]>, Weak<AtomicU64>>> = Mutex::new(BTreeMap::new());

impl Looks {
    /// The looks of the sources of these globs in this process.
    pub(super) fn of(globs: &Arc<[String]>) -> Looks {
        let mut all = ALL_LOOKS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, looks| looks.strong_count() > 0);
        let looks = all.get(globs).and_then(Weak::upgrade).unwrap_or_default();
        all.insert(Arc::clone(globs), Arc::downgrade(&looks));
        Looks(looks)
    }

    /// The number of looks so far.
    pub(super) fn completed(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Whether three looks have ended since there were so many, the first of which may have begun before. A source whose new
    /// files nobody looks for is not waited for.
    pub(super) fn have_seen_since(&self, completed: u64) -> bool {
        let now = self.completed();
        now == 0 || now > completed + NAMELESS_FOR as u64
    }
}

/// What was found of files that are left out, so that each is compared once and reported once.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

/// By a file, its length and the time of its last change: why it is left out, and because of which partition.
type Judged = HashMap<(FileId, u64, i64), (String, Option<String>)>;

#[derive(Debug, Default)]
struct Remembered {
    /// Whether the last look left a question open, and the files that it left for a later one.
    is_open: bool,
    waiting: Vec<RestingFile>,
    /// How often the source was begun: a look of an earlier time leaves nothing here.
    begun: u64,
    reported: BTreeSet<String>,
    judged: Judged,
    /// How far partitions were committed since the last look.
    committed: BTreeMap<String, Position>,
    known: BTreeMap<String, Known>,
    /// Names that match, or globs, and are not read, each with the reason.
    unreadable: Vec<(String, String)>,
    quiet: Quiet,
    /// Whose name no known file had at the looks before, the last one at the end.
    nameless: VecDeque<Families>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets how far partitions were, and takes these warnings as reported.
    pub(super) fn begin(&self, warnings: &[String], unreadable: Vec<(String, String)>) {
        let mut memory = self.lock();
        let reported = std::mem::take(&mut memory.reported);
        *memory = Remembered { begun: memory.begun + 1, reported, unreadable, ..Remembered::default() };
        memory.reported.extend(warnings.iter().cloned());
    }

    pub(super) fn committed(&self, positions: &[(String, Position)]) {
        self.lock().committed.extend(positions.iter().cloned());
    }

    /// What is not read, by name, and why.
    pub(super) fn left_out(&self) -> Vec<(String, String)> {
        self.lock().unreadable.clone()
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
    if remembered.quiet.lasts(partitions.len()) {
        // A look would find what the one before found.
        settings.looks.0.fetch_add(u64::from(remembered.quiet.is_watched()), SeqCst);
        memory.put_back(remembered);
        return Ok(Vec::new());
    }
    let watch = Watch::over(&settings.globs);
    let began = Instant::now();
    remembered.learn(partitions);
    let found = look(settings, &mut remembered, partitions);
    let open = found.is_err() || std::mem::take(&mut remembered.is_open);
    let (waiting, at_most) = (std::mem::take(&mut remembered.waiting), settings.rotated_after / 4);
    remembered.quiet = Quiet::after(began, watch, Left { waiting, open, at_most }, partitions.len());
    memory.put_back(remembered);
    if found.is_ok() {
        settings.looks.0.fetch_add(1, SeqCst);
    }
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
    let known = &remembered.known;
    let mut ids: HashMap<FileId, &Known> = HashMap::new();
    for known in known.values() {
        ids.extend(id_of(known)?.map(|id| (id, known)));
    }
    let mut families = Families::default();
    known.values().for_each(|known| families.add(known, known.id().and_then(|id| listing.by_id(id))));
    let mut families = families.without_name();
    let nameless = families.clone();
    // What is being renamed may be seen by the next look only, when the name is another known file's.
    remembered.nameless.iter().rev().for_each(|earlier| families.as_before(earlier));
    let missed = || -> Result<Vec<(String, Found)>> {
        let mut missed = families.missed(&listing, &mut Folders::default(), settings.follow)?;
        missed.retain(|(_, found)| !ids.contains_key(&found.id));
        Ok(missed)
    };
    let before = missed()?;
    let is_waiting = |found: &Found| before.iter().any(|(_, missed)| missed.id == found.id);
    let mut look = Look::new(&remembered.judged, partitions);
    look.left_out.extend(listing.left_out.iter().map(|(_, why)| why.clone()));
    look.unreadable.clone_from(&listing.left_out);
    let unmatched = listing.unmatched.iter().map(|glob| (glob.clone(), listing::nothing_matches(glob).to_string()));
    look.unreadable.extend(unmatched);
    let newcomers = LazyCell::new(|| Newcomers::new(known.values(), settings.follow));
    for found in &listing.files {
        match ids.get(&found.id) {
            Some(known) => check_known(known, found)?,
            None if is_waiting(found) => {}
            None => look.take(&found.path, found, || newcomers.judge(found, &listing))?,
        }
    }
    // The folder is listed once more: only then it shows what was copied out of a file before that was read just now.
    let mut missed = missed()?;
    missed.retain(|(_, found)| is_waiting(found) || listing.by_id(found.id).is_none());
    if !missed.is_empty() {
        let joining = look.joining.iter().filter_map(|(name, position)| Known::read(name, position.as_ref()?).ok());
        let joining: Vec<Known> = joining.collect();
        let newcomers = Newcomers::new(known.values().chain(&joining), false);
        for (path, found) in &missed {
            look.take(path, found, || newcomers.judge(found, &listing))?;
        }
    }
    let Look { joining, left_out, judged, unreadable, waiting, open, .. } = look;
    for why in left_out.iter().filter(|why| !remembered.reported.contains(*why)) {
        tracing::warn!("{why}");
    }
    for alias in listing.aliases.iter().filter(|alias| !remembered.reported.contains(*alias)) {
        tracing::info!("{alias}");
    }
    remembered.nameless.push_back(nameless);
    if remembered.nameless.len() > NAMELESS_FOR {
        remembered.nameless.pop_front();
    }
    let is_open = open || remembered.nameless.iter().any(|families| !families.is_empty());
    (remembered.is_open, remembered.waiting, remembered.unreadable) = (is_open, waiting, unreadable);
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
    unreadable: Vec<(String, String)>,
    judged: Judged,
    /// Files of which it is not known yet what they are.
    waiting: Vec<RestingFile>,
    /// Whether something is to be looked at again soon.
    open: bool,
}

impl<'a> Look<'a> {
    fn new(before: &'a Judged, partitions: &'a BTreeMap<String, Option<Position>>) -> Look<'a> {
        let (joining, left_out, unreadable, judged, waiting) = Default::default();
        Look { before, partitions, joining, left_out, unreadable, judged, waiting, open: false }
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
                if of.is_none() {
                    self.unreadable.push((path.to_owned(), why.clone()));
                }
                self.judged.insert(key, (why, of));
            }
            Ok(Judgement::Later) => self.waiting.push(RestingFile::of(found)),
            Ok(Judgement::Replaces(name)) => {
                return Err(Error::source_lost(format!("{name}: was replaced by a copy with more lines, {}", found.path))
                    .perhaps_elsewhere());
            }
            Err(error) if leaves_out(&error) => {
                let why = format!("{error}; it is left out");
                self.left_out.push(why.clone());
                // It may be mended without a trace in its length and time: permission, say.
                self.unreadable.push((path.to_owned(), why));
            }
            // Removed or renamed since it was listed.
            Err(error) if error.kind() == Kind::SourceLost => self.open = true,
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
