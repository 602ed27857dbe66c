//! The suites that every [`Source`](crate::source::Source), every [`Sink`](crate::sink::Sink), every
//! aggregation and every type of a state runs, also a user's own: the clauses of their contracts
//! that can be checked. They panic, as a test's assertions do, with the clause that is broken and
//! where. Call them from tests:
//!
//! ```
//! # use tidemill_engine::source::{ReadStatus, Reader, Records, Source};
//! # use tidemill_state::{Error, Position, Result};
//! # struct Squares(u64); struct From(u64, u64);
//! # impl Source for Squares {
//! #     type Item = u64;
//! #     fn kind(&self) -> String { "squares".into() } fn partitions(&self) -> Result<Vec<String>> { Ok(vec!["all".into()]) }
//! #     fn open(&self, _: &str, from: Option<&Position>) -> Result<Box<dyn Reader<u64>>> {
//! #         Ok(Box::new(From(from.map_or(0, |from| from.offset), self.0)))
//! #     }
//! # }
//! # impl Reader<u64> for From {
//! #     fn read(&mut self, into: &mut Records<u64>) -> Result<ReadStatus> {
//! #         while self.0 < self.1 && !into.is_full() {
//! #             into.push(self.0, 8, self.0 * self.0);
//! #             self.0 += 1;
//! #         }
//! #         Ok(if self.0 < self.1 { ReadStatus::More } else { ReadStatus::End })
//! #     }
//! #     fn position(&self) -> Position { Position::at(self.0) } }
//! use tidemill_engine::conformance;
//!
//! // Squares(n) is a source of the first n squares, in one partition named "all".
//! conformance::source(|| Squares(5), &[("all", vec![0, 1, 4, 9, 16])]);
//! ```

mod combiner;
mod reducer;
mod round_trip;
mod sink;
mod source;

pub use combiner::{combiner, combiner_by, combiner_in_order};
pub use reducer::{batch_aggregator, reducer};
pub use round_trip::{key, key_in_order, value};
pub use sink::sink;
pub use source::{damaged_source, source};
