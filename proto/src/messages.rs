//! The messages of `tidemill.proto`, which also says what each is for.

use crate::field::{message, optional, repeated};

message! {
    /// A query to ask.
    QueryRequest {
        /// The request's number, of the client's own choice: the answer bears it.
        1 number: u64,
        /// The query's name.
        2 name: String,
        /// Its arguments.
        3 arguments: Vec<u8>,
        /// As what the arguments come and the result goes: an [`Encoding`].
        4 encoding: i32,
        /// The time it may take, in milliseconds; 0 for as long as the server allows.
        5 timeout_ms: u64,
        /// The answer must be of this batch or a later one.
        6 at_least_txid: u64,
        /// The line of that batch; empty for whichever the server has.
        7 lineage: String,
        /// The answer must be of a batch that holds these records.
        8 at_least_position: Vec<Position>,
        /// The types of the arguments and of the result, if they are to be compared.
        9 types: Option<QueryTypes>,
    }
}

message! {
    /// The types of a request, as the client has them.
    QueryTypes {
        /// The kinds of the arguments' parts.
        1 argument_kinds: u64,
        /// The names of their fields and variants.
        2 argument_names: u64,
        /// The type of the arguments in words.
        3 arguments: String,
        /// The parts of the result's type; empty if it is not compared.
        4 result_shape: String,
        /// The type of the result in words.
        5 result: String,
    }
}

message! {
    /// A record of a source.
    Position {
        /// The source's name in the topology.
        1 source: String,
        /// The partition's name.
        2 partition: String,
        /// The record's offset there.
        3 offset: u64,
    }
}

message! {
    /// The answer to a request: a result, or an error.
    QueryResponse {
        /// The request's number.
        1 number: u64,
        /// The committed batch that all of the answer is from.
        2 txid: u64,
        /// The line of the batches.
        3 lineage: String,
        /// The result, in the request's encoding.
        4 result: Vec<u8>,
        /// True if the result is one value, as an option, or a vector of any number of them.
        5 one: bool,
        /// Why there is no result.
        6 error: Option<QueryError>,
    }
}

message! {
    /// Why a request has no answer.
    QueryError {
        /// Which kind: an [`ErrorKind`].
        1 kind: i32,
        /// The problem, in words.
        2 what: String,
        /// The remedy, in words.
        3 remedy: String,
        /// The queries that there are, if the one that was asked is not.
        4 known: Vec<String>,
        /// The line that there is now, if the state was replaced.
        5 lineage: String,
    }
}

repeated!(Position, message, "repeated Position");
optional!(QueryError, "QueryError");
optional!(QueryTypes, "QueryTypes");

/// A set of named numbers.
macro_rules! enumeration {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $number:literal $variant:ident $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $variant = $number,)*
        }

        impl $name {
            /// Its values: number and name.
            #[cfg(test)]
            pub(crate) const VALUES: &'static [(i32, &'static str)] = &[$(($number, $text)),*];

            /// The value of this number, if it has one.
            #[must_use]
            pub fn of(number: i32) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }

        impl From<$name> for i32 {
            fn from(value: $name) -> i32 {
                value as i32
            }
        }
    };
}

enumeration! {
    /// As what arguments come and the result goes.
    Encoding {
        /// bincode 1.3 with variable-length integers, after one byte for the format.
        0 Bincode "ENCODING_BINCODE",
        /// JSON.
        1 Json "ENCODING_JSON",
    }
}

enumeration! {
    /// The kinds of errors.
    ErrorKind {
        /// A kind that is newer than who reads it.
        0 Unspecified "ERROR_KIND_UNSPECIFIED",
        /// There is no such query.
        1 NoSuchQuery "ERROR_KIND_NO_SUCH_QUERY",
        /// The request cannot be understood, or its arguments are not of the query's type.
        2 BadRequest "ERROR_KIND_BAD_REQUEST",
        /// There was no answer in time.
        3 TimedOut "ERROR_KIND_TIMED_OUT",
        /// Too many requests are under way.
        4 TooMany "ERROR_KIND_TOO_MANY",
        /// The request or its answer is larger than it may be.
        5 TooLarge "ERROR_KIND_TOO_LARGE",
        /// The batch that was read from is no longer held.
        6 NotHeld "ERROR_KIND_NOT_HELD",
        /// The server starts, stops or begins anew.
        7 Unavailable "ERROR_KIND_UNAVAILABLE",
        /// The state was replaced by another one.
        8 StateReplaced "ERROR_KIND_STATE_REPLACED",
        /// The query's own code failed.
        9 FunctionFailed "ERROR_KIND_FUNCTION_FAILED",
        /// The result is of another type than the request expects.
        10 WrongType "ERROR_KIND_WRONG_TYPE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    const PROTO: &str = include_str!("../tidemill.proto");

    /// The lines of a block of the file, without comments: `type name = number`.
    fn block(head: &str) -> Vec<(String, String, i32)> {
        let start = PROTO.find(&format!("{head} {{\n")).unwrap_or_else(|| panic!("no {head}"));
        let body = PROTO[start..]
            .split_once("{\n")
            .and_then(|(_, rest)| rest.split_once("\n}"))
            .expect("it ends")
            .0;
        let fields =
            body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let field = |line: &str| {
            let (what, number) =
                line.strip_suffix(';').and_then(|line| line.split_once(" = ")).expect(line);
            let (kind, name) = what.rsplit_once(' ').unwrap_or(("", what));
            (kind.to_string(), name.to_string(), number.parse().expect(line))
        };
        fields.map(field).collect()
    }

    #[test]
    fn the_messages_are_those_of_the_file() {
        let check = |name: &str, fields: &[(u32, &str, &str)]| {
            let written = block(&format!("message {name}"));
            let as_here = |(kind, name, number): (String, String, i32)| {
                let kind = if ["Encoding", "ErrorKind"].contains(&kind.as_str()) {
                    "enum".to_string()
                } else {
                    kind
                };
                (number.unsigned_abs(), name, kind)
            };
            let written: Vec<_> = written.into_iter().map(as_here).collect();
            let here: Vec<_> = fields
                .iter()
                .map(|(tag, name, kind)| (*tag, name.to_string(), kind.to_string()))
                .collect();
            assert_eq!(here, written, "{name}");
        };
        check("QueryRequest", QueryRequest::FIELDS);
        check("QueryTypes", QueryTypes::FIELDS);
        check("Position", Position::FIELDS);
        check("QueryResponse", QueryResponse::FIELDS);
        check("QueryError", QueryError::FIELDS);
        let check = |name: &str, values: &[(i32, &str)]| {
            let written: Vec<_> = block(&format!("enum {name}"))
                .into_iter()
                .map(|(_, name, number)| (number, name))
                .collect();
            assert_eq!(
                values.iter().map(|(number, name)| (*number, name.to_string())).collect::<Vec<_>>(),
                written,
                "{name}"
            );
        };
        check("Encoding", Encoding::VALUES);
        check("ErrorKind", ErrorKind::VALUES);
        for path in [crate::path::QUERY, crate::path::PIPELINE] {
            let (service, call) = path[1..].split_once('/').expect("a path");
            assert_eq!(service, crate::SERVICE);
            assert!(PROTO.contains(&format!("rpc {call}(")), "{call}");
        }
    }

    #[test]
    fn messages_are_encoded_as_protocol_buffers_are() {
        let position = Position { source: "s".into(), partition: "p[0]".into(), offset: 300 };
        // By hand, after the specification of the wire format.
        let expected = [&b"\x0a\x01s\x12\x04p[0]\x18\xac\x02"[..]].concat();
        assert_eq!(position.encode_to_vec(), expected);
        let request = QueryRequest {
            number: 7,
            name: "words".into(),
            arguments: vec![1, 2],
            encoding: Encoding::Json.into(),
            at_least_position: vec![position.clone(), Position::default()],
            ..QueryRequest::default()
        };
        let expected =
            [&b"\x08\x07\x12\x05words\x1a\x02\x01\x02\x20\x01\x42\x0c"[..], &expected, b"\x42\x00"]
                .concat();
        assert_eq!(request.encode_to_vec(), expected);
        assert_eq!(request.encoded_len(), expected.len());
        // A field that is not known yet is skipped.
        let newer = [&expected[..], b"\xaa\x06\x03new"].concat();
        assert_eq!(QueryRequest::decode(&newer[..]).expect("it decodes"), request);
        assert!(QueryRequest::decode(&expected[..expected.len() - 1]).is_err(), "cut off");
        let response = QueryResponse {
            txid: u64::MAX,
            one: true,
            error: Some(QueryError {
                known: vec!["a".into(), "b".into()],
                ..QueryError::default()
            }),
            ..QueryResponse::default()
        };
        assert_eq!(
            QueryResponse::decode(&response.encode_to_vec()[..]).expect("it decodes"),
            response
        );
    }
}
