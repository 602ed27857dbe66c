//! Descriptions of types that are compared again and again: each made once.

use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// As [`super::of`], computed once for each type.
#[must_use]
pub fn known<T: DeserializeOwned>() -> Arc<str> {
    static KNOWN: RwLock<BTreeMap<usize, Arc<str>>> = RwLock::new(BTreeMap::new());
    // A type that is not `'static` has no number of its own, but a function of it has an address:
    // where two types share the function, they have one description.
    let key = super::of::<T> as fn() -> String as usize;
    if let Some(text) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Arc::clone(text);
    }
    let text: Arc<str> = super::of::<T>().into();
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(known.entry(key).or_insert(text))
}

/// Returns whether two descriptions may be of one type: they are equal, up to the part at which one
/// of the types refused to be read from nothing.
///
/// ```
/// use tidemill_codec::shape::agree;
///
/// assert!(agree("(u8, text)", "(u8, text)"));
/// assert!(!agree("(u8, text)", "(u8, u64)"));
/// assert!(agree("(u8, text…", "(u8, text, u64)"));
/// ```
#[must_use]
pub fn agree(one: &str, other: &str) -> bool {
    let refused = |text: &str| {
        let mut marks = text.match_indices('…');
        let is_end = |rest: &str| rest.is_empty() || rest.starts_with(" or ");
        marks.find(|(at, mark)| is_end(&text[at + mark.len()..])).map(|(at, _)| at)
    };
    let Some(until) = refused(one).into_iter().chain(refused(other)).min() else {
        return one == other;
    };
    one == other || other.get(..until).is_some_and(|other| one.get(..until) == Some(other))
}
