//! `query`: asks a query of a running topology, over its port.

use super::arguments::At;
use super::output::print;
use super::remote::{Remote, path_part};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tidemill_state::Result;

/// The status of an answer to arguments that are not of the query's type.
const BAD_REQUEST: u16 = 400;

/// The part of an answer that is printed, as it came: read as numbers, digits would be lost.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Asks, and prints the result; with `json` the batch's number and the state's line too.
///
/// An argument is taken as JSON, and as the text that it is if the query takes no such JSON: a word
/// may be a number.
pub(super) fn query(name: &str, arguments: &str, at: &At, json: bool) -> Result<()> {
    let remote = Remote::of(at)?;
    let ask = |arguments: String| remote.post(&format!("/v1/query/{}", path_part(name)), arguments);
    let as_text = || serde_json::Value::from(arguments).to_string();
    let is_json = serde_json::from_str::<IgnoredAny>(arguments).is_ok();
    let mut answer = ask(if is_json { arguments.to_string() } else { as_text() })?;
    if is_json && answer.status == BAD_REQUEST {
        let of_text = ask(as_text())?;
        if of_text.status != BAD_REQUEST {
            answer = of_text;
        }
    }
    if json {
        print(answer.text_or_error()?)
    } else {
        print(answer.read::<Answer<'_>>()?.result.get())
    }
}
