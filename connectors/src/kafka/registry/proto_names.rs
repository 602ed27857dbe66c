//! The names of the messages of a `.proto` file, in order: all that its text is needed for.
//!
//! A message's value names its type by indexes: `[1, 0]` is the first message within the second of
//! the file. Only messages that the text declares as such count, as Confluent's serializers count
//! them: no groups, no entries of maps. A parser of the whole language brings a dozen crates.

/// A message, with those that are declared in it.
#[derive(Debug, Default)]
struct Declared {
    name: String,
    within: Vec<Declared>,
}

/// Returns the full name of the message at these indexes.
pub(super) fn name_at(text: &str, indexes: &[usize]) -> Option<String> {
    let file = read(text);
    let mut at = &file;
    let mut name = file.name.clone();
    for index in indexes {
        at = at.within.get(*index)?;
        name = joined(&name, &at.name);
    }
    (!indexes.is_empty()).then_some(name)
}

/// Returns the indexes of the message of this full name.
pub(super) fn indexes_of(text: &str, name: &str) -> Option<Vec<usize>> {
    fn search(within: &[Declared], before: &str, name: &str) -> Option<Vec<usize>> {
        within.iter().enumerate().find_map(|(index, declared)| {
            let full = joined(before, &declared.name);
            if full == name {
                return Some(vec![index]);
            }
            let mut below = search(&declared.within, &full, name)?;
            below.insert(0, index);
            Some(below)
        })
    }
    let file = read(text);
    search(&file.within, &file.name, name)
}

fn joined(before: &str, name: &str) -> String {
    if before.is_empty() { name.to_string() } else { format!("{before}.{name}") }
}

/// Reads a file: its package as the name, and its messages.
fn read(text: &str) -> Declared {
    let tokens = tokens(text);
    let mut file = Declared::default();
    // Each block that is open: a message, or something else.
    let mut open: Vec<Option<Declared>> = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match (*token, tokens.get(at + 1), tokens.get(at + 2)) {
            ("message", Some(name), Some(&"{")) => {
                let is_counted = open.iter().all(Option::is_some);
                open.push(
                    is_counted.then(|| Declared { name: (*name).to_string(), within: Vec::new() }),
                );
                at += 3;
                continue;
            }
            ("package", Some(name), Some(&";")) if open.is_empty() => {
                file.name = (*name).to_string()
            }
            ("{", ..) => open.push(None),
            ("}", ..) => {
                if let Some(Some(ended)) = open.pop() {
                    let outer = open.iter_mut().rev().flatten().next().unwrap_or(&mut file);
                    outer.within.push(ended);
                }
            }
            _ => {}
        }
        at += 1;
    }
    file
}

/// Splits a text into names and signs. Comments are left out, and literals are one sign.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    let end_of = |from: usize, mark: &str| {
        text[from..].find(mark).map_or(text.len(), |found| from + found + mark.len())
    };
    while at < bytes.len() {
        let from = at;
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = end_of(at, "\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = end_of(at + 2, "*/"),
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                tokens.push("\"");
            }
            byte if is_of_name(byte) => {
                while bytes.get(at).is_some_and(|byte| is_of_name(*byte)) {
                    at += 1;
                }
                tokens.push(&text[from..at]);
            }
            byte if byte.is_ascii_punctuation() => {
                at += 1;
                tokens.push(&text[from..at]);
            }
            // White space, and what is no part of the language.
            _ => at += 1,
        }
    }
    tokens
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        syntax = "proto3"; // message Comment {}
        package shop.v1;
        import "google/protobuf/timestamp.proto";
        option java_package = "a \" message Quoted { b";
        /* message Block { */
        message Order {
          string message = 1;
          map<string, Line> lines = 2;
          oneof either { string a = 3; Line b = 4; }
          enum State { OPEN = 0; }
          message Line { message Part { int64 ü = 1; } int32 count = 1 [(note) = {message: "x" inner { a: 1 }}]; }
          message Other {}
        }
        service Orders { rpc Get(Order) returns (Order) { option (http) = { get: "/" }; } }
        extend Order { optional string more = 100; }
        message Customer {}
    "#;

    #[test]
    fn messages_are_found_by_indexes_and_by_name() {
        let all: [(&[usize], &str); 5] = [
            (&[0], "shop.v1.Order"),
            (&[0, 0], "shop.v1.Order.Line"),
            (&[0, 0, 0], "shop.v1.Order.Line.Part"),
            (&[0, 1], "shop.v1.Order.Other"),
            (&[1], "shop.v1.Customer"),
        ];
        for (indexes, name) in all {
            assert_eq!(name_at(FILE, indexes).as_deref(), Some(name));
            assert_eq!(indexes_of(FILE, name).as_deref(), Some(indexes));
        }
        for (indexes, name) in
            [(vec![2], "shop.v1.Comment"), (vec![0, 2], "Order"), (vec![], "shop.v1")]
        {
            assert_eq!((name_at(FILE, &indexes), indexes_of(FILE, name)), (None, None));
        }
        assert_eq!(name_at("message A {}", &[0]).as_deref(), Some("A"), "without a package");
        for broken in ["message", "message A {", "\"", "'\\", "/*", "}}", "{ message ü"] {
            assert_eq!(name_at(broken, &[0]), None, "{broken}");
        }
    }
}
