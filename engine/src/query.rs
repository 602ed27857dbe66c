//! Queries: named functions over the running states, written with operators as a stream is, each answered from one committed batch.
//!
//! A query is a dataflow of its own over the same workers. Every record in it carries the request that it belongs to and a share of that request's weight; a request is
//! answered when all of its weight is home, so that requests never wait for each other. All of a request's reads are as of the batch that was committed last when it began,
//! which is pinned (see the module `pins`) until it is over.

mod operators;

use crate::dataflow::context::Context;
use crate::dataflow::meter::Meter;
use crate::dataflow::stream::Record;
use crate::dataflow::topology::Topology;
use crate::json;
use crate::plan::{NodeId, NodeKind};
pub use crate::request::ask;
use crate::request::ask::{Format, QueryError};
use crate::request::desk::Entrance;
use crate::request::item::{Held, Item, Ticket};
use crate::request::weight::Weight;
use crate::source::Data;
pub use operators::GroupedRequests;
pub use operators::scan::Scan;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::{Error, codec, round_trip, shape, type_names};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

type Raw<'q, T> = crate::dataflow::stream::Raw<'q, Vec<Item<T>>>;

/// Of what [`Requests`] there may be any number of records for each request.
pub struct Many(());

/// Of what [`Requests`] there is one record for each request, or none: the result of an ungrouped aggregate.
pub struct One(());

/// The records of a query, each belonging to a request: what one of its operators gives to the next. Cloning it gives a second reader of the same records: a branch.
///
/// Its operators are those of a [`crate::Stream`], but "all" means all of one request, not of a batch. No order is kept. A panic or an `Err` in a closure is the failure
/// of the request that it was called for, and of nothing else.
pub struct Requests<'q, T: Record, N = Many> {
    raw: Raw<'q, T>,
    part: Part,
    number: PhantomData<N>,
}

/// What is known of a place in a query's dataflow.
#[derive(Clone)]
struct Part {
    context: Rc<Context>,
    node: NodeId,
    meter: Meter,
    /// Whether the records that come here were counted before, at the same node.
    counted: bool,
    /// What the weights of one request add up to here.
    whole: Weight,
    /// Whether every record is where its request arrived.
    home: bool,
    /// The first operator behind the query: see [`backlog`].
    end: Rc<Cell<usize>>,
}

impl<T: Record, N> Clone for Requests<'_, T, N> {
    fn clone(&self) -> Self {
        Requests { raw: self.raw.clone(), part: self.part.clone(), number: PhantomData }
    }
}

/// How many results a query gives for a request: [`Many`] or [`One`].
pub trait Number: sealed::Number {}
impl<N: sealed::Number> Number for N {}

mod sealed {
    pub trait Number {
        const ONE: bool;
    }
    impl Number for super::Many {
        const ONE: bool = false;
    }
    impl Number for super::One {
        const ONE: bool = true;
    }
}

/// A query as it is declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// The type of its arguments.
    pub arguments: String,
    /// The type of a result.
    pub result: String,
    /// Whether the answer is one result, or an array of any number of them.
    pub one: bool,
}

/// A query's types, kept so that its arguments can be read from what comes over the network.
pub(crate) trait QueryCodec: Send + Sync {
    fn decl(&self) -> &QueryDecl;
    fn arguments(&self, bytes: &[u8], format: Format) -> Result<Box<dyn Any + Send>, QueryError>;
    /// Whether these are of the type of its arguments.
    fn takes(&self, arguments: &(dyn Any + Send)) -> bool;
    /// Refuses a format in which its results could not be read.
    fn answers_in(&self, format: Format) -> Result<(), QueryError>;
}

struct TypedQuery<A> {
    decl: QueryDecl,
    arguments: PhantomData<fn() -> A>,
    /// Why its arguments, and its results, cannot be read from bincode.
    unreadable: [Option<String>; 2],
}

impl<A> TypedQuery<A> {
    /// What its arguments or results, of this type, are refused with in bincode.
    fn unreadable(&self, what: &str, type_name: &str, why: &str) -> String {
        format!(
            "the {what} of query \"{}\" are {type_name}, which cannot be read from bincode, in which clients over gRPC and this process ask: \
             {why}. Ask over HTTP, as JSON, or remove the attribute",
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
            QueryError::BadArguments(format!("these are no arguments of query \"{name}\", which takes {arguments}: {why}"))
        };
        if let (Format::Bincode, Some(why)) = (format, &self.unreadable[0]) {
            return Err(QueryError::BadArguments(self.unreadable("arguments", &self.decl.arguments, why)));
        }
        let arguments: A = match format {
            Format::Json => json::from_slice(bytes).map_err(|why| wrong(why.to_string()))?,
            Format::Bincode => codec::decode_from_outside(bytes).map_err(|why| wrong(why.to_string()))?,
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
            (Format::Bincode, Some(why)) => Err(QueryError::Failed(self.unreadable("results", &self.decl.result, why))),
            _ => Ok(()),
        }
    }
}

impl Topology<'_> {
    /// Declares a function over this topology's states that can be asked under `name` while it runs: over the port (`POST /v1/query/{name}`), by a client, from this
    /// process ([`crate::Runtime::ask`]).
    ///
    /// # Contract
    /// All of an answer is as of one committed batch, the same on all workers, whose number it carries; answers never go back in time. A query whose last operator is an ungrouped
    /// [`Requests::aggregate`] answers with that value, any other with an array, in no particular order. Requests do not wait for each other. A panic in a closure is the
    /// failure of its request, and touches no batch. Queries may be added, changed and removed at any restart: nothing of them is recorded.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, aggregates::{Count, Sum}, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let counts = topology
    ///         .source("words", io.source::<String>("words"))
    ///         .group_by(|word| word.clone())
    ///         .persistent_aggregate("counts", Count);
    ///     topology.query("words", |text: Requests<String>| {
    ///         text.flat_map(|text, words| words.extend(text.split_whitespace().map(String::from))).lookup(&counts).aggregate(Sum)
    ///     });
    /// });
    /// kit.feed("words", ["the", "tide", "the"].map(String::from));
    /// let batch = kit.step();
    /// assert_eq!(kit.ask::<u64>("words", &"the tide table"), (batch, 3));
    /// ```
    #[track_caller]
    pub fn query<A, R, N, F>(&self, name: &str, build: F)
    where
        A: DeserializeOwned + Clone + Send + 'static,
        R: Data,
        N: Number,
        F: for<'q> FnOnce(Requests<'q, A>) -> Requests<'q, R, N>,
    {
        let at = Location::caller();
        let context = &self.context;
        let types = (type_names::of::<A>(), type_names::of::<R>());
        let decl = QueryDecl { name: name.to_string(), arguments: types.0, result: types.1, one: N::ONE };
        let look = |look: fn() -> Option<String>| crate::failure::policy::caught(true, || Ok(look())).unwrap_or_default();
        let unreadable = [look(shape::unreadable::<A>), look(round_trip::of_values::<R>)];
        {
            let declared = &mut *context.declared.borrow_mut();
            if declared.queries.iter().any(|query| query.decl().name == name) {
                let error = Error::config(format!("two queries are named \"{name}\": give each its own name"));
                declared.error.get_or_insert(error);
            }
            declared.queries.push(std::sync::Arc::new(TypedQuery::<A> { decl, arguments: PhantomData, unreadable }));
        }
        let node = context.plan.borrow_mut().add(NodeKind::Query(name.to_string()), at, &[]);
        let meter = context.meter(node);
        let part = Part {
            context: Rc::clone(context),
            node,
            meter,
            counted: false,
            whole: Weight::ENTRY,
            home: true,
            end: Rc::default(),
        };
        let end = Rc::clone(&part.end);
        // A dataflow of its own: its requests and a batch's records share the workers, and nothing else.
        let mut worker = self.scope.worker().clone();
        worker.dataflow_named(&format!("query {name}"), |scope: Scope<'_, u64>| {
            let results = build(entrance(scope, part));
            operators::home::take_home(results, at);
        });
        end.set(context.query_operators.get());
    }
}

/// Where requests enter: an operator that gives what the desk has put before it.
fn entrance<'q, A: Clone + Send + 'static>(scope: Scope<'q, u64>, part: Part) -> Requests<'q, A> {
    let begun: Rc<RefCell<Vec<Item<A>>>> = Rc::default();
    let mut builder = OperatorBuilder::new("requests".to_string(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let (mut output, raw) = builder.new_output::<Vec<Item<A>>>();
    let (waiting, meter) = (Rc::clone(&begun), part.meter.clone());
    builder.build(move |mut capabilities| {
        // All requests have one time, which never ends: their weights say when they are complete.
        let capability = capabilities.pop();
        move |_frontiers| {
            let mut requests = std::mem::take(&mut *waiting.borrow_mut());
            meter.took(requests.len());
            if let Some(capability) = capability.as_ref().filter(|_| !requests.is_empty()) {
                operators::give(&mut output.activate(), capability, &mut requests);
            }
        }
    });
    part.context.declared.borrow_mut().entrances.push(Rc::new(Door { begun, activator }));
    Requests { raw, part, number: PhantomData }
}

struct Door<A> {
    begun: Rc<RefCell<Vec<Item<A>>>>,
    activator: timely::scheduling::Activator,
}

impl<A: 'static> Entrance for Door<A> {
    fn enter(&self, ticket: Ticket, arguments: Box<dyn Any + Send>) {
        let arguments = arguments.downcast::<A>().expect("arguments are decoded by the query's own codec");
        let mut begun = self.begun.borrow_mut();
        if begun.is_empty() {
            self.activator.activate();
        }
        begun.push(Item { ticket, weight: Weight::ENTRY, held: Held::Value(*arguments) });
    }
}
