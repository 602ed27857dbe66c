//! Tests of the port: HTTP, gRPC, WebSocket and the client, in good hands and in bad ones.

#![allow(clippy::disallowed_methods)]

mod abuse;
mod bounded;
mod client;
mod client_restarts;
mod http;
mod live;
mod query_port;
mod query_table;
mod snapshots;
mod typed;
