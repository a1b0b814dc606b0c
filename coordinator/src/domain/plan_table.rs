//! The plans that customers choose from: what each may use, and for how long its data outlives it.
//!
//! Read once at start from TOML. A revision pins its plan's limits as they were, so an edited table changes no running
//! bot.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::limits::EGRESS_RULES_MAX;
use launchpad_protocol::report::Capacity;
use serde::{Deserialize, Serialize};

/// The spec's three plans (launchpad-technical-spec, "Plans"). Their egress rules are ours: a profile brings what its
/// workload needs, and each rule more is a place to which a bot that was taken over can carry data. Eight are a handful
/// of services of the owner's own.
pub const DEFAULT_PLANS: &str = r#"
[starter]
cpu_millis = 500
memory_gb = 1
storage_gb = 10
retention_days = 7
egress_rules = 8

[pro]
cpu_millis = 1000
memory_gb = 2
storage_gb = 25
retention_days = 30
egress_rules = 16

[team]
cpu_millis = 2000
memory_gb = 4
storage_gb = 50
retention_days = 30
egress_rules = 32
"#;

/// Bytes of a gigabyte of memory, as Docker's `--memory 1g` counts it.
const MEMORY_GB_BYTES: u64 = 1 << 30;
/// Bytes of a megabyte of memory, likewise.
const MEMORY_MB_BYTES: u64 = 1 << 20;
/// Bytes of a gigabyte of storage, as disks are sold.
const STORAGE_GB_BYTES: u64 = 1_000_000_000;
/// Bytes of a megabyte of storage, likewise.
const STORAGE_MB_BYTES: u64 = 1_000_000;

/// Egress rules that a plan grants at most: half of what an instance may have is the profile's.
const EGRESS_ADDED_MAX: usize = EGRESS_RULES_MAX / 2;

/// What one plan grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What deployments call it.
    pub name: String,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of storage.
    pub storage_bytes: u64,
    /// Days for which logs are kept, and data after a deployment's end.
    pub retention_days: u32,
    /// Egress rules that its owner may add to those of the profile.
    pub egress_rules: u32,
}

impl Plan {
    /// What it takes from a host.
    #[must_use]
    pub const fn size(&self) -> Capacity {
        Capacity { cpu_millis: self.cpu_millis, memory_bytes: self.memory_bytes, storage_bytes: self.storage_bytes }
    }

    /// For how long data outlives its deployment.
    #[must_use]
    pub const fn retention(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.retention_days as u64 * 24 * 60 * 60)
    }
}

/// Why a table of plans is refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanTableError {
    /// Not TOML, or not a table of plans.
    #[error("plans: {0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// It parses, and makes no sense.
    #[error("plan `{plan}`: {problem}")]
    Senseless {
        /// The plan's name.
        plan: String,
        /// What makes no sense, and what would.
        problem: &'static str,
    },
}

/// The plans by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanTable(BTreeMap<String, Plan>);

/// One plan as it is written: each size in whole gigabytes, or in megabytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cpu_millis: u32,
    memory_gb: Option<u64>,
    memory_mb: Option<u64>,
    storage_gb: Option<u64>,
    storage_mb: Option<u64>,
    retention_days: u32,
    #[serde(default = "egress_rules_default")]
    egress_rules: u32,
}

/// What a plan grants that says nothing of egress: as Starter does.
const fn egress_rules_default() -> u32 {
    8
}

impl PlanTable {
    /// Reads a table of plans.
    ///
    /// # Errors
    /// [`PlanTableError`] names the line, or the plan and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PlanTableError> {
        let written: BTreeMap<String, Written> = toml::from_str(text).map_err(Box::new)?;
        let plans = written.into_iter().map(|(name, plan)| Ok((name.clone(), plan.checked(name)?)));
        plans.collect::<Result<_, _>>().map(Self)
    }

    /// One plan.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Plan> {
        self.0.get(name)
    }

    /// The names of all plans.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }
}

impl Default for PlanTable {
    fn default() -> Self {
        // The text is part of this file, and a test below reads it.
        #[expect(clippy::expect_used, reason = "a constant that a test parses")]
        Self::parse(DEFAULT_PLANS).expect("the default plans parse")
    }
}

impl Written {
    fn checked(self, name: String) -> Result<Plan, PlanTableError> {
        let senseless = |problem| PlanTableError::Senseless { plan: name.clone(), problem };
        let size = |gb: Option<u64>, mb: Option<u64>, gb_bytes: u64, mb_bytes: u64| match (gb, mb) {
            (Some(gb), None) => gb.checked_mul(gb_bytes),
            (None, Some(mb)) => mb.checked_mul(mb_bytes),
            (Some(_), Some(_)) | (None, None) => None,
        };
        let memory_bytes = size(self.memory_gb, self.memory_mb, MEMORY_GB_BYTES, MEMORY_MB_BYTES)
            .ok_or_else(|| senseless("give either memory_gb or memory_mb"))?;
        let storage_bytes = size(self.storage_gb, self.storage_mb, STORAGE_GB_BYTES, STORAGE_MB_BYTES)
            .ok_or_else(|| senseless("give either storage_gb or storage_mb"))?;
        if self.cpu_millis == 0 || memory_bytes == 0 || storage_bytes == 0 {
            return Err(senseless("cpu, memory and storage must be above zero"));
        }
        if self.egress_rules as usize > EGRESS_ADDED_MAX {
            return Err(senseless("egress_rules must be 32 at most: a spec has room for no more"));
        }
        let Self { cpu_millis, retention_days, egress_rules, .. } = self;
        Ok(Plan { name, cpu_millis, memory_bytes, storage_bytes, retention_days, egress_rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plans_are_those_of_the_spec() {
        let plans = PlanTable::default();
        let sizes = |name: &str| {
            let plan = plans.get(name).expect("a plan of the spec");
            (plan.cpu_millis, plan.memory_bytes, plan.storage_bytes, plan.retention_days)
        };
        assert_eq!(sizes("starter"), (500, 1_073_741_824, 10_000_000_000, 7));
        assert_eq!(sizes("pro"), (1_000, 2_147_483_648, 25_000_000_000, 30));
        assert_eq!(sizes("team"), (2_000, 4_294_967_296, 50_000_000_000, 30));
        let rules = ["starter", "pro", "team"].map(|name| plans.get(name).map(|plan| plan.egress_rules));
        assert_eq!(rules, [Some(8), Some(16), Some(32)]);
    }

    #[test]
    fn a_plan_without_a_size_or_with_two_is_refused_by_name() {
        for sizes in
            ["storage_gb = 1", "memory_gb = 1\nmemory_mb = 5\nstorage_gb = 1", "memory_mb = 0\nstorage_mb = 1"]
        {
            let text = format!("[tiny]\ncpu_millis = 100\nretention_days = 1\n{sizes}");
            let error = PlanTable::parse(&text).expect_err("no plan");
            assert!(error.to_string().starts_with("plan `tiny`: "), "{error}");
        }
    }

    #[test]
    fn a_plan_with_more_egress_rules_than_a_spec_holds_is_refused() {
        let sizes = "cpu_millis = 1\nmemory_mb = 1\nstorage_mb = 1\nretention_days = 1";
        let error = PlanTable::parse(&format!("[open]\n{sizes}\negress_rules = 33")).expect_err("no plan");
        assert!(error.to_string().contains("egress_rules"), "{error}");
    }
}
