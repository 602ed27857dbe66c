//! The checkout that is tested.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Returns the repository's folder, from the environment of a test run. The path that was compiled
/// in may be that of another checkout with the same target folder.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.ancestors().find(|folder| folder.join("ARCHITECTURE.md").exists());
    root.expect("the tests lie in the repository").to_path_buf()
}

/// Returns the folder of what is compiled: of programs, of examples and of what tests keep.
pub(crate) fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("it is a folder in the target folder");
        // Without links in it: tests compare paths with those that the system gives.
        target.canonicalize().expect("these tests were built in it")
    })
}

/// Returns the path of a program of the facade, or of `examples/<name>`, as the build left it.
pub(crate) fn program(name: &str) -> PathBuf {
    let built = target().join("release").join(name);
    assert!(
        built.exists(),
        "{} is missing: cargo build --release --workspace --bins --examples",
        built.display()
    );
    built
}
