//! Tests of programs as users run them: the examples and `tidemill new`, as processes.

#[path = "../support"]
mod support {
    pub(crate) mod binary;
    pub(crate) mod edits;
    pub(crate) mod random;
}

mod bad_input;
mod examples;
mod idle;
mod new;
mod operator_examples;
mod page;
mod rotation;
mod signals;
mod starts;
