//! The format of a message's value: a byte 0, the id of its schema in four bytes, big-endian, then
//! the body. The body of a Protobuf message begins with its indexes: which message of the schema it
//! is.

/// The first byte.
const MAGIC: u8 = 0;

/// Splits a value into the id of its schema and its body.
pub(super) fn split(value: &[u8]) -> Result<(u32, &[u8]), String> {
    let Some((&[magic, a, b, c, d], body)) = value.split_first_chunk::<5>() else {
        return Err(format!(
            "its value has {} bytes, too few for the id of a schema: was it written with a \
             registry?",
            value.len()
        ));
    };
    if magic != MAGIC {
        return Err(format!(
            "its value begins with byte {magic} and not with {MAGIC}: it was not written with a \
             schema registry"
        ));
    }
    Ok((u32::from_be_bytes([a, b, c, d]), body))
}

/// Returns the head of a value.
pub(super) fn head(id: u32) -> Vec<u8> {
    let mut head = vec![MAGIC];
    head.extend_from_slice(&id.to_be_bytes());
    head
}

/// The longest path of indexes that is read: so deep messages are nested.
const DEEPEST: usize = 32;

/// Splits the body of a Protobuf message into its indexes and the message. The first message of a
/// schema, `[0]`, is written as no indexes.
pub(super) fn split_indexes(body: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let broken = || {
        "its value has no message indexes behind the id of its schema: it is no Protobuf of a \
         registry"
            .to_string()
    };
    let mut rest = body;
    let count = number(&mut rest).ok_or_else(broken)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    if count > DEEPEST {
        return Err(format!(
            "its value names a message {count} levels deep in its schema: it is no Protobuf of a \
             registry"
        ));
    }
    let indexes =
        (0..count).map(|_| number(&mut rest)).collect::<Option<Vec<usize>>>().ok_or_else(broken)?;
    Ok((indexes, rest))
}

/// Appends the indexes of a message.
pub(super) fn push_indexes(into: &mut Vec<u8>, indexes: &[usize]) {
    let indexes = if indexes == [0] { &[] } else { indexes };
    for number in std::iter::once(indexes.len()).chain(indexes.iter().copied()) {
        let mut zigzag = (number as u64) << 1;
        while zigzag >= 0x80 {
            into.push((zigzag & 0x7f) as u8 | 0x80);
            zigzag >>= 7;
        }
        into.push(zigzag as u8);
    }
}

/// Reads a number from the front: a varint, zigzag. `None` for a negative one.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut zigzag = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return if zigzag & 1 == 0 { usize::try_from(zigzag >> 1).ok() } else { None };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_split_into_id_and_body() {
        let mut value = head(0x0102_0304);
        value.extend_from_slice(b"body");
        assert_eq!(value[..5], [0, 1, 2, 3, 4]);
        assert_eq!(split(&value), Ok((0x0102_0304, &b"body"[..])));
        assert!(split(&value[..4]).is_err_and(|why| why.contains("4 bytes")));
        assert!(split(b"{\"a\": 1}").is_err_and(|why| why.contains("byte 123")));
    }

    #[test]
    fn indexes_come_back_and_the_first_message_has_none() {
        for indexes in [vec![0], vec![1], vec![0, 0], vec![2, 300, 1]] {
            let mut body = Vec::new();
            push_indexes(&mut body, &indexes);
            assert_eq!(body == [0], indexes == [0]);
            body.extend_from_slice(b"rest");
            assert_eq!(split_indexes(&body), Ok((indexes, &b"rest"[..])));
        }
        // As Confluent's serializer writes them: the count, and each index, zigzag.
        assert_eq!(split_indexes(&[4, 2, 0, 9]), Ok((vec![1, 0], &[9][..])));
        for broken in [&[][..], &[2], &[1, 0], &[0xff; 12], &[200, 1]] {
            assert!(split_indexes(broken).is_err(), "{broken:?}");
        }
    }
}
