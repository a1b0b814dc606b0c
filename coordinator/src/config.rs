//! Arguments, environment, the machine's file ([`file`]) and the settings that `init` writes: read here and nowhere else.

pub mod file;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use launchpad_pki::identity::TrustDomain;
use launchpad_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;
use crate::domain::lease::Patience;
use crate::domain::public_name::IngressDomain;

/// Where the state is unless somebody says otherwise.
pub const DATA_DIR: &str = "/var/lib/launchpad-coordinator";

/// The variable that says what is logged, in `tracing`'s words: `info`, `launchpad_coordinator::fleet=debug`.
pub const LOG_VARIABLE: &str = "LAUNCHPAD_LOG";

/// The credential that opens the keyring: its name in the unit.
const KEYRING_IDENTITY: &str = "keyring.identity";

/// What the unit has in its place as long as the operator gives none.
const NO_IDENTITY: &str = "none";

/// Exit codes of the command: 0 done, 1 refused or failed, 2 misused.
const EXITS: &str =
    "Exit codes: 0 done, 1 refused or failed (one line on stderr says why and what mends it), 2 usage.";

/// Where name servers listen (RFC 1035 §4.2).
const NAME_SERVER_PORT: u16 = 53;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "launchpad-coordinator", version, about = "The coordinator of a Launchpad fleet.", after_help = EXITS)]
pub struct Arguments {
    /// A configuration file instead of /etc/launchpad/coordinator.toml.
    #[arg(long, global = true, env = "LAUNCHPAD_COORDINATOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new installation: certificate authority, store, first operator.
    Init(InitArguments),
    /// Run the coordinator until SIGTERM or SIGINT.
    Serve(ServeArguments),
    /// Put a copy of the store in place; publishing stays frozen until `launchpad recover confirm`.
    Restore(RestoreArguments),
    /// The certificate authority, where the root's key is at hand.
    Pki {
        /// What to do.
        #[command(subcommand)]
        verb: PkiVerb,
    },
    /// Print the API's OpenAPI 3.1 document.
    Openapi,
}

/// Where the installation is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The directory that holds all state.
    #[arg(long, value_name = "DIR", env = "LAUNCHPAD_DATA_DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// A Postgres to use instead of a SQLite file in the data directory; `init` remembers it.
    #[arg(long, value_name = "URL", env = "LAUNCHPAD_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

/// Where the keys are that wrap configs and secrets in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyArguments {
    /// The keyring, if not in the data directory; replicas on one database share it.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<PathBuf>,
    /// The age identity that opens the keyring, if not beside it; made there if absent. Keep it away from backups.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring_identity: Option<PathBuf>,
    /// A key of AWS KMS (ARN, id or alias) instead of a keyring; needs a build with the feature `aws-kms`.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["keyring", "keyring_identity"])]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
}

impl KeyArguments {
    /// Whether nothing was told.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub struct InitArguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The SPIFFE trust domain of the hosts' certificates; it never changes afterwards.
    #[arg(long, default_value = "launchpad.internal", value_name = "NAME")]
    pub trust_domain: TrustDomain,
    /// A name in the server certificate; agents verify the first. [default: coordinator.TRUST-DOMAIN]
    #[arg(long = "server-name", value_name = "NAME")]
    pub server_names: Vec<String>,
    /// Where agents reach the fleet port, if not at the address that `serve` listens on.
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
    pub advertise_fleet: Option<String>,
    /// Where agents reach enrolment, if not at the address that `serve` listens on.
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
    pub advertise_enroll: Option<String>,
    /// Where the keys are; `serve` finds them there.
    #[command(flatten)]
    pub keys: KeyArguments,
    /// The first operator's mail address.
    #[arg(long, default_value = "operator@localhost", value_name = "EMAIL")]
    pub operator: String,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The HTTP API's address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700")]
    pub http: SocketAddr,
    /// The fleet port's address, UDP and TCP.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7701")]
    pub fleet: SocketAddr,
    /// Enrolment's address.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7702")]
    pub enroll: SocketAddr,
    /// A directory of runtime profiles, beside or instead of the built-in ones of the same name.
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
    /// A TOML table of plans instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub plans: Option<PathBuf>,
    /// A TOML table of pools instead of the built-in one, whose pool `shared` accepts no lack of a capability.
    #[arg(long, value_name = "FILE")]
    pub pools: Option<PathBuf>,
    /// The domain below which every bot has a public name; without it bots have none but their owners' own.
    #[arg(long, value_name = "DOMAIN")]
    pub ingress_domain: Option<IngressDomain>,
    /// A name server that is asked for proofs of domains; again for another. [default: those of /etc/resolv.conf]
    #[arg(long = "resolver", value_name = "ADDR", value_parser = name_server)]
    pub resolvers: Vec<SocketAddr>,
    /// How patient it is with hosts that are not heard. For tests, which have no minutes to spare.
    #[arg(long, env = "LAUNCHPAD_TEST_PATIENCE", hide = true, value_name = "SILENT,LOST,TERM,MARGIN")]
    pub patience: Option<Patience>,
    /// How to write the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// What is logged: a level, or levels by module, such as `info,launchpad_coordinator::fleet=debug`.
    #[arg(long, env = LOG_VARIABLE, value_name = "LEVELS", default_value = "info")]
    pub log_filter: String,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The copy of the SQLite database; for Postgres, restore the database first and leave this out.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// What can be done with the root's key at hand.
#[derive(Debug, Clone, Subcommand)]
pub enum PkiVerb {
    /// Begin to replace the issuing CA; `launchpad pki rotate` takes the further steps. The coordinator runs on.
    Rotate(RotateArguments),
}

/// Arguments of `pki rotate`.
#[derive(Debug, Clone, Args)]
pub struct RotateArguments {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The root's key, wherever it was taken to: `init` wrote it.
    #[arg(long, value_name = "FILE")]
    pub root_key: PathBuf,
    /// Replace the root as well, and write the new one's key there.
    #[arg(long, value_name = "FILE")]
    pub new_root_key: Option<PathBuf>,
}

/// How `init` prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line per event.
    Text,
    /// A JSON object per event.
    Json,
}

/// What `init` was told and `serve` goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The SPIFFE trust domain.
    pub trust_domain: TrustDomain,
    /// Names in the server certificate, the one that agents verify first.
    pub server_names: Vec<String>,
    /// Where agents reach the fleet port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_fleet: Option<String>,
    /// Where agents reach enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_enroll: Option<String>,
    /// The Postgres that holds the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// Where the keys are.
    #[serde(default, skip_serializing_if = "KeyArguments::is_default")]
    pub keys: KeyArguments,
}

/// All that [`crate::run`] needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory that holds all state.
    pub data_dir: PathBuf,
    /// What `init` was told.
    pub settings: Settings,
    /// A Postgres, if not the SQLite file.
    pub database_url: Option<String>,
    /// The HTTP API's address.
    pub http: SocketAddr,
    /// The fleet port's address.
    pub fleet: SocketAddr,
    /// Enrolment's address.
    pub enroll: SocketAddr,
    /// A directory of runtime profiles.
    pub profiles: Option<PathBuf>,
    /// A table of plans.
    pub plans: Option<PathBuf>,
    /// A table of pools.
    pub pools: Option<PathBuf>,
    /// The domain below which every bot has a public name.
    pub ingress_domain: Option<IngressDomain>,
    /// Name servers that are asked for proofs of domains; none: the machine's own.
    pub resolvers: Vec<SocketAddr>,
    /// How patient it is with hosts that are not heard.
    pub patience: Patience,
}

/// Why the settings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `init` has not been run here.
    #[error("{0} holds no installation")]
    NotInitialised(PathBuf),
    /// The file is there and cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what `init` writes.
    #[error("{path} is not a settings file: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        problem: String,
    },
}

impl ConfigError {
    /// The same with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotInitialised(dir) => Reason::new("not-initialised", self.to_string())
                .mend(format!("run `launchpad-coordinator init --data-dir {}` first", dir.display())),
            Self::Unreadable { .. } => {
                Reason::new("settings-unreadable", self.to_string()).mend("run as the user who ran `init`")
            }
            Self::Malformed { .. } => {
                Reason::new("settings-malformed", self.to_string()).mend("correct that line, or restore the file")
            }
        }
    }
}

impl Settings {
    /// What `init` was told, with its defaults filled in.
    #[must_use]
    pub fn of(arguments: &InitArguments) -> Self {
        let mut server_names = arguments.server_names.clone();
        if server_names.is_empty() {
            server_names.push(format!("coordinator.{}", arguments.trust_domain));
        }
        Self {
            trust_domain: arguments.trust_domain.clone(),
            server_names,
            advertise_fleet: arguments.advertise_fleet.clone(),
            advertise_enroll: arguments.advertise_enroll.clone(),
            database_url: arguments.place.database_url.clone(),
            keys: arguments.keys.clone(),
        }
    }

    /// Reads the settings of a data directory.
    ///
    /// # Errors
    /// [`ConfigError`] names the file.
    pub fn load(dir: &DataDir) -> Result<Self, ConfigError> {
        let path = dir.settings();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ConfigError::NotInitialised(dir.path().to_owned()));
            }
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        toml::from_str(&text).map_err(|error| ConfigError::Malformed { path, problem: one_line(&error) })
    }

    /// The settings as TOML text.
    ///
    /// # Errors
    /// When the serializer refuses, which no value of this type makes it do.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

impl Config {
    /// The configuration of `serve`: its arguments, and what `init` was told.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no installation in the data directory.
    pub fn of(arguments: ServeArguments) -> Result<Self, ConfigError> {
        let mut settings = Settings::load(&DataDir::new(&arguments.place.data_dir))?;
        if settings.keys.kms_key.is_none()
            && let Some(identity) = credential()
        {
            settings.keys.keyring_identity = Some(identity);
        }
        Ok(Self {
            database_url: arguments.place.database_url.or_else(|| settings.database_url.clone()),
            data_dir: arguments.place.data_dir,
            settings,
            http: arguments.http,
            fleet: arguments.fleet,
            enroll: arguments.enroll,
            profiles: arguments.profiles,
            plans: arguments.plans,
            pools: arguments.pools,
            ingress_domain: arguments.ingress_domain,
            resolvers: arguments.resolvers,
            patience: arguments.patience.unwrap_or_default(),
        })
    }
}

/// The keyring's identity, where systemd has put it for us, unless it is the stand-in for one that nobody gave.
fn credential() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(KEYRING_IDENTITY);
    let is_given = std::fs::metadata(&file).is_ok_and(|found| found.len() > NO_IDENTITY.len() as u64);
    is_given.then_some(file)
}

/// A host and a port; the host is resolved by the agents, not here.
fn endpoint(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, such as fleet.example:7701".to_owned()),
    }
}

/// An address, at the port of name servers unless it names another.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, NAME_SERVER_PORT)));
    with_port
        .map_err(|_| "expected an IP address, with a port if it is not 53: 192.0.2.53 or 192.0.2.53:5353".to_owned())
}

/// A parser's complaint without the picture of the line.
pub(crate) fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let words =
            "launchpad-coordinator init --data-dir /x --advertise-fleet 198.18.0.1:7701 --keyring-identity /y";
        let arguments = Arguments::parse_from(words.split(' '));
        let Command::Init(arguments) = arguments.command else { panic!("not init") };
        let settings = Settings::of(&arguments);
        assert_eq!(settings.server_names, ["coordinator.launchpad.internal"]);
        let dir = DataDir::new(dir.path());
        std::fs::write(dir.settings(), settings.to_toml().unwrap()).unwrap();
        assert_eq!(Settings::load(&dir).unwrap(), settings);
    }

    #[test]
    fn a_directory_without_settings_asks_for_init() {
        let dir = tempfile::tempdir().unwrap();
        let error = Settings::load(&DataDir::new(dir.path())).unwrap_err();
        assert!(error.reason().to_string().contains("launchpad-coordinator init"), "{error}");
    }

    #[test]
    fn a_setting_that_nobody_knows_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = DataDir::new(dir.path());
        std::fs::write(dir.settings(), "trust_domain = \"a\"\nserver_names = []\ncolour = 1\n").unwrap();
        assert!(Settings::load(&dir).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
