//! New files of a source that follows, while it is read.

use super::families::{Families, Missed};
use super::folders::Folders;
use super::listing::{self, FileId, Found, Listing};
use super::locate::{self, Known};
use super::loss::{self, leaves_out};
use super::names::SETTLED_AFTER;
use super::newcomers::{Judgement, Newcomers, name_for};
use super::quiet::{Left, Quiet, Watch};
use super::settings::Settings;
use super::shared::NAMELESS_FOR;
use super::watcher::RestingFile;
use super::witness::Witness;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tidemill_state::{Error, Kind, Position, Result};

/// Findings about files that are left out, so that each file is compared once and reported once.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

/// By a file, its length and the time of its last change: why it is left out, and because of which
/// partition.
type Judged = HashMap<(FileId, u64, i64), (String, Option<String>)>;

#[derive(Debug, Default)]
struct Remembered {
    /// True if the last look left a question open, and the files that it left for a later one.
    is_open: bool,
    waiting: Vec<RestingFile>,
    /// Names that match and are symbolic links.
    links: BTreeSet<PathBuf>,
    /// The number of times the source was begun: a look of an earlier time leaves nothing here.
    begun: u64,
    reported: BTreeSet<String>,
    judged: Judged,
    /// The positions of partitions committed since the last look.
    committed: BTreeMap<String, Position>,
    known: BTreeMap<String, Known>,
    /// Partitions that have ended, each with the number of looks for which it is remembered: as
    /// long as its name counts as one that no known file has, a copy of it must not be taken for a
    /// new file.
    ended: Vec<(Known, usize)>,
    /// Names that match, or globs, and are not read, each with the reason.
    unreadable: Vec<(String, String)>,
    quiet: Quiet,
    /// Whose name no known file had at the looks before, the last one at the end.
    nameless: VecDeque<Families>,
    /// When these have changed last.
    renamed: Option<Instant>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets how far partitions were, and takes these warnings as reported.
    pub(super) fn begin(&self, warnings: &[String], unreadable: Vec<(String, String)>) {
        let mut memory = self.lock();
        let reported = std::mem::take(&mut memory.reported);
        *memory =
            Remembered { begun: memory.begun + 1, reported, unreadable, ..Remembered::default() };
        memory.reported.extend(warnings.iter().cloned());
    }

    pub(super) fn committed(&self, positions: &[(String, Position)]) {
        self.lock().committed.extend(positions.iter().cloned());
    }

    /// Returns the names that are not read, each with the reason.
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
    let is_known = remembered.known.keys().eq(partitions.keys());
    if is_known && remembered.quiet.lasts() {
        // A look would find what the one before found.
        settings.shared.looks.complete(u64::from(remembered.quiet.is_watched()));
        memory.put_back(remembered);
        return Ok(Vec::new());
    }
    let links = std::mem::take(&mut remembered.links);
    let began = Instant::now();
    let watch = Watch::over(&settings.globs, &links);
    remembered.learn(partitions);
    let found = look(settings, &mut remembered, partitions);
    // Of a new link only the next look watches what it leads to.
    let open = found.is_err()
        || std::mem::take(&mut remembered.is_open)
        || !remembered.links.is_subset(&links);
    if found.is_err() {
        remembered.links = links;
    }
    let (waiting, at_most) = (std::mem::take(&mut remembered.waiting), settings.rotated_after / 4);
    remembered.quiet = Quiet::after(began, watch, Left { waiting, open, at_most });
    memory.put_back(remembered);
    if found.is_ok() {
        settings.shared.looks.complete(1);
    }
    found
}

impl Remembered {
    /// Reads the positions that are new.
    fn learn(&mut self, partitions: &BTreeMap<String, Option<Position>>) {
        let before = std::mem::take(&mut self.known);
        let (still, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.into_iter().partition(|(name, _)| partitions.contains_key(name));
        self.known = still;
        for (name, before) in ended {
            let last = self
                .committed
                .remove(&name)
                .map_or(before, |committed| known(&name, Some(&committed)));
            // A copy of a partition of which nothing was read repeats nothing.
            self.ended.extend((last.offset > 0).then_some((last, NAMELESS_FOR + 1)));
        }
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

    /// Reports the findings of a look that are new, and keeps them for the next one. Returns the
    /// partitions that join.
    fn keep(
        &mut self,
        findings: Discoveries,
        listing: Listing,
        nameless: Families,
    ) -> Vec<(String, Option<Position>)> {
        let Discoveries { joining, left_out, judged, unreadable, waiting, open } = findings;
        for why in left_out.iter().filter(|why| !self.reported.contains(*why)) {
            tracing::warn!("{why}");
        }
        for alias in listing.aliases.iter().filter(|alias| !self.reported.contains(*alias)) {
            tracing::info!("{alias}");
        }
        if !joining.is_empty()
            || self.nameless.back().is_none_or(|before| !before.has_same_names(&nameless))
        {
            self.renamed = Some(Instant::now());
        }
        self.nameless.push_back(nameless);
        self.ended.iter_mut().for_each(|(_, looks)| *looks -= 1);
        self.ended.retain(|(_, looks)| *looks > 0);
        if self.nameless.len() > NAMELESS_FOR {
            self.nameless.pop_front();
        }
        // A name that no known file has for long is that of an empty file, say: a change of names,
        // or a line in it, is noticed.
        let is_settled = self.renamed.is_some_and(|since| since.elapsed() >= SETTLED_AFTER);
        self.is_open =
            open || (!is_settled && self.nameless.iter().any(|families| !families.is_empty()));
        (self.waiting, self.unreadable, self.judged) = (waiting, unreadable, judged);
        self.links = listing.links;
        self.reported = left_out.into_iter().chain(listing.aliases).collect();
        joining
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
    let mut look = Look::new(&remembered.judged, partitions);
    for known in known.values() {
        match id_of(known) {
            Ok(id) => ids.extend(id.map(|id| (id, known))),
            Err(error) => look.cannot_see(known.path(), &error),
        }
    }
    let mut families = Families::default();
    known
        .values()
        .for_each(|known| families.add(known, known.id().and_then(|id| listing.by_id(id))));
    let mut families = families.without_name();
    let nameless = families.clone();
    // What is being renamed may be seen by the next look only, when the name is another known
    // file's.
    remembered.nameless.iter().rev().for_each(|earlier| families.as_before(earlier));
    let missed = || {
        let mut missed = families.missed(&listing, &mut Folders::default(), settings.follow);
        missed.files.retain(|(_, found)| !ids.contains_key(&found.id));
        missed
    };
    let before = missed();
    let is_waiting = |found: &Found| before.files.iter().any(|(_, missed)| missed.id == found.id);
    look.note_unreadable(&listing, known, &before);
    let ended = || remembered.ended.iter().map(|(known, _)| known);
    let newcomers =
        LazyCell::new(|| Newcomers::new(known.values().chain(ended()), settings.follow));
    for found in &listing.files {
        match ids.get(&found.id) {
            Some(known) => match check_known(known, found) {
                // Its reader names it.
                Err(error) if leaves_out(&error) => {}
                checked => checked?,
            },
            None if is_waiting(found) || look.is_unseen(&found.path, &before) => {}
            None => {
                look.take(&found.path, found, || newcomers.judge(&found.path, found, &listing))?
            }
        }
    }
    // The folder is listed once more: only then it shows what was copied out of a file before that
    // was read just now.
    let Missed { files: mut missed, unseen } = missed();
    missed.retain(|(_, found)| is_waiting(found) || listing.by_id(found.id).is_none());
    for (path, hidden) in &unseen {
        look.cannot_see(&hidden.path, &hidden.error);
        look.findings.joining.retain(|(name, _)| locate::first_path(name) != path);
    }
    if !missed.is_empty() {
        let joining = look
            .findings
            .joining
            .iter()
            .filter_map(|(name, position)| Known::read(name, position.as_ref()?).ok());
        let joining: Vec<Known> = joining.collect();
        let newcomers = Newcomers::new(known.values().chain(ended()).chain(&joining), false);
        for (path, found) in &missed {
            look.take(path, found, || newcomers.judge(path, found, &listing))?;
        }
    }
    let findings = look.findings;
    Ok(remembered.keep(findings, listing, nameless))
}

/// A look, and its findings so far.
struct Look<'a> {
    /// By the look before.
    before: &'a Judged,
    partitions: &'a BTreeMap<String, Option<Position>>,
    findings: Discoveries,
}

/// The findings of a look.
#[derive(Default)]
struct Discoveries {
    joining: Vec<(String, Option<Position>)>,
    left_out: Vec<String>,
    unreadable: Vec<(String, String)>,
    judged: Judged,
    /// Files of which it is not known yet what they are.
    waiting: Vec<RestingFile>,
    /// True if something is to be looked at again soon.
    open: bool,
}

impl<'a> Look<'a> {
    fn new(before: &'a Judged, partitions: &'a BTreeMap<String, Option<Position>>) -> Look<'a> {
        Look { before, partitions, findings: Discoveries::default() }
    }

    /// Notes what is not read, and what cannot be looked at.
    fn note_unreadable(
        &mut self,
        listing: &Listing,
        known: &BTreeMap<String, Known>,
        missed: &Missed,
    ) {
        self.findings.left_out.extend(listing.left_out.iter().map(|(_, why)| why.clone()));
        self.findings.unreadable.extend(listing.left_out.iter().cloned());
        // The reader of a known file names what is wrong with it.
        let names: BTreeSet<&str> = known.values().map(Known::path).collect();
        let hidden = listing.hidden.iter();
        hidden
            .filter(|hidden| hidden.is_folder || !names.contains(&*hidden.path))
            .chain(missed.unseen.values())
            .for_each(|hidden| self.cannot_see(&hidden.path, &hidden.error));
        let unmatched = listing
            .unmatched
            .iter()
            .map(|glob| (glob.clone(), listing::nothing_matches(glob).to_string()));
        self.findings.unreadable.extend(unmatched);
    }

    /// Notes a path that cannot be looked at. The look continues without it.
    fn cannot_see(&mut self, path: &str, error: &Error) {
        let why = error.to_string();
        if !self.findings.unreadable.iter().any(|(_, known)| *known == why) {
            self.findings.left_out.push(format!(
                "{why}; what is known there is kept, and everything else is looked at"
            ));
            self.findings.unreadable.push((path.to_owned(), why));
        }
    }

    /// Returns whether a file of this path is not known from another now, or may have come after
    /// one that cannot be seen.
    fn is_unseen(&self, path: &str, missed: &Missed) -> bool {
        missed.unseen.contains_key(path)
            || self.findings.unreadable.iter().any(|(hidden, _)| hidden == path)
    }

    /// Takes a file that no known partition has, whose first path is `path`.
    fn take(
        &mut self,
        path: &str,
        found: &Found,
        judge: impl FnOnce() -> Result<Judgement>,
    ) -> Result<()> {
        let key = (found.id, found.length, found.modified);
        let before = self
            .before
            .get(&key)
            .filter(|(_, of)| of.as_ref().is_none_or(|of| self.partitions.contains_key(of)));
        let judgement = match before {
            Some((why, of)) => Ok(Judgement::LeftOut(why.clone(), of.clone())),
            None => judge(),
        };
        match judgement {
            Ok(Judgement::Joins(position)) => {
                let joins =
                    |name: &str| self.findings.joining.iter().any(|(joins, _)| joins == name);
                let name = name_for(path, |name| self.partitions.contains_key(name) || joins(name));
                self.findings.joining.push((name, Some(position)));
            }
            Ok(Judgement::LeftOut(why, of)) => {
                self.findings.left_out.push(why.clone());
                if of.is_none() {
                    self.findings.unreadable.push((path.to_owned(), why.clone()));
                }
                self.findings.judged.insert(key, (why, of));
            }
            Ok(Judgement::Later) => self.findings.waiting.push(RestingFile::of(found)),
            Ok(Judgement::Replaces(name)) => {
                return Err(Error::source_lost(format!(
                    "{name}: was replaced by a copy with more lines, {}",
                    found.path
                ))
                .perhaps_elsewhere());
            }
            Err(error) if leaves_out(&error) => {
                let why = format!("{error}; it is left out");
                self.findings.left_out.push(why.clone());
                // It may be mended without a trace in its length and time: permission, say.
                self.findings.unreadable.push((path.to_owned(), why));
            }
            // Removed or renamed since it was listed.
            Err(error) if error.kind() == Kind::SourceLost => self.findings.open = true,
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

/// The inode of a file that is held open is not used again. That of a compressed file that was read
/// to its end may be.
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
    Err(Error::source_lost(format!(
        "{}: was cut, overwritten or replaced; {}",
        found.path,
        loss::WAY_ON
    ))
    .perhaps_elsewhere())
}

#[cfg(test)]
mod tests {
    use super::super::disk;
    use crate::{FileSource, Files, Lines, Unreadable};
    use rustix::io::Errno;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};
    use tempfile::TempDir;
    use tidemill_engine::source::{Begun, OnLoss, ReadStatus, Reader, Records, Source, Start};
    use tidemill_state::{Kind, Position, Result};

    struct Place(TempDir);

    impl Place {
        fn new(files: &[(&str, &str)]) -> Place {
            let place = Place(TempDir::new().expect("a folder"));
            files.iter().for_each(|(name, content)| place.write(name, content));
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn name(&self, name: &str) -> String {
            self.at(name).to_str().expect("UTF-8").to_owned()
        }

        fn write(&self, name: &str, content: &str) {
            // Files are told to be older by their times.
            std::thread::sleep(Duration::from_millis(20));
            fs::create_dir_all(self.at(name).parent().expect("it has one")).expect("made");
            fs::write(self.at(name), content).expect("written");
        }

        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.at(from), self.at(to)).expect("renamed");
        }

        fn source(&self, glob: &str) -> FileSource<Lines> {
            Files::lines(self.name(glob)).follow().rotated_after(Duration::from_millis(30))
        }
    }

    fn begin(source: &FileSource<Lines>, recorded: &BTreeMap<String, Position>) -> Result<Begun> {
        let (begun, on_loss) = (!recorded.is_empty(), OnLoss::Refuse);
        source.begin(&Start {
            topology: "t",
            is_new: !begun,
            begun,
            recorded,
            first: None,
            on_loss,
            to_end: false,
        })
    }

    type Known = BTreeMap<String, Option<Position>>;

    /// Looks until there is something new. Returns its names.
    fn found(source: &FileSource<Lines>, known: &mut Known) -> Vec<String> {
        let began = Instant::now();
        loop {
            let found = source.discover(known).expect("it looks");
            let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
            known.extend(found);
            if !names.is_empty() {
                return names;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "nothing is found: {:?}",
                source.left_out()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What comes within a while, and the last status.
    fn read(reader: &mut dyn Reader<crate::Str>, time: Duration) -> (Vec<String>, ReadStatus) {
        let (mut lines, began) = (Vec::new(), Instant::now());
        loop {
            let mut into = Records::with_limits(100, usize::MAX);
            let status = reader.read(&mut into).expect("read");
            lines.extend(into.iter().map(|(_, line)| line.to_string()));
            if began.elapsed() >= time || matches!(status, ReadStatus::End | ReadStatus::Retired) {
                return (lines, status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    const MOMENT: Duration = Duration::from_millis(150);

    #[test]
    fn a_folder_that_cannot_be_looked_into_hides_no_new_file_elsewhere_and_is_named_until_it_can() {
        for (errno, remedy) in [
            (Errno::ACCESS, "give this user the right"),
            (Errno::IO, "disk"),
            (Errno::STALE, "disk"),
        ] {
            let place = Place::new(&[("a/x.log", "x1\n"), ("b/y.log", "y1\n")]);
            let source = place.source("*/*.log");
            let mut known: Known = begin(&source, &BTreeMap::new())
                .expect("it begins")
                .partitions
                .into_iter()
                .collect();
            let failing = disk::fail(&place.at("b"), errno);
            place.write("a/new.log", "new\n");
            place.write("b/hidden.log", "hidden\n");
            assert_eq!(found(&source, &mut known), [place.name("a/new.log")], "{errno}");
            let left_out = source.left_out();
            assert_eq!(left_out[0].0, place.name("b"), "{left_out:?}");
            assert!(left_out.len() == 1 && left_out[0].1.contains(remedy), "{left_out:?}");
            drop(failing);
            assert_eq!(found(&source, &mut known), [place.name("b/hidden.log")], "{errno}");
            assert_eq!(source.left_out(), []);
        }
    }

    #[test]
    fn a_name_that_cannot_be_looked_at_hides_no_other() {
        let place = Place::new(&[("x.log", "x1\n"), ("y.log", "y1\n")]);
        let source = place.source("*.log");
        let mut known: Known =
            begin(&source, &BTreeMap::new()).expect("it begins").partitions.into_iter().collect();
        let _failing = ["y.log", "z.log"].map(|name| disk::fail(&place.at(name), Errno::IO));
        place.write("z.log", "z1\n");
        place.write("new.log", "2\n");
        assert_eq!(found(&source, &mut known), [place.name("new.log")]);
        // What is wrong with a known file is the trouble of its reader.
        assert_eq!(
            source.left_out().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            [place.name("z.log")]
        );
        let recorded =
            known.into_iter().filter_map(|(name, position)| Some((name, position?))).collect();
        let again = place.source("*.log");
        let begun = begin(&again, &recorded).expect("it begins");
        let of = |name: &str| {
            begun.warnings.iter().filter(|why| why.contains(&place.name(name))).count()
        };
        assert_eq!(
            (of("y.log"), of("z.log"), again.left_out().len()),
            (1, 1, 1),
            "{:?}",
            begun.warnings
        );
    }

    #[test]
    fn another_partition_in_place_of_one_that_has_ended_is_looked_for_at_once() {
        let place = Place::new(&[("x.log", "x1\n"), ("y.log", "y1\n")]);
        let source = place.source("*.log");
        let mut known: Known =
            begin(&source, &BTreeMap::new()).expect("it begins").partitions.into_iter().collect();
        assert_eq!(source.discover(&known).expect("it looks"), []);
        known.remove(&place.name("x.log"));
        known.insert(place.name("z.log"), None);
        let found = source.discover(&known).expect("it looks");
        assert_eq!(found.len(), 1, "the partitions are as many, and others");
    }

    #[test]
    fn a_file_that_may_be_where_nobody_can_look_keeps_its_position() {
        for (errno, kind) in [(Errno::ACCESS, Kind::Config), (Errno::IO, Kind::TryAgain)] {
            let place = Place::new(&[("a/x.log", "x1\n"), ("b/y.log", "y1\n")]);
            let mut recorded = BTreeMap::new();
            let source = place.source("*/*.log");
            for (name, from) in begin(&source, &recorded).expect("it begins").partitions {
                let mut reader = source.open(&name, from.as_ref()).expect("opened");
                assert_eq!(read(&mut *reader, MOMENT).0.len(), 1);
                recorded.insert(name, reader.position());
            }
            let name = place.name("a/x.log");
            place.rename("a/x.log", "b/x.log");
            let failing = disk::fail(&place.at("b"), errno);
            let strict = place.source("*/*.log").unreadable(Unreadable::Fail);
            assert_eq!(begin(&strict, &recorded).expect_err("it is strict").kind(), kind);
            let source = place.source("*/*.log");
            let begun = begin(&source, &recorded).expect("it begins");
            assert!(begun.retired.is_empty() && begun.partitions.len() == 2, "{begun:?}");
            assert_eq!(
                begun.partitions.iter().find(|(of, _)| *of == name),
                Some(&(name.clone(), Some(recorded[&name].clone())))
            );
            let mut reader = source.open(&name, Some(&recorded[&name])).expect("it is left out");
            assert!(
                reader.trouble().is_some_and(|why| why.contains("cannot be looked into")),
                "{:?}",
                reader.trouble()
            );
            assert!(
                matches!(read(&mut *reader, MOMENT), (lines, ReadStatus::Idle(_)) if lines.is_empty())
            );
            drop(failing);
            fs::write(place.at("b/x.log"), "x1\nx2\n").expect("it is longer");
            let begun = begin(&place.source("*/*.log"), &recorded).expect("it begins");
            let from = begun
                .partitions
                .into_iter()
                .find(|(of, _)| *of == name)
                .and_then(|(_, position)| position);
            let mut reader = source.open(&name, from.as_ref()).expect("opened");
            assert_eq!(read(&mut *reader, MOMENT).0, ["x2"]);
        }
    }

    #[test]
    fn an_open_file_that_may_have_a_name_where_nobody_can_look_does_not_end() {
        let place = Place::new(&[("a/x.log", "x1\n"), ("b/y.log", "y1\n")]);
        let source = place.source("*/*.log");
        let mut reader = source.open(&place.name("a/x.log"), None).expect("opened");
        assert_eq!(read(&mut *reader, MOMENT).0, ["x1"]);
        let failing = disk::fail(&place.at("b"), Errno::ACCESS);
        place.rename("a/x.log", "b/x.log");
        assert!(matches!(read(&mut *reader, 2 * MOMENT).1, ReadStatus::Idle(_)));
        drop(failing);
        assert!(matches!(read(&mut *reader, 2 * MOMENT).1, ReadStatus::Idle(_)));
        // Seen where no glob leads to, or removed: it is nowhere else.
        let _failing = disk::fail(&place.at("b"), Errno::ACCESS);
        fs::remove_file(place.at("b/x.log")).expect("removed");
        assert_eq!(read(&mut *reader, Duration::from_secs(60)).1, ReadStatus::Retired);
        let mut reader =
            place.source("*/*.log").open(&place.name("b/y.log"), None).expect("opened");
        assert_eq!(read(&mut *reader, MOMENT).0, ["y1"]);
        place.rename("b/y.log", "b/y.log.old");
        drop(_failing);
        let _other = (
            fs::create_dir(place.at("c")).expect("made"),
            disk::fail(&place.at("c"), Errno::ACCESS),
        );
        assert_eq!(read(&mut *reader, Duration::from_secs(60)).1, ReadStatus::Retired);
    }

    #[test]
    fn files_that_had_the_name_one_after_the_other_join_when_all_of_them_can_be_seen() {
        let place = Place::new(&[("l/app.log", "1\n"), ("other/x.log", "x1\n")]);
        let globs = [place.name("l/app.log"), place.name("other/*.log")];
        let source =
            Files::lines_of(globs.clone()).follow().rotated_after(Duration::from_millis(30));
        let mut known: Known =
            begin(&source, &BTreeMap::new()).expect("it begins").partitions.into_iter().collect();
        let rotate = |content: &str| {
            let _ = fs::rename(place.at("l/app.log.1"), place.at("l/app.log.2"));
            place.rename("l/app.log", "l/app.log.1");
            place.write("l/app.log", content);
        };
        // The name can be looked at, and what is beside it not.
        let failing = disk::fail(&place.at("l"), Errno::ACCESS);
        rotate("2\n");
        rotate("3\n");
        place.write("other/new.log", "new\n");
        assert_eq!(found(&source, &mut known), [place.name("other/new.log")]);
        assert_eq!(source.left_out()[0].0, place.name("l"));
        // So does a start.
        let recorded: BTreeMap<String, Position> = known
            .iter()
            .filter_map(|(name, position)| Some((name.clone(), position.clone()?)))
            .collect();
        let again = Files::lines_of(globs).follow();
        let begun = begin(&again, &recorded).expect("it begins");
        let names: Vec<&String> = begun.partitions.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        drop(failing);
        let name = place.name("l/app.log");
        assert_eq!(found(&source, &mut known), [format!("{name}#2"), format!("{name}#3")]);
    }

    #[test]
    fn nothing_but_what_cannot_be_looked_at_is_an_error_of_the_first_start_unless_it_was_said_that_it_is_none()
     {
        let place = Place::new(&[("l/app.log", "1\n")]);
        let _failing = disk::fail(&place.at("l/app.log"), Errno::ACCESS);
        let error =
            begin(&place.source("l/app.log"), &BTreeMap::new()).expect_err("nothing can be read");
        assert!(
            error.kind() == Kind::Config && error.to_string().contains("give this user the right"),
            "{error}"
        );
        let left_out = || place.source("l/app.log").unreadable(Unreadable::LeaveOut);
        let begun = begin(&left_out(), &BTreeMap::new()).expect("it was said");
        assert!(begun.partitions.is_empty() && begun.warnings.len() == 1, "{begun:?}");
        let to_the_end = Files::lines(place.name("l/app.log")).unreadable(Unreadable::LeaveOut);
        assert_eq!(
            begin(&to_the_end, &BTreeMap::new()).expect_err("there is no other").kind(),
            Kind::Config
        );
    }
}
