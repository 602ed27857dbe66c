//! Tests of programs as users run them: the examples and `tidemill new`, as processes.

#![allow(clippy::disallowed_methods)]

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
