//! The beginning of a text: byte order marks, and encodings other than UTF-8.

/// The beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// UTF-8, as far as can be seen, after a mark of so many bytes.
    Text(usize),
    /// It takes more bytes to see.
    Unclear,
    /// In this encoding, which `iconv` knows by that name.
    Encoded(&'static str),
    /// Zeros, as a writer leaves that writes on at its old offset after the file was cut.
    Zeros,
}

/// Looks at the first bytes of a text, which are all of it if `whole`.
pub(super) fn beginning(head: &[u8], whole: bool) -> Beginning {
    match head {
        [0xef, 0xbb, 0xbf, ..] => Beginning::Text(3),
        [0xff, 0xfe, 0, 0, ..] => Beginning::Encoded("UTF-32LE"),
        [0, 0, 0xfe, 0xff, ..] => Beginning::Encoded("UTF-32BE"),
        [0xff, 0xfe, _, _, ..] => Beginning::Encoded("UTF-16LE"),
        [0xfe, 0xff, _, _, ..] => Beginning::Encoded("UTF-16BE"),
        // Without a mark, letters of the Latin alphabet and line ends still show it.
        [0, 0, 0, 0, ..] => Beginning::Zeros,
        [0, 0, 0, _, ..] => Beginning::Encoded("UTF-32BE"),
        [_, 0, 0, 0, ..] => Beginning::Encoded("UTF-32LE"),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => Beginning::Encoded("UTF-16BE"),
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => Beginning::Encoded("UTF-16LE"),
        [_, _, _, _, ..] => Beginning::Text(0),
        [0xff, 0xfe, ..] if whole => Beginning::Encoded("UTF-16LE"),
        [0xfe, 0xff, ..] if whole => Beginning::Encoded("UTF-16BE"),
        _ if whole || head.contains(&b'\n') && !head.contains(&0) => Beginning::Text(0),
        _ => Beginning::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_how_a_text_begins() {
        for (head, whole, expected) in [
            (&b"\xef\xbb\xbfTide"[..], false, Beginning::Text(3)),
            (b"\xef\xbb\xbf", true, Beginning::Text(3)),
            (b"\xef\xbb", false, Beginning::Unclear),
            (b"\xef\xbb", true, Beginning::Text(0)),
            (b"", false, Beginning::Unclear),
            (b"a\n", false, Beginning::Text(0)),
            (b"\n", false, Beginning::Text(0)),
            (b"abc", false, Beginning::Unclear),
            (b"abcd", false, Beginning::Text(0)),
            (b"\xff\xfeT\0i\0", false, Beginning::Encoded("UTF-16LE")),
            (b"\xfe\xff\0T", false, Beginning::Encoded("UTF-16BE")),
            (b"\xfe\xff", true, Beginning::Encoded("UTF-16BE")),
            (b"T\0i\0", false, Beginning::Encoded("UTF-16LE")),
            (b"\0T\0i", false, Beginning::Encoded("UTF-16BE")),
            (b"\xff\xfe\0\0T\0\0\0", false, Beginning::Encoded("UTF-32LE")),
            (b"\0\0\0T", false, Beginning::Encoded("UTF-32BE")),
            (b"T\0\0\0", false, Beginning::Encoded("UTF-32LE")),
            (b"\0\0\0\0\0T", false, Beginning::Zeros),
            (b"\0\n", false, Beginning::Unclear),
            (b"a\0bc", false, Beginning::Text(0)),
        ] {
            assert_eq!(beginning(head, whole), expected, "{head:?}, whole: {whole}");
        }
    }
}
