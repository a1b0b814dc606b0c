//! The control group of a bot and that of its tenant, in the files of either version.
//!
//! Read by their names here, and not by way of the agent: what the kernel holds is compared with what the agent says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::kernel;

/// The shares of a v1 group that nobody set, and the weight of such a group on v2.
const SHARES: u64 = 1024;
const WEIGHT: u64 = 100;

/// One control group: its folder for each controller; on cgroup v2 one folder, under no name.
pub(crate) struct Group(BTreeMap<String, PathBuf>);

impl Group {
    /// That of a process.
    pub(crate) fn of(pid: u64) -> Result<Self> {
        let path = format!("/proc/{pid}/cgroup");
        let table = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(Self(kernel::cgroup_folders(&table)))
    }

    /// The one above it: its tenant's.
    pub(crate) fn above(&self) -> Self {
        let above = |(name, folder): (&String, &PathBuf)| Some((name.clone(), folder.parent()?.to_owned()));
        Self(self.0.iter().filter_map(above).collect())
    }

    /// What a file says that only cgroup v2 has; none: it is not there.
    pub(crate) fn v2(&self, file: &str) -> Result<Option<String>> {
        if self.0.contains_key("memory") {
            return Ok(None);
        }
        said(&self.0.get("").context("no cgroup that we know")?.join(file))
    }

    /// Bytes of swap; none: this kernel does not count them.
    pub(crate) fn swap_bytes(&self) -> Result<Option<u64>> {
        let Some(memory) = self.0.get("memory") else { return number(self.v2("memory.swap.max")?) };
        let both = number(said(&memory.join("memory.memsw.limit_in_bytes"))?)?;
        let alone = number(said(&memory.join("memory.limit_in_bytes"))?)?;
        Ok(both.zip(alone).map(|(both, alone)| both - alone))
    }

    /// Its weight against its like, as cgroup v2 counts.
    pub(crate) fn cpu_weight(&self) -> Result<u64> {
        let weight = match self.0.get("cpu") {
            Some(cpu) => number(said(&cpu.join("cpu.shares"))?)?.map(|shares| (shares * WEIGHT).div_euclid(SHARES)),
            None => number(self.v2("cpu.weight")?)?,
        };
        weight.context("a group without a weight")
    }
}

/// None: there is no such file.
fn said(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

fn number(text: Option<String>) -> Result<Option<u64>> {
    text.map(|text| text.parse().with_context(|| format!("no number: `{text}`"))).transpose()
}
