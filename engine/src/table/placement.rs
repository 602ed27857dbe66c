//! The placement of a state: which worker owns a key.

use tidemill_state::{KeyGroup, keys};

/// Which worker owns what: a state's keys, spread by their hash; or all of them, on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// By the hash of each key.
    ByKey,
    /// All in the key group of the key `()`, whatever the keys are.
    Together,
}

impl Placement {
    /// The key group of all keys that are placed together.
    pub(crate) fn group(groups: u16) -> KeyGroup {
        keys::group_of(keys::hash_key(&[]), groups)
    }

    /// The hash of an encoded key, such that its key group is where it is placed.
    pub(crate) fn hash(self, encoded: &[u8], groups: u16) -> u64 {
        let hash = keys::hash_key(encoded);
        match self {
            Placement::ByKey => hash,
            Placement::Together => {
                // Only the part that chooses the group is replaced: tables within it need the rest.
                let rest = hash - u64::from(keys::group_of(hash, groups).0);
                let group = u64::from(Placement::group(groups).0);
                rest.checked_add(group).unwrap_or_else(|| rest - u64::from(groups) + group)
            }
        }
    }
}
