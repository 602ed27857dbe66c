//! `tidemill new`: a crate with a topology that builds, runs and passes its test at once.

use super::output::print;
use std::fs;
use std::path::{Path, PathBuf};
use tidemill_state::{Error, Result, system};

/// Where this program was built: a crate made on the same machine can use it as it is.
const BUILT_IN: &str = env!("CARGO_MANIFEST_DIR");

const MAIN: &str = include_str!("new/main.rs.txt");
const CARGO: &str = include_str!("new/cargo.toml.txt");
const README: &str = include_str!("new/readme.md.txt");

/// How RocksDB is compiled here. A crate that does it otherwise would compile it again.
const CARGO_CONFIG: &str = include_str!("../../.cargo/config.toml");

const TEXT: &str = "The tide turns, and the mill turns with it.\nWhat the tide has brought is counted once.\n";

/// Makes the crate in a new folder. `tidemill`: the folder of Tidemill's own sources, if not those that this program was built from.
pub(super) fn new(folder: &Path, tidemill: Option<&Path>) -> Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(name)?;
    if fs::symlink_metadata(folder).is_ok() {
        return Err(Error::config(format!("{} is there already: give the name of a folder that is not", folder.display())));
    }
    let sources =
        match tidemill {
            Some(given) => Some(sources_in(given).ok_or_else(|| {
                Error::config(format!("--tidemill {}: there is no Cargo.toml of Tidemill in it", given.display()))
            })?),
            None => sources_in(Path::new(BUILT_IN)),
        };
    let dependency = match &sources {
        Some(sources) => format!("{{ path = {} }}", quoted(&sources.display().to_string())),
        None => format!("{{ git = {} }}", quoted(env!("CARGO_PKG_REPOSITORY"))),
    };
    let fill = |text: &str| {
        text.replace("DEPENDENCY", &dependency).replace("REPOSITORY", env!("CARGO_PKG_REPOSITORY")).replace("NAME", name)
    };
    let mut config = CARGO_CONFIG.to_string();
    if let Some(sources) = &sources {
        let target = sources.join("target").display().to_string();
        config
            .push_str(&format!("\n# What is compiled there is not compiled again.\n[build]\ntarget-dir = {}\n", quoted(&target)));
    }
    write(folder, "Cargo.toml", &fill(CARGO))?;
    write(folder, "src/main.rs", &fill(MAIN))?;
    write(folder, "README.md", &fill(README))?;
    write(folder, "data/tide.txt", TEXT)?;
    write(folder, ".gitignore", "/target\n/state\n")?;
    write(folder, ".cargo/config.toml", &config)?;
    if let Some(lock) = sources.as_ref().and_then(|sources| fs::read_to_string(sources.join("Cargo.lock")).ok()) {
        // The same versions, so that they are compiled once.
        write(folder, "Cargo.lock", &lock)?;
    }
    print(&format!(
        "made {folder}: a topology that counts words. Go on with\n\n  cd {folder}\n  cargo test --release\n  cargo run --release -- run --state state\n\nThen \
         open http://127.0.0.1:7070, and src/main.rs",
        folder = folder.display()
    ))
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

fn check_name(name: &str) -> Result<()> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if begins
        && name.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'))
        && name != "tidemill"
    {
        return Ok(());
    }
    Err(Error::config(format!(
        "\"{name}\" cannot be the name of a crate: begin with a letter, and use letters, digits, _ and - only, as in word_count"
    )))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let parent = path.parent().expect("it is in the folder");
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
    written.map_err(|why| system::error(format!("{} cannot be written", path.display()), &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates() {
        for good in ["orders", "word_count", "a1-b"] {
            check_name(good).expect(good);
        }
        for wrong in ["", "1st", "a b", "täglich", "a/b", "tidemill", "."] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
