//! The name of a partition, as Tidemill records it: `topic[number]`.

use tidemill_state::{Error, Result};

/// Returns the name of a partition: `orders[3]`.
pub(super) fn name_of(topic: &str, partition: i32) -> String {
    format!("{topic}[{partition}]")
}

/// The topic and partition of a name.
pub(super) fn parse(name: &str) -> Result<(&str, i32)> {
    let parsed = name
        .strip_suffix(']')
        .and_then(|name| name.rsplit_once('['))
        .and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
    parsed.ok_or_else(|| {
        Error::damaged(format!("\"{name}\" is no partition of a topic, such as orders[3]"))
    })
}
