//! Which requests are let in: those for a host that is served, from no other web page, with the
//! token if there is one, and with no more body than any of them needs.
//!
//! A page of another site can have its own name resolve to this machine (DNS rebinding), and can
//! post here without reading the answer; both are refused.

use super::caller::Caller;
use super::refusal::{self, Refusal, place};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tidemill_state::{Error, Result};

/// Before the run has begun.
pub(super) const BEFORE: Bounds = Bounds { body_bytes: 1 << 20, per_client: 1024 };

/// The rule about who may send requests.
#[derive(Clone, Default)]
pub struct Access {
    token: Option<Arc<str>>,
    hosts: Vec<String>,
    open: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "(secret)");
        f.debug_struct("Access")
            .field("token", &token)
            .field("hosts", &self.hosts)
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
        if let Some(given) = header_text(headers, header::AUTHORIZATION)
            .and_then(|given| given.strip_prefix("Bearer "))
        {
            return same(given.trim().as_bytes());
        }
        let protocols = header_text(headers, header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        let mut given =
            protocols.split(',').filter_map(|protocol| protocol.trim().strip_prefix("bearer."));
        given.any(|given| BASE64_URL_SAFE_NO_PAD.decode(given).is_ok_and(|given| same(&given)))
    }
}

/// Paths that answer without a token: they tell nothing of the data.
pub(super) const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// The bounds of one request, and of one connection.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) body_bytes: usize,
    /// Requests under way at once on one connection.
    pub(super) per_client: usize,
}

/// Refuses what must not reach a handler. Whatever is refused here or behind, clients of gRPC and
/// of Storm are told in their own way.
pub(super) async fn admit(
    State((access, bounds)): State<(Arc<Access>, Bounds)>,
    request: Request,
    next: Next,
) -> Response {
    let content = header_text(request.headers(), header::CONTENT_TYPE);
    let grpc = content.is_some_and(|content| content.starts_with("application/grpc"));
    let storm = request.uri().path().starts_with("/drpc/");
    // The calls of gRPC count themselves, each request of a pipeline.
    let counted = if grpc { None } else { Some(Caller::of(&request).admit(bounds.per_client)) };
    let response = match counted {
        Some(Err(why)) => {
            Refusal::of_query(&why, place(request.method(), request.uri())).into_response()
        }
        _counted => admit_or_refuse(&access, bounds.body_bytes, request, next).await,
    };
    if grpc {
        refusal::in_grpc(response)
    } else if storm {
        refusal::in_storm(response)
    } else {
        response
    }
}

async fn admit_or_refuse(
    access: &Access,
    most_bytes: usize,
    request: Request,
    next: Next,
) -> Response {
    let host = request
        .uri()
        .host()
        .or_else(|| header_text(request.headers(), header::HOST).map(without_port));
    let at = place(request.method(), request.uri());
    if !host.is_some_and(|host| access.serves(host)) {
        return Refusal::new(
            StatusCode::FORBIDDEN,
            format!("the request is for host \"{}\", which is not served here", host.unwrap_or("")),
            at,
        )
        .remedy(
            "ask for http://127.0.0.1 or http://localhost with the port; --allow-host NAME \
            serves another name",
        )
        .into_response();
    }
    if is_from_elsewhere(&request, host.unwrap_or_default()) {
        return Refusal::new(
            StatusCode::FORBIDDEN,
            "the request comes from a page of another site",
            at,
        )
        .remedy("ask from a page of this port, or from a program")
        .into_response();
    }
    if !FREE.contains(&request.uri().path()) && !access.knows(request.headers()) {
        let mut refused = Refusal::new(
            StatusCode::UNAUTHORIZED,
            "the request has not the token that this port asks for",
            at,
        )
        .remedy("send it as the header Authorization: Bearer TOKEN")
        .into_response();
        refused
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return refused;
    }
    let length = header_text(request.headers(), header::CONTENT_LENGTH)
        .and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > most_bytes as u64) {
        let what = format!("the request's body is larger than {most_bytes} bytes");
        return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what, at)
            .remedy("send less")
            .into_response();
    }
    next.run(request).await
}

/// Returns whether a browser sends this on behalf of a page of another origin. Reading is the
/// browser's own matter; what could do something is refused.
fn is_from_elsewhere(request: &Request, host: &str) -> bool {
    // What a web socket brings can be read by the page that has opened it, whosesoever that is.
    let is_socket = request.headers().contains_key(header::SEC_WEBSOCKET_KEY);
    if matches!(*request.method(), Method::GET | Method::HEAD) && !is_socket {
        return false;
    }
    let Some(origin) = header_text(request.headers(), header::ORIGIN) else { return false };
    let of = origin.split_once("://").map(|(_, rest)| rest);
    let own = header_text(request.headers(), header::HOST)
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    !(of.is_some() && of == own && origin.contains(host))
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
        check(Some("Bearer 0123456789abcdef"), true);
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
        let check = |method: &str, origin: Option<&str>, expected: bool| {
            let mut request = Request::builder()
                .method(method)
                .uri("/v1/query/words")
                .header("host", "127.0.0.1:7070");
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let request = request.body(axum::body::Body::empty()).expect("a request");
            assert_eq!(is_from_elsewhere(&request, "127.0.0.1"), expected, "{method} {origin:?}");
        };
        check("POST", None, false);
        check("POST", Some("http://127.0.0.1:7070"), false);
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
            is_from_elsewhere(&socket, "127.0.0.1"),
            "a page of another site opens no web socket"
        );
    }
}
