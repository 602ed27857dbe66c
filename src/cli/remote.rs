//! Asking a running topology over its port.

use super::arguments::At;
use super::threads;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tidemill_state::{Error, Kind, Result, system};

/// The time a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The time an answer may take that needs no query.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The interval at which it is made sure, while a query is waited for, that the topology still
/// answers.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// After so many checks in a row without a connection the topology is gone: one alone may hit a
/// connection that has just ended.
const REFUSED_CHECKS: u32 = 2;

/// A running topology, by its address.
#[derive(Clone)]
pub(super) struct Remote {
    url: String,
    agent: ureq::Agent,
    token: Option<String>,
    answer_within: Duration,
    check_every: Duration,
}

/// The status and the body of an answer. The body is JSON.
pub(super) struct Answer {
    pub(super) status: u16,
    url: String,
    body: String,
}

impl Remote {
    /// The topology that listens at this address: `http://127.0.0.1:7070`, or without `http://`.
    pub(super) fn at(url: &str) -> Result<Remote> {
        let url = url.trim_end_matches('/');
        let url = match url.split_once("://") {
            None => format!("http://{url}"),
            Some(("http", _)) => url.to_string(),
            Some((scheme, _)) => {
                return Err(Error::config(format!(
                    "--at {url}: {scheme} is not spoken there. Write it as http://127.0.0.1:7070"
                )));
            }
        };
        // A proxy of the environment's is not for a port of this machine.
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_WITHIN))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        let agent = config.build().new_agent();
        Ok(Remote {
            url,
            agent,
            token: None,
            answer_within: ANSWER_WITHIN,
            check_every: CHECK_EVERY,
        })
    }

    /// The topology that the arguments name.
    pub(super) fn of(at: &At) -> Result<Remote> {
        Remote::at(&at.at)?.with_token_file(at.token_file.as_deref())
    }

    /// The same, with the token in this file's first line.
    pub(super) fn with_token_file(mut self, file: Option<&std::path::Path>) -> Result<Remote> {
        if let Some(file) = file {
            self.token = Some(token_of(file)?);
        }
        Ok(self)
    }

    /// The address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks for a path. An error that was answered is an answer too, see [`Answer::or_error`].
    ///
    /// # Errors
    /// Kind TryAgain: nobody answers. Kind Config: it is not a topology that answers.
    pub(super) fn get(&self, path: &str) -> Result<Answer> {
        self.ask(path, None)
    }

    /// As [`Remote::get`], with a body of JSON. The topology has a time-out of its own for queries
    /// (`--query-time-out`), so the answer is waited for as long as the topology answers other
    /// requests.
    ///
    /// A connection that has ended unseen, as one that a router forgets does, is waited for too:
    /// ureq sets no TCP keep-alive.
    pub(super) fn post(&self, path: &str, body: String) -> Result<Answer> {
        let (remote, path) = (self.clone(), path.to_owned());
        let (sender, answers) = std::sync::mpsc::sync_channel(1);
        let request = move || {
            // A receiver that is gone has reported that the topology stands still.
            let _ = sender.send(remote.ask(&path, Some(body)));
        };
        threads::spawn("request", request)
            .map_err(|why| system::error("a request needs a thread", &why))?;
        let mut refused = 0;
        loop {
            match answers.recv_timeout(self.check_every) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => match self.check() {
                    Ok(()) => refused = 0,
                    Err(why) => {
                        refused += 1;
                        // Somebody has taken a connection and is silent, or nobody is there any
                        // more: a host that was restarted does not end the connection of the query.
                        if matches!(why, ureq::Error::Timeout(_)) || refused == REFUSED_CHECKS {
                            return answers
                                .try_recv()
                                .unwrap_or_else(|_| Err(self.unanswered(why)));
                        }
                    }
                },
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::bug("the thread of a request has ended without an answer"));
                }
            }
        }
    }

    /// Makes sure that the topology answers at all.
    fn check(&self) -> std::result::Result<(), ureq::Error> {
        let request = self
            .agent
            .get(format!("{}/healthz", self.url))
            .config()
            .timeout_global(Some(self.answer_within))
            .build();
        request.call().map(drop)
    }

    fn unanswered(&self, why: ureq::Error) -> Error {
        match why {
            // Somebody has taken the connection.
            ureq::Error::Timeout(what)
                if !matches!(what, ureq::Timeout::Connect | ureq::Timeout::Resolve) =>
            {
                Error::try_again(format!(
                    "the topology at {} has not answered within {} s: it is busy, or stands \
                     still. Ask again in a moment",
                    self.url,
                    self.answer_within.as_secs()
                ))
            }
            ureq::Error::BadUri(why) => Error::config(format!(
                "--at {}: {why}. Write it as http://127.0.0.1:7070",
                self.url
            )),
            why => Error::try_again(format!(
                "no topology answers at {}: {why}. Is it running? Its start line says where it \
                 listens: give that with --at URL",
                self.url
            )),
        }
    }

    fn ask(&self, path: &str, body: Option<String>) -> Result<Answer> {
        let url = format!("{}{path}", self.url);
        let unanswered = |why| self.unanswered(why);
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let response = match body {
            None => {
                let request =
                    self.agent.get(&url).config().timeout_global(Some(self.answer_within)).build();
                bearer
                    .into_iter()
                    .fold(request, |request, bearer| request.header("authorization", bearer))
                    .call()
            }
            Some(body) => {
                let request = self.agent.post(&url).header("content-type", "application/json");
                bearer
                    .into_iter()
                    .fold(request, |request, bearer| request.header("authorization", bearer))
                    .send(body)
            }
        };
        let mut response = response.map_err(unanswered)?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_string()
            .map_err(unanswered)?;
        let answer = Answer { status, url, body };
        answer.part::<&RawValue>()?;
        Ok(answer)
    }
}

fn token_of(file: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(file).map_err(|why| {
        system::error(format!("the token in {} cannot be read", file.display()), &why)
    })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_string())
}

impl Answer {
    /// The body, or the error that was answered.
    ///
    /// # Errors
    /// What was answered, with the kind that its status stands for.
    pub(super) fn or_error(self) -> Result<Json> {
        self.read()
    }

    /// Returns the body as it came, or the error that was answered.
    ///
    /// # Errors
    /// As [`Answer::or_error`].
    pub(super) fn text_or_error(&self) -> Result<&str> {
        if self.status == 200 {
            return Ok(&self.body);
        }
        let body: Json = self.part()?;
        let part = |name: &str| body["error"][name].as_str().unwrap_or("unknown").to_string();
        let kind = body["error"]["kind"]
            .as_str()
            .and_then(Kind::named)
            .unwrap_or_else(|| kind_of(self.status));
        Err(Error::new(kind, format!("{} ({}): {}", part("what"), part("where"), part("do"))))
    }

    /// Reads the body, or returns the error that was answered.
    ///
    /// # Errors
    /// As [`Answer::or_error`].
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.text_or_error()?;
        self.part()
    }

    /// Reads the body, whatever the status.
    ///
    /// # Errors
    /// Kind Config: it is not a topology that answers.
    pub(super) fn part<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.body).map_err(|why| {
            // A proxy answers for a topology that it does not reach.
            let kind = if matches!(self.status, 502..=504) { Kind::TryAgain } else { Kind::Config };
            Error::new(
                kind,
                format!(
                    "what answers at {} is no topology of Tidemill (status {}: {why}): give its \
                     port with --at URL",
                    self.url, self.status
                ),
            )
        })
    }
}

/// Returns the kind of an error that does not have one: of a topology of an earlier version.
fn kind_of(status: u16) -> Kind {
    if status == 429 || status >= 500 { Kind::TryAgain } else { Kind::Config }
}

/// A text as one part of a path.
pub(super) fn path_part(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_can_be_a_part_of_a_path() {
        assert_eq!(path_part("the"), "the");
        assert_eq!(path_part("a/b c?.."), "a%2Fb%20c%3F%2E%2E");
        assert_eq!(path_part("ä"), "%C3%A4");
    }

    #[test]
    fn an_address_may_lack_its_scheme_but_not_have_another() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(Remote::at(url).ok().as_ref().map(Remote::url), expected, "{url}")
        };
        check("http://127.0.0.1:7070/", Some("http://127.0.0.1:7070"));
        check("localhost:1", Some("http://localhost:1"));
        check("https://localhost:1", None);
    }

    #[test]
    fn an_error_has_the_kind_that_was_answered_or_that_of_its_status() {
        let kind = |status, body: &str| {
            let answer = Answer { status, url: "http://localhost".into(), body: body.into() };
            answer.or_error().expect_err("it is an error").kind()
        };
        for (status, body, expected) in [
            (
                500,
                r#"{"error": {"kind": "user_code", "what": "w", "where": "h", "do": "d"}}"#,
                Kind::UserCode,
            ),
            (429, r#"{"error": {"kind": "try_again", "what": "w"}}"#, Kind::TryAgain),
            (429, r#"{"error": {"what": "w"}}"#, Kind::TryAgain),
            (404, r#"{"error": {"what": "w"}}"#, Kind::Config),
            (503, r#"{"error": {"kind": "of later", "what": "w"}}"#, Kind::TryAgain),
            (502, "<html>", Kind::TryAgain),
            (404, "<html>", Kind::Config),
        ] {
            assert_eq!(kind(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_query_of_a_topology_that_stands_still_is_not_waited_for() {
        let still = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = still.local_addr().expect("it is bound").to_string();
        let short = Duration::from_millis(100);
        let remote = Remote {
            answer_within: short,
            check_every: short,
            ..Remote::at(&address).expect("an address")
        };
        let error = remote.post("/v1/query/words", "1".into()).err().expect("nobody answers");
        assert_eq!(error.kind(), Kind::TryAgain);
        assert!(error.to_string().contains("stands still"), "{error}");
    }

    /// A host that was restarted ends no connection.
    #[test]
    fn a_query_of_a_topology_that_is_gone_is_not_waited_for_though_its_connection_stays() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let remote = Remote {
            check_every: Duration::from_millis(200),
            ..Remote::at(&address).expect("an address")
        };
        let (sender, outcome) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(remote.post("/v1/query/words", "1".into()).map(|answer| answer.status))
        });
        let _query = listener.accept().expect("a connection");
        drop(listener);
        let error = outcome
            .recv_timeout(Duration::from_secs(60))
            .expect("it ends")
            .expect_err("nobody answers");
        assert_eq!(error.kind(), Kind::TryAgain);
        assert!(error.to_string().contains("no topology answers"), "{error}");
    }

    #[test]
    fn a_query_is_waited_for_while_the_topology_answers() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let short = Duration::from_millis(20);
        let remote = Remote { check_every: short, ..Remote::at(&address).expect("an address") };
        let asked = std::thread::spawn(move || {
            remote.post("/v1/query/words", "1".into()).map(|answer| answer.status)
        });
        let reply = |stream: &mut std::net::TcpStream, body: &str| {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("sent");
        };
        let (mut query, mut checks) = (None, 0);
        while checks < 7 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 4096];
            let read = stream.read(&mut head).expect("a request");
            if head[..read].starts_with(b"GET /healthz ") {
                checks += 1;
                // One connection in two ends without an answer.
                if checks % 2 == 0 {
                    reply(&mut stream, "ok");
                }
            } else {
                query = Some(stream);
            }
        }
        reply(query.as_mut().expect("it has asked"), "{}");
        drop(listener);
        assert_eq!(asked.join().expect("it ends").expect("an answer"), 200);
    }

    #[test]
    fn nobody_there_is_try_again() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port");
        let error = Remote::at(&free.to_string())
            .expect("an address")
            .get("/v1/status")
            .err()
            .expect("nobody is there");
        assert_eq!(error.kind(), Kind::TryAgain);
        assert!(error.to_string().contains("--at URL"), "{error}");
    }
}
