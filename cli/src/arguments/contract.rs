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
}
