//! One worker's part of a state.

pub(crate) mod codec;
pub(crate) mod page;
pub(crate) mod part;
pub(crate) mod placement;
