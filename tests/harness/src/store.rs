//! What a subject's store holds, read beside the engine, and compared.

use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tidemill::Store;
use tidemill_state::schema::Schema;
use tidemill_state::{codec, keys};

/// What the store has recorded of the program.
pub fn schema(store: &Store) -> Schema {
    store.facts().expect("the store can be read").schema
}

/// The offsets of all partitions of these sources.
pub fn positions(store: &Store, sources: &[&str]) -> BTreeMap<String, u64> {
    let mut positions = BTreeMap::new();
    for source in sources {
        let id = schema(store).source(source);
        let of_source = id
            .map_or(Ok(BTreeMap::new()), |id| store.positions(id))
            .expect("the store can be read");
        positions.extend(
            of_source.into_iter().map(|(partition, position)| (partition, position.offset)),
        );
    }
    positions
}

/// All rows of a state; none, if there is no such state.
pub fn scan<K: DeserializeOwned + Ord, V: DeserializeOwned>(
    store: &Store,
    state: &str,
) -> BTreeMap<K, V> {
    let mut rows = BTreeMap::new();
    if let Some(id) = schema(store).state(state) {
        let scanned = store.scan(id, |key, value| {
            rows.insert(keys::decode_key(key)?, codec::decode(value)?);
            Ok(true)
        });
        scanned.expect("the store can be read");
    }
    rows
}

/// Says which numbers are not as expected: the first few of them.
pub fn compare(
    what: &str,
    expected: &BTreeMap<String, u64>,
    seen: &BTreeMap<String, u64>,
    wrong: &mut Vec<String>,
) {
    let keys: std::collections::BTreeSet<&String> = expected.keys().chain(seen.keys()).collect();
    let differ = keys.into_iter().filter(|key| expected.get(*key) != seen.get(*key));
    for key in differ.take(5) {
        wrong.push(format!(
            "{what}: {key:?} is {:?} instead of {:?}",
            seen.get(key),
            expected.get(key)
        ));
    }
}

/// Copies a folder, so that what is looked at stays as it is.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be written");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("the folder can be read").is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file can be copied");
        }
    }
}
