//! `query`: asks a query of a running topology, over its port.

use super::arguments::At;
use super::output::print;
use super::remote::{Remote, path_part};
use serde_json::{Value as Json, json};
use tidemill_state::Result;

/// Asks, and prints the result; with `json` the batch's number and the state's line too.
pub(super) fn query(name: &str, arguments: &str, at: &At, json: bool) -> Result<()> {
    let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
    let remote = Remote::of(at)?;
    let answer: Json = remote.post(&format!("/v1/query/{}", path_part(name)), &arguments)?.or_error()?;
    print(&if json { answer.to_string() } else { answer["result"].to_string() })
}
