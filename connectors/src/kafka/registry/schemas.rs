//! The schemas of a registry, by id: kept for good, and fetched by a thread of its own.
//!
//! A decoder runs on a worker, which must not wait for the network. It is given what is here, and told to come again for
//! what is not: the id is then wanted, and a thread fetches what is wanted until nothing is.

use super::super::decode::NoRecord;
use super::rest::{Access, Failure, Rest, escaped};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a schema may take before that is trouble.
const SLOW: Duration = Duration::from_secs(2);

/// The time between two attempts: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The time after which a registry that does not know an id is asked once more: one of several may be behind the others.
const UNKNOWN_FOR: Duration = Duration::from_millis(500);

/// How long the thread sleeps at most, so that it ends soon when nobody needs it any more.
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
    /// Ids that the registry does not know, with its answer.
    unknown: HashMap<u32, String>,
    /// The reason why nothing can be fetched before the settings are corrected.
    refused: Option<String>,
    /// Whether the registry has ever taken this user.
    was_let_in: bool,
    /// The thread that fetches, while there is one.
    fetcher: Option<Thread>,
}

/// A schema that is fetched.
struct Wanted {
    since: Instant,
    /// The time of the next attempt, and the pause after it.
    next: Instant,
    pause: Duration,
    /// Whether the registry did not know it at the last attempt.
    was_unknown: bool,
    /// The reason why the last attempt failed.
    why: Option<String>,
}

impl Schemas {
    pub(super) fn new(access: Access) -> Schemas {
        Schemas { access, rest: OnceLock::new(), known: RwLock::default(), state: Mutex::default() }
    }

    /// Returns the schema of an id, if it is here; else has it fetched. Never waits for the registry.
    pub(super) fn get(self: &Arc<Schemas>, id: u32) -> Result<Arc<Schema>, NoRecord> {
        if let Some(known) = self.known.read().expect("no holder of this lock panics").get(&id) {
            return Ok(Arc::clone(known));
        }
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if let Some(why) = &state.refused {
            return Err(NoRecord::Refused(why.clone()));
        }
        if let Some(why) = state.unknown.get(&id) {
            return Err(NoRecord::Undecodable(why.clone()));
        }
        let now = Instant::now();
        if let Some(wanted) = state.wanted.get(&id) {
            let slow = || format!("{} has not answered for {} s", self.urls(), now.duration_since(wanted.since).as_secs());
            let is_slow = now.duration_since(wanted.since) >= SLOW;
            let why = wanted.why.clone().or_else(|| is_slow.then(slow));
            return Err(NoRecord::NotYet(why.map(|why| format!("schema {id} is waited for: {why}"))));
        }
        let wanted = Wanted { since: now, next: now, pause: PAUSE.0, was_unknown: false, why: None };
        state.wanted.insert(id, wanted);
        match &state.fetcher {
            Some(fetcher) => fetcher.unpark(),
            None => {
                let schemas = Arc::downgrade(self);
                let spawned = std::thread::Builder::new().name("schemas".into()).spawn(move || fetch_wanted(&schemas));
                match spawned {
                    Ok(thread) => state.fetcher = Some(thread.thread().clone()),
                    // The next call tries again.
                    Err(why) => {
                        state.wanted.remove(&id);
                        return Err(NoRecord::NotYet(Some(format!("no thread can be started that fetches schema {id}: {why}"))));
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
    pub(super) fn id_of(&self, subject: &str, registers: bool, language: Language, text: &str) -> Result<u32, Failure> {
        let path = format!("/subjects/{}{}", escaped(subject), if registers { "/versions" } else { "" });
        let mut content = json!({ "schema": text });
        // Earlier registries have no other language, and do not know the field.
        if language != Language::Avro {
            content["schemaType"] = json!(language.name());
        }
        let answer = self.rest()?.post(&path, &content)?;
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Failure::Away(format!("{} answers without an id: is it one?", self.urls())))
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
    fn fetch_references(&self, of: &Json, seen: &mut Vec<(String, u64)>, into: &mut Vec<String>) -> Result<(), Failure> {
        for reference in of["references"].as_array().into_iter().flatten() {
            let (Some(subject), Some(version)) = (reference["subject"].as_str(), reference["version"].as_u64()) else {
                return Err(Failure::Away(format!("{} answers with a reference without subject and version", self.urls())));
            };
            let place = (subject.to_string(), version);
            if seen.contains(&place) {
                continue;
            }
            if seen.len() == MOST_REFERENCES {
                return Err(Failure::Unknown(format!("it refers to more than {MOST_REFERENCES} others")));
            }
            seen.push(place);
            let answer = self.rest()?.get(&format!("/subjects/{}/versions/{version}", escaped(subject)))?;
            self.fetch_references(&answer, seen, into)?;
            into.push(self.text_of(&answer)?);
        }
        Ok(())
    }

    fn text_of(&self, answer: &Json) -> Result<String, Failure> {
        let text = answer["schema"].as_str().map(str::to_string);
        text.ok_or_else(|| Failure::Away(format!("{} answers without a schema: is it one?", self.urls())))
    }

    /// Takes in what came of an attempt.
    fn settle(&self, id: u32, fetched: Result<Schema, Failure>) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.was_let_in |= matches!(fetched, Ok(_) | Err(Failure::Unknown(_)));
        let again = match fetched {
            Ok(schema) => {
                self.known.write().expect("no holder of this lock panics").insert(id, Arc::new(schema));
                state.wanted.remove(&id);
                return;
            }
            Err(Failure::Unknown(why)) => {
                if state.wanted.get(&id).is_some_and(|wanted| wanted.was_unknown) {
                    state.wanted.remove(&id);
                    let what = "was the message written with another registry, or the schema deleted?";
                    state.unknown.insert(id, format!("{} has no schema {id}: {what} ({why})", self.urls()));
                    return;
                }
                (UNKNOWN_FOR, true, None)
            }
            Err(Failure::Refused(why)) if !state.was_let_in => {
                state.refused = Some(format!("the schema registry refuses this user: {why}. Correct user, password or token"));
                state.wanted.clear();
                return;
            }
            Err(Failure::Config(why)) => {
                state.refused = Some(why);
                state.wanted.clear();
                return;
            }
            Err(Failure::Away(why) | Failure::Refused(why) | Failure::Rejected(why)) => {
                let pause = state.wanted.get(&id).map_or(PAUSE.0, |wanted| wanted.pause);
                (pause, false, Some(why))
            }
        };
        if let Some(wanted) = state.wanted.get_mut(&id) {
            let (pause, was_unknown, why) = again;
            wanted.next = Instant::now() + pause;
            (wanted.was_unknown, wanted.why) = (was_unknown, why);
            if !was_unknown {
                wanted.pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Fetches what is wanted until nothing is, or nobody needs the schemas any more.
fn fetch_wanted(schemas: &Weak<Schemas>) {
    while let Some(schemas) = schemas.upgrade() {
        let mut state = schemas.state.lock().expect("no holder of this lock panics");
        let Some((id, next)) = state.wanted.iter().map(|(id, wanted)| (*id, wanted.next)).min_by_key(|(_, next)| *next) else {
            // Under the lock: whoever wants something after this starts another thread.
            state.fetcher = None;
            return;
        };
        drop(state);
        let wait = next.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            let fetched = schemas.fetch(id);
            schemas.settle(id, fetched);
        } else {
            drop(schemas);
            std::thread::park_timeout(wait.min(LOOK_EVERY));
        }
    }
}
