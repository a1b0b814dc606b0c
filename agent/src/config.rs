//! What the agent is told when it starts: every flag and every environment variable, read here and nowhere else.
//!
//! `main.rs` has [`file`] read a [`Cli`]; tests build a [`Config`] by hand. Nothing here touches the disk but that file,
//! and the machine's own name is asked for when none is given.

pub mod file;
pub mod local;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use launchpad_pki::token::{JoinToken, TokenError};
use serde::{Deserialize, Serialize};

use crate::execute::address::{DEFAULT_POOL, Subnet};
use crate::gate::ingress::options::IngressArgs;
use crate::gate::names;
use local::{EvictArgs, LocalCommand};

/// Where the agent keeps what must outlive it.
pub const DATA_DIR: &str = "/var/lib/launchpad-agent";
/// Where the agent keeps what need not outlive a boot.
pub const RUN_DIR: &str = "/run/launchpad-agent";
/// Where an upgrade of the agent has its log, and the copy of the program that carries it out.
pub const UPGRADE_DIR: &str = "/var/lib/launchpad-upgrade";
/// Where Docker listens.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// The variable that says what is logged, in `tracing`'s words: `info`, `launchpad_agent::link=debug`.
pub const LOG_VARIABLE: &str = "LAUNCHPAD_LOG";

/// The agent: runs an operator's bots on this host, as the coordinator wishes.
#[derive(Debug, Parser)]
#[command(name = "launchpad-agent", version, max_term_width = 100)]
pub struct Cli {
    /// A configuration file instead of /etc/launchpad/agent.toml
    #[arg(long, global = true, env = "LAUNCHPAD_AGENT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent's program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a fleet, with a token from `launchpad host token create`. Done again, it changes nothing
    Enroll(EnrollArgs),
    /// Run the agent, until SIGTERM or SIGINT. The bots run on when it ends
    Run(Config),
    /// Asked of the running agent.
    #[command(flatten)]
    Local(LocalCommand),
    /// Stop and remove bots from this host, with the agent or without it. For a host that leaves its fleet
    Evict(EvictArgs),
    /// Check what this host can do, and say how to mend what it cannot
    Doctor(Config),
    /// Carry out the upgrade of the agent that was begun; launchpad-upgrade.service does so
    #[command(hide = true)]
    Upgrade(UpgradeArgs),
    /// Run the gate, until SIGTERM or SIGINT: what bots may reach, and what may reach them. Its rules stay when it ends
    Gate(GateArgs),
}

/// What `run` is told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Config {
    /// Where the agent keeps its identity, the accepted spec and the bots' data
    #[arg(long, env = "LAUNCHPAD_AGENT_DATA_DIR", value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where the agent keeps its socket and the unsealed files
    #[arg(long, env = "LAUNCHPAD_AGENT_RUN_DIR", value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// Docker's socket
    #[arg(long, env = "LAUNCHPAD_AGENT_DOCKER", value_name = "SOCKET", default_value = DOCKER_SOCKET)]
    pub docker: PathBuf,
    /// Where the tenants' networks come from: a private range of which this host's own networks use nothing
    #[arg(long, env = "LAUNCHPAD_AGENT_SUBNET_POOL", value_name = "CIDR", default_value_t = DEFAULT_POOL)]
    pub subnet_pool: Subnet,
    /// Where an upgrade of the agent has its log and its program; launchpad-upgrade.service names it too
    #[arg(long, env = "LAUNCHPAD_AGENT_UPGRADE_DIR", value_name = "DIR", default_value = UPGRADE_DIR)]
    pub upgrade_dir: PathBuf,
    /// What is logged: a level, or levels by module, such as `info,launchpad_agent::link=debug`
    #[arg(long, env = LOG_VARIABLE, value_name = "LEVELS", default_value = "info")]
    pub log_filter: String,
}

/// What `upgrade` is told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UpgradeArgs {
    /// Where the upgrade has its log and its program
    #[arg(long, env = "LAUNCHPAD_AGENT_UPGRADE_DIR", value_name = "DIR", default_value = UPGRADE_DIR)]
    pub upgrade_dir: PathBuf,
    /// How long a new version may take until it is well: the agent's start, and a look at every bot
    #[arg(long, env = "LAUNCHPAD_UPGRADE_JUDGE_WITHIN", value_name = "SECONDS", default_value_t = 90)]
    pub judge_within: u64,
    /// How long it has to be well without a break to count as such
    #[arg(long, env = "LAUNCHPAD_UPGRADE_STEADY", value_name = "SECONDS", default_value_t = 10)]
    pub steady: u64,
}

/// What `gate` is told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GateArgs {
    /// Where the gate keeps what the agent has told it
    #[arg(long, env = "LAUNCHPAD_AGENT_DATA_DIR", value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where the gate keeps its socket: the agent's own run directory
    #[arg(long, env = "LAUNCHPAD_AGENT_RUN_DIR", value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// A name server that is asked for bots, several times for several; without one, those of the host itself
    #[arg(long = "resolver", env = "LAUNCHPAD_GATE_RESOLVERS", value_name = "IP[:PORT]", value_delimiter = ',',
          value_parser = names::server)]
    pub resolvers: Vec<SocketAddr>,
    /// An address or name at which this host takes traffic for its bots, several times for several: what their owners
    /// are told to point their domains at
    #[arg(
        long = "public-address",
        env = "LAUNCHPAD_GATE_PUBLIC_ADDRESSES",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub public_addresses: Vec<String>,
    /// What is logged: a level, or levels by module, such as `info,launchpad_agent::link=debug`
    #[arg(long, env = LOG_VARIABLE, value_name = "LEVELS", default_value = "info")]
    pub log_filter: String,
    /// The way in.
    #[command(flatten)]
    pub ingress: IngressArgs,
}

/// What `enroll` is told.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// The coordinator's enrolment address; needed until the host has joined, as is the token
    #[arg(long, value_name = "HOST:PORT")]
    pub coordinator: Option<HostPort>,
    /// The join token: it works once, and for 15 minutes. As a variable it stays out of the process list
    #[arg(long, env = "LAUNCHPAD_JOIN_TOKEN", hide_env_values = true)]
    pub token: Option<TokenText>,
    /// Where the agent keeps its identity
    #[arg(long, env = "LAUNCHPAD_AGENT_DATA_DIR", value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// What the host is to be called [default: its hostname]
    #[arg(long)]
    pub name: Option<String>,
    /// Docker's socket
    #[arg(long, env = "LAUNCHPAD_AGENT_DOCKER", value_name = "SOCKET", default_value = DOCKER_SOCKET)]
    pub docker: PathBuf,
    /// Join anew although this host has joined before, as after a revocation. The bots that it has run on, unmanaged
    #[arg(long)]
    pub replace: bool,
    /// Give Docker live-restore and remapped users first, and restart it; refused while there is any container. Its old
    /// file is kept beside the new one
    #[arg(long)]
    pub configure_docker: bool,
    /// Leave gate and agent as they are, where systemd would start them
    #[arg(long)]
    pub no_start: bool,
}

/// A join token as it was typed. It is read by [`crate::enroll`], because the command line's own complaint about a bad
/// value would repeat it.
#[derive(Clone)]
pub struct TokenText(String);

impl TokenText {
    /// The token.
    ///
    /// # Errors
    /// When it is none, or was not copied whole.
    pub fn parse(&self) -> Result<JoinToken, TokenError> {
        self.0.parse()
    }
}

impl FromStr for TokenText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(not shown)")
    }
}

/// An address as people write it: `coordinator.example:7443`, `[::1]:7443`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort(String);

/// Why a text is no address with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT, such as coordinator.example:7443 or [::1]:7443")]
pub struct HostPortError(String);

impl HostPort {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let refused = || HostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = !host.is_empty() && !host.contains([':', '/', '[', ']', '@', ' ']);
        let port_given = port.parse::<u16>().is_ok_and(|port| port != 0);
        if (bracketed || plain) && port_given { Ok(Self(text.to_owned())) } else { Err(refused()) }
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, HostPortError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The machine's own name, for a host that is given none.
#[must_use]
pub fn machine_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_needs_no_flag_at_all() {
        let cli = Cli::try_parse_from(["launchpad-agent", "run"]).unwrap();
        let Command::Run(config) = cli.command else { panic!("run is run") };
        assert_eq!(config.data_dir, PathBuf::from(DATA_DIR));
        assert_eq!(config.run_dir, PathBuf::from(RUN_DIR));
        assert_eq!(config.docker, PathBuf::from(DOCKER_SOCKET));
    }

    #[test]
    fn the_gate_alone_is_told_whom_to_ask_for_names_one_by_one_or_in_a_list() {
        let parse = |args: &[&str]| match Cli::try_parse_from([&["launchpad-agent", "gate"], args].concat()) {
            Ok(Cli { command: Command::Gate(args), .. }) => args.resolvers,
            other => panic!("{other:?}"),
        };
        let both = parse(&["--resolver", "9.9.9.9", "--resolver", "192.0.2.53"]);
        assert_eq!(both.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>(), ["9.9.9.9", "192.0.2.53"]);
        assert_eq!(parse(&["--resolver", "9.9.9.9,192.0.2.53"]), both);
        assert!(Cli::try_parse_from(["launchpad-agent", "run", "--resolver", "9.9.9.9"]).is_err());
    }

    #[test]
    fn an_address_without_a_port_is_refused_by_name() {
        for good in ["coordinator.example:7443", "10.0.0.1:1", "[::1]:7443"] {
            assert_eq!(good.parse::<HostPort>().map(|address| address.to_string()), Ok(good.to_owned()));
        }
        for bad in ["coordinator.example", "coordinator:0", ":7443", "::1:7443", "https://a:1", "a b:1", "a:99999"] {
            let error = bad.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let args = ["launchpad-agent", "enroll", "--coordinator", "a:1", "--token", "lpj1.a-secret"];
        let cli = Cli::try_parse_from(args).unwrap();
        assert!(!format!("{cli:?}").contains("a-secret"));
        let Command::Enroll(enroll) = cli.command else { panic!("enroll is enroll") };
        assert!(!enroll.token.unwrap().parse().unwrap_err().to_string().contains("a-secret"));
    }
}
