//! One record as one JSON line: the encoding that the file sink and the standard output share.

use serde::Serialize;
use tidemill_engine::json;
use tidemill_state::{Error, Result, type_names};

/// Appends `item` as JSON, without the newline.
pub(crate) fn encode_line<T: Serialize>(item: &T, into: &mut Vec<u8>) -> Result<()> {
    let start = into.len();
    json::write(item, &mut *into).map_err(|why| {
        Error::user_code(format!(
            "a record of type {} cannot be written as JSON: {why}",
            type_names::of::<T>()
        ))
    })?;
    // serde_json escapes newlines in strings, but a type may serialize itself as raw JSON text.
    if memchr::memchr(b'\n', &into[start..]).is_some() {
        return Err(Error::user_code(format!(
            "a record of type {} serializes to JSON with a line break in it, which would be two \
             lines for its readers; serialize it compactly",
            type_names::of::<T>()
        )));
    }
    Ok(())
}
