//! `query`: asks a query of a running topology, over its port.

use super::arguments::At;
use super::output::print;
use super::remote::{Remote, path_part};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tidemill_state::Result;

/// The part of an answer that is printed, as it came: read as numbers, digits would be lost.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Asks, and prints the result; with `json` the batch's number and the state's line too.
pub(super) fn query(name: &str, arguments: &str, at: &At, json: bool) -> Result<()> {
    let is_json = serde_json::from_str::<IgnoredAny>(arguments).is_ok();
    let arguments = if is_json { arguments.to_string() } else { serde_json::Value::from(arguments).to_string() };
    let remote = Remote::of(at)?;
    let answer = remote.post(&format!("/v1/query/{}", path_part(name)), arguments)?;
    if json { print(answer.text_or_error()?) } else { print(answer.read::<Answer<'_>>()?.result.get()) }
}
