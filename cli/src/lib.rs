//! `launchpad`: the command of customers, operators and on-call. The binary is nothing but [`run`].
//!
//! ```text
//! arguments ──► command/* ──► client ──► the coordinator's HTTP API
//!                   │
//!                   └───────► output: tables or JSON on stdout; steps, waits and complaints on stderr
//! ```
//! Each file of `command/` is one verb. Nothing here decides anything that the coordinator decides: the command asks,
//! shows, and waits. A failure is a `failure::Failure` with its reason and its exit code, never a backtrace.

mod answers;
mod arguments;
mod client;
mod command;
mod failure;
mod login;
mod output;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

/// The whole definition of the command line: man page and completions are made of it.
#[must_use]
pub fn command_line() -> clap::Command {
    arguments::Arguments::command()
}

/// Does what this process was started for.
pub fn run() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let output = output::Output::new(arguments.output);
    match command::run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.complain(&failure);
            failure.exit_code()
        }
    }
}
