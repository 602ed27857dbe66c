//! What the environment asks of a run of the tests.

/// Whether more is asked for than a run of all tests has time for.
pub fn long() -> bool {
    std::env::var("TIDEMILL_LONG").is_ok_and(|long| long == "1")
}

/// The seed of a random run that is to be repeated.
pub fn seed() -> Option<u64> {
    std::env::var("TIDEMILL_TEST_SEED")
        .ok()
        .map(|seed| seed.parse().expect("TIDEMILL_TEST_SEED is a number"))
}

/// A part of the titles of the cases that alone are to be run.
pub fn case() -> Option<String> {
    std::env::var("TIDEMILL_TEST_CASE").ok()
}
