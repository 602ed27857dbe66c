//! The subject that a sink writes under, and the id that its schema has there.

use super::beliefs::BELIEVED_AFTER;
use super::rest::Failure;
use super::schemas::{Language, Schemas};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tidemill_state::{Error, Result};

/// See the module's documentation. Clones share the id.
#[derive(Clone)]
pub(super) struct Subject(Arc<Inner>);

struct Inner {
    name: String,
    schemas: Arc<Schemas>,
    registers: bool,
    language: Language,
    text: String,
    /// The id plus one; 0 until it is known.
    id: AtomicU64,
    /// Since when the registry does not have the schema.
    unknown_since: Mutex<Option<Instant>>,
}

impl Subject {
    /// The subject of a topic's values.
    pub(super) fn of_values(
        topic: &str,
        schemas: Arc<Schemas>,
        registers: bool,
        language: Language,
        text: &str,
    ) -> Subject {
        let (name, text, id) = (format!("{topic}-value"), text.to_string(), AtomicU64::new(0));
        Subject(Arc::new(Inner {
            name,
            schemas,
            registers,
            language,
            text,
            id,
            unknown_since: Mutex::default(),
        }))
    }

    /// The schema, as it was given.
    pub(super) fn text(&self) -> &str {
        &self.0.text
    }

    /// Returns the id that [`Subject::find`] has found.
    pub(super) fn id(&self) -> Result<u32> {
        let id = self.0.id.load(SeqCst).checked_sub(1).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            Error::bug(format!(
                "a record of subject {} is encoded before its schema has an id",
                self.0.name
            ))
        })
    }

    /// Registers the schema, or looks it up, unless that was done. Waits for the registry.
    ///
    /// # Errors
    /// Kind Unreachable: the registry cannot be reached, or its answer is not believed yet. Kind
    /// Config: it refuses the user or the schema, or has not the schema.
    pub(super) fn find(&self) -> Result<()> {
        let Inner { name, schemas, registers, language, text, id, .. } = &*self.0;
        if id.load(SeqCst) != 0 {
            return Ok(());
        }
        let found = schemas
            .id_of(name, *registers, *language, text)
            .map_err(|failure| self.judge(failure, Instant::now()))?;
        id.store(u64::from(found) + 1, SeqCst);
        Ok(())
    }

    /// Returns the error of an attempt that failed.
    fn judge(&self, failure: Failure, now: Instant) -> Error {
        let name = &self.0.name;
        let mut since = self.0.unknown_since.lock().expect("no holder of this lock panics");
        if !matches!(failure, Failure::Unknown(_)) {
            *since = None;
        }
        match failure {
            Failure::Unknown(why) => {
                // One of several registries may be behind the others.
                if now.saturating_duration_since(*since.get_or_insert(now)) < BELIEVED_AFTER {
                    return Error::unreachable(format!(
                        "subject {name} has no version with the sink's schema so far ({why})"
                    ));
                }
                Error::config(format!(
                    "subject {name} has no version with the sink's schema ({why}): register it \
                     first, or let the sink do it (without SchemaRegistry::look_up_only)"
                ))
            }
            Failure::Unreachable(why) | Failure::Never { why, .. } => Error::unreachable(format!(
                "the schema of subject {name} cannot be registered: {why}"
            )),
            Failure::Rejected(why) => Error::config(format!(
                "subject {name}: the schema registry does not take the sink's schema: {why}. \
                 Correct the schema"
            )),
            Failure::Config(why) => Error::config(format!("subject {name}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rest::Access;
    use super::*;
    use std::time::Duration;
    use tidemill_state::Kind;

    #[test]
    fn a_schema_that_is_not_there_is_believed_once_all_answers_agree() {
        let schemas = Arc::new(Schemas::new(Access::of("http://127.0.0.1:1")));
        let subject = Subject::of_values("t", schemas, false, Language::Avro, "");
        let began = Instant::now();
        let at = |failure: Failure, seconds| {
            subject.judge(failure, began + Duration::from_secs(seconds)).kind()
        };
        let unknown = || Failure::Unknown("404".into());
        assert_eq!((at(unknown(), 0), at(unknown(), 7)), (Kind::Unreachable, Kind::Unreachable));
        assert_eq!(at(Failure::Unreachable("no answer".into()), 7), Kind::Unreachable);
        assert_eq!((at(unknown(), 9), at(unknown(), 16)), (Kind::Unreachable, Kind::Unreachable));
        assert_eq!(at(unknown(), 17), Kind::Config);
    }
}
