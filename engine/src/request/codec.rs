//! A query's declaration, and the decoding of its arguments.

use crate::json;
use crate::request::ask::{Format, QueryError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::marker::PhantomData;
use tidemill_state::codec;

/// A query as it is declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// The type of its arguments.
    pub arguments: String,
    /// The type of a result.
    pub result: String,
    /// True if the answer is one result, or an array of any number of them.
    pub one: bool,
}

/// A query's types, kept so that its arguments can be read from what comes over the network.
pub(crate) trait QueryCodec: Send + Sync {
    fn decl(&self) -> &QueryDecl;
    fn arguments(&self, bytes: &[u8], format: Format) -> Result<Box<dyn Any + Send>, QueryError>;
    /// Returns whether these are of the type of its arguments.
    fn takes(&self, arguments: &(dyn Any + Send)) -> bool;
    /// Refuses a format in which its results could not be read.
    fn answers_in(&self, format: Format) -> Result<(), QueryError>;
}

pub(crate) struct TypedQuery<A> {
    decl: QueryDecl,
    arguments: PhantomData<fn() -> A>,
    /// Why its arguments, and its results, cannot be read from bincode.
    unreadable: [Option<String>; 2],
}

impl<A> TypedQuery<A> {
    pub(crate) fn new(decl: QueryDecl, unreadable: [Option<String>; 2]) -> TypedQuery<A> {
        TypedQuery { decl, arguments: PhantomData, unreadable }
    }

    /// Returns the message with which the query's arguments or results, of this type, are refused
    /// in bincode.
    fn unreadable(&self, what: &str, type_name: &str, why: &str) -> String {
        format!(
            "the {what} of query \"{}\" are {type_name}, which cannot be read from bincode, in \
             which clients over gRPC and this process ask: {why}. Ask over HTTP, as JSON, or \
             remove the attribute",
            self.decl.name
        )
    }
}

impl<A: DeserializeOwned + Send + 'static> QueryCodec for TypedQuery<A> {
    fn decl(&self) -> &QueryDecl {
        &self.decl
    }

    fn arguments(&self, bytes: &[u8], format: Format) -> Result<Box<dyn Any + Send>, QueryError> {
        let wrong = |why: String| {
            let QueryDecl { name, arguments, .. } = &self.decl;
            QueryError::BadArguments(format!(
                "these are no arguments of query \"{name}\", which takes {arguments}: {why}"
            ))
        };
        if let (Format::Bincode, Some(why)) = (format, &self.unreadable[0]) {
            return Err(QueryError::BadArguments(self.unreadable(
                "arguments",
                &self.decl.arguments,
                why,
            )));
        }
        let arguments: A = match format {
            Format::Json => json::from_slice(bytes).map_err(|why| wrong(why.to_string()))?,
            Format::Bincode => {
                codec::decode_from_outside(bytes).map_err(|why| wrong(why.to_string()))?
            }
            Format::Storm => {
                // A text is taken as it is, everything else is JSON.
                let text = std::str::from_utf8(bytes).map_err(|why| wrong(why.to_string()))?;
                // Nothing at all is what a function takes that takes nothing.
                let as_json = || json::from_str(if text.is_empty() { "null" } else { text });
                json::as_text(text).or_else(|_| as_json()).map_err(|why| wrong(why.to_string()))?
            }
        };
        Ok(Box::new(arguments))
    }

    fn takes(&self, arguments: &(dyn Any + Send)) -> bool {
        arguments.is::<A>()
    }

    fn answers_in(&self, format: Format) -> Result<(), QueryError> {
        match (format, &self.unreadable[1]) {
            (Format::Bincode, Some(why)) => {
                Err(QueryError::Failed(self.unreadable("results", &self.decl.result, why)))
            }
            _ => Ok(()),
        }
    }
}
