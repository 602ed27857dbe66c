//! What the environment asks of a run of the tests.

#![allow(dead_code, reason = "each test file uses a part of it")]

/// Whether more is asked for than a run of all tests has time for.
pub(crate) fn long() -> bool {
    std::env::var("TIDEMILL_LONG").is_ok_and(|long| long == "1")
}

/// The seed of a random run that is to be repeated.
pub(crate) fn seed() -> Option<u64> {
    std::env::var("TIDEMILL_TEST_SEED")
        .ok()
        .map(|seed| seed.parse().expect("TIDEMILL_TEST_SEED is a number"))
}

/// A part of the titles of the cases that alone are to be run.
pub(crate) fn case() -> Option<String> {
    std::env::var("TIDEMILL_TEST_CASE").ok()
}
