//! Our programs as a person at a terminal meets them: run to their end, exit code, what they printed, what they said.
//!
//! Called by the scenarios of refusals, recovery and transport. Daemons are the laboratory's
//! (`launchpad_tests::process`); here is only what ends by itself. [`Told::refused`] holds every refusal to the house's
//! promise: an exit code, one line, what, where and how to mend it, and nothing that only a programmer reads.

#![allow(dead_code, reason = "each scenario file uses its own part of this")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::api::Api;
use launchpad_tests::programs;

/// A program and its arguments, free of what the developer's shell sets for our programs.
#[derive(Debug)]
pub(crate) struct Line(Command);

/// What a program left behind when it ended.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its exit code; none: a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Line {
    /// The program `name` of this workspace.
    ///
    /// # Errors
    /// When it has not been built.
    pub(crate) fn of(name: &str) -> Result<Self> {
        Ok(Self::free(Command::new(programs::binary(name)?)))
    }

    /// Any program, such as the one that starts ours as somebody else.
    pub(crate) fn program(name: &str) -> Self {
        Self::free(Command::new(name))
    }

    /// A program of this workspace started by another program, such as `faketime -f +1h`.
    ///
    /// # Errors
    /// When it has not been built.
    pub(crate) fn under(wrapper: &[&str], name: &str) -> Result<Self> {
        let (first, rest) = wrapper.split_first().context("a wrapper has a name")?;
        let mut command = Command::new(first);
        command.args(rest).arg(programs::binary(name)?);
        Ok(Self::free(command))
    }

    /// The customer's command as the caller of `api`.
    ///
    /// # Errors
    /// When it has not been built.
    pub(crate) fn launchpad(api: &Api, token: &str) -> Result<Self> {
        Ok(Self::of("launchpad")?.env("LAUNCHPAD_URL", api.base()).env("LAUNCHPAD_TOKEN", token))
    }

    fn free(mut command: Command) -> Self {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LAUNCHPAD_")) {
            command.env_remove(name);
        }
        // Nobody's own login is looked into.
        Self(command).env("LAUNCHPAD_CONFIG", "/nonexistent/login.toml")
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn run(self) -> Result<Told> {
        self.run_with("")
    }

    /// Runs it to its end with a text on stdin, and nothing after it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn run_with(mut self, stdin: &str) -> Result<Told> {
        let piped = self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().with_context(|| format!("start {:?}", self.0))?;
        // What reads nothing may have ended already.
        let _ = child.stdin.take().context("a pipe to stdin")?.write_all(stdin.as_bytes());
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (code, signal) = (output.status.code(), output.status.signal());
        Ok(Told { code, signal, out: text(&output.stdout), err: text(&output.stderr) })
    }
}

impl Told {
    /// Its standard output, if it succeeded.
    ///
    /// # Errors
    /// What it said, if it did not.
    pub(crate) fn done(self) -> Result<String> {
        ensure!(self.code == Some(0), "it ended with {:?}: {}", self.code, self.err);
        Ok(self.out)
    }

    /// Asserts that a deployment was followed to its failure: exit code 4, and the steps before the one line.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub(crate) fn assert_failed(self, words: &[&str]) {
        let last = self.err.trim_end().lines().last().unwrap_or_default().to_owned();
        Self { err: last, ..self }.refused(4, words);
    }

    /// Asserts a refusal: that exit code, and one line on stderr that holds each of `words`.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        let Self { err, .. } = self;
        assert_eq!(self.code, Some(code), "out: {}\nerr: {err}", self.out);
        assert_eq!(err.trim_end().lines().count(), 1, "more or less than one line: {err}");
        for word in words {
            assert!(err.contains(word), "`{word}` is not in: {err}");
        }
        for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace", "Os {", "Error {"] {
            assert!(!err.contains(noise), "for programmers only: {err}");
        }
    }
}
