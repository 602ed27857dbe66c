//! The schemas of a registry, by id: kept for good, and fetched by a thread of its own.
//!
//! A decoder runs on a worker, which must not wait for the network. It is given what is here, and
//! told to come again for what is not: the id is then wanted, and a thread fetches what is wanted
//! until nothing is.

use super::super::decode::NoRecord;
use super::beliefs::{Beliefs, Request};
use super::rest::{Access, Failure, Rest, escaped, no_registry};
use crate::threads;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The time a schema may take before that is trouble.
const SLOW: Duration = Duration::from_secs(2);

/// The time between two attempts: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The time after which a registry whose answer is not believed yet is queried again.
const DOUBTED: Duration = Duration::from_secs(1);

/// The time the thread sleeps at most, so that it ends soon when nobody needs it any more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The most schemas that one schema may refer to, directly and through others.
const MOST_REFERENCES: usize = 1_000;

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Avro,
    Protobuf,
    /// Another, such as JSON schema.
    Other,
}

impl Language {
    /// Returns the language's name in the registry.
    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Avro => "AVRO",
            Language::Protobuf => "PROTOBUF",
            Language::Other => "of another language",
        }
    }
}

/// A schema, with the schemas that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) language: Language,
    pub(super) text: String,
    /// Each before those that refer to it.
    pub(super) references: Vec<String>,
}

/// See the module's documentation.
pub(super) struct Schemas {
    access: Access,
    rest: OnceLock<Result<Rest, Failure>>,
    known: RwLock<HashMap<u32, Arc<Schema>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<u32, Wanted>,
    beliefs: Beliefs,
    /// The thread that fetches, while there is one.
    fetcher: Option<Thread>,
}

/// A schema that is fetched.
struct Wanted {
    since: Instant,
    /// The time of the next attempt, and the pause after it.
    next: Instant,
    pause: Duration,
    /// The reason why the last attempt failed.
    why: Option<String>,
}

impl Schemas {
    pub(super) fn new(access: Access) -> Schemas {
        let state = State { beliefs: Beliefs::of(&access), ..State::default() };
        Schemas {
            access,
            rest: OnceLock::new(),
            known: RwLock::default(),
            state: Mutex::new(state),
        }
    }

    /// Returns the schema of an id, if it is here; else has it fetched. Never waits for the
    /// registry.
    pub(super) fn get(self: &Arc<Schemas>, id: u32) -> Result<Arc<Schema>, NoRecord> {
        if let Some(known) = self.known.read().expect("no holder of this lock panics").get(&id) {
            return Ok(Arc::clone(known));
        }
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let now = Instant::now();
        if let Some(why) = state.beliefs.refusal(now) {
            return Err(NoRecord::Refused(why.to_string()));
        }
        if let Some(why) = state.beliefs.unknown(id, now) {
            return Err(NoRecord::Undecodable(why.to_string()));
        }
        if let Some(wanted) = state.wanted.get(&id) {
            let slow = || {
                format!(
                    "{} has not answered for {} s",
                    self.urls(),
                    now.duration_since(wanted.since).as_secs()
                )
            };
            let is_slow = now.duration_since(wanted.since) >= SLOW;
            let why = wanted.why.clone().or_else(|| is_slow.then(slow));
            return Err(NoRecord::NotYet(
                why.map(|why| format!("schema {id} is waited for: {why}")),
            ));
        }
        let wanted = Wanted { since: now, next: now, pause: PAUSE.0, why: None };
        state.wanted.insert(id, wanted);
        match &state.fetcher {
            Some(fetcher) => fetcher.unpark(),
            None => {
                let schemas = Arc::downgrade(self);
                match threads::spawn("schemas", move || fetch_wanted(&schemas, Schemas::fetch)) {
                    Ok(thread) => state.fetcher = Some(thread),
                    // The next call tries again.
                    Err(why) => {
                        state.wanted.remove(&id);
                        return Err(NoRecord::NotYet(Some(format!(
                            "no thread can be started that fetches schema {id}: {why}"
                        ))));
                    }
                }
            }
        }
        Err(NoRecord::NotYet(None))
    }

    /// The URLs, for messages.
    fn urls(&self) -> String {
        format!("the schema registry at {}", self.access.urls.join(", "))
    }

    fn rest(&self) -> Result<&Rest, Failure> {
        self.rest.get_or_init(|| Rest::new(&self.access)).as_ref().map_err(Failure::clone)
    }

    /// Returns the id of a schema under a subject, registered if it may be. Waits for the registry.
    pub(super) fn id_of(
        &self,
        subject: &str,
        registers: bool,
        language: Language,
        text: &str,
    ) -> Result<u32, Failure> {
        let answer = self.ask_id_of(subject, registers, language, text);
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.beliefs.hear(&Request::Subject(subject.to_string()), answer, Instant::now())
    }

    fn ask_id_of(
        &self,
        subject: &str,
        registers: bool,
        language: Language,
        text: &str,
    ) -> Result<u32, Failure> {
        let path =
            format!("/subjects/{}{}", escaped(subject), if registers { "/versions" } else { "" });
        let mut content = json!({ "schema": text });
        // Earlier registries have no other language, and do not know the field.
        if language != Language::Avro {
            content["schemaType"] = json!(language.name());
        }
        let answer = self.rest()?.post(&path, &content)?;
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.is_none("without an id"))
    }

    /// Fetches a schema and what it refers to.
    fn fetch(&self, id: u32) -> Result<Schema, Failure> {
        let answer = self.rest()?.get(&format!("/schemas/ids/{id}"))?;
        let text = self.text_of(&answer)?;
        let language = match answer["schemaType"].as_str() {
            None | Some("AVRO") => Language::Avro,
            Some("PROTOBUF") => Language::Protobuf,
            Some(_) => Language::Other,
        };
        let mut references = Vec::new();
        // The name of a Protobuf message is in the schema itself.
        if language == Language::Avro {
            self.fetch_references(&answer, &mut Vec::new(), &mut references)?;
        }
        Ok(Schema { language, text, references })
    }

    /// Fetches what a schema refers to, before itself, each once.
    fn fetch_references(
        &self,
        of: &Json,
        seen: &mut Vec<(String, u64)>,
        into: &mut Vec<String>,
    ) -> Result<(), Failure> {
        for reference in of["references"].as_array().into_iter().flatten() {
            let (Some(subject), Some(version)) =
                (reference["subject"].as_str(), reference["version"].as_u64())
            else {
                return Err(self.is_none("with a reference without subject and version"));
            };
            let place = (subject.to_string(), version);
            if seen.contains(&place) {
                continue;
            }
            if seen.len() == MOST_REFERENCES {
                return Err(Failure::Unknown(format!(
                    "it refers to more than {MOST_REFERENCES} others"
                )));
            }
            seen.push(place);
            let answer =
                self.rest()?.get(&format!("/subjects/{}/versions/{version}", escaped(subject)))?;
            self.fetch_references(&answer, seen, into)?;
            into.push(self.text_of(&answer)?);
        }
        Ok(())
    }

    fn text_of(&self, answer: &Json) -> Result<String, Failure> {
        answer["schema"]
            .as_str()
            .map(str::to_string)
            .ok_or_else(|| self.is_none("without a schema"))
    }

    /// The failure of an answer that no schema registry gives.
    fn is_none(&self, answers: &str) -> Failure {
        Failure::Never {
            why: no_registry(&format!("{} answers {answers}", self.urls())),
            is_certain: false,
        }
    }

    /// Takes in what came of an attempt.
    fn settle(&self, id: u32, fetched: Result<Schema, Failure>, now: Instant) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let state = &mut *state;
        let is_in_doubt = matches!(fetched, Err(Failure::Never { .. } | Failure::Unknown(_)));
        let why = match state.beliefs.hear(&Request::Schema(id), fetched, now) {
            Ok(schema) => {
                self.known
                    .write()
                    .expect("no holder of this lock panics")
                    .insert(id, Arc::new(schema));
                state.beliefs.forget_unknown(id);
                state.wanted.remove(&id);
                return;
            }
            Err(Failure::Unknown(why)) => {
                let what = "was the message written with another registry, or the schema deleted?";
                let why = format!("{} has no schema {id}: {what} ({why})", self.urls());
                if state.beliefs.hear_unknown(id, &why, now) {
                    state.wanted.remove(&id);
                    return;
                }
                why
            }
            Err(Failure::Config(_)) => {
                state.wanted.clear();
                state.beliefs.forget_doubts();
                return;
            }
            Err(
                Failure::Unreachable(why) | Failure::Rejected(why) | Failure::Never { why, .. },
            ) => {
                state.beliefs.forget_unknown(id);
                why
            }
        };
        if let Some(wanted) = state.wanted.get_mut(&id) {
            wanted.why = Some(why);
            let pause = if is_in_doubt { DOUBTED } else { wanted.pause };
            wanted.next = now + pause;
            if !is_in_doubt {
                wanted.pause = (wanted.pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Fetches what is wanted until nothing is, or nobody needs the schemas any more.
fn fetch_wanted(schemas: &Weak<Schemas>, fetch: impl Fn(&Schemas, u32) -> Result<Schema, Failure>) {
    while let Some(schemas) = schemas.upgrade() {
        let mut state = schemas.state.lock().expect("no holder of this lock panics");
        let Some((id, next)) = state
            .wanted
            .iter()
            .map(|(id, wanted)| (*id, wanted.next))
            .min_by_key(|(_, next)| *next)
        else {
            // Under the lock: whoever wants something after this starts another thread.
            state.fetcher = None;
            return;
        };
        drop(state);
        let wait = next.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            // A thread that ended here would be waited for by all messages from then on.
            let fetched = catch_unwind(AssertUnwindSafe(|| fetch(&schemas, id)));
            let panicked = |_| {
                Err(Failure::Unreachable("the look-up panicked (its message is in the log)".into()))
            };
            schemas.settle(id, fetched.unwrap_or_else(panicked), Instant::now());
        } else {
            drop(schemas);
            std::thread::park_timeout(wait.min(LOOK_EVERY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Arc<Schemas> {
        let schemas = Arc::new(Schemas::new(Access::of("http://127.0.0.1:1")));
        let now = Instant::now();
        let wanted = Wanted { since: now, next: now, pause: PAUSE.0, why: None };
        schemas.state.lock().expect("a test").wanted.insert(5, wanted);
        schemas
    }

    #[test]
    fn a_look_up_that_panics_is_made_again() {
        let schemas = wanted();
        let calls = Mutex::new(0);
        fetch_wanted(&Arc::downgrade(&schemas), |_, _| {
            let mut calls = calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *calls += 1;
            assert!(*calls > 1, "the first one");
            Ok(Schema { language: Language::Avro, text: "\"long\"".into(), references: Vec::new() })
        });
        assert!(schemas.get(5).is_ok_and(|schema| schema.text == "\"long\""));
    }

    #[test]
    fn whatever_comes_between_ends_the_agreement_that_an_id_is_unknown() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let never = Failure::Never { why: "a proxy's".into(), is_certain: false };
        for between in
            [Failure::Unreachable("no answer".into()), never, Failure::Rejected("a proxy's".into())]
        {
            let schemas = wanted();
            schemas.settle(5, Err(Failure::Unknown("404".into())), at(0));
            schemas.settle(5, Err(between.clone()), at(7));
            schemas.settle(5, Err(Failure::Unknown("404".into())), at(9));
            assert!(matches!(schemas.get(5), Err(NoRecord::NotYet(_))), "{between:?}");
            schemas.settle(5, Err(Failure::Unknown("404".into())), at(17));
            assert!(schemas.state.lock().expect("a test").wanted.is_empty(), "{between:?}");
        }
    }

    #[test]
    fn an_id_that_is_unknown_waits_before_it_is_given_up() {
        let (schemas, began) = (wanted(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let unknown = || Err(Failure::Unknown("404".into()));
        for second in 0..8 {
            schemas.settle(5, unknown(), at(second));
            let waits = schemas.get(5).expect_err("it is not here");
            assert!(
                matches!(&waits, NoRecord::NotYet(Some(why)) if why.contains("no schema 5")),
                "{waits:?}"
            );
        }
        schemas.settle(5, unknown(), at(8));
        let state = &mut schemas.state.lock().expect("a test");
        assert!(
            state.wanted.is_empty()
                && state.beliefs.unknown(5, at(8)).is_some_and(|why| why.contains("no schema 5"))
        );
    }
}
