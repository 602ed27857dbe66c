//! The web page on the port: the files of `ui/dist`, which `make page` builds, inside the program.
//! Without them the port says how to get them.
//!
//! A program with [`crate::main`]'s command line has it. One that starts its engine itself gives it
//! to the port:
//!
//! ```no_run
//! use std::sync::Arc;
//! use tidemill::server::{Access, Listening};
//! # fn serve(engine: &tidemill::Engine) -> tidemill::Result<()> {
//! let address = "127.0.0.1:7070".parse().expect("an address");
//! let port = Listening::bind(address, Access::default())?.with_page(tidemill::page::routes());
//! let server = port.serve(Arc::clone(engine.runtime()))?;
//! # drop(server);
//! # Ok(())
//! # }
//! ```

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::Embed;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

#[derive(Embed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Dist;

/// Returns the content security policy of the page: a browser may load nothing but what comes from
/// this port. Not every browser takes the page's web sockets for a part of `'self'`: they are
/// named.
fn policy(headers: &HeaderMap) -> HeaderValue {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte))
    };
    let sockets = if host.is_empty() || !is_plain(host) {
        String::new()
    } else {
        format!(" ws://{host} wss://{host}")
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'{sockets}; font-src 'self'; manifest-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("it is plain text")
}

/// The page shown in a program that was built without the web page.
const NOT_BUILT: &str = "<!doctype html>\n<html lang=\"en\">\n<meta \
    charset=\"utf-8\">\n<title>Tidemill</title>\n<h1>Tidemill runs, without its \
    page</h1>\n<p>This program was built without the web page. To have it: install Node.js 20.19 \
    or newer, run <code>make page</code> in the repository of Tidemill, and build the program \
    again.</p>\n<p>The port answers all the same: <a href=\"/v1/status\">/v1/status</a>, <a \
    href=\"/v1/batches\">/v1/batches</a>, <a href=\"/v1/topology\">/v1/topology</a>, <a \
    href=\"/v1/queries\">/v1/queries</a>, <a href=\"/metrics\">/metrics</a>, <a \
    href=\"/openapi.json\">/openapi.json</a>.</p>\n</html>\n";

/// A file of the page, and its compressed form, made at the first request for that form.
struct File {
    plain: Cow<'static, [u8]>,
    gzip: OnceLock<Vec<u8>>,
    kind: &'static str,
}

type Files = Arc<HashMap<String, File>>;

/// The page's paths, for [`crate::server::Listening::with_page`].
pub fn routes() -> Router {
    let files = Dist::iter().filter_map(|name| {
        let plain = Dist::get(&name)?.data;
        let kind = kind_of(&name);
        Some((name.into_owned(), File { plain, gzip: OnceLock::new(), kind }))
    });
    let files: Files = Arc::new(files.collect());
    let mut router = Router::new().route("/", get(index));
    for name in files.keys().filter(|name| !name.contains('/') && *name != "index.html") {
        let own = name.clone();
        router = router.route(
            &format!("/{name}"),
            get(move |State(files): State<Files>, headers: HeaderMap| async move {
                file(&files, &own, &headers)
            }),
        );
    }
    router.route("/assets/{*name}", get(asset)).with_state(files)
}

async fn index(State(files): State<Files>, headers: HeaderMap) -> Response {
    if files.contains_key("index.html") {
        return file(&files, "index.html", &headers);
    }
    let kind =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    secured((kind, NOT_BUILT).into_response(), &headers)
}

async fn asset(
    State(files): State<Files>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    file(&files, &format!("assets/{name}"), &headers)
}

fn file(files: &Files, name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = files.get(name) else {
        let gone =
            "this is not a file of the page: load the page again, it may be of another version";
        return secured((StatusCode::NOT_FOUND, gone).into_response(), headers);
    };
    // The names of what is in assets/ change with their content.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let wants_gzip =
        headers.get(header::ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok());
    let answer_headers = [
        (header::CONTENT_TYPE, file.kind),
        (header::CACHE_CONTROL, cache),
        (header::VARY, "Accept-Encoding"),
    ];
    if wants_gzip.is_some_and(|accepted| accepted.contains("gzip")) {
        let packed = file.gzip.get_or_init(|| gzip(&file.plain));
        return secured(
            (answer_headers, [(header::CONTENT_ENCODING, "gzip")], packed.clone()).into_response(),
            headers,
        );
    }
    secured((answer_headers, file.plain.to_vec()).into_response(), headers)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let packed = encoder.write_all(plain).and_then(|()| encoder.finish());
    packed.expect("writing to memory does not fail")
}

fn secured(mut response: Response, asked: &HeaderMap) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy(asked));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
