//! Tests that measure memory, processor time or how long something takes: one at a time, and in a
//! process without other tests where they measure their own.

use crate::checkout;
use std::fs::File;
use std::process::Command;

/// The right to measure. Only one process has it at a time.
#[must_use = "others may measure as soon as it is dropped"]
pub struct Exclusive(#[allow(dead_code, reason = "the lock ends with it")] File);

/// Waits until no other test measures. What is measured is then not what another test loads the
/// machine with to measure it.
pub fn exclusive() -> Exclusive {
    let path = checkout::scratch().join("measuring.lock");
    let file = File::create(path).expect("the target folder can be written");
    // Its end is that of the file, also when the process is killed.
    file.lock().expect("a file on a local disk can be locked");
    Exclusive(file)
}

/// The environment variable that names the test for which a process was started.
const ALONE: &str = "TIDEMILL_TEST_ALONE";

/// Runs `test` in a process of its own, and [`exclusive`]: this test binary once more, with only
/// the test named `name`. `name` is that of the calling test with its modules, as the test binary lists it.
#[track_caller]
pub fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|given| given == name) {
        return test();
    }
    let _exclusive = exclusive();
    let mut command = Command::new(std::env::current_exe().expect("a process knows its binary"));
    let ran = command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .output();
    let ran = ran.expect("the operating system starts a process");
    let [out, err] =
        [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    print!("{out}");
    assert!(
        ran.status.success() && out.contains("1 passed"),
        "{name}, in a process of its own, failed:\n{out}\n{err}"
    );
}
