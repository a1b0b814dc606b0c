//! The pools of hosts: who shares a host there, and what its hosts may lack.
//!
//! Read once at start from TOML:
//!
//! ```toml
//! [shared]
//! kind = "shared"            # tenants share hosts: each has to keep them apart (protocol, capability.rs)
//! accepts = ["apparmor"]     # but for this, knowingly
//!
//! [acme]
//! kind = "dedicated"         # each host serves one tenant, whatever it can enforce
//! ```
//! A pool that the table does not name is a shared one that accepts nothing: a typing error opens no door.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::capability::SHARED_POOL_NEEDS;
use serde::Deserialize;

/// The table of an installation that names none.
pub const DEFAULT_POOLS: &str = "[shared]\nkind = \"shared\"\naccepts = []\n";

/// Who shares a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// Tenants do.
    Shared,
    /// Nobody: a host serves one tenant.
    Dedicated,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What hosts and deployments call it.
    pub name: String,
    /// Who shares a host there.
    pub kind: PoolKind,
    /// Capabilities that its hosts may lack.
    pub accepts: BTreeSet<String>,
}

impl Pool {
    /// What a host of it has to be able to.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        let all: &[&str] = match self.kind {
            PoolKind::Shared => &SHARED_POOL_NEEDS,
            PoolKind::Dedicated => &[],
        };
        all.iter().copied().filter(|name| !self.accepts.contains(*name))
    }
}

/// Why a table of pools is refused.
#[derive(Debug, thiserror::Error)]
pub enum PoolTableError {
    /// Not TOML, or not a table of pools.
    #[error("pools: {0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// It accepts the lack of something that no pool needs.
    #[error("pool `{pool}` accepts `{name}`: a shared pool needs {}", SHARED_POOL_NEEDS.join(", "))]
    NothingNeeded {
        /// The pool.
        pool: String,
        /// What it accepts.
        name: String,
    },
    /// It accepts something, and needs nothing.
    #[error("pool `{0}` is dedicated, and needs nothing that it could do without: leave `accepts` out")]
    NeedsNothing(String),
}

/// The pools by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTable(BTreeMap<String, Pool>);

/// One pool as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: PoolKind,
    #[serde(default)]
    accepts: BTreeSet<String>,
}

impl PoolTable {
    /// Reads a table of pools.
    ///
    /// # Errors
    /// [`PoolTableError`] names the line, or the pool and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PoolTableError> {
        let written: BTreeMap<String, Written> = toml::from_str(text).map_err(Box::new)?;
        let pools = written.into_iter().map(|(name, pool)| Ok((name.clone(), pool.checked(name)?)));
        pools.collect::<Result<_, _>>().map(Self)
    }

    /// One pool.
    #[must_use]
    pub fn get(&self, name: &str) -> Pool {
        let unnamed = || Pool { name: name.to_owned(), kind: PoolKind::Shared, accepts: BTreeSet::new() };
        self.0.get(name).cloned().unwrap_or_else(unnamed)
    }
}

impl Default for PoolTable {
    fn default() -> Self {
        // The text is part of this file, and a test below reads it.
        #[expect(clippy::expect_used, reason = "a constant that a test parses")]
        Self::parse(DEFAULT_POOLS).expect("the default pools parse")
    }
}

impl Written {
    fn checked(self, name: String) -> Result<Pool, PoolTableError> {
        let unknown = self.accepts.iter().find(|accepted| !SHARED_POOL_NEEDS.contains(&accepted.as_str()));
        match (self.kind, unknown) {
            (PoolKind::Shared, Some(unknown)) => {
                Err(PoolTableError::NothingNeeded { pool: name, name: unknown.clone() })
            }
            (PoolKind::Dedicated, _) if !self.accepts.is_empty() => Err(PoolTableError::NeedsNothing(name)),
            (PoolKind::Shared | PoolKind::Dedicated, _) => Ok(Pool { name, kind: self.kind, accepts: self.accepts }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_pool_needs_everything_but_what_it_accepts_by_name() {
        let pools = PoolTable::parse("[shared]\nkind = \"shared\"\naccepts = [\"apparmor\"]").expect("a table");
        let needs: Vec<_> = pools.get("shared").needs().collect();
        assert_eq!(needs.len(), SHARED_POOL_NEEDS.len() - 1);
        assert!(!needs.contains(&"apparmor"));
    }

    #[test]
    fn a_pool_that_nobody_named_accepts_nothing_and_a_dedicated_one_needs_nothing() {
        let pools = PoolTable::parse("[acme]\nkind = \"dedicated\"").expect("a table");
        assert_eq!(pools.get("acme").needs().count(), 0);
        for name in ["shared", "typo"] {
            assert_eq!(pools.get(name).needs().count(), SHARED_POOL_NEEDS.len(), "{name}");
        }
        assert_eq!(PoolTable::default().get("shared"), pools.get("shared"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = |text: &str| PoolTable::parse(text).expect_err("no table").to_string();
        let unknown = refused("[shared]\nkind = \"shared\"\naccepts = [\"cgroupv2\"]");
        assert!(unknown.contains("`cgroupv2`") && unknown.contains("cgroup-v2"), "{unknown}");
        assert!(refused("[a]\nkind = \"dedicated\"\naccepts = [\"apparmor\"]").contains("pool `a` is dedicated"));
        assert!(refused("[a]\nkind = \"public\"").starts_with("pools: "));
    }
}
