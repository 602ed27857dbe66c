//! A schema registry for tests: speaks the REST API as Confluent's does, over HTTP/1.1 on loopback,
//! and answers as it is told to: slowly, with an error, or not at all.

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How the registry answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    #[default]
    Well,
    /// As it should, after this long.
    Slow(Duration),
    /// With this status, and no answer of use.
    Failing(u16),
}

/// A registry. It can be stopped and started again on its port, with what it holds.
pub struct Registry {
    port: u16,
    held: Arc<Held>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Held {
    mode: Mutex<Mode>,
    /// The header `Authorization` that is wanted.
    authorization: Mutex<Option<String>>,
    schemas: Mutex<Schemas>,
    /// Each request that was answered: its method and path.
    requests: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Schemas {
    by_id: BTreeMap<u64, Json>,
    /// The ids of a subject's versions.
    subjects: BTreeMap<String, Vec<u64>>,
    /// Subjects that take no more versions, as if none were compatible.
    closed: Vec<String>,
}

impl Schemas {
    /// The id of a schema; a new one, unless there is the same.
    fn id_of(&mut self, schema: Json) -> u64 {
        if let Some((id, _)) = self.by_id.iter().find(|(_, known)| **known == schema) {
            return *id;
        }
        let id = self.by_id.keys().next_back().map_or(1, |last| last + 1);
        self.by_id.insert(id, schema);
        id
    }
}

impl Registry {
    /// Starts a registry without schemas.
    pub fn start() -> Registry {
        let mut registry = Registry::stopped();
        registry.restart();
        registry
    }

    /// A registry that does not answer before it is started.
    pub fn stopped() -> Registry {
        Registry { port: free_port(), held: Arc::default(), running: None }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a schema, with what it refers to as (subject, version), and returns its id.
    pub fn add(
        &self,
        subject: &str,
        language: &str,
        schema: &str,
        references: &[(&str, u64)],
    ) -> u32 {
        let references: Vec<Json> = references
            .iter()
            .map(|(subject, version)| json!({ "name": subject, "subject": subject, "version": version }))
            .collect();
        let mut schemas = self.held.schemas.lock().expect("no holder panics");
        let id = schemas
            .id_of(json!({ "schema": schema, "schemaType": language, "references": references }));
        schemas.subjects.entry(subject.to_string()).or_default().push(id);
        u32::try_from(id).expect("there are few")
    }

    /// Takes no more versions of this subject.
    pub fn close(&self, subject: &str) {
        self.held.schemas.lock().expect("no holder panics").closed.push(subject.to_string());
    }

    /// Answers so from now on.
    pub fn set(&self, mode: Mode) {
        *self.held.mode.lock().expect("no holder panics") = mode;
    }

    /// Wants this header `Authorization` from now on.
    pub fn want(&self, authorization: &str) {
        *self.held.authorization.lock().expect("no holder panics") =
            Some(authorization.to_string());
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.held.requests.lock().expect("no holder panics").clone()
    }

    /// Stops to listen: connections are refused.
    pub fn stop(&mut self) {
        if let Some((over, thread)) = self.running.take() {
            over.store(true, SeqCst);
            // The thread waits for a connection. It fails if the thread has one, which is as well.
            drop(TcpStream::connect(("127.0.0.1", self.port)));
            thread.join().expect("the thread that listens does not panic");
        }
    }

    /// Listens again, after a stop.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "the registry runs");
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("the port is free");
        let over = Arc::new(AtomicBool::new(false));
        let (ended, held) = (Arc::clone(&over), Arc::clone(&self.held));
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(SeqCst) {
                    return;
                }
                let held = Arc::clone(&held);
                // It fails if the other end goes away.
                std::thread::spawn(move || {
                    connection.is_ok_and(|connection| answer(connection, &held).is_ok())
                });
            }
        });
        self.running = Some((over, thread));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A free port below those that the system gives to outgoing connections: nobody else gets it while
/// the registry is stopped.
fn free_port() -> u16 {
    let random = RandomState::new();
    let ports = (0..1000_u64).map(|attempt| {
        12_000 + u16::try_from(random.hash_one(attempt) % 20_000).expect("it is small")
    });
    ports
        .into_iter()
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}

/// Answers one request.
fn answer(connection: TcpStream, held: &Held) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request = line.trim_end().trim_end_matches(" HTTP/1.1").to_string();
    let (mut length, mut authorization) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a length is a number"),
            "authorization" => authorization = Some(value.to_string()),
            _ => {}
        }
    }
    let mut content = vec![0; length];
    reader.read_exact(&mut content)?;
    let mode = held.mode.lock().expect("no holder panics").clone();
    let wanted = held.authorization.lock().expect("no holder panics").clone();
    if let Mode::Slow(time) = mode {
        std::thread::sleep(time);
    }
    let (status, json) = match mode {
        Mode::Failing(status) => (status, json!({ "message": "told to fail" })),
        _ if wanted.is_some() && wanted != authorization => {
            (401, json!({ "error_code": 401, "message": "Unauthorized" }))
        }
        _ => serve(&request, &content, &mut held.schemas.lock().expect("no holder panics")),
    };
    held.requests.lock().expect("no holder panics").push(request);
    let text = json.to_string();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: \
         application/vnd.schemaregistry.v1+json\r\nConnection: close\r\nContent-Length: \
         {}\r\n\r\n",
        text.len()
    );
    (&connection).write_all((head + &text).as_bytes())
}

/// What the registry says of a request.
fn serve(request: &str, content: &[u8], schemas: &mut Schemas) -> (u16, Json) {
    let none = |code: u32, what: &str| (404, json!({ "error_code": code, "message": what }));
    let (method, path) = request.split_once(' ').expect("a request has a method and a path");
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, &*parts) {
        ("GET", ["schemas", "ids", id]) => {
            match id.parse().ok().and_then(|id: u64| schemas.by_id.get(&id)) {
                Some(schema) => (200, of_language(schema)),
                None => none(40403, "Schema not found"),
            }
        }
        ("GET", ["subjects", subject, "versions", version]) => {
            let version = version.parse::<usize>().expect("a version is a number");
            match schemas.subjects.get(*subject).and_then(|ids| ids.get(version - 1)) {
                Some(id) => {
                    let mut answer = of_language(&schemas.by_id[id]);
                    (answer["subject"], answer["version"], answer["id"]) =
                        (json!(subject), json!(version), json!(id));
                    (200, answer)
                }
                None => none(40402, "Version not found"),
            }
        }
        ("POST", ["subjects", subject]) | ("POST", ["subjects", subject, "versions"]) => {
            let sent: Json = serde_json::from_slice(content).expect("a request is JSON");
            let language = sent["schemaType"].as_str().unwrap_or("AVRO");
            let schema =
                json!({ "schema": sent["schema"], "schemaType": language, "references": [] });
            let registers = parts.len() == 3;
            let known = schemas
                .subjects
                .get(*subject)
                .into_iter()
                .flatten()
                .find(|id| schemas.by_id[*id] == schema);
            match known.copied() {
                Some(id) => (200, json!({ "id": id })),
                None if !registers => none(40403, "Schema not found"),
                None if schemas.closed.iter().any(|closed| closed == subject) => (
                    409,
                    json!({ "error_code": 409, "message": "Schema being registered is \
                        incompatible with an earlier schema" }),
                ),
                None => {
                    let id = schemas.id_of(schema);
                    schemas.subjects.entry((*subject).to_string()).or_default().push(id);
                    (200, json!({ "id": id }))
                }
            }
        }
        _ => none(404, "HTTP 404 Not Found"),
    }
}

/// A schema as it is answered: without what Avro does not have.
fn of_language(schema: &Json) -> Json {
    let mut answer = schema.clone();
    let object = answer.as_object_mut().expect("a schema is an object");
    if object["schemaType"] == "AVRO" {
        object.remove("schemaType");
    }
    if object["references"].as_array().is_none_or(Vec::is_empty) {
        object.remove("references");
    }
    answer
}
