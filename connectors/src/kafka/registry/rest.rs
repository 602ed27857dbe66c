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

/// How a registry is reached.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) urls: Vec<String>,
    pub(super) authorization: Option<Authorization>,
    /// In PEM, in addition to those of the system.
    pub(super) certificates: Vec<u8>,
}

/// The sender of a request.
#[derive(Clone)]
pub(super) enum Authorization {
    Basic { user: String, password: String },
    Bearer(String),
}

impl Access {
    /// The registry at these URLs, with commas between.
    pub(super) fn of(urls: &str) -> Access {
        let urls = urls.split(',').map(|url| url.trim().trim_end_matches('/')).filter(|url| !url.is_empty());
        Access { urls: urls.map(str::to_string).collect(), authorization: None, certificates: Vec::new() }
    }
}

/// The reason why there is no answer of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It passes by itself: no connection, a time-out, a server in trouble.
    Away(String),
    /// The registry has no such schema, subject or version.
    Unknown(String),
    /// The registry does not take this user.
    Refused(String),
    /// The registry does not take this request, such as a schema that is not compatible.
    Rejected(String),
    /// The settings are of no use.
    Config(String),
}

/// How long a connection, and a request as a whole, may take.
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
                "SchemaRegistry::new was given no URL: give it one, such as http://localhost:8081".into(),
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
        let authorization = access.authorization.as_ref().map(|authorization| match authorization {
            Authorization::Basic { user, password } => format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
            Authorization::Bearer(token) => format!("Bearer {token}"),
        });
        Ok(Rest { agent: config.build().new_agent(), urls: access.urls.clone(), authorization, first: AtomicUsize::new(0) })
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
    }

    /// Sends something to a path.
    pub(super) fn post(&self, path: &str, content: &Json) -> Result<Json, Failure> {
        self.ask(|url| {
            let request = self.agent.post(format!("{url}{path}")).header("Accept", CONTENT).header("Content-Type", CONTENT);
            let request = match &self.authorization {
                Some(authorization) => request.header("Authorization", authorization),
                None => request,
            };
            request.send(content.to_string())
        })
    }

    /// Asks one URL after the other, until one answers. The last word has an answer about the request before one about
    /// the server.
    fn ask(&self, send: impl Fn(&str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Json, Failure> {
        let (first, count) = (self.first.load(Relaxed), self.urls.len());
        let mut worst = None;
        for at in (first..first + count).map(|at| at % count) {
            let url = &self.urls[at];
            let failure =
                match send(url).map_err(|why| Failure::Away(format!("{url} cannot be reached: {why}"))).and_then(read(url)) {
                    Ok(answer) => {
                        self.first.store(at, Relaxed);
                        return Ok(answer);
                    }
                    Err(failure) => failure,
                };
            worst = Some(match (worst.take(), failure) {
                // One that is behind does not know what one that is unreachable may know.
                (Some(away @ Failure::Away(_)), Failure::Unknown(_)) | (Some(Failure::Unknown(_)), away @ Failure::Away(_)) => {
                    away
                }
                (None | Some(Failure::Away(_)), failure) => failure,
                (Some(worst), _) => worst,
            });
        }
        Err(worst.unwrap_or_else(|| Failure::Config("there is no URL of a registry".into())))
    }
}

/// Refuses a URL that is none, or that would show a password in errors.
fn check(url: &str) -> Result<(), Failure> {
    // Not behind a look at its form: an error that quotes it would show a password.
    if url.contains('@') {
        return Err(Failure::Config(
            "the URL of a schema registry has a user in it: take it out, and use SchemaRegistry::basic_auth".into(),
        ));
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.is_some_and(|rest| !rest.is_empty() && url.parse::<ureq::http::Uri>().is_ok()) {
        true => Ok(()),
        false => Err(Failure::Config(format!(
            "\"{url}\" is no URL of a schema registry: it begins with http:// or https://, and a host follows"
        ))),
    }
}

/// Reads the answer of the registry at a URL.
fn read(url: &str) -> impl Fn(ureq::http::Response<ureq::Body>) -> Result<Json, Failure> {
    move |mut answer| {
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(LARGEST).read_to_string();
        let text = text.map_err(|why| Failure::Away(format!("{url} does not answer to the end: {why}")))?;
        let json = serde_json::from_str::<Json>(&text).ok();
        let error_code = json.as_ref().and_then(|json| json["error_code"].as_u64());
        let message = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or_default();
        let what = format!("{url} answers {status}{}{}", if message.is_empty() { "" } else { ": " }, shorten(message));
        match status {
            200..=299 => json
                .ok_or_else(|| Failure::Away(format!("{url} answers with something else than JSON: is it a schema registry?"))),
            401 | 403 => Err(Failure::Refused(what)),
            // Without a code of the registry it is somebody else's answer: a proxy's, a wrong path's.
            404 if error_code.is_some_and(|code| code >= 40_000) => Err(Failure::Unknown(what)),
            404 => Err(Failure::Away(format!("{what}, not as a schema registry does: is the URL right?"))),
            409 | 422 => Err(Failure::Rejected(what)),
            _ => Err(Failure::Away(what)),
        }
    }
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
        Failure::Config(format!("what SchemaRegistry::certificates was given is no PEM of certificates: {why}"))
    };
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|why| none(&why))? {
            // Those of the system that rustls cannot use are passed over. One that was given on purpose is not.
            let used = RootCertStore::empty().add(CertificateDer::from_slice(certificate.der()));
            used.map_err(|why| none(&why))?;
            certificates.push(certificate);
        }
    }
    if !pem.is_empty() && certificates.len() == before {
        return Err(Failure::Config("what SchemaRegistry::certificates was given has no certificate in it: give it PEM".into()));
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
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
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
            let connection = rustls::ServerConnection::new(Arc::new(config)).expect("it is configured");
            let mut stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
            let mut lines = BufReader::new(&mut stream).lines();
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            let length = answer.len();
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{answer}")?;
            stream.conn.send_close_notify();
            stream.flush()
        };
        (port, std::thread::spawn(serve))
    }

    #[test]
    fn a_registry_with_a_certificate_of_ones_own_is_trusted_if_that_is_given() {
        let ask = |port: u16, certificates: &[u8]| {
            let access = Access { certificates: certificates.to_vec(), ..Access::of(&format!("https://127.0.0.1:{port}/")) };
            Rest::new(&access).and_then(|rest| rest.get("/schemas/ids/1"))
        };
        let (port, serving) = server(r#"{"schema": "\"long\""}"#);
        assert_eq!(ask(port, CERTIFICATE_AND_KEY), Ok(json!({ "schema": "\"long\"" })));
        serving.join().expect("it does not panic").expect("it has answered");
        let (port, serving) = server("{}");
        let refused = ask(port, &[]).expect_err("nobody vouches for it");
        assert!(matches!(&refused, Failure::Away(why) if why.contains("ertificate")), "{refused:?}");
        assert!(serving.join().expect("it does not panic").is_err(), "nothing was asked");
        for pem in [&b"no PEM"[..], b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(ask(port, pem), Err(Failure::Config(_))), "{}", pem.escape_ascii());
        }
    }

    #[test]
    fn urls_that_are_none_are_refused_and_names_are_escaped() {
        let refused = |urls| matches!(Rest::new(&Access::of(urls)), Err(Failure::Config(_)));
        assert!(refused("") && refused("localhost:8081") && refused("http://") && refused("http://a b"));
        assert!(refused("http://one:8081, https://user:secret@two"));
        assert!(!refused("http://one:8081/api/ , https://two"));
        assert_eq!(Access::of("http://one:8081/api/ , https://two").urls, ["http://one:8081/api", "https://two"]);
        assert_eq!(escaped("a/b c-ü.v1_~"), "a%2Fb%20c-%C3%BC.v1_~");
        assert_eq!(shorten(&"ü".repeat(301)), format!("{}…", "ü".repeat(300)));
    }
}
