//! Migrations as a program declares them: what becomes of the states, sources and sinks that an
//! older version of it had.

use crate::dataflow::context::Context;
use crate::dataflow::topology::Topology;
use crate::panics::panic_message;
use crate::record::Storable;
use crate::table::codec::type_decl;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use tidemill_state::keys::{self, Key};
use tidemill_state::migration::{Change, Migration as Declared};
use tidemill_state::schema::TypeDecl;
use tidemill_state::{Error, Result, codec, round_trip, type_names};

/// Decodes what a conversion is given.
fn taken<T>(what: &str, decoded: Result<T>) -> Result<T> {
    decoded.map_err(|why| {
        let taken = type_names::of::<T>();
        Error::config(format!(
            "its {what} are no {taken}: {why}. Nothing was changed: let the conversion take the \
             type that they had"
        ))
    })
}

/// Encodes what a conversion made. Each value is read back: there is no other run to find that it
/// cannot be.
fn encode_value<V: Storable>(value: &V, into: &mut Vec<u8>) -> Result<()> {
    codec::encode(value, into)?;
    round_trip::value_comes_back(value, into)
}

/// Calls the user's conversion.
fn guarded<T>(key: impl Fn() -> String, convert: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(convert)).map_err(|panic| {
        let (key, why) = (key(), panic_message(panic.as_ref()));
        Error::user_code(format!(
            "the conversion panicked at {key}: {why}. Nothing was changed: \
            mend it, then start again"
        ))
    })
}

impl Topology<'_> {
    /// Declares a migration: how the store of an older version of this program becomes one of this
    /// version.
    ///
    /// States, sources and sinks may be added freely, and queries changed. To remove, rename or
    /// retype the others is refused at start, with the difference, unless migrations say what is
    /// meant.
    ///
    /// # Guarantees
    /// Each migration is made once on each store, before the first batch of the first run that
    /// declares it, and its name is recorded with what it changed in one write: after a crash it
    /// was made, or it was not. Migrations that a store has not seen are made in the order of their
    /// declarations, so that a store that missed several gets all. A new store records them all as
    /// made. A refused migration changes nothing.
    ///
    /// Keep a migration in the program as long as there are stores that have not seen it; after
    /// that it may go.
    ///
    /// ```
    /// use tidemill_engine::{aggregates::{Count, Sum}, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let words = topology.source("in", io.source::<String>("in"));
    ///     words.clone().group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    ///     words.map(|word| word.len() as u32).persistent_aggregate("letters", Sum);
    /// });
    /// kit.feed("in", ["tide".to_string(), "mill".to_string()]);
    /// kit.step();
    ///
    /// // The next version calls one state by another name, and counts wider in the other.
    /// kit.change_program(|topology, io| {
    ///     topology
    ///         .migration("2026-11 wider letters")
    ///         .rename_state("counts", "words")
    ///         .convert_state("letters", |old: u32| u64::from(old));
    ///     let words = topology.source("in", io.source::<String>("in"));
    ///     words.clone().group_by(|word| word.clone()).persistent_aggregate("words", Count);
    ///     words.map(|word| word.len() as u64).persistent_aggregate("letters", Sum);
    /// });
    /// kit.restart();
    /// assert_eq!(kit.state::<String, u64>("words")["tide"], 1);
    /// assert_eq!(kit.state::<(), u64>("letters")[&()], 8);
    /// ```
    pub fn migration(&self, name: impl Into<String>) -> Migration {
        let name = name.into();
        let mut declared = self.context.declared.borrow_mut();
        if declared.program.migrations.iter().any(|migration| migration.name == name) {
            let error = Error::config(format!(
                "two migrations are named \"{name}\": give each topology.migration(name) its own \
                 name"
            ));
            declared.error.get_or_insert(error);
        }
        let index = declared.program.migrations.len();
        declared.program.migrations.push(Declared { name, changes: Vec::new() });
        drop(declared);
        Migration { context: Rc::clone(&self.context), index }
    }
}

/// A migration that is being declared, see [`Topology::migration`]. Its changes are made in the
/// order in which they are declared: a change after [`Migration::rename_state`] or
/// [`Migration::rename_source`] refers to the new name.
pub struct Migration {
    context: Rc<Context>,
    /// Which of the program's migrations it is.
    index: usize,
}

impl Migration {
    /// Renames a state to `to`. The state keeps its content. Changes that follow, such as
    /// [`Migration::convert_state`], refer to it as `to`.
    #[allow(clippy::return_self_not_must_use)]
    pub fn rename_state(self, from: &str, to: &str) -> Migration {
        self.add(Change::RenameState { from: from.into(), to: to.into() })
    }

    /// Removes a state with its content. A state of the same name in the program is a new one, and
    /// empty.
    #[allow(clippy::return_self_not_must_use)]
    pub fn drop_state(self, name: &str) -> Migration {
        self.add(Change::DropState { name: name.into() })
    }

    /// Replaces every value of a state by the result of `convert`; the keys stay. After a
    /// [`Migration::rename_state`] of the same state, `name` is the new name.
    ///
    /// `Old` is the type that the values had, `New` the type that the state has now. Keep a struct
    /// whose fields have changed beside the new one, under its old name in a module of its own: the
    /// store has recorded the type's name without its modules, and the names and kinds of its
    /// fields, and compares both. `convert` is called with each value once or more, in no
    /// particular order, and must return the same each time. If it panics, the start is refused and
    /// nothing is changed.
    ///
    /// All values are in memory at once during the conversion.
    #[allow(clippy::return_self_not_must_use)]
    pub fn convert_state<Old: Storable, New: Storable>(
        self,
        name: &str,
        convert: impl Fn(Old) -> New + Send + Sync + 'static,
    ) -> Migration {
        let values = (type_decl::<Old>(), type_decl::<New>());
        self.convert(name, None, values, move |key, value| {
            let mut converted = Vec::new();
            let old = taken("values", codec::decode(value))?;
            let new = guarded(|| format!("a value of {} bytes", value.len()), || convert(old))?;
            encode_value(&new, &mut converted)?;
            Ok((key.to_vec(), converted))
        })
    }

    /// Replaces every key and value of a state by the result of `convert`. As
    /// [`Migration::convert_state`]; two keys must not become the same.
    #[allow(clippy::return_self_not_must_use)]
    pub fn convert_rows<K: Key, Old: Storable, L: Key, New: Storable>(
        self,
        name: &str,
        convert: impl Fn(K, Old) -> (L, New) + Send + Sync + 'static,
    ) -> Migration {
        let (keys, values) =
            ((type_decl::<K>(), type_decl::<L>()), (type_decl::<Old>(), type_decl::<New>()));
        self.convert(name, Some(keys), values, move |key, value| {
            let (old_key, old) = (
                taken("keys", keys::decode_key::<K>(key))?,
                taken("values", codec::decode(value))?,
            );
            let shown = crate::json::to_string(&old_key).unwrap_or_default();
            let (new_key, new) = guarded(|| format!("key {shown}"), || convert(old_key, old))?;
            let (mut key, mut value) = (Vec::new(), Vec::new());
            keys::encode_key(&new_key, &mut key)?;
            round_trip::key_comes_back(&new_key, &key)?;
            encode_value(&new, &mut value)?;
            Ok((key, value))
        })
    }

    /// Renames a source to `to`. The source continues at its position.
    #[allow(clippy::return_self_not_must_use)]
    pub fn rename_source(self, from: &str, to: &str) -> Migration {
        self.add(Change::RenameSource { from: from.into(), to: to.into() })
    }

    /// Removes a source with its positions. A source of the same name in the program begins as a
    /// new one.
    #[allow(clippy::return_self_not_must_use)]
    pub fn drop_source(self, name: &str) -> Migration {
        self.add(Change::DropSource { name: name.into() })
    }

    /// Removes a sink. Refused while committed output for it is not confirmed: that would be lost.
    #[allow(clippy::return_self_not_must_use)]
    pub fn drop_sink(self, name: &str) -> Migration {
        self.add(Change::DropSink { name: name.into() })
    }

    fn convert(
        self,
        name: &str,
        keys: Option<(TypeDecl, TypeDecl)>,
        values: (TypeDecl, TypeDecl),
        convert: impl Fn(&[u8], &[u8]) -> Result<(Vec<u8>, Vec<u8>)> + Send + Sync + 'static,
    ) -> Migration {
        let code = {
            let mut declared = self.context.declared.borrow_mut();
            declared.conversions.push(Arc::new(convert));
            declared.conversions.len() - 1
        };
        self.add(Change::ConvertState { name: name.into(), keys, values, code })
    }

    fn add(self, change: Change) -> Migration {
        let mut declared = self.context.declared.borrow_mut();
        declared.program.migrations[self.index].changes.push(change);
        drop(declared);
        self
    }
}
