//! What holds the volumes of the host under attack: each backend that this machine can have.
//!
//! Called by [`super::site`]. The agent chooses by itself what it finds under its data; so the ground is
//! prepared for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::run;

/// Of the file system that is made for quotas: room for three bots' volumes, images and containers. It is
/// sparse.
const GROUND_BYTES: u64 = 16 << 30;

/// A volume backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// Loop-mounted images: anywhere.
    Ext4Image,
    /// Project quotas: where the kernel has them for XFS.
    XfsQuota,
}

impl Backend {
    /// Every one, the most general first.
    pub const ALL: [Self; 2] = [Self::Ext4Image, Self::XfsQuota];

    /// What the agent calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4Image => "ext4-image",
            Self::XfsQuota => "xfs-quota",
        }
    }

    /// Whether this machine can have it; if not, why. `dir` is for a trial, and is left as it was.
    ///
    /// # Errors
    /// One sentence.
    pub fn available(self, dir: &Path) -> Result<(), String> {
        let ground = dir.join(format!("launchpad-trial-of-{}-{}", self.name(), std::process::id()));
        let trial = self.prepare(&ground).map_err(|error| error.to_string());
        if self == Self::XfsQuota && trial.is_ok() {
            run(Command::new("umount").arg(&ground)).map_err(|error| error.to_string())?;
        }
        let _ = fs::remove_dir_all(&ground);
        let _ = fs::remove_file(ground.with_extension("xfs"));
        trial
    }

    /// Makes the folder in which a host is to live, on a file system on which its agent chooses this backend.
    ///
    /// # Errors
    /// When the kernel or a program refuses.
    pub fn prepare(self, home: &Path) -> Result<()> {
        fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
        if self == Self::Ext4Image {
            return Ok(());
        }
        let image = home.with_extension("xfs");
        let file = fs::File::create(&image).with_context(|| format!("create {}", image.display()))?;
        file.set_len(GROUND_BYTES).context("make room for a file system")?;
        let made = run(Command::new("mkfs.xfs").arg("-q").arg(&image));
        made.context("mkfs.xfs makes no file system: packaging/setup.sh installs it")?;
        let mounted = run(Command::new("mount").args(["-o", "loop,prjquota"]).arg(&image).arg(home));
        mounted.context("this kernel mounts no XFS with project quotas").map(drop)
    }
}
