//! What the commands are told that people on the host give: to the running agent by its socket, `evict` also without one.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Config, RUN_DIR};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Output {
    /// What is said when all of an order is carried out.
    #[must_use]
    pub const fn over(self) -> &'static str {
        match self {
            Self::Table => "nothing of them is left on this host\n",
            Self::Json => "{\n  \"left\": []\n}\n",
        }
    }
}

/// Where the running agent listens for its own host, and how its answer is printed.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LocalArgs {
    /// Where the running agent keeps its socket
    #[arg(long, env = "LAUNCHPAD_AGENT_RUN_DIR", value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// One bot, and where to ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BotArgs {
    /// The bot: its id or its name, as `ps` shows them, or the beginning of either
    pub bot: String,
    /// Where to look.
    #[command(flatten)]
    pub local: LocalArgs,
}

/// What the running agent is asked. None of it needs a coordinator.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Show what the running agent does: its link, its spec, every bot
    Status(LocalArgs),
    /// List the bots of this host
    Ps(LocalArgs),
    /// Show why a bot stands where it does, since when, and when it is tried again
    Why(BotArgs),
    /// Show what a bot wrote
    Logs {
        /// Which bot, and where to ask.
        #[command(flatten)]
        of: BotArgs,
        /// Lines from the past
        #[arg(long, value_name = "LINES", default_value_t = 100)]
        tail: u32,
        /// Go on with what it writes from now on
        #[arg(long, short)]
        follow: bool,
    },
    /// Show what is accepted for this host, or for one bot of it: sealed files by their digests
    Spec {
        /// The bot: its id or its name, or the beginning of either
        bot: Option<String>,
        /// Where to look.
        #[command(flatten)]
        local: LocalArgs,
    },
    /// Show what the running agent is about to do, and why it does not
    Plan(LocalArgs),
    /// Stop a bot from here, until `start` or the coordinator says otherwise. It stays stopped across restarts
    Stop(BotArgs),
    /// Take back a `stop` or an `evict`
    Start(BotArgs),
    /// Stop a bot and start it again, once
    Restart(BotArgs),
}

/// What `evict` is told.
#[derive(Debug, Args)]
pub struct EvictArgs {
    /// The bots, by their ids or names; none: all that there are
    pub bots: Vec<String>,
    /// Really do it
    #[arg(long)]
    pub yes: bool,
    /// Destroy their data, too
    #[arg(long)]
    pub data: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// The agent.
    #[command(flatten)]
    pub config: Config,
}
