//! Headers as no client of Rust can send them: with names that are no text. The request is written
//! by hand.

use super::copying::{Copying, brokers, kafka, reaches, stop};
use std::io::{Read, Write};
use std::net::TcpStream;
use tidemill::kafka::Incoming;
use tidemill_harness::topics::create_topic;

/// A signed number as records have it: zigzag, then seven bits a byte.
fn varint(into: &mut Vec<u8>, number: i64) {
    let mut bits = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while bits >= 0x80 {
        into.push((bits & 0x7f) as u8 | 0x80);
        bits >>= 7;
    }
    into.push(bits as u8);
}

fn bytes(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(into, bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).expect("it is short")));
    into.extend_from_slice(bytes.unwrap_or_default());
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A batch of one record with these headers, of format 2.
fn batch(value: &[u8], headers: &[(&[u8], Option<&[u8]>)]) -> Vec<u8> {
    // Attributes, and that it is the batch's first.
    let mut record = vec![0, 0, 0];
    bytes(&mut record, None);
    bytes(&mut record, Some(value));
    varint(&mut record, i64::try_from(headers.len()).expect("they are few"));
    for (name, value) in headers {
        bytes(&mut record, Some(name));
        bytes(&mut record, *value);
    }
    let mut checked = vec![0; 2 + 4];
    let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_millis();
    for _ in ["first", "last"] {
        checked.extend_from_slice(&u64::try_from(now).expect("it is small").to_be_bytes());
    }
    // No producer that is known by a number.
    checked.extend_from_slice(&[0xff; 8 + 2 + 4]);
    checked.extend_from_slice(&1_i32.to_be_bytes());
    bytes(&mut checked, Some(&record));
    let mut rest = vec![0xff; 4];
    rest.push(2);
    rest.extend_from_slice(&crc32c(&checked).to_be_bytes());
    rest.extend(checked);
    let mut batch = vec![0; 8];
    batch.extend_from_slice(&u32::try_from(rest.len()).expect("it is short").to_be_bytes());
    batch.extend(rest);
    batch
}

/// Sends such a record to partition 0.
fn produce_by_hand(brokers: &str, topic: &str, value: &[u8], headers: &[(&[u8], Option<&[u8]>)]) {
    let sized = |into: &mut Vec<u8>, bytes: &[u8]| {
        into.extend_from_slice(&u32::try_from(bytes.len()).expect("it is short").to_be_bytes());
        into.extend_from_slice(bytes);
    };
    let name = |into: &mut Vec<u8>, name: &str| {
        into.extend_from_slice(&u16::try_from(name.len()).expect("it is short").to_be_bytes());
        into.extend_from_slice(name.as_bytes());
    };
    // Produce, version 3, number 7.
    let mut request = vec![0, 0, 0, 3, 0, 0, 0, 7];
    name(&mut request, "by-hand");
    // No transaction, acknowledged by all, within 30 s, one topic.
    request.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30, 0, 0, 0, 1]);
    name(&mut request, topic);
    request.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    sized(&mut request, &batch(value, headers));
    let mut connection = TcpStream::connect(brokers).expect("the broker listens");
    let mut framed = Vec::new();
    sized(&mut framed, &request);
    connection.write_all(&framed).expect("it is sent");
    let mut size = [0; 4];
    connection.read_exact(&mut size).expect("the broker answers");
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).expect("it is short")];
    connection.read_exact(&mut answer).expect("the broker answers");
    // After the request's number, one topic by name, and one partition of it.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "{answer:?}");
}

#[test]
fn headers_with_null_values_are_read_and_names_that_are_no_text_do_no_harm() {
    let brokers = brokers();
    create_topic(&brokers, "headed", 1, &[]);
    let headers: [(&[u8], Option<&[u8]>); 5] = [
        (b"text", Some(b"v")),
        (b"null", None),
        (b"bad\xff\xfe", Some(b"x")),
        (b"empty", Some(b"")),
        (b"text", Some(&[0, 255])),
    ];
    produce_by_hand(&brokers, "headed", b"value", &headers);
    produce_by_hand(&brokers, "headed", b"plain", &[]);
    let copying = Copying::new("headed");
    let source = || {
        kafka().source(["headed"]).decode("headers", |message: &Incoming<'_>| {
            let headers: Vec<(&str, Option<&[u8]>)> = message.headers().collect();
            Ok(format!("{:?} {headers:?}", message.value().map(String::from_utf8_lossy)))
        })
    };
    let engine = copying.start(None, source).expect("it starts");
    reaches(&engine, [("headed[0]", 2)]);
    stop(engine);
    let seen =
        r#"[("text", Some([118])), ("null", None), ("empty", Some([])), ("text", Some([0, 255]))]"#;
    assert_eq!(
        copying.copied(),
        [format!(r#"Some("value") {seen}"#), r#"Some("plain") []"#.to_string()]
    );
}
