//! The marker beside an output file: who wrote the file, up to which batch, and how long it was
//! then, and how it ended.
//!
//! It is JSON, for whoever looks into it after a crash, and is replaced as a whole: a new file,
//! synced, renamed over the old one.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tidemill_engine::sink::{Marker, Owner};
use tidemill_state::{Error, Incarnation, Result, Txid, system};
use xxhash_rust::xxh3::xxh3_64;

const FORMAT: u32 = 1;

/// The content of the marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMarker {
    format: u32,
    topology: String,
    sink: String,
    /// The last batch whose output is in the file.
    pub(super) txid: Txid,
    pub(super) incarnation: Incarnation,
    /// The length of the file with that output, in bytes.
    pub(super) length: u64,
    /// The checksum (xxh3, hexadecimal) of the last up to 4 KiB before that length: another file of
    /// the same name is not taken for this one.
    pub(super) tail: String,
}

/// The number of bytes before its length a marker remembers.
const TAIL_BYTES: u64 = 4 << 10;

/// The marker as it is written: with the checksum (xxh3, hexadecimal) of its compact JSON without
/// the checksum.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    marker: FileMarker,
    checksum: String,
}

impl FileMarker {
    /// The marker of `file` as it is up to `length`.
    pub(super) fn new(
        owner: &Owner,
        txid: Txid,
        file: &File,
        length: u64,
    ) -> io::Result<FileMarker> {
        Ok(FileMarker {
            format: FORMAT,
            topology: owner.topology.clone(),
            sink: owner.sink.clone(),
            txid,
            incarnation: owner.incarnation,
            length,
            tail: tail(file, length)?,
        })
    }

    /// The marker at `path`; none if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<FileMarker>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => {
                return Err(system::error(format!("reading the marker {}", path.display()), &why));
            }
        };
        FileMarker::parse(path, &bytes).map(Some)
    }

    /// The marker in the bytes of the file at `path`.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<FileMarker> {
        let damaged = |why: String| {
            Error::sink(format!(
                "the marker {} is damaged ({why}), so what its output file holds is unknown; \
                 restore both from one backup, or give the sink another path",
                path.display()
            ))
        };
        let sealed: Sealed =
            serde_json::from_slice(bytes).map_err(|why| damaged(why.to_string()))?;
        if sealed.marker.format != FORMAT {
            return Err(Error::sink(format!(
                "the marker {} has format {}, and this version knows {FORMAT}; run the version \
                 that wrote it",
                path.display(),
                sealed.marker.format
            )));
        }
        if sealed.checksum != sealed.marker.checksum() {
            return Err(damaged("its checksum is wrong".into()));
        }
        Ok(sealed.marker)
    }

    /// Replaces the marker at `path`, durably: when this returns, no crash brings the old one back.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let json = self.to_bytes().map_err(io::Error::other)?;
        let new = beside(path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder_of(path)
    }

    /// The bytes of the marker's file.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let sealed = Sealed { marker: self.clone(), checksum: self.checksum() };
        let mut json = serde_json::to_vec(&sealed)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Refuses a marker that `owner` may not write over.
    pub(super) fn check_owner(&self, path: &Path, owner: &Owner) -> Result<()> {
        if (&self.topology, &self.sink) != (&owner.topology, &owner.sink) {
            return Err(Error::foreign(format!(
                "the marker {} belongs to sink {:?} of topology {:?}, and this is sink {:?} of \
                 topology {:?}; give each sink a path of its own",
                path.display(),
                self.sink,
                self.topology,
                owner.sink,
                owner.topology
            )));
        }
        let (theirs, ours) = (self.incarnation, owner.incarnation);
        if theirs.counter > ours.counter
            || (theirs.counter == ours.counter && theirs.nonce != ours.nonce)
        {
            return Err(Error::foreign(format!(
                "the marker {} was written by run {theirs} of this topology, and this is run \
                 {ours}: another run took the sink over; stop one of the two, and if this state \
                 is an older copy, start from the newer one",
                path.display()
            )));
        }
        Ok(())
    }

    /// The marker as the engine sees it.
    pub(super) fn seen(self) -> Marker {
        Marker { topology: self.topology, txid: self.txid, incarnation: self.incarnation }
    }

    /// Returns whether `file` is, up to the marker's length, what was written.
    pub(super) fn is_of(&self, file: &File) -> io::Result<bool> {
        Ok(tail(file, self.length)? == self.tail)
    }

    fn checksum(&self) -> String {
        let json = serde_json::to_vec(self).expect("strings and numbers are JSON");
        format!("{:016x}", xxh3_64(&json))
    }
}

fn tail(file: &File, length: u64) -> io::Result<String> {
    let from = length.saturating_sub(TAIL_BYTES);
    let mut bytes = vec![0; usize::try_from(length - from).expect("it is at most TAIL_BYTES")];
    file.read_exact_at(&mut bytes, from)?;
    Ok(format!("{:016x}", xxh3_64(&bytes)))
}

/// A path with `suffix` after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a file's name durable: created or renamed, it is there after a power loss.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder that a path is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
