//! The parts of this folder that fuzz targets use: see `fuzz/src/files.rs`.

use super::marker::FileMarker;
use super::witness::{Identity, Witness};
use std::path::Path;
use tidemill_engine::sink::Marker;
use tidemill_state::{Error, Position, Result};

/// Returns the same position, with its witness read and written again.
///
/// # Errors
/// The witness is none of this source.
#[doc(hidden)]
pub fn rewritten(position: &Position) -> Result<Position> {
    Ok(Witness::read("partition", position)?.position(position.offset))
}

/// Looks at the first bytes of a file by the witness of a position: whether they are its file's,
/// whether the file began so, and how many of them the two have in common.
///
/// # Errors
/// The witness is none of this source.
#[doc(hidden)]
pub fn compare(position: &Position, head: &[u8]) -> Result<(bool, bool, usize)> {
    let Witness { begins, .. } = Witness::read("partition", position)?;
    Ok((begins.fits(head), begins.begins_as(head), begins.shares(head)))
}

/// The same for a file that began with `first`.
#[doc(hidden)]
#[must_use]
pub fn compare_heads(first: &[u8], head: &[u8]) -> (bool, bool, usize) {
    let begins = Identity::of(first);
    (begins.fits(head), begins.begins_as(head), begins.shares(head))
}

/// Reads the marker beside an output file, and writes it again.
///
/// # Errors
/// As the sink has them.
#[doc(hidden)]
pub fn read_marker(bytes: &[u8]) -> Result<(Marker, Vec<u8>)> {
    let marker = FileMarker::parse(Path::new("marker"), bytes)?;
    let again = marker.to_bytes().map_err(|why| Error::bug(why.to_string()))?;
    Ok((marker.seen(), again))
}
