//! The dependencies that a checkout has compiled, for use by a new crate: RocksDB takes a quarter
//! of an hour.
//!
//! The crate has a folder of its own for compiled dependencies, so that `cargo clean` in it removes
//! nothing of the checkout's. Large files in the folder are the checkout's files under a second
//! name (hard links), or copies where there can be no links. Cargo treats the files as its own:
//! they keep their times, and the records about them hold no path of the checkout. Cargo recompiles
//! what does not fit.

use super::names::Lock;
use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The profile that is lent: what the checkout's own programs are built with.
const PROFILE: &str = "release";

/// Files of this many bytes are linked. Smaller ones are copied, because cargo may write into them.
const LARGE: u64 = 64 << 10;

/// The text with which cargo marks a folder that backups can leave out.
const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";

/// Returns the folder of compiled things that the running program lies in, else that of the
/// checkout.
pub(super) fn folder(sources: &Path) -> PathBuf {
    let program = std::env::current_exe().ok();
    let of_program = program
        .as_deref()
        .and_then(Path::parent)
        .filter(|folder| folder.ends_with(PROFILE))
        .and_then(Path::parent);
    let is_cargos = |folder: &&Path| folder.join(PROFILE).join(".fingerprint").is_dir();
    of_program.filter(is_cargos).map_or_else(|| sources.join("target"), Path::to_path_buf)
}

/// Puts what `from` has compiled of the packages of others into `to`. Returns how many packages
/// were found.
pub(super) fn lend(from: &Path, lock: &Lock, to: &Path) -> io::Result<usize> {
    let (from, to) = (from.join(PROFILE), to.join(PROFILE));
    let names: HashSet<&str> = lock.of_others().collect();
    // Each package has a folder `<name>-<hash>`, and files `lib<name>-<hash>.*`.
    let mut hashes = HashSet::new();
    for folder in ["build", ".fingerprint"] {
        for entry in entries(&from.join(folder))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((package, hash)) = name.rsplit_once('-') else { continue };
            if names.contains(package) && entry.file_type()?.is_dir() {
                copy_folder(&entry.path(), &to.join(folder).join(&name))?;
                hashes.insert(hash.to_string());
            }
        }
    }
    let target = to.join("deps");
    for entry in entries(&from.join("deps"))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.split('.').next().unwrap_or_default();
        if stem.rsplit_once('-').is_some_and(|(_, hash)| hashes.contains(hash))
            && entry.file_type()?.is_file()
        {
            fs::create_dir_all(&target)?;
            copy_file(&entry, &target.join(&name))?;
        }
    }
    if !hashes.is_empty() {
        fs::write(
            to.parent().expect("the profile lies in a folder").join("CACHEDIR.TAG"),
            CACHE_TAG,
        )?;
    }
    Ok(hashes.len())
}

/// Returns the entries of a folder; none if the folder is not there.
fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(why),
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in entries(from)? {
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else if kind.is_file() {
            copy_file(&entry, &to)?;
        }
    }
    Ok(())
}

fn copy_file(from: &DirEntry, to: &Path) -> io::Result<()> {
    let metadata = from.metadata()?;
    if metadata.len() >= LARGE && fs::hard_link(from.path(), to).is_ok() {
        return Ok(());
    }
    fs::copy(from.path(), to)?;
    // Cargo compares times to find what has to be compiled anew.
    fs::OpenOptions::new().append(true).open(to)?.set_modified(metadata.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_others_wrote_is_lent_with_its_times_and_the_checkouts_own_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let make = |path: &str, bytes: usize| {
            let path = from.join("release").join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, vec![b'x'; bytes]).expect("written");
            fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(long_ago))
                .expect("set");
        };
        make(".fingerprint/rocks-sys-0a1b/lib-rocks", 10);
        make("build/rocks-sys-0a1b/out/librocks.a", 100_000);
        make("build/rocks-sys-0a1b/output", 10);
        make("deps/librocks_sys-0a1b.rlib", 100_000);
        make("deps/librocks_sys-0a1b.d", 10);
        make(".fingerprint/mill-2c3d/lib-mill", 10);
        make("deps/libmill-2c3d.rlib", 100_000);
        make("mill", 100_000);
        let lock = Lock::read(
            "[[package]]\nname = \"rocks-sys\"\nsource = \"registry\"\n[[package]]\nname = \
             \"mill\"\n",
        );
        assert_eq!(lend(&from, &lock, &to).expect("lent"), 1);
        let mut lent = Vec::new();
        let mut folders = vec![to.clone()];
        while let Some(folder) = folders.pop() {
            for entry in entries(&folder).expect("read") {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    lent.push(entry.path().strip_prefix(&to).expect("below").display().to_string());
                    let modified =
                        entry.metadata().and_then(|metadata| metadata.modified()).expect("known");
                    assert_eq!(
                        modified == long_ago,
                        !entry.path().ends_with("CACHEDIR.TAG"),
                        "{:?}",
                        entry.path()
                    );
                }
            }
        }
        lent.sort_unstable();
        let expected = [
            "CACHEDIR.TAG",
            "release/.fingerprint/rocks-sys-0a1b/lib-rocks",
            "release/build/rocks-sys-0a1b/out/librocks.a",
            "release/build/rocks-sys-0a1b/output",
            "release/deps/librocks_sys-0a1b.d",
            "release/deps/librocks_sys-0a1b.rlib",
        ];
        assert_eq!(lent, expected);
        fs::remove_dir_all(&to).expect("cleaned");
        assert!(
            from.join("release/deps/librocks_sys-0a1b.rlib").exists(),
            "the checkout keeps its own"
        );
        assert_eq!(lend(&folder.path().join("none"), &lock, &to).expect("nothing is there"), 0);
        assert!(!to.exists());
    }
}
