//! Bytes of the input in an error message: bounded, and escaped so that they cannot break the
//! message's line or the terminal.

use std::fmt::Write;

const MOST_BYTES: usize = 80;

/// The head of `bytes`, in quotes.
pub(super) fn head(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes[..bytes.len().min(MOST_BYTES)].utf8_chunks() {
        write!(text, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())
            .expect("a String takes everything");
    }
    text.push('"');
    if bytes.len() > MOST_BYTES {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_are_bounded_and_escaped() {
        assert_eq!(super::head("a\tß".as_bytes()), "\"a\\tß\"");
        assert_eq!(super::head(b"\xff\x1b"), "\"\\xff\\u{1b}\"");
        assert!(super::head(&[b'x'; 1000]).len() < 100);
    }
}
