//! Why a command did not do what it was asked, and the exit code that says so to programs.

use std::process::ExitCode;

use launchpad_protocol::reason::Reason;

/// The exit codes, for `--help`.
pub(crate) const EXITS: &str = "\
Exit codes:
  0  done
  1  the coordinator refused
  2  the command line is wrong
  3  the coordinator could not be reached
  4  the deployment failed

A failure is explained on stderr: what, why and how to mend it.";

/// What kind of failure: each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The coordinator said no.
    Refused,
    /// The command line, or a file that it names, is wrong.
    Usage,
    /// There was no answer, or not from a coordinator.
    Unreachable,
    /// The coordinator did its part, and the bot does not run.
    DeploymentFailed,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) kind: Kind,
    /// Why.
    pub(crate) reason: Box<Reason>,
    /// Every bad field of the request, each in one sentence.
    pub(crate) fields: Vec<Reason>,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(reason: Reason) -> Self {
        Self { kind: Kind::Usage, reason: Box::new(reason), fields: Vec::new() }
    }

    /// The coordinator said no.
    pub(crate) fn refused(reason: Reason) -> Self {
        Self { kind: Kind::Refused, reason: Box::new(reason), fields: Vec::new() }
    }

    /// There was no answer.
    pub(crate) fn unreachable(reason: Reason) -> Self {
        Self { kind: Kind::Unreachable, reason: Box::new(reason), fields: Vec::new() }
    }

    /// The bot does not run.
    pub(crate) fn deployment(reason: Reason) -> Self {
        Self { kind: Kind::DeploymentFailed, reason: Box::new(reason), fields: Vec::new() }
    }

    /// The code that the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Refused => 1,
            Kind::Usage => 2,
            Kind::Unreachable => 3,
            Kind::DeploymentFailed => 4,
        })
    }
}
