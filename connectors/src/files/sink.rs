//! A file of JSON lines as a sink: each committed record in it exactly once.

use super::listing::FileId;
use super::marker::{FileMarker, beside, folder_of};
use crate::json;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tidemill_engine::sink::{Delivery, Entry, Marker, Outcome, Owner, Prepared, Publisher, Sink};
use tidemill_engine::source::Data;
use tidemill_state::{Error, Result, Txid, system};

/// Appends each committed record as a JSON line to a file. Made by [`Files::to`](crate::Files::to).
///
/// **Exactly once**: beside the file `out.jsonl` lies its marker `out.jsonl.marker`, which says up
/// to which batch and which length the file is written. After a crash the file is cut back to that
/// length, and what is missing is sent again. A program that reads the file while it is written may
/// see lines that a crash cuts off; the same bytes come again at the same place. Keep the two files
/// together, and change neither; a third, `out.jsonl.lock`, keeps a second process out.
///
/// A file that exists, is not empty and has no marker is refused. Each commit costs two syncs (the
/// file, its marker). At each commit the path must still lead to the file that is written, with the
/// length that was left: a file that was renamed, removed, replaced or cut ends the run (exit code
/// 68) before anything is written into nothing.
///
/// **Rotation**: stop the run, move the file *and* its marker away
/// (`mv out.jsonl out.1.jsonl; mv out.jsonl.marker out.1.jsonl.marker`), and start it again: a new
/// file begins with the next batch. A file that was moved under a run is moved back before the next
/// start.
#[derive(Clone, Debug)]
pub struct FileSink<T> {
    path: PathBuf,
    item: PhantomData<fn() -> T>,
}

impl<T> FileSink<T> {
    pub(super) fn new(path: PathBuf) -> FileSink<T> {
        FileSink { path, item: PhantomData }
    }
}

impl<T: Data> Sink for FileSink<T> {
    type Item = T;

    fn kind(&self) -> String {
        "files/json-lines".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn encode(&self, item: &T, into: &mut Vec<u8>) -> Result<()> {
        json::encode_line(item, into)
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(FilePublisher::open(self.path.clone(), owner.clone())?))
    }
}

struct FilePublisher {
    path: PathBuf,
    marker_path: PathBuf,
    owner: Owner,
    claimed: Option<Claimed>,
    /// Held as long as the publisher lives; the system frees it when the process ends, however it
    /// ends.
    _lock: File,
}

/// The output file of a publisher that owns it.
struct Claimed {
    file: File,
    /// The content of the marker on disk.
    marker: FileMarker,
}

/// Returns whether a path leads to a folder.
fn is_folder(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(why) if system::leads_nowhere(&why) => Ok(false),
        Err(why) => Err(system::error(format!("{} cannot be looked at", path.display()), &why)),
    }
}

impl FilePublisher {
    fn open(path: PathBuf, owner: Owner) -> Result<FilePublisher> {
        if is_folder(&path)? {
            return Err(Error::config(format!(
                "the output {} is a folder; give the path of a file",
                path.display()
            )));
        }
        let folder = folder_of(&path);
        if !is_folder(folder)? {
            return Err(Error::config(format!(
                "the output {} cannot be written: there is no folder {}; create it",
                path.display(),
                folder.display()
            )));
        }
        let lock = lock(beside(&path, ".lock"))?;
        let publisher = FilePublisher {
            marker_path: beside(&path, ".marker"),
            path,
            owner,
            claimed: None,
            _lock: lock,
        };
        if FileMarker::read(&publisher.marker_path)?.is_none() {
            publisher.refuse_unknown_output()?;
        }
        Ok(publisher)
    }

    fn refuse_unknown_output(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > 0 => Err(Error::config(format!(
                "the output {} exists and was not written by this topology (there is no marker \
                 {}); move it away or give another path",
                self.path.display(),
                self.marker_path.display()
            ))),
            Ok(_) => Ok(()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(why) => Err(self.failed("looking at its length", &why)),
        }
    }

    fn read_marker(&self) -> Result<Option<FileMarker>> {
        let marker = FileMarker::read(&self.marker_path)?;
        if let Some(marker) = &marker {
            marker.check_owner(&self.marker_path, &self.owner)?;
        }
        Ok(marker)
    }

    /// The claimed file, if the marker on disk is still the one that this publisher wrote last.
    fn owned(&self) -> Result<&Claimed> {
        let on_disk = self.read_marker()?;
        let Some(claimed) = &self.claimed else {
            return Err(Error::bug(format!(
                "the output {} is written to before it was claimed",
                self.path.display()
            )));
        };
        match on_disk {
            Some(marker) if marker == claimed.marker => {
                self.check_in_place(claimed).map(|()| claimed)
            }
            Some(marker) => Err(Error::foreign(format!(
                "the marker {} was changed under this run: it names run {} and batch {}, and this \
                 run left run {} and batch {}; stop the other writer",
                self.marker_path.display(),
                marker.incarnation,
                marker.txid,
                claimed.marker.incarnation,
                claimed.marker.txid
            ))),
            None => Err(Error::sink(format!(
                "the marker {} was removed under this run, so what {} holds is unknown; restore \
                 it, or give the sink another path",
                self.marker_path.display(),
                self.path.display()
            ))),
        }
    }

    /// Checks that the path leads to the claimed file, which has all that was left in it.
    fn check_in_place(&self, claimed: &Claimed) -> Result<()> {
        let failed = |why: io::Error| self.failed("looking at it", &why);
        let ours = claimed.file.metadata().map_err(failed)?;
        let at_path = match fs::metadata(&self.path) {
            Ok(metadata) => Some(FileId::of(&metadata)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Err(why) => return Err(failed(why)),
        };
        if at_path != Some(FileId::of(&ours)) {
            let what =
                if at_path.is_none() { "renamed or removed" } else { "replaced by another file" };
            return Err(Error::sink(format!(
                "the output {} was {what} under this run: move it back, or restore it with its \
                 marker, and start again (to rotate an output, stop the run, move the file and {} \
                 away together, and start it)",
                self.path.display(),
                self.marker_path.display()
            )));
        }
        if ours.len() < claimed.marker.length {
            return Err(self.cut(ours.len(), claimed.marker.length));
        }
        Ok(())
    }

    fn cut(&self, has: u64, length: u64) -> Error {
        Error::sink(format!(
            "the output {} was cut or overwritten under this run: it had {length} bytes and has \
             {has}; restore it with its marker from one backup, or give the sink another path (to \
             rotate an output, stop the run, move the file and {} away together, and start it)",
            self.path.display(),
            self.marker_path.display()
        ))
    }

    /// Takes back what is behind the marker's length.
    fn cut_back(&self, file: &File, length: u64) -> Result<()> {
        let has = file.metadata().map_err(|why| self.failed("looking at its length", &why))?.len();
        if has > length {
            file.set_len(length).map_err(|why| self.failed("cutting it back", &why))?;
        }
        Ok(())
    }

    /// Opens the file that `marker` is of, and checks that it is.
    fn open_marked(&self, marker: &FileMarker) -> Result<File> {
        let file =
            OpenOptions::new().read(true).write(true).open(&self.path).map_err(|why| match why
                .kind()
            {
                io::ErrorKind::NotFound => Error::sink(format!(
                    "the output {} is missing: its marker says {} bytes; restore both from one \
                 backup, or give the sink another path",
                    self.path.display(),
                    marker.length
                )),
                _ => self.failed("opening it", &why),
            })?;
        let has = file.metadata().map_err(|why| self.failed("looking at its length", &why))?.len();
        if has < marker.length {
            return Err(Error::sink(format!(
                "the output {} was truncated: its marker says {} bytes, the file has {has}; \
                 restore both from one backup, or give the sink another path",
                self.path.display(),
                marker.length
            )));
        }
        if !marker.is_of(&file).map_err(|why| self.failed("reading it", &why))? {
            return Err(Error::sink(format!(
                "the output {} was changed or replaced: what it has before byte {} is not what \
                 was written; restore both from one backup, or give the sink another path",
                self.path.display(),
                marker.length
            )));
        }
        Ok(file)
    }

    fn failed(&self, doing: &str, why: &io::Error) -> Error {
        let what = format!(
            "the output {}: nothing is lost, it is written again at the next start: {doing}",
            self.path.display()
        );
        system::error(what, why)
    }
}

impl Publisher for FilePublisher {
    fn is_settled(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        let marker = self.read_marker()?;
        // A start looks here before it changes anything: a file that is not its marker's is refused
        // then already.
        marker
            .as_ref()
            .filter(|marker| marker.length > 0)
            .map(|marker| self.open_marked(marker))
            .transpose()?;
        Ok(marker.map(FileMarker::seen))
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        self.claimed = None;
        let Some(marker) = self.read_marker()? else { return Ok(None) };
        if marker.incarnation == self.owner.incarnation && marker.length > 0 {
            let file = self.open_marked(&marker)?;
            self.cut_back(&file, marker.length)?;
            self.claimed = Some(Claimed { file, marker });
        } else if marker.incarnation == self.owner.incarnation {
            self.claim(marker.txid)?;
        }
        self.marker()
    }

    fn claim(&mut self, txid: Txid) -> Result<()> {
        self.claimed = None;
        let (file, length) = match self.read_marker()? {
            Some(marker) if marker.length > 0 => (self.open_marked(&marker)?, marker.length),
            marker => {
                if marker.is_none() {
                    self.refuse_unknown_output()?;
                }
                let open = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&self.path);
                (open.map_err(|why| self.failed("opening it", &why))?, 0)
            }
        };
        self.cut_back(&file, length)?;
        let marker = FileMarker::new(&self.owner, txid, &file, length);
        let marker = marker.map_err(|why| self.failed("reading it", &why))?;
        marker.write(&self.marker_path).map_err(|why| self.failed("writing its marker", &why))?;
        self.claimed = Some(Claimed { file, marker });
        Ok(())
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        let claimed = self.owned()?;
        let length = claimed.marker.length;
        let mut last = claimed.marker.txid;
        for entry in entries {
            if entry.txid <= last {
                return Err(Error::bug(format!(
                    "the output {}: batch {} is published after batch {last}",
                    self.path.display(),
                    entry.txid
                )));
            }
            last = entry.txid;
        }
        // What an earlier prepared value left, if it was neither committed nor dropped.
        self.cut_back(&claimed.file, length)?;
        let mut prepared = PreparedLines {
            publisher: self,
            from: length,
            end: length,
            first: Vec::new(),
            txid: last,
            armed: true,
        };
        prepared.append(entries)?;
        Ok(Box::new(prepared))
    }
}

/// Lines at the end of the file that the marker does not cover yet. Dropped, it cuts them off
/// again.
struct PreparedLines<'a> {
    publisher: &'a mut FilePublisher,
    from: u64,
    end: u64,
    /// The first up to 4 KiB of them.
    first: Vec<u8>,
    txid: Txid,
    armed: bool,
}

impl PreparedLines<'_> {
    fn append(&mut self, entries: &[Entry]) -> Result<()> {
        const BLOCK: usize = 256 << 10;
        let mut block = Vec::with_capacity(BLOCK);
        for record in entries.iter().flat_map(Entry::records) {
            block.extend_from_slice(record);
            block.push(b'\n');
            if block.len() >= BLOCK {
                self.write(&block)?;
                block.clear();
            }
        }
        self.write(&block)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = &self.claimed().file;
        file.write_all_at(bytes, self.end)
            .map_err(|why| self.publisher.failed("writing to it", &why))?;
        if self.end == self.from {
            self.first = bytes[..bytes.len().min(4 << 10)].to_vec();
        }
        self.end += u64::try_from(bytes.len()).expect("a length in memory fits 64 bits");
        Ok(())
    }

    /// Checks that the file was not cut between the writes: writing on would leave zeros where its
    /// content was.
    fn check_not_cut(&self) -> Result<()> {
        let claimed = self.claimed();
        let failed = |why: io::Error| self.publisher.failed("reading it", &why);
        let has = claimed.file.metadata().map_err(failed)?.len();
        let mut first = vec![0; self.first.len()];
        let whole = has == self.end
            && claimed.marker.is_of(&claimed.file).map_err(failed)?
            && claimed
                .file
                .read_exact_at(&mut first, self.from)
                .map(|()| first == self.first)
                .map_err(failed)?;
        if whole { Ok(()) } else { Err(self.publisher.cut(has, self.end)) }
    }

    fn claimed(&self) -> &Claimed {
        self.publisher
            .claimed
            .as_ref()
            .expect("only a claimed file is prepared, and it is borrowed since")
    }
}

impl Prepared for PreparedLines<'_> {
    fn commit(mut self: Box<Self>) -> Result<Outcome> {
        let claimed = self.publisher.owned()?;
        claimed.file.sync_data().map_err(|why| self.publisher.failed("syncing it", &why))?;
        self.check_not_cut()?;
        let marker = FileMarker::new(&self.publisher.owner, self.txid, &claimed.file, self.end);
        let marker = marker.map_err(|why| self.publisher.failed("reading it", &why))?;
        // From here on the new marker may be on disk, also when writing it fails: the lines must
        // stay, and the next claim decides.
        self.armed = false;
        if let Err(why) = marker.write(&self.publisher.marker_path) {
            self.publisher.claimed = None;
            return Err(self.publisher.failed("writing its marker", &why));
        }
        if let Some(claimed) = &mut self.publisher.claimed {
            claimed.marker = marker;
        }
        Ok(Outcome::Confirmed)
    }
}

impl Drop for PreparedLines<'_> {
    fn drop(&mut self) {
        // A file that another run took over is no longer ours to cut.
        if self.armed && self.publisher.owned().is_ok() {
            // If it fails, the next prepare or claim cuts the file back.
            let _ = self.claimed().file.set_len(self.from);
        }
    }
}

fn lock(path: PathBuf) -> Result<File> {
    let failed = |why: io::Error| system::error(format!("locking {}", path.display()), &why);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::try_again(format!(
            "the output's lock {} is held by another process (or another sink of this one); stop \
             it, or give the sink another path",
            path.display()
        ))),
        Err(TryLockError::Error(why)) => Err(failed(why)),
    }
}
