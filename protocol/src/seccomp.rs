//! The system calls that a bot may make: from names to the JSON that Docker takes. Pure.
//!
//! `coordinator::domain::revision` calls [`compile`] with what a runtime profile adds ([`crate::profile`]) and pins the
//! result in the revision. What no list names is refused with EPERM.
//!
//! ```text
//! base (what libc, Node.js and shells need) ─┐
//! a profile's `[seccomp] allow`            ──┼─► names ──► allowed
//!        │                                   └─ governed (clone, socket, …) ──► allowed for these arguments only
//!        └─ unknown, forbidden or governed: refused by name, with why
//! ```
//! Only the native calling convention is open. A 32-bit or x32 entry has numbers and arguments of its own, which every
//! rule here would have to get right again, and no bot has such programs: the kernel ends the thread that tries.

mod base;
mod forbidden;
mod governed;

use std::collections::BTreeSet;
use std::str::FromStr as _;

use serde::Serialize;
use syscalls::{aarch64, x86_64};

use self::forbidden::FORBIDDEN;
use self::governed::{Comparison, GOVERNED, Governed};

/// What a filter does with a call, in libseccomp's words.
const ALLOW: &str = "SCMP_ACT_ALLOW";
/// Refuse with an errno; EPERM where none is named.
const REFUSE: &str = "SCMP_ACT_ERRNO";

/// Linux's number for "no such call", on every architecture that a host of ours has: what an older kernel would
/// answer, and so what every library has an answer to.
const ENOSYS: u32 = 38;

/// The architectures of hosts. The engine takes the entry that is its own.
const ARCHITECTURES: [&str; 2] = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X86_64"];

/// Why a profile may not add a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// Linux has none of that name.
    #[error("`{name}` is no system call of Linux on x86-64 or arm64; write its name as `man 2 syscalls` has it")]
    Unknown {
        /// As written.
        name: String,
    },
    /// No bot gets it.
    #[error("`{name}` is never allowed to a bot: {why}; take it out")]
    Forbidden {
        /// Which.
        name: String,
        /// What it would open.
        why: &'static str,
    },
    /// It is there already, for arguments that do no harm.
    #[error("`{name}` is allowed to every bot, within bounds: {why}; take it out")]
    Governed {
        /// Which.
        name: String,
        /// What bounds it.
        why: &'static str,
    },
}

/// Sees whether a profile may add that call.
///
/// # Errors
/// [`SeccompError`] names it, and says why not.
pub fn admit(name: &str) -> Result<(), SeccompError> {
    if let Some(group) = FORBIDDEN.iter().find(|group| group.names().any(|forbidden| forbidden == name)) {
        return Err(SeccompError::Forbidden { name: name.to_owned(), why: group.why });
    }
    if let Some(governed) = GOVERNED.iter().find(|governed| governed.name == name) {
        return Err(SeccompError::Governed { name: name.to_owned(), why: governed.why });
    }
    if !exists(name) {
        return Err(SeccompError::Unknown { name: name.to_owned() });
    }
    Ok(())
}

/// The profile that allows the base and these, as the JSON that Docker takes. The same names give the same bytes.
///
/// # Errors
/// As [`admit`], for the first name that it refuses.
pub fn compile(added: &BTreeSet<String>) -> Result<String, SeccompError> {
    added.iter().try_for_each(|name| admit(name))?;
    let mut names: BTreeSet<&str> = base::names().collect();
    names.extend(added.iter().map(String::as_str));
    let mut rules = vec![
        Rule { names: names.into_iter().collect(), action: ALLOW, errno: None, args: &[] },
        Rule { names: forbidden::absent_names().collect(), action: REFUSE, errno: Some(ENOSYS), args: &[] },
    ];
    rules.extend(GOVERNED.iter().flat_map(Governed::rules));
    let filter = Filter { default: REFUSE, architectures: ARCHITECTURES.map(|name| Architecture { name }), rules };
    // Strings, numbers and lists: none of it can fail to be JSON.
    Ok(serde_json::to_string(&filter).unwrap_or_default())
}

/// Whether Linux has a call of that name. One architecture may have it alone: the older calls are x86-64's.
fn exists(name: &str) -> bool {
    x86_64::Sysno::from_str(name).is_ok() || aarch64::Sysno::from_str(name).is_ok()
}

/// Docker's form of a filter.
#[derive(Debug, Serialize)]
struct Filter<'a> {
    #[serde(rename = "defaultAction")]
    default: &'static str,
    #[serde(rename = "archMap")]
    architectures: [Architecture; 2],
    #[serde(rename = "syscalls")]
    rules: Vec<Rule<'a>>,
}

/// One architecture, without any of the older ones that its kernels also speak.
#[derive(Debug, Serialize)]
struct Architecture {
    #[serde(rename = "architecture")]
    name: &'static str,
}

/// What is done with some calls. Several rules about one call: any of them lets it pass.
#[derive(Debug, Serialize)]
struct Rule<'a> {
    names: Vec<&'a str>,
    action: &'static str,
    #[serde(rename = "errnoRet", skip_serializing_if = "Option::is_none")]
    errno: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    args: &'static [Comparison],
}

#[cfg(test)]
mod tests;
