//! What became of each promise of a spec: whether the kernel holds it.
//!
//! The agent judges every [`Item`] from what the kernel shows, never from what was asked of anybody; the coordinator and
//! the commands only show it. An item that is not listed was not looked at, because nothing runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// How one item stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was read back, in the kernel's own words where they are short: `memory.max 1073741824`.
    pub seen: String,
}

/// Whether an item holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Verdict {
    /// The kernel shows what the spec asks.
    Enforced,
    /// This host, or this workload, cannot have it; that was known when it started.
    Degraded {
        /// Why not.
        reason: Reason,
    },
    /// It should hold here, and does not: it is being mended.
    Failed {
        /// What is wrong.
        reason: Reason,
    },
}

impl Enforcement {
    /// It holds, and this was seen.
    #[must_use]
    pub fn enforced(seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Enforced, seen: seen.into() }
    }

    /// It cannot be had here.
    #[must_use]
    pub fn degraded(seen: impl Into<String>, reason: Reason) -> Self {
        Self { verdict: Verdict::Degraded { reason }, seen: seen.into() }
    }

    /// It does not hold.
    #[must_use]
    pub fn failed(seen: impl Into<String>, reason: Reason) -> Self {
        Self { verdict: Verdict::Failed { reason }, seen: seen.into() }
    }

    /// Why it does not hold, if so.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match &self.verdict {
            Verdict::Enforced => None,
            Verdict::Degraded { reason } | Verdict::Failed { reason } => Some(reason),
        }
    }
}

impl Verdict {
    /// One word for a table.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Degraded { .. } => "degraded",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A text that names no item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that a spec promises")]
pub struct ItemError(String);

macro_rules! items {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One promise of a spec.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Item {
            $($(#[$doc])* $name,)*
        }

        impl Item {
            /// Every item, in the order in which people read them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name, as it travels and is shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

items! {
    /// It runs as its own user, never as root.
    User = "user",
    /// Its user ids are not those of the host.
    UserNamespace = "user-namespace",
    /// Its root filesystem is read-only.
    RootFilesystem = "root-filesystem",
    /// It has no capability.
    Capabilities = "capabilities",
    /// It cannot gain any.
    NoNewPrivileges = "no-new-privileges",
    /// Its system calls are filtered by our profile.
    Seccomp = "seccomp",
    /// An AppArmor profile confines it.
    Apparmor = "apparmor",
    /// Its memory is limited.
    Memory = "memory",
    /// It is slowed before it reaches that limit.
    MemoryHigh = "memory-high",
    /// It does not swap.
    Swap = "swap",
    /// Its share of the processors is limited.
    Cpu = "cpu",
    /// Its tenant is weighed against others.
    CpuWeight = "cpu-weight",
    /// Its tenant's disk traffic is limited.
    Io = "io",
    /// Its processes and threads are limited.
    Pids = "pids",
    /// Its open files are limited.
    OpenFiles = "open-files",
    /// Its shared memory is limited.
    SharedMemory = "shared-memory",
    /// Its tmpfs mounts are limited, without devices and setuid.
    Tmpfs = "tmpfs",
    /// Its log on the host is limited.
    Log = "log",
    /// Its volume is mounted without devices and setuid.
    VolumeMount = "volume-mount",
    /// Its volume cannot outgrow its plan.
    VolumeQuota = "volume-quota",
    /// Its config and secrets are on a tmpfs, read-only, for it alone.
    Files = "files",
    /// Its environment holds no secret.
    ProcessEnvironment = "process-environment",
    /// Its tenant's network is apart from every other.
    Network = "network",
    /// It reaches what its policy allows, and nothing else.
    Egress = "egress",
    /// Its public names lead to it.
    Ingress = "ingress",
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Item {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        Self::ALL.iter().copied().find(|item| item.as_str() == text).ok_or_else(|| ItemError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_travels_under_the_name_that_it_is_shown_by() {
        for item in Item::ALL {
            assert_eq!(item.as_str().parse(), Ok(*item));
            assert_eq!(serde_json::to_value(item).expect("a text"), item.as_str());
        }
        assert_eq!("volume".parse::<Item>(), Err(ItemError("volume".to_owned())));
    }
}
