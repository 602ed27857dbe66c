//! `tidemill new`: a crate with a topology that builds, runs and passes its test at once.

mod compiled;
mod names;

use super::output::print;
use names::Lock;
use std::fs;
use std::path::{Path, PathBuf};
use tidemill_state::{Error, Result, system};

/// The folder in which this program was built. A crate made on the same machine can use the folder
/// as it is.
const BUILT_IN: &str = env!("CARGO_MANIFEST_DIR");

const MAIN: &str = include_str!("new/main.rs.txt");
const CARGO: &str = include_str!("new/cargo.toml.txt");
const README: &str = include_str!("new/readme.md.txt");
const VSCODE: &str = include_str!("new/vscode.json.txt");

/// The settings with which RocksDB is compiled here. A crate with others would compile RocksDB
/// again.
const CARGO_CONFIG: &str = include_str!("../../.cargo/config.toml");

const TEXT: &str =
    "The tide turns, and the mill turns with it.\nWhat the tide has brought is counted once.\n";

/// Makes the crate in a new folder. `tidemill`: the folder of Tidemill's own sources, if not those
/// that this program was built from.
pub(super) fn new(folder: &Path, tidemill: Option<&Path>) -> Result<()> {
    let sources = match tidemill {
        Some(given) => Some(sources_in(given).ok_or_else(|| {
            Error::config(format!(
                "--tidemill {}: there is no Cargo.toml of Tidemill in it",
                given.display()
            ))
        })?),
        None => sources_in(Path::new(BUILT_IN)),
    };
    let lock_text =
        sources.as_ref().and_then(|sources| fs::read_to_string(sources.join("Cargo.lock")).ok());
    let lock = Lock::read(lock_text.as_deref().unwrap_or_default());
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(why) = names::refusal(name, &lock) {
        return Err(Error::config(format!(
            "\"{name}\" cannot be the name of a crate: {why}. Give another one, such as word_count"
        )));
    }
    if fs::symlink_metadata(folder).is_ok() {
        return Err(Error::config(format!(
            "{} is there already: give the name of a folder that is not",
            folder.display()
        )));
    }
    let git = format!("{{ git = {} }}", quoted(env!("CARGO_PKG_REPOSITORY")));
    let dependency = match &sources {
        Some(sources) => format!("{{ path = {} }}", quoted(&sources.display().to_string())),
        None => git.clone(),
    };
    let fill = |text: &str| {
        let filled = text.replace("DEPENDENCY", &dependency).replace("GIT", &git);
        filled.replace("REPOSITORY", env!("CARGO_PKG_REPOSITORY")).replace("NAME", name)
    };
    write(folder, "Cargo.toml", &fill(CARGO))?;
    write(folder, "src/main.rs", &fill(MAIN))?;
    write(folder, "README.md", &fill(README))?;
    write(folder, "data/tide.txt", TEXT)?;
    write(folder, ".gitignore", "/target\n/state\n")?;
    write(folder, ".cargo/config.toml", &cargo_config(folder))?;
    write(folder, ".vscode/settings.json", VSCODE)?;
    if let Some(text) = &lock_text {
        // The same versions, so that they are compiled once.
        write(folder, "Cargo.lock", text)?;
    }
    let builds = if lends(sources.as_deref(), &lock, folder)? {
        "What Tidemill is built with is compiled already, for commands with --release"
    } else {
        "The first build compiles RocksDB, which takes 15 to 30 minutes; once, if each command \
         has --release"
    };
    print(&format!(
        "made {folder}: a topology that counts words. Go on with\n\n  cd {folder}\n  cargo test \
         --release\n  cargo run --release -- run --state state\n\nThen open \
         http://127.0.0.1:7070, and src/main.rs. {builds}.\nREADME.md has how editors \
         (rust-analyzer) and cargo check do without compiling RocksDB again",
        folder = folder.display()
    ))
}

/// Returns the crate's configuration of cargo. Cargo joins it with those of the folders above, of
/// the checkout for example: flags that stand in both would be given twice, and everything would be
/// compiled again with them.
fn cargo_config(folder: &Path) -> String {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let above = folder.ancestors().skip(1).map(|above| above.join(".cargo/config.toml"));
    let flags = rustflags(CARGO_CONFIG);
    let of_above = above
        .into_iter()
        .find(|file| fs::read_to_string(file).is_ok_and(|text| rustflags(&text) == flags));
    match of_above {
        Some(file) => format!(
            "# The flags of the compiler stand in {}, which cargo reads too.\n\
             # If this crate moves to another place, take them from there.\n",
            file.display()
        ),
        None => CARGO_CONFIG.to_owned(),
    }
}

/// Returns the flags of the compiler by target, in a configuration of cargo.
fn rustflags(config: &str) -> Vec<(String, toml::Value)> {
    let config: toml::Table = config.parse().unwrap_or_default();
    let targets = config.get("target").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    targets
        .into_iter()
        .filter_map(|(target, set)| Some((target, set.get("rustflags")?.clone())))
        .collect()
}

/// Puts what the checkout has compiled into the crate. Returns whether there was something.
fn lends(sources: Option<&Path>, lock: &Lock, folder: &Path) -> Result<bool> {
    let Some(sources) = sources else { return Ok(false) };
    let (from, to) = (compiled::folder(sources), folder.join("target"));
    compiled::lend(&from, lock, &to).map(|lent| lent > 0).map_err(|why| {
        Error::try_again(format!(
            "what is compiled in {} cannot be put into {}: {why}",
            from.display(),
            to.display()
        ))
    })
}

/// The folder in full, if Tidemill's sources are in it.
fn sources_in(folder: &Path) -> Option<PathBuf> {
    let cargo = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    if !cargo.lines().any(|line| line.trim() == "name = \"tidemill\"") {
        return None;
    }
    folder.canonicalize().ok()
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let parent = path.parent().expect("it is in the folder");
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
    written.map_err(|why| system::error(format!("{} cannot be written", path.display()), &why))
}
