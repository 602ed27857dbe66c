//! A source without its type.

use super::{Begun, Source, Start};
use std::collections::BTreeMap;
use std::time::Duration;
use tidemill_state::{Position, Result};

/// A source without its type: the calls that are made to the source before the workers run.
pub(crate) trait AnySource: Send + Sync {
    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>>;
    fn discover_every(&self) -> Option<Duration>;
    fn left_out(&self) -> Vec<(String, String)>;
    fn begin(&self, start: &Start<'_>) -> Result<Begun>;
    fn committed(&self, positions: &[(String, Position)]);
    fn is_bounded(&self) -> bool;
    fn notices(&self) -> Vec<String>;
}

impl<S: Source> AnySource for S {
    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        Source::discover(self, known)
    }

    fn discover_every(&self) -> Option<Duration> {
        Source::discover_every(self)
    }

    fn left_out(&self) -> Vec<(String, String)> {
        Source::left_out(self)
    }

    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        Source::begin(self, start)
    }

    fn committed(&self, positions: &[(String, Position)]) {
        Source::committed(self, positions);
    }

    fn is_bounded(&self) -> bool {
        Source::is_bounded(self)
    }

    fn notices(&self) -> Vec<String> {
        Source::notices(self)
    }
}
