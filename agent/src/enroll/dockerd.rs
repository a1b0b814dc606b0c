//! `enroll --configure-docker`: has dockerd keep bots alive without it, and their users apart from the host's.
//!
//! ```text
//! what dockerd does ─► what it lacks ─► containers? refuse ─► ids of dockremap ─► daemon.json (the old one kept)
//!                                                                                        │
//!                 as it was before, and why ◄── dockerd does not start, or does not do so ┴─► restart ─► done
//! ```
//! Only when told to, and never while any container is there: with remapped users dockerd works in another directory and
//! would show none of them. Done again it changes nothing: what counts is what dockerd does, not what a file says, since
//! the same may be said on its command line, where saying it twice keeps it from starting.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use launchpad_protocol::reason::Reason;
use serde_json::{Map, Value};

use crate::disk;
use crate::execute::facts::EngineFacts;

pub use self::machine::Machine;

pub(super) mod machine;

/// Whose ids the users of containers have on the host, by dockerd's own default.
const USER: &str = "dockremap";

/// How many ids a container has: as many as a user id of 16 bits can name.
const IDS: u64 = 65_536;

/// The first id that is given away where nobody has any, as `useradd` does.
const FIRST_ID: u64 = 100_000;

/// One more than the last id there is.
const IDS_END: u64 = 1 << 32;

/// What the file is called that dockerd had before.
const BACKUP: &str = "before-launchpad";

/// The files that are changed.
#[derive(Debug, Clone)]
pub struct Places {
    /// What dockerd reads.
    pub daemon_json: PathBuf,
    /// Who may use which user ids.
    pub subuid: PathBuf,
    /// Who may use which group ids.
    pub subgid: PathBuf,
}

/// Those of this host.
impl Default for Places {
    fn default() -> Self {
        Self {
            daemon_json: "/etc/docker/daemon.json".into(),
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
        }
    }
}

/// What there is to ask of dockerd and its host.
#[async_trait]
pub trait Dockerd {
    /// What it is.
    async fn facts(&self) -> Result<EngineFacts, Reason>;
    /// How many containers there are, running or not, whoever made them.
    async fn containers(&self) -> Result<usize, Reason>;
    /// Makes sure that there is a user of that name.
    async fn add_user(&self, name: &str) -> Result<(), Reason>;
    /// Stops and starts it.
    async fn restart(&self) -> Result<(), Reason>;
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// There was nothing to do.
    AsItWas,
    /// It is so now.
    Changed {
        /// Where the file is that dockerd had before; none: it had none.
        before: Option<PathBuf>,
    },
}

/// Has dockerd keep containers when it stops, and remap their users.
///
/// # Errors
/// Why not, and what mends it; dockerd is then as it was.
pub async fn configure(places: &Places, dockerd: &dyn Dockerd) -> Result<Configured, Reason> {
    let facts = dockerd.facts().await?;
    if does_so(&facts) {
        return Ok(Configured::AsItWas);
    }
    let old = read(&places.daemon_json)?;
    let text = merged(&places.daemon_json, old.as_deref(), &facts)?;
    match dockerd.containers().await? {
        0 => {}
        there => return Err(occupied(there)),
    }
    if facts.remapped.is_none() {
        dockerd.add_user(USER).await?;
        for path in [&places.subuid, &places.subgid] {
            if let Some(text) = with_ids(&read(path)?.unwrap_or_default()) {
                write(path, &text)?;
            }
        }
    }
    let before = old.as_deref().map(|old| keep(&places.daemon_json, old)).transpose()?;
    write(&places.daemon_json, &text)?;
    match restarted(dockerd).await {
        Ok(()) => Ok(Configured::Changed { before }),
        Err(reason) => {
            put_back(&places.daemon_json, old.as_deref())?;
            dockerd.restart().await?;
            Err(reason)
        }
    }
}

async fn restarted(dockerd: &dyn Dockerd) -> Result<(), Reason> {
    let refused = |cause: String| {
        Reason::new("docker-not-configured", "Docker did not take its new configuration, and has its old one again")
            .because(cause)
            .mend("see `journalctl -u docker`; with swarm mode it cannot have live-restore")
    };
    dockerd.restart().await.map_err(|reason| refused(reason.to_string()))?;
    let facts = dockerd.facts().await.map_err(|reason| refused(reason.to_string()))?;
    does_so(&facts).then_some(()).ok_or_else(|| refused("it started, and does not do so".to_owned()))
}

const fn does_so(facts: &EngineFacts) -> bool {
    facts.live_restore && facts.remapped.is_some()
}

fn occupied(containers: usize) -> Reason {
    let are = if containers == 1 { "is a container" } else { "are containers" };
    Reason::new("docker-has-containers", format!("there {are} on this host ({containers}), running or not"))
        .because("with remapped users Docker would show none of them any more")
        .mend("remove them (`docker ps --all` lists them), or leave --configure-docker out and keep Docker as it is")
}

/// dockerd's file with what it does not do yet.
fn merged(path: &Path, old: Option<&str>, facts: &EngineFacts) -> Result<String, Reason> {
    let malformed = |cause: String| {
        Reason::new("docker-config-malformed", format!("{} is no JSON object", path.display()))
            .because(cause)
            .mend("mend it first; Docker does not start with it either")
    };
    let mut settings: Map<String, Value> = match old.map(str::trim) {
        None | Some("") => Map::new(),
        Some(old) => serde_json::from_str(old).map_err(|error| malformed(error.to_string()))?,
    };
    if !facts.live_restore {
        settings.insert("live-restore".to_owned(), Value::Bool(true));
    }
    let is_told = settings.get("userns-remap").and_then(Value::as_str).is_some_and(|user| !user.is_empty());
    if facts.remapped.is_none() && !is_told {
        settings.insert("userns-remap".to_owned(), Value::String("default".to_owned()));
    }
    let text = serde_json::to_string_pretty(&settings).map_err(|error| malformed(error.to_string()))?;
    Ok(format!("{text}\n"))
}

/// The list of who may use which ids, with [`USER`] in it behind everybody else; none: it is in it.
fn with_ids(text: &str) -> Option<String> {
    let lines = || text.lines().filter_map(|line| line.split_once(':'));
    if lines().any(|(user, _)| user == USER) {
        return None;
    }
    let end = |(_, range): (&str, &str)| {
        let (first, count) = range.split_once(':')?;
        Some(first.trim().parse::<u64>().ok()? + count.trim().parse::<u64>().ok()?)
    };
    // Ranges that lie at the very end are none of `useradd`: what is free lies before them.
    let first = lines().filter_map(end).filter(|end| end + IDS <= IDS_END).fold(FIRST_ID, u64::max);
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Some(format!("{text}{newline}{USER}:{first}:{IDS}\n"))
}

/// Keeps what was there before the first change of ours: a later one would keep our own.
fn keep(path: &Path, old: &str) -> Result<PathBuf, Reason> {
    let mut kept = path.as_os_str().to_owned();
    kept.push(format!(".{BACKUP}"));
    let kept = PathBuf::from(kept);
    if read(&kept)?.is_none() {
        write(&kept, old)?;
    }
    Ok(kept)
}

fn put_back(path: &Path, old: Option<&str>) -> Result<(), Reason> {
    match old {
        Some(old) => write(path, old),
        None => fs::remove_file(path).map_err(|error| unusable(path, &error.to_string())),
    }
}

fn read(path: &Path) -> Result<Option<String>, Reason> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Reason> {
    disk::publish(path, text.as_bytes()).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, cause: &str) -> Reason {
    Reason::new("file-unusable", format!("cannot change {}", path.display())).because(cause).mend("run as root")
}

/// The line that is printed.
impl fmt::Display for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsItWas => f.write_str("Docker has live-restore and remapped users already; nothing was changed"),
            Self::Changed { before: None } => f.write_str("Docker has live-restore and remapped users now"),
            Self::Changed { before: Some(before) } => {
                write!(
                    f,
                    "Docker has live-restore and remapped users now; its old file is kept as {}",
                    before.display()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
