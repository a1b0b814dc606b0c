//! Arguments of the verbs about what a bot may use and reach, where it is reached, and its snapshots.

use clap::{Args, Subcommand};

use super::{HostTarget, Target, Wait};

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct ChangePlan {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// The plan's name: `pro`.
    #[arg(value_name = "PLAN")]
    pub(crate) plan: String,
}

/// `egress …`.
#[derive(Debug, Subcommand)]
pub(crate) enum EgressVerb {
    /// Show what a bot may reach: what its profile allows, and what you added.
    Show(Target),
    /// Let it reach these beyond its profile, and nothing that you added before.
    Set(Rules),
    /// Add rules.
    Add(SomeRules),
    /// Take back rules that you added.
    Rm(SomeRules),
}

/// One rule or more, for one bot.
#[derive(Debug, Args)]
pub(crate) struct SomeRules {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// `api.example.com`, `*.example.com:8443`, `203.0.113.0/24`; port 443 unless another is named.
    #[arg(value_name = "RULE", required = true)]
    pub(crate) rules: Vec<String>,
}

/// All rules for one bot; none takes them all back.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// `api.example.com`, `*.example.com:8443`, `203.0.113.0/24`; port 443 unless another is named.
    #[arg(value_name = "RULE")]
    pub(crate) rules: Vec<String>,
}

/// `domain …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DomainVerb {
    /// Claim a domain of yours for a bot, and see which records to set.
    Add(DomainTarget),
    /// List a bot's public names, and the records that lead there.
    Ls(Target),
    /// Look now whether the proof is there.
    Verify(DomainTarget),
    /// Let go of a domain.
    Rm(DomainTarget),
}

/// A domain of a bot.
#[derive(Debug, Args)]
pub(crate) struct DomainTarget {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// The domain: `www.example.com`.
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: String,
}

/// `snapshot …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Take one: the bot stops, its volume is copied, the bot starts again.
    Create {
        /// Whose.
        #[command(flatten)]
        target: Target,
        /// What to call it; named after the time otherwise.
        #[arg(long)]
        name: Option<String>,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// List those that are there, and what became of those that were asked for.
    Ls(Target),
    /// Put one in the volume's place. What the volume holds now is lost.
    Restore(SnapshotTarget),
    /// Delete one.
    Rm(SnapshotTarget),
}

/// A snapshot of a bot.
#[derive(Debug, Args)]
pub(crate) struct SnapshotTarget {
    /// Whose.
    #[command(flatten)]
    pub(crate) target: Target,
    /// Its name.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) name: String,
    /// How long to wait.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `hosts …`; nothing: list them.
#[derive(Debug, Subcommand)]
pub(crate) enum HostsVerb {
    /// Show one host: size, what it can enforce and what would mend what it cannot, and how its bots' contracts hold.
    Inspect(HostTarget),
    /// Have nothing new go to a host; what is on it stays.
    Cordon(HostTarget),
    /// Let deployments go to a host again.
    Uncordon(HostTarget),
    /// Take a host out of the fleet for good, once nothing is on it.
    Retire {
        /// Which.
        #[command(flatten)]
        target: HostTarget,
        /// Also a lost host with deployments on it: what may fail over leaves it, everything else stays marked until it
        /// is deleted, and is never started elsewhere by itself.
        #[arg(long)]
        force: bool,
    },
    /// Say that the hosts which fell silent together are lost: what may fail over leaves them.
    Thaw,
    /// Have agents become another version, a ring of hosts at a time, or show how far that is.
    Upgrade(UpgradeHosts),
    /// Put a host into a ring; until then it is in `main`.
    Ring {
        /// Which.
        #[command(flatten)]
        target: HostTarget,
        /// What the ring is called, such as `canary`.
        ring: String,
    },
}

/// `hosts upgrade`.
#[derive(Debug, Args)]
pub(crate) struct UpgradeHosts {
    /// The version of the package that hosts are to have, as their repositories call it.
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    /// The rings, in the order in which they are upgraded.
    #[arg(long, value_name = "RING", value_delimiter = ',', requires = "to", conflicts_with = "hosts")]
    pub(crate) ring: Vec<String>,
    /// Or these hosts, as one ring.
    #[arg(long, value_name = "NAME|ID", value_delimiter = ',', requires = "to")]
    pub(crate) hosts: Vec<String>,
    /// Hosts at once. [default: 1]
    #[arg(long, value_name = "HOSTS", requires = "to")]
    pub(crate) at_once: Option<u32>,
    /// Seconds for which each ring is watched before the next begins. [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "to")]
    pub(crate) soak: Option<u64>,
    /// Ask no further host until it is resumed.
    #[arg(long, group = "step", conflicts_with = "to")]
    pause: bool,
    /// Go on, also after a halt: hosts that failed are asked again.
    #[arg(long, group = "step", conflicts_with = "to")]
    resume: bool,
    /// End it. Hosts that have the version keep it.
    #[arg(long, group = "step", conflicts_with = "to")]
    abort: bool,
    /// Show it, as without any option.
    #[arg(long, group = "step", conflicts_with = "to")]
    status: bool,
}

impl UpgradeHosts {
    /// The step that is wanted of an upgrade that has begun, as the API calls it; none: only to see it.
    pub(crate) const fn step(&self) -> Option<&'static str> {
        match (self.pause, self.resume, self.abort, self.status) {
            (true, ..) => Some("pause"),
            (_, true, ..) => Some("resume"),
            (_, _, true, _) => Some("abort"),
            (false, false, false, _) => None,
        }
    }
}
