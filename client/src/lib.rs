//! Asks the queries of a Tidemill topology that runs, over gRPC: typed answers, each of one
//! committed batch, that never go back in time.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidemill_client::Error> {
//! use tidemill_client::Client;
//!
//! let client = Client::connect("http://127.0.0.1:7070")?;
//! let answer = client.query::<_, u64>("words", &"the tide").await?;
//! println!("{} as of batch {}", answer.value, answer.txid);
//! # Ok(())
//! # }
//! ```
//!
//! A query that ends in an ungrouped aggregate answers with its value, any other with a `Vec`:
//!
//! ```no_run
//! # async fn example(client: tidemill_client::Client) -> Result<(), tidemill_client::Error> {
//! let all = client.query::<_, Vec<(String, u64)>>("all", &()).await?.value;
//! # Ok(())
//! # }
//! ```
//!
//! # Types
//! Arguments and results are encoded without names and kinds. Their types may not have serde's
//! attributes `flatten`, `untagged`, `tag`, `skip_serializing_if`, `skip_serializing` or
//! `skip_deserializing`, nor hold types that read whatever kind comes, such as `serde_json::Value`:
//! they are refused. Over HTTP, as JSON, they can be asked all the same.
//!
//! A request contains the types of its arguments and of the expected result, and the server compares
//! them with those of the query: kinds, and the names and order of fields and variants. Arguments of
//! another type are an [`Error::BadRequest`], a result is an [`Error::WrongType`], each with both
//! types. The literal `3` is an `i32`, and refused by a query over `u64`: write `3u64`.
//!
//! # Read your writes
//! Who has produced a record knows its offset: an answer is waited for that holds it.
//!
//! ```no_run
//! # async fn example(client: tidemill_client::Client, offset: u64) -> Result<(), tidemill_client::Error> {
//! let request = client.request("words", &"the tide").at_least_position("sentences", "sentences[0]", offset);
//! let answer = request.send::<u64>().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Many at once
//! A clone of a client shares its connection, on which 1,024 requests may be under way at once;
//! further ones wait for a place. They do not wait for each other's answers.
//!
//! # Failures
//! Queries only read, so a request is sent again when the server is away, starts or begins anew, or
//! the connection is lost, with growing pauses, until its time-out is over. What is left is an
//! [`Error`], which says what to do.
//!
//! # Answers never go back in time
//! An answer is never of an earlier batch than one that this client (or a clone of it) had before
//! the request was made, also when the server was killed in between. If the server's state was
//! replaced by another one, batches cannot be compared: that is one [`Error::StateReplaced`], and
//! from then on answers are of the new state.

pub mod blocking;
mod client;
mod connection;
mod encoding;
mod error;
mod pause;
mod seen;

pub use client::{Answer, Builder, Client, Request};
pub use error::Error;
