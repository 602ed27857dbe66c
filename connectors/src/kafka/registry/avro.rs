//! Avro: values by the schema that they were written with, read into a type, and back.

use super::super::decode::{self, Incoming, NoRecord};
use super::rest::shorten;
use super::rust_values::RustValues;
use super::schemas::{Language, Schema, Schemas};
use super::subject::Subject;
use super::value::OfAvro;
use super::wire;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::types::Value;
use apache_avro::util::max_decode_recursion_depth;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use tidemill_state::{Error, Result};

/// The deepest nesting of values: a worker's stack holds some hundreds of levels.
const DEEPEST: usize = 64;

/// A schema as the crate for Avro has it, with those that it refers to.
pub(super) struct Parsed {
    schema: apache_avro::Schema,
    references: Vec<apache_avro::Schema>,
}

impl Parsed {
    /// The schemas that names are looked up in: those referred to, and the schema itself.
    fn all(&'static self) -> Vec<&'static apache_avro::Schema> {
        self.references.iter().chain([&self.schema]).collect()
    }
}

/// A schema's text, and those of the schemas that it refers to.
type Text = (String, Vec<String>);

/// Parses a schema, each once in a process, and keeps it as long as the process lives: the crate's
/// readers and writers borrow their schemas, and messages may have this one for ever.
fn parsed(text: &str, references: &[String]) -> std::result::Result<&'static Parsed, String> {
    static PARSED: Mutex<Option<HashMap<Text, &'static Parsed>>> = Mutex::new(None);
    let mut all = PARSED.lock().expect("no holder of this lock panics");
    let all = all.get_or_insert_default();
    let key = (text.to_string(), references.to_vec());
    if let Some(parsed) = all.get(&key) {
        return Ok(parsed);
    }
    let no_avro =
        |why: apache_avro::Error| format!("its schema is no Avro: {}", shorten(&why.to_string()));
    let (schema, references) =
        apache_avro::Schema::parse_str_with_list(text, references).map_err(no_avro)?;
    let parsed: &'static Parsed = Box::leak(Box::new(Parsed { schema, references }));
    all.insert(key, parsed);
    Ok(parsed)
}

/// Bounds the nesting of values, once for the process.
pub(super) fn bound_nesting() {
    static BOUND: OnceLock<()> = OnceLock::new();
    BOUND.get_or_init(|| {
        max_decode_recursion_depth(DEEPEST);
    });
}

/// Reads values of one schema.
pub(super) struct ValueReader {
    reader: GenericDatumReader<'static>,
    /// True if a value is bytes alone: these are written without their length.
    is_bytes: bool,
}

impl ValueReader {
    pub(super) fn of(
        schema: &Schema,
        own: Option<&'static Parsed>,
    ) -> std::result::Result<ValueReader, String> {
        if schema.language != Language::Avro {
            return Err(format!("it is {}, and the source reads AVRO", schema.language.name()));
        }
        let written = parsed(&schema.text, &schema.references)?;
        let reader = GenericDatumReader::builder(&written.schema)
            .writer_schemata(written.all())
            .and_then(|builder| builder.maybe_reader_schema(own.map(|own| &own.schema)).build());
        let reader =
            reader.map_err(|why| format!("it cannot be used: {}", shorten(&why.to_string())))?;
        Ok(ValueReader {
            reader,
            is_bytes: own.is_none() && matches!(written.schema, apache_avro::Schema::Bytes),
        })
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        mut body: &[u8],
    ) -> std::result::Result<T, String> {
        let value = if self.is_bytes {
            Value::Bytes(std::mem::take(&mut body).to_vec())
        } else {
            let read = self.reader.read_value(&mut body);
            read.map_err(|why| {
                format!("its value does not fit the schema: {}", shorten(&why.to_string()))
            })?
        };
        if !body.is_empty() {
            return Err(format!(
                "its value does not fit the schema: {} bytes are left over",
                body.len()
            ));
        }
        let read = T::deserialize(OfAvro(value));
        read.map_err(|why| {
            format!(
                "its value does not fit {}: {}",
                std::any::type_name::<T>(),
                shorten(&why.to_string())
            )
        })
    }
}

/// Returns a decoder for values of any schema of the registry: with `schema`, resolved against that
/// first.
pub(super) fn decoder<T: DeserializeOwned>(
    schemas: &Arc<Schemas>,
    schema: Option<&str>,
) -> impl Fn(&Incoming<'_>) -> std::result::Result<T, NoRecord> + Send + Sync + 'static {
    bound_nesting();
    let schemas = Arc::clone(schemas);
    let own = schema.map(|text| parsed(text, &[])).transpose();
    let readers: RwLock<HashMap<u32, Arc<std::result::Result<ValueReader, String>>>> =
        RwLock::default();
    move |message| {
        let own = own.clone().map_err(|why| {
            NoRecord::Refused(format!("what Topics::avro_as was given is no schema: {why}"))
        })?;
        let value = decode::value(message).map_err(NoRecord::Undecodable)?;
        let (id, body) = wire::split(value).map_err(NoRecord::Undecodable)?;
        let known = readers.read().expect("no holder of this lock panics").get(&id).cloned();
        let reading = match known {
            Some(reading) => reading,
            None => {
                let made = Arc::new(ValueReader::of(&*schemas.get(id)?, own));
                readers
                    .write()
                    .expect("no holder of this lock panics")
                    .insert(id, Arc::clone(&made));
                made
            }
        };
        let read =
            reading.as_ref().as_ref().map_err(Clone::clone).and_then(|reading| reading.read(body));
        read.map_err(|why| NoRecord::Undecodable(format!("schema {id}: {why}")))
    }
}

/// Writes values of one schema.
pub(super) struct ValueWriter {
    schema: &'static apache_avro::Schema,
    names: ResolvedSchema<'static>,
    writer: GenericDatumWriter<'static>,
}

impl ValueWriter {
    pub(super) fn of(text: &str) -> std::result::Result<ValueWriter, String> {
        let schema = &parsed(text, &[])?.schema;
        let made = ResolvedSchema::new(schema)
            .and_then(|names| Ok((names, GenericDatumWriter::builder(schema).build()?)));
        let (names, writer) =
            made.map_err(|why| format!("it cannot be used: {}", shorten(&why.to_string())))?;
        Ok(ValueWriter { schema, names, writer })
    }

    pub(super) fn write(
        &self,
        record: &impl Serialize,
        into: &mut Vec<u8>,
    ) -> std::result::Result<(), apache_avro::Error> {
        let names = self.names.get_names();
        let value = RustValues::new(names).fit(apache_avro::to_value(record)?, self.schema)?;
        let value = value.resolve_with_names(self.schema, names)?;
        match value {
            // As Confluent's serializer writes bytes alone: without their length.
            Value::Bytes(alone) if matches!(self.schema, apache_avro::Schema::Bytes) => {
                into.extend_from_slice(&alone)
            }
            value => drop(self.writer.write_value(into, value)?),
        }
        Ok(())
    }
}

/// Returns an encoder of values with the schema of a subject.
pub(super) fn encoder<T: Serialize>(
    subject: Subject,
) -> impl Fn(&T) -> Result<Vec<u8>> + Send + Sync + 'static {
    bound_nesting();
    let writing = ValueWriter::of(subject.text());
    move |record| {
        let writing = writing
            .as_ref()
            .map_err(|why| Error::config(format!("what KafkaSink::avro was given: {why}")))?;
        let mut bytes = wire::head(subject.id()?);
        writing.write(record, &mut bytes).map_err(|why| {
            Error::user_code(format!(
                "a record does not fit the sink's schema: {}",
                shorten(&why.to_string())
            ))
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn reading(schema: &str, references: &[&str], own: Option<&str>) -> ValueReader {
        let references = references.iter().map(ToString::to_string).collect();
        let schema = Schema { language: Language::Avro, text: schema.into(), references };
        let own = own.map(|own| parsed(own, &[]).expect("it is a schema"));
        ValueReader::of(&schema, own).expect("it can be read by")
    }

    fn written(schema: &str, value: impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ValueWriter::of(schema)
            .expect("it is a schema")
            .write(&value, &mut bytes)
            .expect("it fits");
        bytes
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: String,
        cents: i64,
        #[serde(default)]
        note: Option<String>,
        #[serde(default)]
        state: State,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
    enum State {
        #[default]
        Open,
        Paid,
    }

    const FIRST: &str = r#"{"type": "record", "name": "PlacedOrder", "namespace": "shop", "fields": [
        {"name": "id", "type": "string"}, {"name": "cents", "type": "int"}, {"name": "clerk", "type": "string"}]}"#;
    const SECOND: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "note", "type": ["null", "string"], "default": null}, {"name": "id", "type": "string"},
        {"name": "cents", "type": "long"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["Paid", "Open"]}}]}"#;
    const OWN: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "string"}, {"name": "cents", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["Open", "Paid"]}, "default": "Paid"}]}"#;

    #[derive(Serialize)]
    struct Placed {
        id: &'static str,
        cents: i32,
        clerk: &'static str,
    }

    #[test]
    fn each_value_is_read_by_the_schema_that_it_was_written_with() {
        let first = written(FIRST, Placed { id: "a", cents: 7, clerk: "c" });
        let order =
            Order { id: "b".into(), cents: 1 << 40, note: Some("n".into()), state: State::Paid };
        let second = written(SECOND, &order);
        let plain = Order { id: "a".into(), cents: 7, note: None, state: State::Open };
        assert_eq!(reading(FIRST, &[], None).read(&first), Ok(plain.clone()));
        assert_eq!(reading(SECOND, &[], None).read(&second), Ok(order.clone()));
        // By a schema of the reader's own: its defaults, and its numbers.
        assert_eq!(
            reading(FIRST, &[], Some(OWN)).read(&first),
            Ok(Order { state: State::Paid, ..plain })
        );
        assert_eq!(reading(SECOND, &[], Some(OWN)).read(&second), Ok(order));
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_that_says_why() {
        let bytes =
            written(SECOND, Order { id: "b".into(), cents: 1, note: None, state: State::Open });
        let error = |body: &[u8]| {
            reading(SECOND, &[], None).read::<Order>(body).expect_err("it does not fit")
        };
        assert!(error(&bytes[..bytes.len() - 1]).contains("does not fit the schema"));
        assert!(error(&[&*bytes, b"x"].concat()).contains("1 bytes are left over"));
        #[derive(Debug, Deserialize)]
        struct Other {
            #[serde(rename = "amount")]
            _amount: i64,
        }
        let why =
            reading(SECOND, &[], None).read::<Other>(&bytes).expect_err("it has no such field");
        assert!(why.contains("amount") && why.contains("Other"), "{why}");
        let protobuf =
            Schema { language: Language::Protobuf, text: String::new(), references: Vec::new() };
        assert!(ValueReader::of(&protobuf, None).is_err_and(|why| why.contains("PROTOBUF")));
    }

    #[test]
    fn a_schema_may_refer_to_others_and_to_itself() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Node {
            name: String,
            next: Option<Box<Node>>,
        }
        let text = r#"{"type": "enum", "name": "Text", "symbols": ["x", "y"]}"#;
        let name =
            r#"{"type": "record", "name": "Name", "fields": [{"name": "name", "type": "Text"}]}"#;
        let both = r#"{"type": "record", "name": "Both", "fields": [{"name": "a", "type": "Name"}, {"name": "b", "type": "Name"}]}"#;
        #[derive(Debug, PartialEq, Deserialize)]
        struct Name {
            name: String,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Both {
            a: Name,
            b: Name,
        }
        let named = |name: &str| Name { name: name.into() };
        assert_eq!(
            reading(both, &[text, name], None).read(&[0, 2]),
            Ok(Both { a: named("x"), b: named("y") })
        );
        let list = r#"{"type": "record", "name": "Node", "fields": [
            {"name": "name", "type": "string"}, {"name": "next", "type": ["null", "Node"]}]}"#;
        let node =
            Node { name: "a".into(), next: Some(Box::new(Node { name: "b".into(), next: None })) };
        assert_eq!(reading(list, &[], None).read(&written(list, &node)), Ok(node));
    }

    /// The stack of a worker is not used up by a message that nests without end.
    #[test]
    fn a_value_that_nests_deep_is_an_error() {
        #[derive(Debug, Deserialize)]
        struct Node {
            #[serde(rename = "next")]
            _next: Option<Box<Node>>,
        }
        bound_nesting();
        let list = r#"{"type": "record", "name": "Deep", "fields": [{"name": "next", "type": ["null", "Deep"]}]}"#;
        let why =
            reading(list, &[], None).read::<Node>(&vec![2; 1_000_000]).expect_err("it is refused");
        assert!(why.contains("does not fit the schema"), "{why}");
    }

    #[test]
    fn unions_bytes_and_numbers_are_read_as_rust_has_them() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum Either {
            Number(i64),
            Text(String),
        }
        let union = r#"["long", "string"]"#;
        assert_eq!(reading(union, &[], None).read(b"\x02\x02x"), Ok(Either::Text("x".into())));
        assert_eq!(reading(union, &[], None).read(b"\x00\x06"), Ok(Either::Number(3)));
        // As Confluent's serializer writes bytes alone: without their length.
        assert_eq!(reading(r#""bytes""#, &[], None).read(&[9, 8]), Ok(vec![9_u8, 8]));
        assert_eq!(
            reading(r#"{"type": "array", "items": "bytes"}"#, &[], None).read(&[2, 4, 9, 8, 0]),
            Ok(vec![vec![9_u8, 8]])
        );
        assert_eq!(reading(r#""string""#, &[], None).read(b"\x02x"), Ok(Some("x".to_string())));
        assert_eq!(
            reading(r#"["null", "string"]"#, &[], None).read::<Option<String>>(b"\x00"),
            Ok(None)
        );
        assert_eq!(reading(r#""int""#, &[], None).read(b"\x06"), Ok(3_u64));
        assert_eq!(written(r#""long""#, 3_u64), b"\x06");
        assert_eq!(written(r#""bytes""#, vec![9_u8, 8]), [9, 8]);
        let mut bytes = Vec::new();
        let written =
            ValueWriter::of(r#""long""#).expect("it is a schema").write(&u64::MAX, &mut bytes);
        assert!(written.is_err_and(|why| why.to_string().contains("no long of Avro")));
    }

    /// A number that the crate would write in the other order of its bytes, as another number.
    #[test]
    fn a_large_integer_is_the_number_of_a_decimal() {
        let bytes = r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}"#;
        let fixed = |size: usize, precision: usize| {
            format!(
                r#"{{"type": "fixed", "name": "D", "size": {size}, "logicalType": "decimal", "precision": {precision}, "scale": 2}}"#
            )
        };
        for (number, expected) in [
            (0_i128, vec![0]),
            (1, vec![1]),
            (-1, vec![0xff]),
            (127, vec![127]),
            (128, vec![0, 128]),
            (-128, vec![128]),
            (-129, vec![0xff, 127]),
            (0x0102_0304, vec![1, 2, 3, 4]),
        ] {
            let length = u8::try_from(expected.len() * 2).expect("it is short");
            assert_eq!(written(bytes, number), [&[length], &*expected].concat(), "{number}");
            let sign = if number < 0 { 0xff } else { 0 };
            let filled = [vec![sign; 8 - expected.len()], expected.clone()].concat();
            assert_eq!(written(&fixed(8, 18), number), filled, "{number}");
            let either = format!(r#"["null", {bytes}]"#);
            assert_eq!(
                written(&either, Some(number)),
                [&[2, length], &*expected].concat(),
                "{number}"
            );
            assert_eq!(
                reading(bytes, &[], None).read::<Vec<u8>>(&written(bytes, number)),
                Ok(expected),
                "{number}"
            );
        }
        assert_eq!(written(bytes, 300_u128), [4, 1, 44]);
        let largest = 10_i128.pow(38) - 1;
        assert_eq!(written(bytes, largest), [&[32], &largest.to_be_bytes()[..]].concat());
        assert_eq!(written(&fixed(16, 38), largest), largest.to_be_bytes());
        let refused = |schema: &str, number: i128| {
            let written =
                ValueWriter::of(schema).expect("it is a schema").write(&number, &mut Vec::new());
            written.expect_err("it is too large").to_string()
        };
        assert!(
            refused(bytes, largest + 1).contains("39 digits"),
            "{}",
            refused(bytes, largest + 1)
        );
        assert!(
            refused(&fixed(2, 4), 10_000).contains("5 digits"),
            "{}",
            refused(&fixed(2, 4), 10_000)
        );
        // Where sixteen bytes are wanted, they are the number's, as the crate has them.
        let plain = r#"{"type": "fixed", "name": "F", "size": 16}"#;
        assert_eq!(written(plain, 1_i128), 1_i128.to_le_bytes());
    }

    #[test]
    fn bytes_and_numbers_that_two_schemas_would_take_are_what_was_meant() {
        /// Bytes as `serde_bytes` gives them.
        struct Bytes(Vec<u8>);
        impl Serialize for Bytes {
            fn serialize<S: serde::Serializer>(
                &self,
                serializer: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        let age: Vec<u8> = (1..=12).collect();
        let duration = r#"{"type": "fixed", "name": "Age", "size": 12, "logicalType": "duration"}"#;
        assert_eq!(written(duration, Bytes(age.clone())), age);
        assert_eq!(
            written(&format!(r#"["null", {duration}]"#), Some(Bytes(age.clone()))),
            [&[2], &*age].concat()
        );
        assert_eq!(
            written(&format!(r#"[{duration}, "bytes"]"#), Bytes(age.clone())),
            [&[2, 24], &*age].concat()
        );
        for (kind, logical) in [
            ("long", "timestamp-millis"),
            ("long", "local-timestamp-micros"),
            ("long", "time-micros"),
        ] {
            let either = format!(
                r#"[{{"type": "fixed", "name": "F", "size": 8}}, {{"type": "{kind}", "logicalType": "{logical}"}}]"#
            );
            assert_eq!(written(&either, 3_u64), [2, 6], "{logical}");
        }
    }

    /// What was read as bytes is written as what it was: the crate takes eight bytes for an `u64`,
    /// and a `Vec` for an array.
    #[test]
    fn bytes_of_a_fixed_size_decimals_and_durations_come_back() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Fixed {
            id: Vec<u8>,
            again: Option<Vec<u8>>,
            price: Vec<u8>,
            cost: Vec<u8>,
            age: Vec<u8>,
            count: u64,
        }
        let schema = r#"{"type": "record", "name": "Fixed", "namespace": "shop", "fields": [
            {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 8}},
            {"name": "again", "type": ["null", "Id"]},
            {"name": "price", "type": {"type": "fixed", "name": "Price", "size": 8, "logicalType": "decimal",
                "precision": 18, "scale": 2}},
            {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}},
            {"name": "age", "type": {"type": "fixed", "name": "Age", "size": 12, "logicalType": "duration"}},
            {"name": "count", "type": "long"}]}"#;
        let bytes = |last| vec![0, 1, 2, 3, 4, 5, 6, last];
        let value = Fixed {
            id: bytes(7),
            again: Some(bytes(8)),
            price: bytes(9),
            cost: vec![1, 2],
            age: [bytes(10), vec![1, 2, 3, 4]].concat(),
            count: 5,
        };
        let written = written(schema, &value);
        let expected = [
            &bytes(7)[..],
            &[2],
            &bytes(8),
            &bytes(9),
            &[4, 1, 2],
            &bytes(10),
            &[1, 2, 3, 4],
            &[10],
        ]
        .concat();
        assert_eq!(written, expected);
        assert_eq!(reading(schema, &[], None).read(&written), Ok(value));
        // As the crate's own `fixed` for serde gives them.
        let parsed = parsed(schema, &[]).expect("it is a schema");
        let names = ResolvedSchema::new(&parsed.schema).expect("its names are known");
        let field = |value| Value::Record(vec![("again".into(), Value::Union(1, Box::new(value)))]);
        let fixed = || field(Value::Fixed(8, bytes(1)));
        let fit = RustValues::new(names.get_names()).fit(fixed(), &parsed.schema);
        assert_eq!(fit.expect("it fits"), fixed());
    }
}
