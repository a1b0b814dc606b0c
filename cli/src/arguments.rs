//! The command line, and the environment that stands in for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::EXITS;

mod contract;

pub(crate) use contract::{
    ChangePlan, DomainTarget, DomainVerb, EgressVerb, HostsVerb, Rules, SnapshotTarget, SnapshotVerb, SomeRules,
    UpgradeHosts,
};

/// Seconds that `deploy`, `restart` and `rm` wait unless told otherwise: openclaw may take 300 s to start on the
/// smallest plan, and its image has to be fetched first.
const WAIT_DEFAULT_S: u64 = 900;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "launchpad", version, about = "Deploy and watch always-on bots.", after_help = EXITS)]
pub(crate) struct Arguments {
    /// How results are printed on stdout.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Where, and as whom.
    #[command(flatten)]
    pub(crate) access: Access,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Which coordinator, and the token to use there. What is absent comes from the file that `login` wrote.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// The coordinator's URL.
    #[arg(long, env = "LAUNCHPAD_URL", global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The API token.
    #[arg(long, env = "LAUNCHPAD_TOKEN", global = true, value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// The file that `login` writes. [default: launchpad/login.toml in the user's config directory]
    #[arg(long = "login-file", env = "LAUNCHPAD_CONFIG", global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The account to act for, where that is not your own (staff).
    #[arg(long, global = true, value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Remember a coordinator and a token.
    Login(Login),
    /// Start a new bot and follow it until it runs.
    Deploy(Deploy),
    /// List deployments.
    Ps,
    /// Show one deployment: its state, why, and how it got there.
    Status(Target),
    /// Show what a bot writes.
    Logs(Logs),
    /// Restart a bot and follow it until it runs.
    Restart(Awaited),
    /// Remove a bot. Its data outlives it as long as the plan says, unless purged.
    Rm(Remove),
    /// Set, list or take away what a bot is given in confidence.
    Secret {
        /// What about it.
        #[command(subcommand)]
        verb: SecretVerb,
    },
    /// Choose another plan for a bot: what it may use. It runs on; no volume is made smaller.
    Plan(ChangePlan),
    /// Show or change what a bot may reach.
    Egress {
        /// What about it.
        #[command(subcommand)]
        verb: EgressVerb,
    },
    /// Show what a bot tried to reach and may not.
    Denials(Target),
    /// A bot's public names: claim, prove and let go of domains of yours.
    Domain {
        /// What about them.
        #[command(subcommand)]
        verb: DomainVerb,
    },
    /// Copies of a bot's volume.
    Snapshot {
        /// What about them.
        #[command(subcommand)]
        verb: SnapshotVerb,
    },
    /// List hosts, inspect one, or say what may go to it.
    Hosts {
        /// Nothing: list them.
        #[command(subcommand)]
        verb: Option<HostsVerb>,
    },
    /// Add or revoke a host.
    Host {
        /// What about it.
        #[command(subcommand)]
        verb: HostVerb,
    },
    /// See or change the key that wraps what the coordinator holds in confidence.
    Key {
        /// What about it.
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// Who signs for hosts: see it, or have another issuing CA take over.
    Pki {
        /// What about it.
        #[command(subcommand)]
        verb: PkiVerb,
    },
    /// After a restore: see why publishing is frozen, or let it go on.
    Recover {
        /// What about it.
        #[command(subcommand)]
        verb: RecoverVerb,
    },
}

/// `login`.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The coordinator's URL, as `launchpad-coordinator init` printed it.
    pub(crate) url: String,
}

/// `deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The bot's name: a DNS label, unique in the account.
    pub(crate) name: String,
    /// The runtime profile: what kind of bot it is.
    #[arg(long)]
    pub(crate) profile: String,
    /// The image, by digest.
    #[arg(long, value_name = "REPOSITORY@sha256:…")]
    pub(crate) image: String,
    /// The plan.
    #[arg(long, default_value = "starter")]
    pub(crate) plan: String,
    /// The bot's config file; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A secret, read from a file; `-` reads stdin.
    #[arg(long = "secret", value_name = "NAME=@FILE")]
    pub(crate) secrets: Vec<String>,
    /// What it may reach beyond its profile: `api.example.com`, `203.0.113.0/24:8443`; again for another.
    #[arg(long = "egress", value_name = "RULE")]
    pub(crate) egress: Vec<String>,
    /// The pool of hosts to run on.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// What becomes of it when its host falls silent: `keep`, it waits for its host; `failover`, it is started on another,
    /// and keeps no state. [default: keep]
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// How long to wait for what was asked to be so.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Wait {
    /// Return as soon as the coordinator has accepted it.
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait at most.
    #[arg(long = "wait", value_name = "SECONDS", default_value_t = WAIT_DEFAULT_S, conflicts_with = "no_wait")]
    seconds: u64,
}

impl Wait {
    /// The time to wait; none at all when asked not to.
    pub(crate) fn patience(self) -> Option<Duration> {
        (!self.no_wait).then_some(Duration::from_secs(self.seconds))
    }
}

/// One deployment.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The deployment's name or id.
    #[arg(value_name = "NAME|ID")]
    pub(crate) deployment: String,
}

/// One deployment, and how long to wait for it.
#[derive(Debug, Args)]
pub(crate) struct Awaited {
    /// Which.
    #[command(flatten)]
    pub(crate) target: Target,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// Go on with new lines until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines from the past.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) tail: u32,
}

/// `rm`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Which.
    #[command(flatten)]
    pub(crate) awaited: Awaited,
    /// Destroy its data at once as well. There is no way back.
    #[arg(long)]
    pub(crate) purge: bool,
}

/// `secret …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Give a secret a value, from stdin unless a file is named. What runs is not restarted unless asked to,
    /// but for a secret in its environment: that comes with a new container, at once.
    Set(SecretSet),
    /// List a bot's secrets: their names, never their values.
    Ls(Target),
    /// Take a secret away, and destroy every value that it had.
    Rm(SecretChangeArguments),
}

/// `secret set`.
#[derive(Debug, Args)]
pub(crate) struct SecretSet {
    /// Which.
    #[command(flatten)]
    pub(crate) change: SecretChangeArguments,
    /// The file that holds the value; `-` and none read stdin. A line end at its end is left out.
    #[arg(long = "file", value_name = "FILE")]
    pub(crate) value: Option<PathBuf>,
}

/// One secret, and what else is to happen.
#[derive(Debug, Args)]
pub(crate) struct SecretChangeArguments {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// The secret's name: that of its file in the bot.
    #[arg(value_name = "SECRET")]
    pub(crate) name: String,
    /// Restart a bot that would not read it otherwise.
    #[arg(long)]
    pub(crate) restart: bool,
}

/// `key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Show which key wraps what, and how far a rotation is.
    Ls,
    /// Make another key, wrap everything with it, and forget the old one.
    Rotate,
}

/// `pki …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiVerb {
    /// Show roots and issuing CAs, how far a rotation is, and which host misses what.
    Status,
    /// Take the next step of a rotation, which `launchpad-coordinator pki rotate` begins where the root's key is.
    Rotate {
        /// Take the last step back instead; once the old CA has ended there is none.
        #[arg(long)]
        back: bool,
    },
    /// Cut a host off for good, as `host revoke` does.
    Revoke(HostTarget),
}

/// `host …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// Cut a host off for good: its certificates are revoked and its connection is closed.
    Revoke(HostTarget),
    /// Single-use tokens with which hosts join.
    Token {
        /// What about them.
        #[command(subcommand)]
        verb: TokenVerb,
    },
}

/// One host.
#[derive(Debug, Args)]
pub(crate) struct HostTarget {
    /// The host's name or id.
    #[arg(value_name = "NAME|ID")]
    pub(crate) host: String,
}

/// `host token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make one; it is shown once and lives 15 minutes.
    Create {
        /// What the host will be called; it names itself otherwise.
        #[arg(long)]
        name: Option<String>,
        /// The pool that it joins.
        #[arg(long)]
        pool: Option<String>,
    },
}

/// `recover …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RecoverVerb {
    /// Say whether publishing is frozen, and why.
    Status,
    /// Let publishing go on: every host has said what it runs, and the store is believed.
    Confirm {
        /// A host that is not waited for, by name or id: make sure first that nothing runs there.
        #[arg(long, value_name = "NAME|ID")]
        without: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_exit_codes_are_in_the_help() {
        let help = Arguments::command().render_help().to_string();
        for line in EXITS.lines() {
            assert!(help.contains(line), "{line}");
        }
    }

    #[test]
    fn no_wait_and_wait_exclude_each_other() {
        let parse = |more: &[&str]| {
            let words = ["launchpad", "restart", "web"].iter().chain(more);
            Arguments::try_parse_from(words).map(|arguments| {
                let Verb::Restart(awaited) = arguments.verb else { panic!("{arguments:?}") };
                awaited.wait.patience()
            })
        };
        assert_eq!(parse(&[]).unwrap(), Some(Duration::from_secs(WAIT_DEFAULT_S)));
        assert_eq!(parse(&["--wait", "5"]).unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(parse(&["--no-wait"]).unwrap(), None);
        assert!(parse(&["--no-wait", "--wait", "5"]).is_err());
    }
}
