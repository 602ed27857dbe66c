//! Which requests are let in: those that name a loopback address, with no more body than any of them needs.

use super::refusal::{Refusal, place};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// The largest body of a request.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// Refuses what must not reach a handler.
pub(super) async fn admit(request: Request, next: Next) -> Response {
    let host = request.uri().host().or_else(|| header_text(request.headers(), header::HOST).map(without_port));
    let at = place(request.method(), request.uri());
    if !host.is_some_and(is_loopback) {
        return Refusal::new(StatusCode::FORBIDDEN, format!("the request is for host \"{}\", which is not this machine's own name", host.unwrap_or("")), at)
            .remedy("ask for http://127.0.0.1 or http://localhost with the port: others are refused, because the port has no authentication")
            .into_response();
    }
    let length = header_text(request.headers(), header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request's body is larger than {MAX_BODY_BYTES} bytes"),
            at,
        )
        .remedy("send less")
        .into_response();
    }
    next.run(request).await
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The host of a `Host` header: `[::1]:7070` and `localhost:7070` without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_let_in() {
        let check = |host: &str, expected: bool| assert_eq!(is_loopback(without_port(host)), expected, "{host}");
        for host in ["localhost", "LocalHost:7070", "127.0.0.1", "127.0.0.1:7070", "127.8.0.1:1", "[::1]:7070", "[::1]"] {
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
    }
}
