//! Queries: named functions over the running states, written with operators as a stream is, each
//! answered from one committed batch.
//!
//! A query is a dataflow of its own over the same workers. Every record in it carries the request
//! that it belongs to and a share of that request's weight; a request is answered when all of its
//! weight is home, so that requests never wait for each other. All of a request's reads are as of
//! the batch that was committed last when it began, which is pinned (see `request/pins.rs`) until
//! it is over.
//!
//! A request arrives in the inbox of a worker (`runtime/ask.rs`), which becomes its home. There
//! `request/in_flight.rs` pins the last committed batch for it (`request/pins.rs`) and lets it in.
//! Weights (`request/weight.rs`) follow what becomes of it:
//!
//! - a record that becomes several shares its weight among them; a dropped record returns it home;
//! - each arm of a branch has a copy of the record, with a share;
//! - an aggregation waits at home until all of the weight is there, and sends it out again with its
//!   result.
//!
//! When all of the weight is home, the answer is complete. No frontier is waited for, and no
//! request waits for another. A read is as of the pinned batch: `state/src/hot.rs` keeps the values
//! that later batches have overwritten up to the oldest pin (the *floor*), and reports when it no
//! longer does, so that a cancelled pin is an error and never a wrong answer. A request that was
//! given up is not in the table of live requests (`request/live_requests.rs`), where operators look
//! before they work for it. `runtime/reads.rs` reads keys and pages without a dataflow.

use crate::query::operators::driver::give;
use crate::query::requests::{Number, Part};
use crate::request::codec::{QueryShapes, TypedQuery};
mod operators;
pub(crate) mod requests;

use crate::dataflow::topology::Topology;
use crate::plan::NodeKind;
use crate::record::Data;
pub use crate::request::ask;
pub use crate::request::codec::QueryDecl;
use crate::request::input::QueryInput;
use crate::request::item::{Held, Item, Ticket};
use crate::request::weight::Weight;
pub use operators::GroupedRequests;
pub use operators::scan::Scan;
pub use requests::{Many, One, Requests};
use serde::de::DeserializeOwned;
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::{Error, type_names};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

impl Topology<'_> {
    /// Declares a function over this topology's states that can be asked under `name` while it
    /// runs: over the port (`POST /v1/query/{name}`), by a client, from this process
    /// ([`crate::Runtime::ask`]).
    ///
    /// # Contract
    /// All of an answer is as of one committed batch, the same on all workers, whose number it
    /// carries; answers never go back in time. A query whose last operator is an ungrouped
    /// [`Requests::aggregate`] answers with that value, any other with an array, in no particular
    /// order. Requests do not wait for each other. A panic in a closure is the failure of its
    /// request, and touches no batch. Queries may be added, changed and removed at any restart:
    /// nothing of them is recorded.
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
        let decl =
            QueryDecl { name: name.to_string(), arguments: types.0, result: types.1, one: N::ONE };
        let types = QueryShapes::of::<A, R>(N::ONE);
        {
            let declared = &mut *context.declared.borrow_mut();
            if declared.queries.iter().any(|query| query.decl().name == name) {
                let error = Error::config(format!(
                    "two queries are named \"{name}\": give each its own name"
                ));
                declared.error.get_or_insert(error);
            }
            declared.queries.push(std::sync::Arc::new(TypedQuery::<A>::new(decl, types)));
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
        // A dataflow of its own: its requests and a batch's records share the workers, and nothing
        // else.
        let mut worker = self.scope.worker().clone();
        worker.dataflow_named(&format!("query {name}"), |scope: Scope<'_, u64>| {
            let results = build(entrance(scope, part));
            operators::home::take_home(results, at);
        });
        end.set(context.query_operators.get());
    }
}

/// Returns the requests' entrance: an operator that gives the requests that its [`TypedInput`] has
/// received.
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
                give(&mut output.activate(), capability, &mut requests);
            }
        }
    });
    part.context.declared.borrow_mut().entrances.push(Rc::new(TypedInput { begun, activator }));
    Requests { raw, part, number: PhantomData }
}

struct TypedInput<A> {
    begun: Rc<RefCell<Vec<Item<A>>>>,
    activator: timely::scheduling::Activator,
}

impl<A: 'static> QueryInput for TypedInput<A> {
    fn enter(&self, ticket: Ticket, arguments: Box<dyn Any + Send>) {
        let arguments =
            arguments.downcast::<A>().expect("arguments are decoded by the query's own codec");
        let mut begun = self.begun.borrow_mut();
        if begun.is_empty() {
            self.activator.activate();
        }
        begun.push(Item { ticket, weight: Weight::ENTRY, held: Held::Value(*arguments) });
    }
}
