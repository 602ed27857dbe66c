//! Limits of the operating system on this process: raised where they may be, and met as errors
//! rather than as the end of the process.

use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidemill_state::system;

/// With fewer open files than this, a run names the limit at its start: states, connections and
/// followed files share it.
const FEW_FILES: u64 = 4096;

/// Raises the limit of open files to the most that this process may have, and has the limit of a
/// file's size met as an error of the write: by default its signal ends the process without a word.
pub(super) fn prepare() {
    if let Err(error) = system::raise_open_files() {
        tracing::warn!("{error}");
    }
    let no_handler =
        |why| tracing::debug!(%why, "a file that grows beyond its limit ends this process");
    signal_hook::flag::register(Signal::XFSZ.as_raw(), Arc::new(AtomicBool::new(false)))
        .map_or_else(no_handler, drop);
}

/// Returns the line that names a low limit of open files.
pub(super) fn in_words() -> Option<String> {
    let few = system::most_open_files().filter(|most| *most < FEW_FILES);
    few.map(|most| {
        format!("this process may have {most} files open: more is better (ulimit -n, LimitNOFILE)")
    })
}
