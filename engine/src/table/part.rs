//! States as the rest of the engine sees them: typed on their worker, without types elsewhere.

use crate::record::Storable;
use crate::request::ask::QueryError;
use crate::table::page::{OrderUse, PageOf, PageProgress};
use crate::table::placement::Placement;
use std::time::Instant;
use tidemill_state::hot::{Found, HotMap};
use tidemill_state::keys::{self, Key};
use tidemill_state::{Error, Kind, Result, StateId, Txid, codec};

/// One worker's part of a state, without its types: to load it, and to answer reads.
pub(crate) trait WorkerState {
    fn id(&self) -> StateId;

    /// Takes over a committed value, or a removal, while the worker starts.
    fn restore(&self, key: &[u8], value: Option<&[u8]>) -> Result<()>;

    /// The encoded value of an encoded key as of the committed batch `at`.
    fn get_at(&self, key: &[u8], at: Txid) -> Result<Option<Vec<u8>>>;

    /// Adds the next rows of a page, some of them.
    fn page(&self, page: &mut PageOf) -> Result<PageProgress>;

    /// Gives the order of the keys back if nobody has asked for it for a while: to be dropped
    /// elsewhere, since that takes long if it is large.
    fn give_back(&self, now: Instant) -> Option<Box<dyn Send>>;

    /// Returns the number of keys that have a value here as of batch `at`.
    fn keys(&self, at: Txid) -> usize;

    /// Lets go of some old values of batches up to `floor`. Returns whether all are gone.
    fn release(&self, floor: Txid) -> bool;

    /// Returns the number of bytes the old values take that are kept: what they hold outside
    /// themselves is estimated from a few.
    fn kept_bytes(&self) -> usize;
}

pub(crate) struct TypedState<K, V> {
    pub(crate) id: StateId,
    pub(crate) placement: Placement,
    groups: u16,
    pub(crate) map: std::cell::RefCell<HotMap<K, V>>,
    /// The number of times the bytes of old values were asked for, and how many each of them holds
    /// outside itself, about.
    outside: std::cell::Cell<(u32, usize)>,
    pub(crate) order: OrderUse,
}

impl<K: Key, V: Storable> TypedState<K, V> {
    pub(crate) fn new(
        id: StateId,
        placement: Placement,
        key_groups: u16,
        after: Txid,
    ) -> TypedState<K, V> {
        TypedState {
            id,
            placement,
            groups: key_groups,
            map: std::cell::RefCell::new(match placement {
                Placement::ByKey => HotMap::new(key_groups, after),
                Placement::Together => {
                    HotMap::together(key_groups, Placement::group(key_groups), after)
                }
            }),
            outside: std::cell::Cell::default(),
            order: OrderUse::default(),
        }
    }

    /// The hash of an encoded key.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.placement.hash(key, self.groups)
    }
}

impl<K: Key, V: Storable> WorkerState for TypedState<K, V> {
    fn id(&self) -> StateId {
        self.id
    }

    fn restore(&self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let value = value.map(codec::decode).transpose()?;
        self.map.borrow_mut().restore(self.hash(key), keys::decode_key(key)?, value);
        Ok(())
    }

    fn get_at(&self, key: &[u8], at: Txid) -> Result<Option<Vec<u8>>> {
        let map = self.map.borrow();
        if !map.holds(at) {
            return Err(not_held());
        }
        match map.get_at(self.hash(key), &keys::decode_key(key)?, at) {
            Found::Value(value) => {
                let mut bytes = Vec::new();
                codec::encode(value, &mut bytes)?;
                Ok(Some(bytes))
            }
            Found::Absent => Ok(None),
            Found::Cold => {
                Err(Error::bug("a key is not in memory, though every key is kept there"))
            }
        }
    }

    fn page(&self, page: &mut PageOf) -> Result<PageProgress> {
        let mut map = self.map.borrow_mut();
        if !map.holds(page.at) {
            return Err(not_held());
        }
        page.turn(&mut map, &self.order)
    }

    fn give_back(&self, now: Instant) -> Option<Box<dyn Send>> {
        if self.order.is_unused(now) { self.map.borrow_mut().take_order() } else { None }
    }

    fn keys(&self, at: Txid) -> usize {
        self.map.borrow().len_at(at)
    }

    fn release(&self, floor: Txid) -> bool {
        self.map.borrow_mut().release(floor, RELEASED_AT_ONCE)
    }

    fn kept_bytes(&self) -> usize {
        let (asked, outside) = self.outside.get();
        let map = self.map.borrow();
        if map.kept_bytes(0) == 0 {
            return 0;
        }
        let outside = if asked % CALLS_PER_SAMPLE == 0 {
            encoded_size(map.sample_kept(SAMPLED))
        } else {
            outside
        };
        self.outside.set((asked.wrapping_add(1), outside));
        map.kept_bytes(outside)
    }
}

/// The number of old values that are let go of at once.
const RELEASED_AT_ONCE: usize = 4096;

/// The number of times a worker asks for the bytes of old values before some are looked at again.
const CALLS_PER_SAMPLE: u32 = 256;

/// The number of old values that are looked at.
const SAMPLED: usize = 16;

/// The most bytes that are encoded for a sample: one value of a large kind is enough.
const SAMPLED_BYTES: usize = 64 << 10;

/// Returns the number of bytes that these values have on average once they are encoded: about what
/// they hold outside themselves.
fn encoded_size<'v, V: Storable>(values: impl Iterator<Item = Option<&'v V>>) -> usize {
    let (mut counted, mut number) = (Counted(0), 0);
    for value in values {
        number += 1;
        // One that is larger than all of a sample counts as that. One that cannot be encoded stops
        // its batch before long.
        if value.is_some_and(|value| codec::append(value, &mut counted).is_err()) {
            break;
        }
    }
    counted.0 / number.max(1)
}

/// Counts what is written, up to [`SAMPLED_BYTES`].
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > SAMPLED_BYTES {
            Err(std::io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(bytes.len())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The values of these keys, if they have no more than so many bytes together.
pub(crate) fn values(
    state: &dyn WorkerState,
    keys: &[Vec<u8>],
    at: Txid,
    most_bytes: usize,
) -> Result<Vec<Option<Vec<u8>>>> {
    let mut left = most_bytes;
    let value = |key: &Vec<u8>| {
        let value = state.get_at(key, at)?;
        let bytes = value.as_ref().map_or(0, Vec::len);
        left = left.checked_sub(bytes).ok_or_else(|| {
            Error::config(format!(
                "the values of these {} keys have more than {most_bytes} bytes together: ask for \
                 fewer",
                keys.len()
            ))
        })?;
        Ok(value)
    };
    keys.iter().map(value).collect()
}

/// Returns the error of a read whose batch is no longer held.
pub(crate) fn not_held() -> Error {
    Error::new(Kind::TryAgain, QueryError::NotHeld.to_string())
}
