//! Text from outside, made fit for a terminal: file names, topics, keys and the errors that quote
//! them.
//!
//! A control character in a name can move the cursor, colour or erase what was printed, or begin a
//! line that looks like one of the program's own.

use std::borrow::Cow;

/// Returns the text with its control characters escaped as Rust writes them, line breaks and tabs
/// too: one line.
///
/// ```
/// use tidemill_state::printable;
/// assert_eq!(printable::line("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
/// assert_eq!(printable::line("täglich"), "täglich");
/// ```
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// Returns the text with its control characters escaped, but for line breaks and tabs: for a
/// message that may have several lines of its own.
///
/// ```
/// assert_eq!(tidemill_state::printable::lines("a\n\tb\r\u{9b}"), "a\n\tb\\r\\u{9b}");
/// ```
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_harmful(character) && !matches!(character, '\n' | '\t'))
}

/// Returns JSON whose control characters are escaped as JSON has it: the same values, and nothing
/// in it that a terminal would obey.
///
/// ```
/// assert_eq!(tidemill_state::printable::json("\"\u{9b}2J\""), "\"\\u009b2J\"");
/// ```
#[must_use]
pub fn json(json: &str) -> Cow<'_, str> {
    // Below a space, JSON has only the white space between its parts: within texts it is escaped.
    let is_raw = |character: char| character >= ' ' && is_harmful(character);
    if !json.contains(is_raw) {
        return Cow::Borrowed(json);
    }
    let escape = |character: char| match character {
        raw if is_raw(raw) => format!("\\u{:04x}", u32::from(raw)),
        other => other.to_string(),
    };
    Cow::Owned(json.chars().map(escape).collect())
}

/// A control character, or one that turns the direction of what follows.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let escape = |character: char| {
        if is_escaped(character) {
            character.escape_default().to_string()
        } else {
            character.to_string()
        }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_is_escaped_and_nothing_else() {
        let harmful = (0..0x20)
            .chain(0x7f..0xa0)
            .filter_map(char::from_u32)
            .chain(['\u{202e}', '\u{2066}', '\u{2028}']);
        for character in harmful {
            let text = format!("a{character}b");
            assert_eq!(line(&text), format!("a{}b", character.escape_default()), "{character:?}");
            let kept = lines(&text);
            assert_eq!(kept.contains(character), matches!(character, '\n' | '\t'), "{character:?}");
            let quoted = serde_json::to_string(&text).expect("a text");
            let shown = json(&quoted);
            assert!(!shown.contains(character), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), text);
        }
        for text in ["", "plain", "日本語 ü \u{a0}", "back\\slash", "\"quoted\""] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(json("{\n  \"a\": 1\n}"), "{\n  \"a\": 1\n}");
    }
}
