//! Target: values that name a schema of a registry: the id before them, the indexes of a Protobuf
//! message, and Avro. What is read is written again, to bytes that are read as the same value.

use crate::{Seed, chosen, is_explained};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemill_connectors::kafka::fuzz::registry;

/// Runs the target: the first byte chooses what the rest is.
pub fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 3 {
        0 => value(bytes),
        1 => indexes(bytes),
        _ => avro(bytes),
    }
}

fn value(bytes: &[u8]) {
    if let Some((id, body)) = is_explained(registry::split(bytes)) {
        assert_eq!([&registry::head(id), body].concat(), bytes);
    }
}

fn indexes(body: &[u8]) {
    let Some((indexes, message)) = is_explained(registry::split_indexes(body)) else { return };
    assert!(!indexes.is_empty() && indexes.len() <= 32, "{indexes:?}");
    let mut again = Vec::new();
    registry::push_indexes(&mut again, &indexes);
    assert!(again.len() + message.len() <= body.len(), "{indexes:?}");
    again.extend_from_slice(message);
    assert_eq!(registry::split_indexes(&again), Ok((indexes, message)));
}

/// A type with all kinds of fields, which contains itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: i64,
    weight: f64,
    urgent: bool,
    note: Option<String>,
    state: State,
    items: Vec<i32>,
    tags: BTreeMap<String, i64>,
    next: Option<Box<Order>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    Open,
    Paid,
}

const SCHEMA: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "string"}, {"name": "cents", "type": "long"},
    {"name": "weight", "type": "double"}, {"name": "urgent", "type": "boolean"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["Open", "Paid"]}},
    {"name": "items", "type": {"type": "array", "items": "int"}},
    {"name": "tags", "type": {"type": "map", "values": "long"}},
    {"name": "next", "type": ["null", "Order"], "default": null}]}"#;

fn avro(body: &[u8]) {
    let Some(order) = is_explained(registry::read_avro::<Order>(SCHEMA, body)) else { return };
    let again = registry::write_avro(SCHEMA, &order).expect("it was read by the schema");
    let back: Order = registry::read_avro(SCHEMA, &again).expect("it was written by the schema");
    // A NaN is not equal to itself.
    assert_eq!(format!("{back:?}"), format!("{order:?}"));
}

/// Returns values with an id, indexes, and Avro.
pub fn seeds() -> Vec<Seed> {
    let last = Order {
        id: "b".into(),
        cents: -1,
        weight: f64::INFINITY,
        urgent: false,
        note: None,
        state: State::Paid,
        items: vec![],
        tags: BTreeMap::new(),
        next: None,
    };
    let first = Order {
        id: "a longer id".into(),
        note: Some("n".into()),
        items: vec![1, -1, i32::MAX],
        tags: BTreeMap::from([("k".into(), 1 << 40)]),
        next: Some(Box::new(last.clone())),
        ..last.clone()
    };
    let avro = |order: &Order| {
        chosen(2, &registry::write_avro(SCHEMA, order).expect("it fits the schema"))
    };
    vec![
        ("value", chosen(0, &[0, 0, 0, 1, 2, b'x'])),
        ("first-message", chosen(1, &[0, 8, 1])),
        ("nested-message", chosen(1, &[4, 2, 0, 9])),
        ("avro", avro(&last)),
        ("avro-nested", avro(&first)),
    ]
}
