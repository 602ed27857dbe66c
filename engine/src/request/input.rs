//! The input of a query's dataflow on one worker.

use crate::request::item::Ticket;
use std::any::Any;

/// The entrance of a query's requests to its dataflow on this worker.
pub(crate) trait QueryInput {
    /// A request begins, with arguments of the query's own type.
    fn enter(&self, ticket: Ticket, arguments: Box<dyn Any + Send>);
}
