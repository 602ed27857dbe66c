//! Tests of programs as users run them: the examples and `tidemill new`, as processes.

#![allow(clippy::disallowed_methods)]

#[path = "../support"]
mod support {
    pub(crate) mod asked;
    pub(crate) mod binary;
    pub(crate) mod checkout;
    pub(crate) mod edits;
    pub(crate) mod random;
    #[allow(dead_code, reason = "the crash tests use the rest")]
    pub(crate) mod store;
}

mod bad_input;
mod command_line;
mod examples;
mod exit_codes;
mod idle;
mod io_errors;
mod new;
mod operator_examples;
mod own_code_examples;
mod page;
mod rotation;
mod signals;
mod starts;
mod threads;
