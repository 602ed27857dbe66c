//! Fuzz targets: functions of bytes, each of which panics if a property does not hold.
//!
//! | target | property |
//! | --- | --- |
//! | [`codec`] | a value that is decoded is encoded to bytes that decode to it again |
//! | [`keys`] | encoded keys have the order of the keys, and come back |
//! | [`delta`] | a delta that is read is written again with the same changes, and no byte is hidden |
//! | [`outbox`] | an entry that is read is written again with the same bytes |
//! | [`kafka`] | messages, witnesses and markers come back; a damaged marker is never another one |
//! | [`files`] | witnesses and markers come back; a file is recognised as by a plain comparison |
//! | [`json`] | values come back, and are those that `serde_json` reads |
//! | [`proto`] | messages and the errors in a status come back |
//! | [`registry`] | values with a schema's id come back |
//! | [`hot`] | the hot map and folds give what a sorted map gives, as of every batch held |
//!
//! `tests/fuzz/main.rs` runs them over `fuzz/corpus` and over random input, and `make fuzz` under
//! libFuzzer. A target's seeds are encodings as the program writes them: they lead the random input
//! past the first checks, and a seed whose bytes change shows that a format has changed.
//!
//! A target takes bytes alone, so that libFuzzer can run it. Structure is made of them by
//! [`input::ByteReader`].

pub mod codec;
pub mod delta;
pub mod files;
pub mod hot;
pub mod input;
pub mod json;
pub mod kafka;
pub mod keys;
pub mod outbox;
pub mod proto;
pub mod registry;

/// An input with its name in the corpus.
pub type Seed = (&'static str, Vec<u8>);

/// A function of bytes that asserts a property.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name: of its module, and of its folder in the corpus.
    pub name: &'static str,
    /// The function. It panics if the property does not hold.
    pub run: fn(&[u8]),
    /// The inputs that the corpus holds in any case.
    pub seeds: fn() -> Vec<Seed>,
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// All targets.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds }),*];
    };
}
targets! { codec delta files hot json kafka keys outbox proto registry }

/// Returns the target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Asserts that an error has a text, and drops it.
fn is_explained<T>(outcome: Result<T, impl ToString>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(!error.to_string().trim().is_empty(), "an error has a text");
            None
        }
    }
}

/// Returns an input whose first byte makes a choice.
fn chosen(choice: u8, rest: &[u8]) -> Vec<u8> {
    [&[choice], rest].concat()
}
