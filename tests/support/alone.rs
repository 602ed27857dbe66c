//! Tests that measure their own process: each runs in a process without other tests.

use std::process::Command;

/// The environment variable that names the test for which a process was started.
const ALONE: &str = "TIDEMILL_TEST_ALONE";

/// Runs `test` in a process of its own: this test binary once more, with only the test named
/// `name`. `name` is that of the calling test with its modules, as the test binary lists it.
#[track_caller]
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|given| given == name) {
        return test();
    }
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
