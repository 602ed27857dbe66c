//! Which requests are let in: those for a host that is served, from no other web page, with the
//! token if there is one, and with no more body than any of them needs.
//!
//! A page of another site can have its own name resolve to this machine (DNS rebinding), and can
//! post here without reading the answer; both are refused. With a token any host is served: such a
//! page does not have it.
//!
//! A body is read here, after everything else was looked at: see [`request_bodies`]. Responses
//! leave here too: see [`sending`].

use super::caller::Caller;
use super::refusal::{self, Refusal, place};
use super::request_bodies::{self, BodyBudget, BodyClaim, CallMeter, MessageBody};
use super::sending;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tidemill_engine::port::UnsentBytes;
use tidemill_engine::{QueryLimits, Runtime};
use tidemill_state::{Error, Result};

/// The rule about who may send requests.
#[derive(Clone, Default)]
pub struct Access {
    token: Option<Arc<str>>,
    hosts: Vec<String>,
    origins: Vec<String>,
    open: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "(secret)");
        f.debug_struct("Access")
            .field("token", &token)
            .field("hosts", &self.hosts)
            .field("origins", &self.origins)
            .field("open", &self.open)
            .finish()
    }
}

/// The shortest token that is taken.
const LEAST_TOKEN_BYTES: usize = 16;

impl Access {
    /// Only who has the token in this file: its first line. It must be at least 16 characters of
    /// visible ASCII.
    ///
    /// # Errors
    /// Kind Config: the file cannot be read, or there is no such token in it.
    pub fn with_token_file(mut self, file: &Path) -> Result<Access> {
        let wrong = |why: String| {
            Error::config(format!(
                "the token in {}: {why}. Make one with: head -c 24 /dev/urandom | base64 > FILE",
                file.display()
            ))
        };
        let text = std::fs::read_to_string(file).map_err(|why| wrong(why.to_string()))?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < LEAST_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(format!(
                "it is not one line of at least {LEAST_TOKEN_BYTES} visible characters"
            )));
        }
        self.token = Some(token.into());
        Ok(self)
    }

    /// Requests for this host are answered too: a name under which this machine is known.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Access {
        self.hosts.push(host.into());
        self
    }

    /// Pages of this origin may post and open web sockets: `https://mill.example.org`. For a proxy
    /// that passes another `Host` on than the page's.
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<String>) -> Access {
        self.origins.push(origin.into());
        self
    }

    /// Everybody who reaches the port may ask, also off loopback, without a token.
    #[must_use]
    pub fn open_to_all(mut self) -> Access {
        self.open = true;
        self
    }

    /// Returns whether this address may be listened on.
    pub(super) fn check(&self, listen: SocketAddr) -> Result<()> {
        if listen.ip().is_loopback() || self.token.is_some() || self.open {
            return Ok(());
        }
        Err(Error::config(format!(
            "--listen {listen}: others could reach that, and the port would ask nobody who they \
             are. Give a token with --token-file FILE, or listen on 127.0.0.1:{} with a proxy \
             before it that asks; --open-to-all lets everybody in",
            listen.port()
        )))
    }

    /// Returns whether it asks for a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    fn lets_in(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }

    fn serves(&self, host: &str) -> bool {
        let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        // An address cannot be made to resolve to another one, as a name can.
        let address = name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || self.token.is_some() || self.open);
        address
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Returns whether the request has the token. Takes the same time for every wrong one of the
    /// same length.
    ///
    /// A browser sends no headers of a page's own with a web socket, but names of protocols: there
    /// it is `bearer.` and the token in base64url.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let same = |given: &[u8]| bool::from(given.ct_eq(token.as_bytes()));
        if let Some(given) = header_text(headers, header::AUTHORIZATION).and_then(bearer) {
            return same(given.as_bytes());
        }
        let protocols = header_text(headers, header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        let mut given =
            protocols.split(',').filter_map(|protocol| protocol.trim().strip_prefix("bearer."));
        given.any(|given| BASE64_URL_SAFE_NO_PAD.decode(given).is_ok_and(|given| same(&given)))
    }
}

/// Paths that answer without a token: they tell nothing of the data.
pub(super) const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// Paths of queries: they are refused before their bodies are read if there is no room.
const QUERIES: [&str; 2] = ["/v1/query/", "/drpc/"];

/// Paths below which a GET does work: no page of another site may have it done.
const AT_WORK: [&str; 2] = ["/drpc/", "/v1/state/"];

/// The bounds of requests and responses.
pub(super) struct Gate {
    access: Arc<Access>,
    body_bytes: usize,
    /// Requests under way at once on one connection.
    per_client: usize,
    bodies: BodyBudget,
    unsent: Arc<UnsentBytes>,
    /// The run, once there is one.
    runtime: Option<Arc<Runtime>>,
}

impl Gate {
    /// The gate before the run has begun.
    pub(super) fn before(access: &Arc<Access>) -> Gate {
        let limits = QueryLimits::default();
        let unsent = Arc::new(UnsentBytes::new(limits.unsent_bytes));
        Gate::new(access, &limits, unsent, None)
    }

    /// The gate of a run.
    pub(super) fn of(runtime: &Arc<Runtime>, access: &Arc<Access>) -> Gate {
        let unsent = runtime.unsent_bytes();
        Gate::new(access, runtime.query_limits(), unsent, Some(Arc::clone(runtime)))
    }

    fn new(
        access: &Arc<Access>,
        limits: &QueryLimits,
        unsent: Arc<UnsentBytes>,
        runtime: Option<Arc<Runtime>>,
    ) -> Gate {
        Gate {
            access: Arc::clone(access),
            body_bytes: limits.request_bytes,
            per_client: limits.per_client,
            bodies: BodyBudget::new(limits.request_bytes),
            unsent,
            runtime,
        }
    }
}

/// Refuses what must not reach a handler. Whatever is refused here or behind, clients of gRPC and
/// of Storm are told in their own way.
pub(super) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let content = header_text(request.headers(), header::CONTENT_TYPE);
    let grpc = content.is_some_and(|content| content.starts_with("application/grpc"));
    let storm = request.uri().path().starts_with("/drpc/");
    // The calls of gRPC count themselves, each request of a pipeline.
    let (caller, at) = (Caller::of(&request), place(request.method(), request.uri()));
    let open = caller.open();
    let counted = if grpc { None } else { Some(caller.admit(gate.per_client)) };
    let response = match counted {
        Some(Err(why)) => Refusal::of_query(&why, at.clone()).into_response(),
        _counted => match check(&gate, &request, &at) {
            Ok(()) if grpc => answer_call(&gate, request, next).await,
            Ok(()) => answer(&gate, request, next, &at).await,
            Err(refused) => *refused,
        },
    };
    let response = sending::leave(response, &gate.unsent, open)
        .unwrap_or_else(|why| Refusal::of_query(&why, at).into_response());
    if grpc {
        return refusal::in_grpc(response);
    }
    let mut response = if storm { refusal::in_storm(response) } else { response };
    // An answer is of the batch that was the last one: a cache would hand out an older one.
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(never);
    response
}

/// Answers a request whose body is read first. The body counts until then.
async fn answer(gate: &Gate, request: Request, next: Next, at: &str) -> Response {
    if *request.method() != Method::POST || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    match request_bodies::receive(body, &gate.bodies, gate.body_bytes, at).await {
        Ok((bytes, claim)) => {
            let _claim: BodyClaim = claim;
            next.run(Request::from_parts(head, Body::from(bytes))).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// Answers a call of gRPC, whose messages count as they come.
async fn answer_call(gate: &Gate, request: Request, next: Next) -> Response {
    let meter = CallMeter::new(&gate.bodies);
    let (mut head, body) = request.into_parts();
    head.extensions.insert(meter.clone());
    let body = Body::new(MessageBody::new(body, meter.clone(), &gate.bodies));
    let response = next.run(Request::from_parts(head, body)).await;
    // Of a single request; those of a stream are held beside their answers.
    drop(meter);
    response
}

/// Refuses a request by its head.
fn check(gate: &Gate, request: &Request, at: &str) -> std::result::Result<(), Box<Response>> {
    check_access(&gate.access, request, at)?;
    let path = request.uri().path();
    if let Some(runtime) = &gate.runtime
        && let Some(name) = QUERIES.iter().find_map(|queries| path.strip_prefix(queries))
    {
        runtime
            .check_room(name.split('/').next().unwrap_or_default())
            .map_err(|why| Box::new(Refusal::of_query(&why, at.into()).into_response()))?;
    }
    let length = header_text(request.headers(), header::CONTENT_LENGTH)
        .and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > gate.body_bytes as u64) {
        return Err(Box::new(request_bodies::too_large(gate.body_bytes, at).into_response()));
    }
    Ok(())
}

fn check_access(
    access: &Access,
    request: &Request,
    at: &str,
) -> std::result::Result<(), Box<Response>> {
    let host = request
        .uri()
        .host()
        .or_else(|| header_text(request.headers(), header::HOST).map(without_port));
    let is_free = FREE.contains(&request.uri().path());
    // A page whose name resolves to this machine does not have the token.
    let any_host = is_free || access.has_token();
    if !any_host && !host.is_some_and(|host| access.serves(host)) {
        let host = host.unwrap_or_default();
        let what = format!("the request is for host \"{host}\", which is not served here");
        return refuse(Refusal::new(StatusCode::FORBIDDEN, what, at.into()).remedy(
            "ask for http://127.0.0.1 or http://localhost with the port; --allow-host NAME \
                 serves another name, and --token-file FILE any name",
        ));
    }
    if is_from_elsewhere(request, host.unwrap_or_default(), access) {
        let what = "the request comes from a page of another site";
        return refuse(Refusal::new(StatusCode::FORBIDDEN, what, at.into()).remedy(
            "ask from a page of this port, or from a program; --allow-origin ORIGIN lets in \
                 the pages of a site",
        ));
    }
    if !is_free && !access.knows(request.headers()) {
        let what = "the request has not the token that this port asks for";
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, what, at.into())
            .remedy("send it as the header Authorization: Bearer TOKEN");
        let mut refused = refusal.into_response();
        let scheme = HeaderValue::from_static("Bearer");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        return Err(Box::new(refused));
    }
    Ok(())
}

fn refuse(refusal: Refusal) -> std::result::Result<(), Box<Response>> {
    Err(Box::new(refusal.into_response()))
}

/// Returns whether a browser sends this on behalf of a page of another origin. Reading is the
/// browser's own matter; what could do something is refused.
fn is_from_elsewhere(request: &Request, host: &str, access: &Access) -> bool {
    let headers = request.headers();
    let origin = header_text(headers, header::ORIGIN);
    if origin.is_some_and(|origin| access.lets_in(origin)) {
        return false;
    }
    // What a web socket brings can be read by the page that has opened it, whosesoever that is.
    let is_socket = headers.contains_key(header::SEC_WEBSOCKET_KEY);
    if matches!(*request.method(), Method::GET | Method::HEAD) && !is_socket {
        let path = request.uri().path();
        return AT_WORK.iter().any(|below| path.starts_with(below))
            && headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    }
    let Some(origin) = origin else { return false };
    let of = origin.split_once("://").map(|(_, rest)| rest);
    let own = header_text(headers, header::HOST)
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    !(of.is_some() && of == own && origin.contains(host))
}

/// The token of an `Authorization` header: the scheme's case does not matter.
fn bearer(given: &str) -> Option<&str> {
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The host of a `Host` header: `[::1]:7070` and `localhost:7070` without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_let_in() {
        let check = |host: &str, expected: bool| {
            assert_eq!(Access::default().serves(without_port(host)), expected, "{host}")
        };
        for host in [
            "localhost",
            "LocalHost:7070",
            "127.0.0.1",
            "127.0.0.1:7070",
            "127.8.0.1:1",
            "[::1]:7070",
            "[::1]",
        ] {
            check(host, true);
        }
        for host in [
            "",
            "example.org",
            "example.org:7070",
            "127.0.0.1.example.org",
            "localhost.example.org:80",
            "192.0.2.1:7070",
            "[::]:1",
            ":7070",
        ] {
            check(host, false);
        }
        let access = Access::default().with_host("mill.example.org").open_to_all();
        for (host, expected) in [
            ("mill.example.org:7070", true),
            ("192.0.2.1:7070", true),
            ("other.example.org", false),
        ] {
            assert_eq!(access.serves(without_port(host)), expected, "{host}");
        }
    }

    #[test]
    fn only_the_whole_token_is_known() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "0123456789abcdef\n").expect("written");
        let access = Access::default().with_token_file(file.path()).expect("a token");
        assert!(!format!("{access:?}").contains("0123456789"), "a token is not shown");
        let check = |header: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(header::AUTHORIZATION, header.parse().expect("a header"));
            }
            assert_eq!(access.knows(&headers), expected, "{header:?}");
        };
        for right in
            ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "BEARER  0123456789abcdef"]
        {
            check(Some(right), true);
        }
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
        ] {
            check(Some(wrong), false);
        }
        check(None, false);
        for (protocols, expected) in [
            ("tidemill.v1, bearer.MDEyMzQ1Njc4OWFiY2RlZg", true),
            ("bearer.MDEyMzQ1Njc4OWFiY2RlZw", false),
            ("bearer.0123456789abcdef", false),
            ("tidemill.v1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.parse().expect("a header"));
            assert_eq!(access.knows(&headers), expected, "{protocols}");
        }
        std::fs::write(file.path(), "short\n").expect("written");
        assert!(Access::default().with_token_file(file.path()).is_err());
    }

    #[test]
    fn pages_of_other_sites_may_not_post() {
        let access = Access::default()
            .with_origin("https://mill.example.org")
            .with_origin("https://tide.example.org:8443");
        let check = |method: &str, origin: Option<&str>, expected: bool| {
            let mut request = Request::builder()
                .method(method)
                .uri("/v1/query/words")
                .header("host", "127.0.0.1:7070");
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let request = request.body(axum::body::Body::empty()).expect("a request");
            let is = is_from_elsewhere(&request, "127.0.0.1", &access);
            assert_eq!(is, expected, "{method} {origin:?}");
        };
        check("POST", None, false);
        check("POST", Some("http://127.0.0.1:7070"), false);
        check("POST", Some("https://mill.example.org"), false);
        check("POST", Some("https://tide.example.org:8443"), false);
        for other in [
            "http://example.org",
            "http://127.0.0.1:8080",
            "null",
            "http://127.0.0.1.example.org:7070",
        ] {
            check("POST", Some(other), true);
            check("GET", Some(other), false);
        }
        let socket = Request::builder()
            .uri("/v1/live")
            .header("host", "127.0.0.1:7070")
            .header("sec-websocket-key", "x");
        let socket = socket
            .header("origin", "http://example.org")
            .body(axum::body::Body::empty())
            .expect("a request");
        assert!(
            is_from_elsewhere(&socket, "127.0.0.1", &access),
            "a page of another site opens no web socket"
        );
    }

    #[test]
    fn pages_of_other_sites_may_not_have_work_done_by_a_get() {
        let check = |path: &str, site: Option<&str>, expected: bool| {
            let mut request = Request::builder().uri(path).header("host", "127.0.0.1:7070");
            if let Some(site) = site {
                request = request.header("sec-fetch-site", site);
            }
            let request = request.body(Body::empty()).expect("a request");
            let is = is_from_elsewhere(&request, "127.0.0.1", &Access::default());
            assert_eq!(is, expected, "{path} {site:?}");
        };
        for path in ["/drpc/heavy/x", "/v1/state/counts", "/v1/state/counts/x"] {
            check(path, Some("cross-site"), true);
            for own in [None, Some("same-origin"), Some("none")] {
                check(path, own, false);
            }
        }
        check("/v1/status", Some("cross-site"), false);
    }

    #[test]
    fn with_a_token_any_host_is_served_and_probes_need_none() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "0123456789abcdef\n").expect("written");
        let token = Access::default().with_token_file(file.path()).expect("a token");
        let right = Some("Bearer 0123456789abcdef");
        let check = |access: &Access, path: &str, host: Option<&str>, given, expected| {
            let mut request = Request::builder().uri(path);
            for (name, value) in [(header::HOST, host), (header::AUTHORIZATION, given)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let request = request.body(Body::empty()).expect("a request");
            let refused = check_access(access, &request, "GET").map_err(|refused| refused.status());
            assert_eq!(refused.err().map(|status| status.as_u16()), expected, "{path} {host:?}");
        };
        let name = Some("mill.example.org");
        check(&token, "/v1/status", name, right, None);
        check(&token, "/v1/status", name, None, Some(401));
        check(&Access::default(), "/v1/status", name, right, Some(403));
        let access = Access::default().with_host("mill").with_host("mill.example.org");
        check(&access, "/v1/status", name, None, None);
        check(&access, "/v1/status", Some("mill:7070"), None, None);
        for free in FREE {
            check(&Access::default(), free, None, None, None);
            check(&token, free, name, None, None);
        }
        check(&Access::default(), "/v1/status", None, None, Some(403));
    }
}
