//! What an operator installs on a guest: the agent's package, and a newer one of the same for the upgrade.
//!
//! `make packages` leaves them in `target/packages`; a newer one is the same with a higher version, made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::control::Control;
use crate::process::run;
use crate::programs;

/// Where a package waits in the guest.
const IN_GUEST: &str = "/root/launchpad-agent.deb";
/// Conffiles stay as they are, and nobody is asked.
const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confold install";

/// The agent's package.
#[derive(Debug, Clone)]
pub struct Package {
    deb: PathBuf,
    /// How many newer ones were made of it.
    newer: u32,
}

impl Package {
    /// The newest in `target/packages`.
    ///
    /// # Errors
    /// When there is none.
    pub fn built() -> Result<Self> {
        let folder = programs::target().join("packages");
        let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut debs: Vec<_> = entries
            .filter(|path| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                name.starts_with("launchpad-agent_") && name.ends_with(".deb")
            })
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        debs.sort();
        let (_, deb) = debs
            .pop()
            .with_context(|| format!("no package of the agent in {}; run make packages", folder.display()))?;
        Ok(Self { deb, newer: 0 })
    }

    /// Installs it, as README.md tells an operator to.
    ///
    /// # Errors
    /// When apt refuses: the error repeats its words.
    pub fn install(&self, control: &Control) -> Result<()> {
        control.copy(&self.deb, IN_GUEST, "644")?;
        control.sh(&format!("{INSTALL} {IN_GUEST} && rm {IN_GUEST}")).map(drop)
    }

    /// The same with a higher version; its files lie in `dir`.
    ///
    /// # Errors
    /// When `dpkg-deb` refuses.
    pub fn newer(&mut self, dir: &Path) -> Result<Self> {
        self.newer += 1;
        let root = dir.join(format!("package-{}", self.newer));
        run(Command::new("dpkg-deb").arg("-R").arg(&self.deb).arg(&root))?;
        let control = root.join("DEBIAN/control");
        let text = fs::read_to_string(&control).with_context(|| format!("read {}", control.display()))?;
        let (head, tail) = text.split_once("\nVersion: ").context("a package has a version")?;
        let (version, tail) = tail.split_once('\n').context("a line ends")?;
        fs::write(&control, format!("{head}\nVersion: {version}+guest{}\n{tail}", self.newer))
            .context("write the version")?;
        let deb = root.with_extension("deb");
        run(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-z1", "-b"]).arg(&root).arg(&deb))?;
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
        Ok(Self { deb, newer: 0 })
    }
}
