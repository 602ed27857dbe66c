//! What a topology reads of topics: where it begins and goes on, holes in the offsets, partitions
//! and topics that join, what lag tools see.

mod begins;
mod copying;
mod edges;
mod group;
mod headers;
mod holes;
mod joins;
