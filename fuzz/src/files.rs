//! Target: bytes of the file source and sink. Witnesses of positions and markers come back; a file
//! is recognised by its first bytes as a plain comparison recognises it.

use crate::input::ByteReader;
use crate::{Seed, chosen, is_explained};
use tidemill_connectors::files::fuzz as files;
use tidemill_state::Position;

/// The number of first bytes that a witness remembers.
const HEAD_BYTES: usize = 4 << 10;

/// Runs the target: the first byte chooses what the rest is.
pub fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 3 {
        0 => witness(bytes),
        1 => heads(bytes),
        _ => marker(bytes),
    }
}

fn witness(bytes: &[u8]) {
    let position = Position { offset: 7, witness: bytes.to_vec() };
    let Some(again) = is_explained(files::rewritten(&position)) else { return };
    assert_eq!(files::rewritten(&again).expect("it was written so"), again);
    // A witness of any content can be compared with any file.
    for head in [&[][..], b"\n", bytes, &[b'a'; HEAD_BYTES]] {
        let compared = files::compare(&position, head).expect("it was read above");
        assert_eq!(files::compare(&again, head).expect("it was read above"), compared);
        assert!(compared.2 <= head.len(), "no more bytes are shared than there are");
    }
}

/// Two files: what they have in common, the rest of the first one and that of the second.
fn heads(bytes: &[u8]) {
    let mut input = ByteReader::new(bytes);
    let (repeated, common) = (usize::from(input.below(40)) + 1, input.bytes().repeat(8));
    let common = common[..common.len() * repeated / 40].to_vec();
    let first = [&common[..], input.bytes()].concat();
    let second = [&common[..], input.rest()].concat();
    let (fits, begins, shared) = files::compare_heads(&first, &second);
    let known = &first[..first.len().min(HEAD_BYTES)];
    assert_eq!(fits, second.starts_with(known), "{first:?} {second:?}");
    let equal = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    assert!(shared <= equal, "{shared} bytes are shared of {equal}: {first:?} {second:?}");
    assert!(shared == 0 || shared.is_power_of_two());
    let longest = 1 << equal.min(known.len()).max(1).ilog2();
    assert_eq!(shared, if equal.min(known.len()) == 0 { 0 } else { longest });
    if second.len() >= known.len() {
        assert_eq!(begins, !known.is_empty() && fits);
    } else if known.starts_with(&second) {
        assert_eq!(begins, !second.is_empty(), "{first:?} {second:?}");
    } else if begins {
        assert!(shared * 2 > second.len(), "a half of the bytes that are there is compared");
    }
}

fn marker(bytes: &[u8]) {
    let Some((marker, again)) = is_explained(files::read_marker(bytes)) else { return };
    assert_eq!(files::read_marker(&again).expect("it was written so"), (marker, again.clone()));
    // The checksum finds the change of a digit.
    for at in (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()) {
        let mut other = bytes.to_vec();
        other[at] = if other[at] == b'9' { b'0' } else { other[at] + 1 };
        if let Some((_, other)) = is_explained(files::read_marker(&other)) {
            assert_eq!(other, again, "a checksum holds for another marker");
        }
    }
}

/// Returns witnesses, heads of files and a marker.
pub fn seeds() -> Vec<Seed> {
    let mut old = vec![0, 1];
    [3_u64, 4, 5, 0].iter().for_each(|part| old.extend_from_slice(&part.to_le_bytes()));
    vec![
        ("witness-first-format", old),
        ("witness", chosen(0, WITNESS.as_bytes())),
        ("heads-equal", chosen(1, b"\x27\x08line 1\nl\x03abc\x61bc")),
        ("heads-cut", chosen(1, b"\x13\x10line 1\nline 2\nli\x30ne 3\nline 4\n")),
        ("marker", chosen(2, MARKER.as_bytes())),
    ]
}

/// A witness as the source has written one, of a compressed file that is perhaps a copy.
const WITNESS: &str = concat!(
    "\u{2}",
    r#"{"lines":2,"head":17,"tail":18,"packed":0,"verified":0,"ended":false,"begins":{"length":2,"#,
    r#""whole":9,"doubled":[1,2],"lines":[[2,5]]},"unread":null,"sum":{"blocks":1,"all":2},"#,
    r#""file":{"path":"a/b.gz","real":"/a/b.gz","device":1,"inode":2,"born":3,"length":4,"#,
    r#""modified":5,"packed":{"length":1,"whole":6,"doubled":[7]},"original_born":2}}"#
);

/// A marker as the sink has written one.
const MARKER: &str = concat!(
    r#"{"format":1,"topology":"word_count","sink":"out","txid":13,"#,
    r#""incarnation":{"counter":1,"nonce":15939741704925854819},"length":2916,"#,
    r#""tail":"bf8549198a244424","checksum":"c21730ab5df67309"}"#,
    "\n"
);
