//! The root that all guests share: made by `packaging/guest/build.sh` when its inputs changed, else taken from the cache.
//!
//! Called by [`super::fleet`] before it enters a namespace without uplink.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::programs;

/// What a guest boots from. Nobody writes to it: each guest has a disk of its own on top.
#[derive(Debug, Clone)]
pub struct Base {
    /// The root filesystem, raw.
    pub root: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its first root, with the drivers of the disks.
    pub initrd: PathBuf,
}

/// Makes sure that the image is there.
///
/// # Errors
/// When the build fails: what it said is on stderr.
pub fn ensure_built() -> Result<Base> {
    let script = programs::workspace().join("packaging/guest/build.sh");
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {}", script.display()))?;
    ensure!(output.status.success(), "{} failed ({}); what it said is above", script.display(), output.status);
    let folder = String::from_utf8(output.stdout).context("read where the image is")?;
    let folder = Path::new(folder.trim());
    let base =
        Base { root: folder.join("root.img"), kernel: folder.join("vmlinuz"), initrd: folder.join("initrd.img") };
    for file in [&base.root, &base.kernel, &base.initrd] {
        ensure!(file.is_file(), "{} is not there: remove {} and run this again", file.display(), folder.display());
    }
    Ok(base)
}
