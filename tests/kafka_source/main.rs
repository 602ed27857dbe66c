//! What a topology reads of topics: where it begins and goes on, holes in the offsets, partitions and topics that join, what lag tools see.

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/hooked.rs"]
mod hooked;
#[path = "../support/topics.rs"]
mod topics;
#[path = "../support/waiting.rs"]
mod waiting;

mod begins;
mod copying;
mod group;
mod holes;
mod joins;
