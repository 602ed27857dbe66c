//! The registry's REST API: how it is reached, and what its answers mean.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The access to a registry: its addresses, credentials and certificates.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Access {
    pub(super) urls: Vec<String>,
    pub(super) authorization: Option<Authorization>,
    /// In PEM, in addition to those of the system.
    pub(super) certificates: Vec<u8>,
}

/// The sender of a request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Authorization {
    Basic { user: String, password: String },
    Bearer(String),
}

impl Access {
    /// The registry at these URLs, with commas between.
    pub(super) fn of(urls: &str) -> Access {
        let urls = urls
            .split(',')
            .map(|url| url.trim().trim_end_matches('/'))
            .filter(|url| !url.is_empty());
        Access {
            urls: urls.map(str::to_string).collect(),
            authorization: None,
            certificates: Vec::new(),
        }
    }
}

/// The reason why there is no answer of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A temporary failure: no connection, a time-out, a server in trouble.
    Unreachable(String),
    /// The registry has no such schema, subject or version.
    Unknown(String),
    /// It will be so until something is corrected, as the sentence describes: the registry refuses
    /// the user, its certificate is not trusted, or the server is no registry.
    Never {
        why: String,
        /// True if no proxy can have caused it, in place of a registry that is being restarted.
        is_certain: bool,
    },
    /// The registry does not take this request, such as a schema that is not compatible.
    Rejected(String),
    /// The settings are of no use.
    Config(String),
}

/// The time a connection, and a request as a whole, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest answer that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// The type of content that registries name.
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// A client of the registry.
pub(super) struct Rest {
    agent: ureq::Agent,
    urls: Vec<String>,
    authorization: Option<String>,
    /// The URL that has answered last.
    first: AtomicUsize,
}

impl Rest {
    /// Makes a client.
    ///
    /// # Errors
    /// [`Failure::Config`]: a URL or certificate is none.
    pub(super) fn new(access: &Access) -> Result<Rest, Failure> {
        for url in &access.urls {
            check(url)?;
        }
        if access.urls.is_empty() {
            return Err(Failure::Config(
                "SchemaRegistry::new was given no URL: give it one, such as http://localhost:8081"
                    .into(),
            ));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .user_agent("tidemill");
        if access.urls.iter().any(|url| url.starts_with("https:")) {
            config = config.tls_config(tls(&access.certificates)?);
        }
        let authorization =
            access.authorization.as_ref().map(|authorization| match authorization {
                Authorization::Basic { user, password } => {
                    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
                }
                Authorization::Bearer(token) => format!("Bearer {token}"),
            });
        Ok(Rest {
            agent: config.build().new_agent(),
            urls: access.urls.clone(),
            authorization,
            first: AtomicUsize::new(0),
        })
    }

    /// Asks for what is at a path.
    pub(super) fn get(&self, path: &str) -> Result<Json, Failure> {
        self.ask(|url| {
            let mut request = self.agent.get(format!("{url}{path}")).header("Accept", CONTENT);
            if let Some(authorization) = &self.authorization {
                request = request.header("Authorization", authorization);
            }
            request.call()
        })
        .map_err(|failure| match failure {
            // There is nothing in it that could be corrected.
            Failure::Rejected(why) => Failure::Never { why: no_registry(&why), is_certain: false },
            failure => failure,
        })
    }

    /// Sends something to a path.
    pub(super) fn post(&self, path: &str, content: &Json) -> Result<Json, Failure> {
        self.ask(|url| {
            let request = self
                .agent
                .post(format!("{url}{path}"))
                .header("Accept", CONTENT)
                .header("Content-Type", CONTENT);
            let request = match &self.authorization {
                Some(authorization) => request.header("Authorization", authorization),
                None => request,
            };
            request.send(content.to_string())
        })
    }

    /// Asks one URL after the other, until one answers. The last word has an answer about the
    /// request before one about the server.
    fn ask(
        &self,
        send: impl Fn(&str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Json, Failure> {
        let (first, count) = (self.first.load(Relaxed), self.urls.len());
        let mut decisive = None;
        for at in (first..first + count).map(|at| at % count) {
            let url = &self.urls[at];
            let failure = match send(url).map_err(|why| unsent(url, &why)).and_then(read(url)) {
                Ok(answer) => {
                    self.first.store(at, Relaxed);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            decisive = Some(match decisive.take() {
                None => failure,
                Some(other) => more_decisive(other, failure),
            });
        }
        Err(decisive.unwrap_or_else(|| Failure::Config("there is no URL of a registry".into())))
    }
}

/// Of two URLs' failures returns the one that counts; of equals the first.
fn more_decisive(one: Failure, other: Failure) -> Failure {
    let rank = |failure: &Failure| match failure {
        Failure::Never { is_certain: false, .. } => 0,
        // One that is behind does not know what one that is unreachable may know.
        Failure::Unknown(_) => 1,
        Failure::Unreachable(_) => 2,
        Failure::Never { is_certain: true, .. } => 3,
        Failure::Rejected(_) | Failure::Config(_) => 4,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

/// The reason why a request got no answer.
fn unsent(url: &str, why: &ureq::Error) -> Failure {
    let never = |what: &str, remedy, is_certain| Failure::Never {
        why: format!("{url}: {what} ({why}). {remedy}"),
        is_certain,
    };
    match (tls_error(why), why) {
        (Some(rustls::Error::InvalidCertificate(_)), _) => never(
            "its certificate is not trusted",
            "Give its authority's to SchemaRegistry::certificates, or correct the URL",
            true,
        ),
        (Some(_), _) => never("it does not speak TLS as it should", "Correct the URL", false),
        (
            None,
            ureq::Error::Protocol(_)
            | ureq::Error::RedirectFailed
            | ureq::Error::TooManyRedirects
            | ureq::Error::LargeResponseHeader(..),
        ) => never("it does not speak HTTP as a schema registry does", "Correct the URL", false),
        (None, ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl) => {
            Failure::Config(format!(
                "{url} cannot be asked: {why}. Correct the URL, or that of the proxy"
            ))
        }
        _ => Failure::Unreachable(format!("{url} cannot be reached: {why}")),
    }
}

/// The error of TLS that is the cause of this one, if one is.
fn tls_error(why: &ureq::Error) -> Option<&rustls::Error> {
    match why {
        ureq::Error::Rustls(why) => Some(why),
        ureq::Error::Io(why) => why.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The meaning of an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusClass {
    /// The user, or whoever sent the request, is refused.
    Refused,
    /// There is no such thing. Only a registry gives a code of its own with that.
    Missing,
    /// The request is not taken: its schema, say.
    Rejected,
    /// No schema registry answers so to these requests.
    NoRegistry,
}

/// The meaning of statuses. One that is not here passes.
const STATUSES: &[(u16, StatusClass)] = &[
    (301, StatusClass::NoRegistry),
    (302, StatusClass::NoRegistry),
    (303, StatusClass::NoRegistry),
    (307, StatusClass::NoRegistry),
    (308, StatusClass::NoRegistry),
    (400, StatusClass::NoRegistry),
    (401, StatusClass::Refused),
    (403, StatusClass::Refused),
    (404, StatusClass::Missing),
    (405, StatusClass::NoRegistry),
    (406, StatusClass::NoRegistry),
    (407, StatusClass::Refused),
    (409, StatusClass::Rejected),
    (410, StatusClass::NoRegistry),
    (411, StatusClass::NoRegistry),
    (413, StatusClass::NoRegistry),
    (414, StatusClass::NoRegistry),
    (415, StatusClass::NoRegistry),
    (421, StatusClass::NoRegistry),
    (422, StatusClass::Rejected),
    (426, StatusClass::NoRegistry),
    (431, StatusClass::NoRegistry),
    (451, StatusClass::NoRegistry),
    (501, StatusClass::NoRegistry),
    (505, StatusClass::NoRegistry),
];

/// Refuses a URL that is none, or that would show a password in errors.
fn check(url: &str) -> Result<(), Failure> {
    // Not behind a look at its form: an error that quotes it would show a password.
    if url.contains('@') {
        return Err(Failure::Config(
            "the URL of a schema registry has a user in it: take it out, and use \
             SchemaRegistry::basic_auth"
                .into(),
        ));
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.is_some_and(|rest| !rest.is_empty() && url.parse::<ureq::http::Uri>().is_ok()) {
        true => Ok(()),
        false => Err(Failure::Config(format!(
            "\"{url}\" is no URL of a schema registry: it begins with http:// or https://, and a \
             host follows"
        ))),
    }
}

/// Reads the answer of the registry at a URL.
fn read(url: &str) -> impl Fn(ureq::http::Response<ureq::Body>) -> Result<Json, Failure> {
    move |mut answer| {
        let status = answer.status().as_u16();
        let bytes = match answer.body_mut().with_config().limit(LARGEST).read_to_vec() {
            Ok(bytes) => bytes,
            // It comes again as large. The status decides, as if there were no content.
            Err(ureq::Error::BodyExceedsLimit(_)) => Vec::new(),
            Err(why) => {
                return Err(Failure::Unreachable(format!(
                    "{url} does not answer to the end: {why}"
                )));
            }
        };
        let json = serde_json::from_str::<Json>(&String::from_utf8_lossy(&bytes)).ok();
        let error_code = json.as_ref().and_then(|json| json["error_code"].as_u64());
        let message = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or_default();
        let what = format!(
            "{url} answers {status}{}{}",
            if message.is_empty() { "" } else { ": " },
            shorten(message)
        );
        // Without a code of the registry it is somebody else's answer: a proxy's, a wrong path's.
        let is_its_own = error_code.is_some();
        let is_none = |what: &str| Failure::Never { why: no_registry(what), is_certain: false };
        if (200..=299).contains(&status) {
            return json.ok_or_else(|| {
                is_none(&format!("{url} answers with something else than JSON, or with too much"))
            });
        }
        Err(match STATUSES.iter().find(|(known, _)| *known == status).map(|(_, class)| class) {
            Some(StatusClass::Refused) => Failure::Never {
                why: format!(
                    "the schema registry refuses this user: {what}. Correct user, password, token \
                     or rights"
                ),
                is_certain: is_its_own,
            },
            Some(StatusClass::Missing) if error_code.is_some_and(|code| code >= 40_000) => {
                Failure::Unknown(what)
            }
            Some(StatusClass::Rejected) => Failure::Rejected(what),
            Some(StatusClass::Missing | StatusClass::NoRegistry) => is_none(&what),
            None => Failure::Unreachable(what),
        })
    }
}

/// The text for an answer that no schema registry gives.
pub(super) fn no_registry(what: &str) -> String {
    format!("{what}, not as a schema registry does: correct its URL")
}

/// The head of a text from outside, for an error.
pub(super) fn shorten(text: &str) -> String {
    const HEAD: usize = 300;
    match text.char_indices().nth(HEAD) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// The system's certificates, and these.
fn tls(pem: &[u8]) -> Result<TlsConfig, Failure> {
    let system = rustls_native_certs::load_native_certs();
    for why in &system.errors {
        tracing::warn!(%why, "a certificate of the system is not used");
    }
    let mut certificates: Vec<Certificate<'static>> =
        system.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let before = certificates.len();
    let none = |why: &dyn std::fmt::Display| {
        Failure::Config(format!(
            "what SchemaRegistry::certificates was given is no PEM of certificates: {why}"
        ))
    };
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|why| none(&why))? {
            // Those of the system that rustls cannot use are passed over. One that was given on
            // purpose is not.
            let used = RootCertStore::empty().add(CertificateDer::from_slice(certificate.der()));
            used.map_err(|why| none(&why))?;
            certificates.push(certificate);
        }
    }
    if !pem.is_empty() && certificates.len() == before {
        return Err(Failure::Config(
            "what SchemaRegistry::certificates was given has no certificate in it: give it PEM"
                .into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::new_with_certs(&certificates);
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

/// A name as a segment of a path.
pub(super) fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    use serde_json::json;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    const CERTIFICATE_AND_KEY: &[u8] = include_bytes!("localhost.pem");

    /// A server that answers one request over TLS, if the client trusts it.
    fn server(answer: &'static str) -> (u16, std::thread::JoinHandle<std::io::Result<()>>) {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE_AND_KEY).expect("it is there");
        let key = PrivateKeyDer::from_pem_slice(CERTIFICATE_AND_KEY).expect("it is there");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is the certificate's");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let serve = move || {
            let connection =
                rustls::ServerConnection::new(Arc::new(config)).expect("it is configured");
            let mut stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
            let mut lines = BufReader::new(&mut stream).lines();
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            let length = answer.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{answer}"
            )?;
            stream.conn.send_close_notify();
            stream.flush()
        };
        (port, std::thread::spawn(serve))
    }

    #[test]
    fn a_registry_with_a_certificate_of_ones_own_is_trusted_if_that_is_given() {
        let ask = |port: u16, certificates: &[u8]| {
            let access = Access {
                certificates: certificates.to_vec(),
                ..Access::of(&format!("https://127.0.0.1:{port}/"))
            };
            Rest::new(&access).and_then(|rest| rest.get("/schemas/ids/1"))
        };
        let (port, serving) = server(r#"{"schema": "\"long\""}"#);
        assert_eq!(ask(port, CERTIFICATE_AND_KEY), Ok(json!({ "schema": "\"long\"" })));
        serving.join().expect("it does not panic").expect("it has answered");
        let (port, serving) = server("{}");
        let refused = ask(port, &[]).expect_err("nobody vouches for it");
        let is_named = |why: &str| {
            why.contains("certificate is not trusted")
                && why.contains("SchemaRegistry::certificates")
        };
        assert!(
            matches!(&refused, Failure::Never { why, is_certain: true } if is_named(why)),
            "{refused:?}"
        );
        assert!(serving.join().expect("it does not panic").is_err(), "nothing was asked");
        for pem in
            [&b"no PEM"[..], b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(ask(port, pem), Err(Failure::Config(_))), "{}", pem.escape_ascii());
        }
    }

    /// Asks a server that answers one request so.
    fn answered(answer: impl AsRef<[u8]> + Send + 'static) -> Result<Json, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url =
            format!("http://127.0.0.1:{}", listener.local_addr().expect("it is bound").port());
        let serving = std::thread::spawn(move || {
            let mut stream = listener.accept()?.0;
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            // Whoever has read enough ends the connection.
            let _ = stream.write_all(answer.as_ref());
            std::io::Result::Ok(())
        });
        let asked = Rest::new(&Access::of(&url)).and_then(|rest| rest.get("/schemas/ids/1"));
        serving.join().expect("it does not panic").expect("it has answered");
        asked
    }

    #[test]
    fn an_answer_that_no_registry_gives_never_passes_and_one_of_a_server_in_trouble_does() {
        for (answer, expected) in [
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "away"),
            ("HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", "away"),
            ("HTTP/1.1 404 None\r\nContent-Length: 9\r\n\r\nnot found", "never"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "never"),
            ("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", "never"),
            ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "never"),
            ("SSH-2.0-OpenSSH_9.7\r\n\r\n", "never"),
            ("HTTP/1.1 403 No\r\nContent-Length: 19\r\n\r\n{\"error_code\": 403}", "certain"),
            ("HTTP/1.1 404 None\r\nContent-Length: 21\r\n\r\n{\"error_code\": 40403}", "unknown"),
        ] {
            let failure = answered(answer).expect_err("it is no schema");
            let got = match &failure {
                Failure::Unreachable(_) => "away",
                Failure::Never { is_certain: false, .. } => "never",
                Failure::Never { is_certain: true, .. } => "certain",
                Failure::Unknown(_) => "unknown",
                Failure::Rejected(_) | Failure::Config(_) => "other",
            };
            assert_eq!(got, expected, "{answer}: {failure:?}");
        }
    }

    #[test]
    fn an_answer_that_is_no_text_or_too_large_comes_again_and_is_no_registrys() {
        let with = |status: &str, body: &[u8]| {
            let head = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            answered([head.as_bytes(), body].concat())
        };
        let large = vec![b' '; 17 << 20];
        for body in [b"\xff\xfe{}", &*large] {
            let never = with("200", body).expect_err("it is no schema");
            assert!(matches!(never, Failure::Never { is_certain: false, .. }), "{never:?}");
            let away = with("503", body).expect_err("it is no schema");
            assert!(matches!(away, Failure::Unreachable(_)), "{away:?}");
        }
        // Text in which some byte is wrong is read on: what matters of it is ASCII.
        let unknown = with("404", b"{\"error_code\": 40403, \"message\": \"\xe9\"}")
            .expect_err("it is no schema");
        assert!(matches!(unknown, Failure::Unknown(_)), "{unknown:?}");
    }

    #[test]
    fn a_failure_that_decides_is_found_among_those_of_several_urls() {
        let away = || Failure::Unreachable("1".into());
        let unknown = || Failure::Unknown("2".into());
        let never = |is_certain| Failure::Never { why: "3".into(), is_certain };
        for (one, other, expected) in [
            (away(), unknown(), away()),
            (unknown(), away(), away()),
            (never(false), away(), away()),
            (never(false), unknown(), unknown()),
            (away(), never(true), never(true)),
            (never(true), Failure::Rejected("4".into()), Failure::Rejected("4".into())),
        ] {
            assert_eq!(more_decisive(one.clone(), other.clone()), expected, "{one:?} {other:?}");
        }
    }

    /// The table of the documentation is this one.
    #[test]
    fn the_documentation_has_each_status_with_its_exit_code() {
        let document = include_str!("../../../../docs/errors.md");
        let section = document
            .split("\n## ")
            .find(|section| section.starts_with("Schema registry"))
            .expect("there is one");
        let codes = |status: u16| {
            let rows = section
                .lines()
                .filter(move |line| line.starts_with('|') && line.contains(&format!("`{status}`")));
            rows.filter_map(|row| row.rsplit('|').nth(1).map(str::trim)).collect::<Vec<_>>()
        };
        for status in 300..600 {
            let expected: &[&str] =
                match STATUSES.iter().find(|(known, _)| *known == status).map(|(_, class)| class) {
                    Some(StatusClass::Missing) => &["69", "64"],
                    Some(_) => &["64"],
                    None => &[],
                };
            assert_eq!(codes(status), expected, "{status}");
        }
    }

    #[test]
    fn urls_that_are_none_are_refused_and_names_are_escaped() {
        let refused = |urls| matches!(Rest::new(&Access::of(urls)), Err(Failure::Config(_)));
        assert!(
            refused("") && refused("localhost:8081") && refused("http://") && refused("http://a b")
        );
        assert!(refused("http://one:8081, https://user:secret@two"));
        assert!(!refused("http://one:8081/api/ , https://two"));
        assert_eq!(
            Access::of("http://one:8081/api/ , https://two").urls,
            ["http://one:8081/api", "https://two"]
        );
        assert_eq!(escaped("a/b c-ü.v1_~"), "a%2Fb%20c-%C3%BC.v1_~");
        assert_eq!(shorten(&"ü".repeat(301)), format!("{}…", "ü".repeat(300)));
    }
}
