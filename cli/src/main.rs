//! The binary of [`launchpad`], which is a library so that its manual can be made of its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    launchpad::run()
}
