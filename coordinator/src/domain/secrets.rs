//! A secret of a deployment that is set or taken away: its next revision, and when the bot goes by it.
//!
//! ```text
//! blueprint before ─┐
//! profile (pinned) ─┼─► Change::apply ─► the same blueprint with its files, or a refusal ─► Effect::of both
//! the secret's name ┘
//! ```
//! `app::secrets` asks here, encrypts the value and commits. No value ever comes here: a secret is a name
//! with a version, and its version is the revision that brought its value.

use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::Revision;
use launchpad_protocol::limits::{SEALED_BYTES_PER_DEPLOYMENT_MAX, SEALED_BYTES_PER_HOST_MAX, SEALED_FILES_MAX};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{FileKind, InstanceSpec, SealedFile};
use serde::{Deserialize, Serialize};

use super::deployment::State;
use super::refusal::Refusal;
use super::revision::recreate_hash;

/// When a bot goes by what was changed of its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing was changed: it had that value.
    Unchanged,
    /// It does not run yet, and starts with it.
    AtStart,
    /// As soon as its host has replaced the file: the workload reads it again by itself.
    AtOnce,
    /// The file is replaced under the running bot, which reads it when it starts again.
    AfterRestart,
    /// Its host makes a new container, because Docker fixes what has changed when it creates one.
    NewContainer,
}

impl Effect {
    /// When a deployment in that state goes by a revision that changes its secrets.
    #[must_use]
    pub fn of(state: State, profile: &Profile, before: &InstanceSpec, after: &InstanceSpec) -> Self {
        match (may_run(state), before.recreate_hash == after.recreate_hash, profile.secrets.reread) {
            (false, _, _) => Self::AtStart,
            (true, false, _) => Self::NewContainer,
            (true, true, true) => Self::AtOnce,
            (true, true, false) => Self::AfterRestart,
        }
    }

    /// Whether a restart that was asked for has anything to do.
    #[must_use]
    pub const fn leaves_work_to_a_restart(self) -> bool {
        match self {
            Self::AtOnce | Self::AfterRestart => true,
            Self::Unchanged | Self::AtStart | Self::NewContainer => false,
        }
    }
}

/// What is done to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It gets a value, for the first time or another one.
    Set,
    /// It is taken away.
    Remove,
}

impl Change {
    /// The blueprint that follows `before`, under its next number. `profile` is the one that the revision
    /// before pinned.
    ///
    /// # Errors
    /// A refusal: the name is the config's, there is no such secret, the workload cannot do without it, or
    /// there are too many.
    pub fn apply(self, name: &str, profile: &Profile, before: &InstanceSpec) -> Result<InstanceSpec, Refusal> {
        if name == profile.config.file {
            return Err(named_as_config(name));
        }
        let mut spec = InstanceSpec { revision: before.revision.next(), ..before.clone() };
        spec.files.retain(|file| file.name != name);
        match self {
            Self::Set => spec.files.push(secret(name, profile, spec.revision)),
            Self::Remove if spec.files.len() == before.files.len() => return Err(Refusal::not_found("secret", name)),
            Self::Remove if profile.secrets.generated.iter().any(|generated| generated == name) => {
                return Err(indispensable(name, profile));
            }
            Self::Remove => {}
        }
        if spec.files.len() > SEALED_FILES_MAX {
            return Err(too_many());
        }
        // The config first, then the secrets by name, as in a first revision.
        spec.files.sort_by_cached_key(|file| (file.kind != FileKind::Config, file.name.clone()));
        hand_over_in_environment(&mut spec, profile);
        // A hash that a version before this one made stays, unless something that it covers has changed.
        let (was, is) = (recreate_hash(before), recreate_hash(&spec));
        if is != was {
            spec.recreate_hash = is;
        }
        Ok(spec)
    }

    /// What brought the next revision about, in words for a timeline.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Set => "a secret was set",
            Self::Remove => "a secret was taken away",
        }
    }
}

/// Whether the files of a deployment have room in its share of a spec, and on their host with all others.
///
/// # Errors
/// A refusal in numbers.
pub fn have_room(deployment_bytes: u64, host_bytes: u64) -> Result<(), Refusal> {
    let (deployment_max, host_max) = (SEALED_BYTES_PER_DEPLOYMENT_MAX as u64, SEALED_BYTES_PER_HOST_MAX as u64);
    if deployment_bytes > deployment_max {
        let sentence = format!("config and secrets would be {deployment_bytes} bytes, {deployment_max} are the most");
        return Err(Refusal::impossible(
            Reason::new("secrets-too-large", sentence).mend("take a secret away, or set a shorter one"),
        ));
    }
    if host_bytes > host_max {
        let sentence =
            format!("its host would hold {host_bytes} bytes of configs and secrets, {host_max} are the most");
        return Err(Refusal::unavailable(
            Reason::new("host-full", sentence).mend("set a shorter secret, or deploy it again on another host"),
        ));
    }
    Ok(())
}

/// Refuses a secret that would lie over the config file.
#[must_use]
pub fn named_as_config(file: &str) -> Refusal {
    let sentence = format!("a secret cannot be named `{file}`: the config file has that name");
    Refusal::impossible(Reason::new("secret-named-as-config", sentence).mend("give the secret another name"))
}

fn secret(name: &str, profile: &Profile, version: Revision) -> SealedFile {
    SealedFile {
        name: name.to_owned(),
        dir: profile.secrets.dir.clone(),
        kind: FileKind::Secret,
        version,
        ciphertext: Vec::new(),
    }
}

/// The variables that take a secret are those whose secret is there, and the agent must know how only then.
fn hand_over_in_environment(spec: &mut InstanceSpec, profile: &Profile) {
    let is_there = |secret: &String| spec.files.iter().any(|file| file.name == *secret);
    let given = profile.secrets.environment.iter().filter(|(_, secret)| is_there(secret));
    spec.secret_environment = given.map(|(variable, secret)| (variable.clone(), secret.clone())).collect();
    if spec.secret_environment.is_empty() {
        spec.requires.remove(&Feature::sealed_environment());
    } else {
        spec.requires.insert(Feature::sealed_environment());
    }
}

fn indispensable(name: &str, profile: &Profile) -> Refusal {
    let sentence = format!("`{}` cannot do without the secret `{name}`", profile.name);
    Refusal::impossible(Reason::new("secret-needed", sentence).mend("set it to another value instead"))
}

fn too_many() -> Refusal {
    // One place among the sealed files is the config's.
    let sentence = format!("a deployment has at most {} secrets", SEALED_FILES_MAX - 1);
    Refusal::impossible(Reason::new("too-many-secrets", sentence).mend("take one away first"))
}

/// Whether a process may run that has read the secrets as they were. Whatever is only being prepared starts
/// with the new ones.
const fn may_run(state: State) -> bool {
    match state {
        State::Starting | State::Running | State::Updating | State::Failed | State::Restarting => true,
        State::Requested
        | State::Provisioning
        | State::Configuring
        | State::Suspended
        | State::Terminating
        | State::Terminated => false,
    }
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
