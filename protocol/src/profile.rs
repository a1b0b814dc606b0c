//! A runtime profile: all that is particular to one workload, in a TOML file under `profiles/`.
//!
//! The coordinator reads profiles at start; `domain::compile` turns one, a plan and a customer's wishes into an
//! [`crate::spec::InstanceSpec`]. A revision pins the profile as it was, so an edited file changes no running bot.
//! No other code knows a workload by name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::egress::EgressRule;
use crate::limits::EGRESS_RULES_MAX;
use crate::names::{MODE_MAX, is_file_name, is_mount_point, is_variable};
use crate::seccomp;

/// One workload's profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What deployments call it: `openclaw`.
    pub name: String,
    /// One sentence for people.
    pub description: String,
    /// The process: user, command, environment.
    pub process: Process,
    /// The port that probes and ingress use.
    pub port: u16,
    /// Where state lives in the container: the volume's mount point. Absent: the workload keeps nothing, and gets no
    /// volume.
    #[serde(default)]
    pub state_path: Option<String>,
    /// Where the config goes and what it is when the customer gives none.
    pub config: Config,
    /// Where secrets go.
    pub secrets: Secrets,
    /// What the workload needs at least, and may use at most, whatever the plan.
    pub needs: Needs,
    /// Writable tmpfs mounts beside the volume.
    #[serde(default)]
    pub tmpfs: Vec<TmpfsMount>,
    /// How to ask it whether it is well.
    pub probes: Probes,
    /// What its exits mean.
    pub exits: Exits,
    /// How long it may take to stop, in seconds, before it is killed.
    pub stop_grace_s: u32,
    /// What it may reach.
    #[serde(default)]
    pub egress: Egress,
    /// Which system calls it may make besides those that every bot may.
    #[serde(default)]
    pub seccomp: Seccomp,
}

/// The process inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// User id; never 0.
    pub uid: u32,
    /// Group id; never 0.
    pub gid: u32,
    /// The command, if not the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Plain environment; nothing secret.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// The config file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The directory that is mounted, read-only: a directory, so that a new version can replace the file whole.
    pub dir: String,
    /// The file's name in it.
    pub file: String,
    /// `json`, `json5`, `toml`, `yaml` or `text`: the coordinator refuses a config that does not parse, where it can
    /// (json, toml).
    pub format: ConfigFormat,
    /// What a deployment without a config gets.
    pub default: String,
}

/// How a config is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigFormat {
    /// JSON.
    Json,
    /// JSON with comments and trailing commas; not parsed here.
    Json5,
    /// TOML.
    Toml,
    /// Anything else; not parsed here.
    Text,
}

/// Where secrets go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The directory of secret files, mounted read-only.
    pub dir: String,
    /// Secrets that the workload reads from its environment and nowhere else: variable → secret's name. Reported as
    /// degraded, because `docker inspect` shows an environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Whether a running bot reads a secret's file again by itself when it changes. If not, a change of a secret waits
    /// for a restart.
    #[serde(default)]
    pub reread: bool,
    /// Secrets that are made (32 random bytes in hex) when the customer gives none.
    #[serde(default)]
    pub generated: Vec<String>,
}

/// Bounds of the workload itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Below this it was measured not to start.
    pub memory_floor_mb: u32,
    /// Processes and threads at most.
    pub pids_max: u32,
}

/// One tmpfs mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmpfsMount {
    /// Mount point.
    pub path: String,
    /// Size in MiB; it counts against the container's memory.
    pub size_mb: u32,
    /// Permission bits in octal text, such as `1777`.
    pub mode: String,
    /// Whether programs may be run from it.
    #[serde(default)]
    pub exec: bool,
}

/// The three probes. All are HTTP GETs that must answer 200 within the timeout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// Asked from the start until it first succeeds; the others wait for it.
    pub startup: Probe,
    /// Decides whether the bot is ready.
    pub readiness: Probe,
    /// Decides whether it must be restarted.
    pub liveness: Probe,
}

/// One HTTP probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Path of the GET.
    pub path: String,
    /// Milliseconds between asks.
    pub period_ms: u32,
    /// Milliseconds to a full answer.
    pub timeout_ms: u32,
    /// Failures in a row until the verdict turns. For startup, times the period, this is the time to start in.
    pub failures: u32,
    /// A text that the body must contain, because some programs answer 200 to any path.
    #[serde(default)]
    pub body_contains: Option<String>,
}

/// What exits mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exits {
    /// Exit codes that no restart mends, such as 78 (EX_CONFIG, sysexits.h).
    pub terminal: Vec<i32>,
    /// Exits that pass by themselves and are no crash.
    #[serde(default)]
    pub transient: Vec<TransientExit>,
    /// Milliseconds before the first restart; doubled each time.
    pub backoff_initial_ms: u32,
    /// Milliseconds that the backoff never exceeds.
    pub backoff_cap_ms: u32,
    /// Seconds of readiness after which the crashes before are forgotten.
    pub forgiven_after_s: u32,
}

/// An exit that passes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransientExit {
    /// The exit code.
    pub code: i32,
    /// If given, a text that must stand in the last 4 KiB of output.
    #[serde(default)]
    pub output_contains: Option<String>,
    /// Seconds for which it is believed, counted from the first such exit.
    pub for_s: u32,
    /// Milliseconds between retries.
    pub retry_ms: u32,
}

/// What the workload may reach by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Rules as [`EgressRule`] writes them: `api.example.com`, `*.example.com:8443`, `203.0.113.0/24`.
    #[serde(default)]
    pub allow: BTreeSet<EgressRule>,
}

/// Which system calls the workload may make besides those that every bot may ([`crate::seccomp`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seccomp {
    /// Their names, as `man 2 syscalls` has them.
    #[serde(default)]
    pub allow: BTreeSet<String>,
}

/// Why a profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, or not a profile.
    #[error("profile {origin}: {source}")]
    Parse {
        /// The file's name.
        origin: String,
        /// What the parser says, with line and column.
        source: Box<toml::de::Error>,
    },
    /// It parses, and makes no sense.
    #[error("profile {origin}: {problem}")]
    Senseless {
        /// The file's name.
        origin: String,
        /// What makes no sense, and what would.
        problem: String,
    },
}

impl Profile {
    /// Reads a profile. `origin` is the file's name, for errors.
    ///
    /// # Errors
    /// [`ProfileError`] names the file and the line, or the value that makes no sense.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)
            .map_err(|source| ProfileError::Parse { origin: origin.to_owned(), source: Box::new(source) })?;
        match profile.first_problem() {
            Some(problem) => Err(ProfileError::Senseless { origin: origin.to_owned(), problem }),
            None => Ok(profile),
        }
    }

    /// What [`crate::wire`] would refuse in a spec made of this profile: found here, it costs one profile at start, and
    /// there the spec of a whole host.
    fn first_problem(&self) -> Option<String> {
        self.process
            .problem()
            .or_else(|| self.place_problem())
            .or_else(|| self.tmpfs.iter().find_map(TmpfsMount::problem))
            .or_else(|| self.probes.each().into_iter().find_map(|(name, probe)| probe.problem(name)))
            .or_else(|| self.exits.problem())
            .or_else(|| self.seccomp.problem())
    }

    fn place_problem(&self) -> Option<String> {
        let state = self.state_path.iter().map(|path| ("state_path", path));
        let mut paths = state.chain([("config.dir", &self.config.dir), ("secrets.dir", &self.secrets.dir)]);
        if let Some((field, path)) = paths.find(|(_, path)| !is_mount_point(path)) {
            return Some(format!("{field}: `{path}` must be an absolute path without `..`"));
        }
        if self.config.dir == self.secrets.dir {
            return Some(
                "config.dir and secrets.dir must differ: a secret may be called as the config is".to_owned(),
            );
        }
        if !is_file_name(&self.config.file) {
            return Some(format!("config.file: `{}` must be a bare file name", self.config.file));
        }
        if let Some(name) = self.secrets.generated.iter().find(|name| !is_file_name(name)) {
            return Some(format!("secrets.generated: `{name}` must be a bare file name"));
        }
        if self.egress.allow.len() > EGRESS_RULES_MAX {
            return Some(format!("egress.allow has more than {EGRESS_RULES_MAX} rules"));
        }
        (self.port == 0).then(|| "port must not be 0: probes ask it".to_owned())
    }
}

impl Process {
    fn problem(&self) -> Option<String> {
        if self.uid == 0 || self.gid == 0 {
            return Some("process.uid and process.gid must not be 0: bots never run as root".to_owned());
        }
        let bad = self.env.keys().find(|name| !is_variable(name));
        bad.map(|name| format!("process.env: `{name}` is no name of a variable"))
    }
}

impl TmpfsMount {
    fn problem(&self) -> Option<String> {
        let mode_is_fine = u32::from_str_radix(&self.mode, 8).is_ok_and(|mode| mode <= MODE_MAX);
        if is_mount_point(&self.path) && self.size_mb > 0 && mode_is_fine {
            return None;
        }
        Some(format!("tmpfs `{}`: an absolute path without `..`, a size_mb above 0, a mode in octal", self.path))
    }
}

impl Probe {
    fn problem(&self, name: &str) -> Option<String> {
        let is_fine = self.path.starts_with('/') && self.period_ms > 0 && self.timeout_ms > 0 && self.failures > 0;
        (!is_fine)
            .then(|| format!("probes.{name}: a path with a leading `/`, and no zero period, timeout or failures"))
    }
}

impl Exits {
    fn problem(&self) -> Option<String> {
        if self.backoff_initial_ms == 0 || self.backoff_cap_ms < self.backoff_initial_ms {
            return Some("exits: 0 < backoff_initial_ms <= backoff_cap_ms".to_owned());
        }
        let hasty = self.transient.iter().find(|exit| exit.retry_ms == 0);
        hasty.map(|exit| format!("exits.transient code {}: retry_ms must not be 0", exit.code))
    }
}

impl Seccomp {
    fn problem(&self) -> Option<String> {
        let refused = self.allow.iter().find_map(|name| seccomp::admit(name).err());
        refused.map(|error| format!("seccomp.allow: {error}"))
    }
}

impl Probes {
    /// The probes by name, in the order in which they come into play.
    #[must_use]
    pub const fn each(&self) -> [(&'static str, &Probe); 3] {
        [("startup", &self.startup), ("readiness", &self.readiness), ("liveness", &self.liveness)]
    }
}
