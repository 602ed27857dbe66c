//! Failures of user code: the policy for the records to blame, and the search for them.

pub(crate) mod policy;
pub(crate) mod search;
