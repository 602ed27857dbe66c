//! The bounds of types: of records in a stream, of records sent between workers, of rows in a
//! state.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type of records that can travel in a stream: owned, cloneable, and able to move between
/// workers.
///
/// Between workers records move as they are. Values and keys of states, and what goes between a
/// client and a query, are encoded without names and kinds. Of serde's attributes these then cannot
/// be used:
///
/// | attribute | found |
/// | --- | --- |
/// | `flatten`, `untagged`, `tag`, and types such as `serde_json::Value`, which read whatever kind comes | of a state when the topology is built, of a query when it is called over gRPC |
/// | `skip` on a variant that is not the last, `skip_serializing` or `skip_deserializing` alone, a `serialize_with` that the `deserialize_with` does not read | the same; at a value where the type alone does not show it |
/// | `skip_serializing_if` | at the first value whose field would be left out |
/// | `skip` on a field | in a key; in a value only by [`crate::conformance::value`]: it is the default after a restart |
///
/// What is found at a value fails its batch, before the commit. Sinks that write JSON take all of
/// them.
///
/// A value that was encoded and decoded must be encoded as the same bytes again (the order of a
/// hash map's entries aside). A type that compacts or normalises itself as it is read, such as a
/// sketch or a decimal number without trailing zeros, does so before it is written.
pub trait Data: Clone + Serialize + DeserializeOwned + Send + 'static {}

impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// A type of records that a stream can carry: anything owned that can be cloned. A record that is
/// sent to another worker must be [`crate::Data`] too.
pub trait Record: Clone + 'static {}

impl<T: Clone + 'static> Record for T {}

/// A type of values that a state can hold. Every type with these parts is one, but for those whose
/// attributes keep their values from coming back: see [`crate::Data`].
/// [`crate::conformance::value`] checks one of your own.
pub trait Storable: Clone + Serialize + DeserializeOwned + Send + 'static {}

impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> Storable for T {}
