//! One worker's part of a state.

pub(crate) mod part;
