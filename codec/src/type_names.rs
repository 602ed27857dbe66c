//! Names of types as their users write them: without the modules that they lie in.
//!
//! The compiler's own names have the modules in which a type is defined, which may be another
//! library's and private, and which may move from one version of Rust or of a library to the next.

/// The texts that Tidemill gives a name of its own.
const ALIASES: [(&str, &str); 1] = [("CompactString", "Str")];

/// Returns the name of `T` as it is written.
///
/// ```
/// assert_eq!(tidemill_codec::type_names::of::<(u64, Option<String>)>(), "(u64, Option<String>)");
/// ```
#[must_use]
pub fn of<T: ?Sized>() -> String {
    readable(std::any::type_name::<T>())
}

/// Returns the name of a value's type, as [`of`] does.
#[must_use]
pub fn of_val<T: ?Sized>(_: &T) -> String {
    of::<T>()
}

/// Returns a name that the compiler gave, or a text with such names in it, without modules.
///
/// ```
/// use tidemill_codec::type_names::readable;
/// assert_eq!(readable("core::option::Option<compact_str::CompactString>"), "Option<Str>");
/// assert_eq!(readable("files of orders::v1::Order"), "files of Order");
/// ```
#[must_use]
pub fn readable(name: &str) -> String {
    let mut readable = String::with_capacity(name.len());
    let mut word = 0;
    for character in name.chars() {
        match character {
            ':' => readable.truncate(word),
            _ if character.is_alphanumeric() || character == '_' => readable.push(character),
            _ => {
                rename(&mut readable, word);
                readable.push(character);
                word = readable.len();
            }
        }
    }
    rename(&mut readable, word);
    readable
}

/// Gives the last word of a name its alias, if it has one.
fn rename(name: &mut String, word: usize) {
    if let Some((_, alias)) = ALIASES.iter().find(|(known, _)| *known == &name[word..]) {
        name.truncate(word);
        name.push_str(alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_modules() {
        let check = |name: &str, expected: &str| assert_eq!(readable(name), expected, "{name}");
        check("u64", "u64");
        check("compact_str::CompactString", "Str");
        check("compact_str::repr::CompactString", "Str");
        check("(alloc::string::String, core::option::Option<u64>)", "(String, Option<u64>)");
        check("[orders::Order; 4]", "[Order; 4]");
        check("&'static str", "&'static str");
        check("my_words::CompactStrings", "CompactStrings");
        check(
            "std::collections::hash::map::HashMap<compact_str::CompactString, a::b_c::D1>",
            "HashMap<Str, D1>",
        );
        check("Str", "Str");
        assert_eq!(readable(&readable("a::B<c::D>")), "B<D>");
    }
}
