//! A query's declaration, and the decoding of its arguments.

use crate::json;
use crate::record::Data;
use crate::request::ask::{Format, QueryError, QueryRequest, RequestTypes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::marker::PhantomData;
use tidemill_state::codec::trace::Trace;
use tidemill_state::{codec, round_trip, shape};

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
    /// Reads the arguments of a request; of bincode, only if its types are those of the query.
    fn arguments(&self, request: &QueryRequest<'_>) -> Result<Box<dyn Any + Send>, QueryError>;
    /// Returns whether these are of the type of its arguments.
    fn takes(&self, arguments: &(dyn Any + Send)) -> bool;
    /// Refuses a format in which its results could not be read.
    fn answers_in(&self, format: Format) -> Result<(), QueryError>;
}

pub(crate) struct TypedQuery<A> {
    decl: QueryDecl,
    arguments: PhantomData<fn() -> A>,
    seen: QueryShapes,
}

/// The types of a query, as far as they show.
pub(crate) struct QueryShapes {
    /// Why its arguments, and its results, cannot be read from bincode.
    unreadable: [Option<String>; 2],
    /// The shapes of its arguments, and of its whole result: a value, or a vector.
    shapes: [String; 2],
    /// True if the names of the arguments' variants are not known.
    has_variant_aliases: bool,
}

impl QueryShapes {
    pub(crate) fn of<A: DeserializeOwned, R: Data>(one: bool) -> QueryShapes {
        fn look<T: Default>(look: fn() -> T) -> T {
            crate::panics::caught(true, || Ok(look())).unwrap_or_default()
        }
        let result = if one { shape::of::<R> } else { shape::of::<Vec<R>> };
        QueryShapes {
            unreadable: [look(shape::unreadable::<A>), look(round_trip::of_values::<R>)],
            shapes: [look(shape::of::<A>), look(result)],
            has_variant_aliases: look(shape::has_variant_aliases::<A>),
        }
    }
}

/// The longest type in an error, in bytes.
const SHOWN: usize = 400;

/// A type in an error: its name, and its parts if the name does not show them.
pub(crate) fn with_shape(name: &str, shape: &str) -> String {
    differing(name, shape, 0)
}

/// As [`with_shape`]; of long parts those around this place.
fn differing(name: &str, shape: &str, at: usize) -> String {
    let name = part_of(name, 0);
    if name == shape { name } else { format!("{name}, {}", part_of(shape, at)) }
}

/// Returns a text, or the part of a long one that is around this place.
fn part_of(text: &str, at: usize) -> String {
    if text.len() <= SHOWN {
        return text.to_string();
    }
    let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let from = boundary(at.min(text.len()).saturating_sub(SHOWN / 2));
    let to = boundary((from + SHOWN).min(text.len()));
    let mark = |is_cut: bool| if is_cut { "…" } else { "" };
    format!("{}{}{}", mark(from > 0), &text[from..to], mark(to < text.len()))
}

impl<A> TypedQuery<A> {
    pub(crate) fn new(decl: QueryDecl, seen: QueryShapes) -> TypedQuery<A> {
        TypedQuery { decl, arguments: PhantomData, seen }
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

    /// Refuses a request that expects a result of another type.
    fn check_result(&self, types: &RequestTypes<'_>) -> Result<(), QueryError> {
        let RequestTypes { result, result_type, .. } = *types;
        let [_, shape] = &self.seen.shapes;
        if result.is_empty() || shape.is_empty() || shape::agree(result, shape) {
            return Ok(());
        }
        let QueryDecl { name, result: of, one, .. } = &self.decl;
        let (many, of) =
            if *one { ("one value", of.clone()) } else { ("a vector", format!("Vec<{of}>")) };
        let at = result.bytes().zip(shape.bytes()).take_while(|(one, other)| one == other).count();
        Err(QueryError::WrongResult(format!(
            "the result of query \"{name}\" is {many} ({}), and the request expects {}",
            differing(&of, shape, at),
            differing(result_type, result, at)
        )))
    }
}

impl<A: DeserializeOwned + Send + 'static> TypedQuery<A> {
    /// Reads the arguments from bincode. Bytes of another type may be read all the same: the trace
    /// of the bytes' type finds that.
    fn read_bincode(&self, bytes: &[u8], types: Option<&RequestTypes<'_>>) -> Result<A, String> {
        let mismatch = |why: &str| match types {
            Some(types) => format!("the request has {}{why}", part_of(types.argument_type, 0)),
            None => why.trim_start_matches(": ").to_string(),
        };
        let (arguments, read) =
            codec::decode_traced(bytes).map_err(|why| mismatch(&format!(": {why}")))?;
        let fits = |written: &Trace| {
            read.is_of(written) || (self.seen.has_variant_aliases && read.is_of_kinds(written))
        };
        match types {
            Some(types) if !fits(&types.arguments) => Err(mismatch("")),
            _ => Ok(arguments),
        }
    }
}

impl<A: DeserializeOwned + Send + 'static> QueryCodec for TypedQuery<A> {
    fn decl(&self) -> &QueryDecl {
        &self.decl
    }

    fn arguments(&self, request: &QueryRequest<'_>) -> Result<Box<dyn Any + Send>, QueryError> {
        let QueryRequest { arguments: bytes, format, types, .. } = request;
        let wrong = |why: String| {
            let QueryDecl { name, arguments, .. } = &self.decl;
            QueryError::BadArguments(format!(
                "these are no arguments of query \"{name}\", which takes {}: {why}",
                with_shape(arguments, &self.seen.shapes[0])
            ))
        };
        if let (Format::Bincode, Some(why)) = (format, &self.seen.unreadable[0]) {
            return Err(QueryError::BadArguments(self.unreadable(
                "arguments",
                &self.decl.arguments,
                why,
            )));
        }
        let arguments: A = match format {
            Format::Json => json::from_slice(bytes).map_err(|why| wrong(why.to_string()))?,
            Format::Bincode => {
                types.as_ref().map_or(Ok(()), |types| self.check_result(types))?;
                self.read_bincode(bytes, types.as_ref()).map_err(wrong)?
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
        match (format, &self.seen.unreadable[1]) {
            (Format::Bincode, Some(why)) => {
                Err(QueryError::Failed(self.unreadable("results", &self.decl.result, why)))
            }
            _ => Ok(()),
        }
    }
}
