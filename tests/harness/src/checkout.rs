//! The checkout that is tested.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Returns the repository's folder, from the environment of a test run. The path that was compiled
/// in may be that of another checkout with the same target folder.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.ancestors().find(|folder| folder.join("ARCHITECTURE.md").exists());
    root.expect("the tests lie in the repository").to_path_buf()
}

/// Returns the folder of what is compiled: of programs, of examples and of what tests keep.
pub fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        let own = std::env::current_exe().expect("a test knows its own path");
        // Cargo marks its folder. A test that was copied elsewhere needs the variable.
        let marked = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
        let target = marked
            .map(Path::to_path_buf)
            .or_else(|| Some(PathBuf::from(std::env::var_os("CARGO_TARGET_DIR")?)));
        // Without links in it: tests compare paths with those that the system gives.
        let target = target.and_then(|target| target.canonicalize().ok());
        target.expect("a test lies in the target folder, or CARGO_TARGET_DIR names it")
    })
}

/// Returns the folder in the target folder for what tests keep.
pub fn scratch() -> PathBuf {
    let scratch = target().join("tmp");
    std::fs::create_dir_all(&scratch).expect("the target folder can be written");
    scratch
}

/// Returns the path of a program of the facade, or of `examples/<name>`, as the build left it.
pub fn program(name: &str) -> PathBuf {
    let built = target().join("release").join(name);
    assert!(
        built.exists(),
        "{} is missing: cargo build --release --workspace --bins --examples",
        built.display()
    );
    built
}
