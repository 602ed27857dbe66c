//! Failures of user code: the policy for the records to blame, and the search for them.
//!
//! `Guard` in `dataflow/guard.rs` catches around the loop over a chunk, and the loop resumes after
//! the record: catching costs a record no more than a count. By policy (`policy.rs`) the record is
//! left out, counted, and sent to the dead letters, which are output of its batch like any other.
//!
//! A failure without a record at hand, in a combiner, a reducer or an update of a state, leads to a
//! search (`search.rs`). Batches are committed one by one until the failing one is the one after
//! the last committed batch C, so that its ranges are known. Its records are halved, and each half
//! runs as a generation of its own whose batch never reaches the committer (a trial). A record that
//! fails alone, and again among all records that do not, is left out by the feeds from then on,
//! until the batch is committed. Nothing of a search is durable: a crash begins it anew.

pub(crate) mod policy;
pub(crate) mod search;
