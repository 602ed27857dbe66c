//! The stream of a query: records that belong to requests.

use crate::dataflow::context::Context;
use crate::dataflow::meter::Meter;
use crate::plan::NodeId;
use crate::record::Record;
use crate::request::item::Item;
use crate::request::weight::Weight;
use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

pub(crate) type Raw<'q, T> = crate::dataflow::stream::Raw<'q, Vec<Item<T>>>;

/// Of what [`Requests`] there may be any number of records for each request.
pub struct Many(());

/// Of what [`Requests`] there is one record for each request, or none: the result of an ungrouped
/// aggregate.
pub struct One(());

/// The records of a query, each belonging to a request: what one of its operators gives to the
/// next. Cloning it gives a second reader of the same records: a branch.
///
/// Its operators are those of a [`crate::Stream`], but "all" means all of one request, not of a
/// batch. No order is kept. A panic or an `Err` in a closure is the failure of the request that it
/// was called for, and of nothing else.
pub struct Requests<'q, T: Record, N = Many> {
    pub(crate) raw: Raw<'q, T>,
    pub(crate) part: Part,
    pub(crate) number: PhantomData<N>,
}

/// A place in a query's dataflow.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) context: Rc<Context>,
    pub(crate) node: NodeId,
    pub(crate) meter: Meter,
    /// True if the records that come here were counted before, at the same node.
    pub(crate) counted: bool,
    /// The sum of one request's weights here.
    pub(crate) whole: Weight,
    /// True if every record is where its request arrived.
    pub(crate) home: bool,
    /// The first operator behind the query: see [`backlog`].
    pub(crate) end: Rc<Cell<usize>>,
}

impl<T: Record, N> Clone for Requests<'_, T, N> {
    fn clone(&self) -> Self {
        Requests { raw: self.raw.clone(), part: self.part.clone(), number: PhantomData }
    }
}

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

/// The number of results a query gives for a request: [`Many`] or [`One`].
pub trait Number: sealed::Number {}

impl<N: sealed::Number> Number for N {}
