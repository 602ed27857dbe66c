//! Target: bytes of the Kafka source and sink. Messages in the outbox, witnesses of positions and
//! markers come back; a marker that was damaged is refused, or is still the same.

use crate::input::ByteReader;
use crate::{Seed, chosen, is_explained};
use std::sync::Arc;
use tidemill_connectors::kafka::{Message, fuzz as kafka};
use tidemill_engine::sink::{Marker, Owner};
use tidemill_state::{Incarnation, Position, Txid};

/// Runs the target: the first byte chooses what the rest is.
pub fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 5 {
        0 => message(bytes),
        1 => witness(bytes),
        2 => log_line(bytes),
        3 => marker(bytes),
        _ => damaged_marker(&mut ByteReader::new(bytes)),
    }
}

fn message(bytes: &[u8]) {
    let Some(message) = is_explained(kafka::read_message(bytes)) else { return };
    let again = kafka::write_message(&message);
    assert!(again.len() <= bytes.len(), "{message:?} takes more bytes than it was read from");
    assert_eq!(kafka::read_message(&again).expect("it was written so"), message);
    for cut in 0..again.len().min(64) {
        assert!(kafka::read_message(&again[..cut]).is_err(), "{message:?} cut at {cut}");
    }
}

fn witness(bytes: &[u8]) {
    let position = Position { offset: 7, witness: bytes.to_vec() };
    let again = kafka::rewritten(&position);
    assert!(again.witness.len() <= bytes.len(), "{again:?}");
    assert_eq!(kafka::rewritten(&again), again);
    // Nothing is forgotten but what is behind a witness, or is none.
    if !again.witness.is_empty() {
        assert_eq!(again.witness[0], bytes[0]);
    }
}

fn log_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some((topic, id)) = kafka::changed_id(&text) else { return };
    assert!(!topic.contains(' '), "{topic:?} is no name of a topic");
    assert_eq!(id.len(), 22, "{id}");
    let line = format!("[thrd:main]: Topic {topic} changed id from x to {id}");
    assert_eq!(kafka::changed_id(&line), Some((topic, id)));
}

fn owner(marker: &Marker) -> Owner {
    let Marker { topology, incarnation, .. } = marker.clone();
    Owner { topology, sink: "sink".into(), incarnation, points: Arc::default() }
}

fn written(marker: &Marker) -> Vec<u8> {
    kafka::write_marker(&owner(marker), marker.txid).expect("names and numbers are JSON")
}

fn read(value: &[u8]) -> Option<Marker> {
    is_explained(kafka::read_marker("sink", Some(b"sink"), Some(value)))
}

fn marker(value: &[u8]) {
    if let Some(marker) = read(value) {
        assert_eq!(read(&written(&marker)), Some(marker));
    }
    assert!(kafka::read_marker("sink", Some(b"other"), Some(value)).is_err());
    assert!(kafka::read_marker("sink", None, Some(value)).is_err());
}

/// A marker of any content, of which some bytes are changed.
fn damaged_marker(input: &mut ByteReader<'_>) {
    let marker = Marker {
        topology: input.text(),
        txid: Txid(input.number()),
        incarnation: Incarnation { counter: input.number(), nonce: input.number() },
    };
    let mut value = written(&marker);
    assert_eq!(read(&value).as_ref(), Some(&marker));
    while !input.is_empty() {
        let at = usize::from(u16::from_le_bytes([input.byte(), input.byte()])) % value.len();
        value[at] = input.byte();
        if let Some(other) = read(&value) {
            assert_eq!(other, marker, "a checksum holds for another marker");
        }
    }
}

/// Returns a message, witness, line and marker of each kind.
pub fn seeds() -> Vec<Seed> {
    let full = Message::new().key("k").value(vec![7; 300]).header("a", "").timestamp(-5);
    let nulls = Message::new().header("a", "1").null_header("b").partition(3);
    let message = |message: &Message| chosen(0, &kafka::write_message(message));
    let record = [&[0xac, 2][..], &[0xff; 8], &[7; 8]].concat();
    let marker = Marker {
        topology: "words".into(),
        txid: Txid(9),
        incarnation: Incarnation { counter: 3, nonce: 0xfedc_ba98_7654_3210 },
    };
    let line =
        b"[thrd:main]: Topic a.b changed id from AAAAAAAAAAAAAAAAAAAAAA to dYNAj3CJSWu3YTZRiUVC/w";
    let mut damaged = vec![4, 5];
    damaged.extend_from_slice(b"words");
    damaged.extend_from_slice(&[[9, 0, 0, 0, 0, 0, 0, 0]; 3].concat());
    damaged.extend_from_slice(&[40, 0, b'8', 61, 0, b'"']);
    vec![
        ("message-empty", message(&Message::new())),
        ("message-full", message(&full)),
        ("message-nulls", message(&nulls)),
        ("witness-record", chosen(1, &[&[1][..], &record].concat())),
        ("witness-id", chosen(1, &[&[2][..], &[9; 16]].concat())),
        ("witness-both", chosen(1, &[&[2][..], &[9; 16], &record].concat())),
        ("line", chosen(2, line)),
        ("marker", chosen(3, &written(&marker))),
        ("marker-damaged", damaged),
    ]
}
