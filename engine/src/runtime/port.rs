//! The facts of a run that the port shows beside those that everybody may see. For
//! `tidemill-server` alone.

use super::Runtime;
use super::timings::Timings;
use crate::request::ask::QueryError;
use crate::table::codec::StateCodec;
use std::sync::Arc;
use tidemill_state::Lineage;

#[doc(hidden)]
impl Runtime {
    /// The topology's name.
    pub fn topology(&self) -> &str {
        &self.facts.topology
    }

    /// The store's lineage.
    pub fn lineage(&self) -> Lineage {
        self.facts.lineage
    }

    /// The number of key groups.
    pub fn key_groups(&self) -> u16 {
        self.facts.key_groups
    }

    /// The states' types, in the program's order.
    pub fn codecs(&self) -> &[Arc<dyn StateCodec>] {
        &self.facts.codecs
    }

    /// The times that the run has measured.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Returns whether a query has one result for a request.
    ///
    /// # Errors
    /// There is no such query.
    pub fn has_one_result(&self, query: &str) -> Result<bool, QueryError> {
        Ok(self.hub.query(self.hub.find(query)?).decl().one)
    }
}
