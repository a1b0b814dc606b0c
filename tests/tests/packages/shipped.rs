//! What only the shipped packages can show: `make packages` has just made them, and ends with this.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::made::{Made, RELEASED};

/// The most that the agent's package may weigh, in bytes: a host downloads it at every upgrade.
const AGENT_DEB_BYTES_MAX: u64 = 8 * 1024 * 1024;

fn shipped() -> Result<Made> {
    let dir =
        std::env::var_os("LAUNCHPAD_PACKAGES").context("LAUNCHPAD_PACKAGES names no packages: make packages")?;
    Ok(Made::already_in(PathBuf::from(dir)))
}

#[test]
#[ignore = "make packages runs it: it needs the shipped packages"]
fn lintian_and_rpmlint_find_no_error_in_what_is_shipped() -> Result<()> {
    crate::files::look_over(&shipped()?)
}

#[test]
#[ignore = "make packages runs it: it needs the shipped packages"]
fn the_agents_package_is_small() -> Result<()> {
    let bytes = fs::metadata(shipped()?.deb("launchpad-agent")?)?.len();
    println!("agent deb: {bytes} bytes");
    ensure!(bytes <= AGENT_DEB_BYTES_MAX, "the agent's package has {bytes} bytes, at most {AGENT_DEB_BYTES_MAX}");
    Ok(())
}

#[test]
#[ignore = "make packages runs it: it needs the shipped packages, and a mirror"]
fn apt_installs_everything_that_the_programs_need_on_a_fresh_debian() -> Result<()> {
    let (made, dir) = (shipped()?, TempDir::new()?);
    let root = dir.path().join("root");
    // apt's own user has to get at them.
    let packages = TempDir::new()?;
    fs::set_permissions(packages.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut hooks = Vec::new();
    for package in ["launchpad-agent", "launchpad-coordinator", "launchpad"] {
        let deb = made.deb(package)?;
        let name = deb.file_name().context("a file")?.to_string_lossy().into_owned();
        fs::copy(&deb, packages.path().join(&name))?;
        hooks.push(format!("--customize-hook=copy-in {}/{name} /tmp", packages.path().display()));
    }
    let install = "--customize-hook=chroot $1 sh -c 'apt-get -q -y --no-install-recommends install /tmp/*.deb'";
    // What the agent runs, by the names that it looks for.
    let needed = "--customize-hook=chroot $1 sh -c 'for program in dockerd nft mkfs.ext4 resize2fs e2fsck chattr mount \
                  losetup cp rm; do command -v $program || exit 1; done'";
    let versions = "--customize-hook=chroot $1 sh -c 'launchpad-agent --version && launchpad-coordinator --version && \
                    launchpad --version' >$1/versions";
    let made = Command::new("mmdebstrap")
        .args(["--variant=apt", "--mode=root"])
        .args(hooks)
        .args([install, needed, versions, "bookworm"])
        .arg(&root)
        .output()
        .context("start mmdebstrap")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let versions = fs::read_to_string(root.join("versions"))?;
    assert_eq!(versions.lines().filter(|line| line.ends_with(RELEASED)).count(), 3, "{versions}");
    Ok(())
}
