//! What makes a guest one particular machine: keys, addresses, the engine's settings and our package, in one tar on a disk.
//!
//! The guest unpacks it over its root at its first boot (`packaging/guest/seed.sh`), before network, ssh and Docker start.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::switch::Ports;
use crate::netns::FABRIC_ADDRESS;
use crate::process::run;

/// What an operator may have set already: here that the laboratory's registry speaks plain HTTP. The rest `enroll` does.
const ENGINE: &str = r#"{"insecure-registries":["198.18.0.0/15"]}"#;
/// A disk has whole sectors; a tar alone may not.
const DISK_GRAIN: &str = "%1M";

/// The keys of one run: ours, and that of every guest's sshd.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Our private key.
    pub own: PathBuf,
    guest: PathBuf,
}

impl Keys {
    /// Makes both in `dir`.
    ///
    /// # Errors
    /// When `ssh-keygen` is missing.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let keys = Self { own: dir.join("key"), guest: dir.join("guest_key") };
        for file in [&keys.own, &keys.guest] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(file))?;
        }
        Ok(keys)
    }

    /// The line by which ssh knows the guest at `address`.
    ///
    /// # Errors
    /// When the key is gone.
    pub fn known(&self, address: &str) -> Result<String> {
        let key = self.guest.with_extension("pub");
        let text = fs::read_to_string(&key).with_context(|| format!("read {}", key.display()))?;
        Ok(format!("{address} {text}"))
    }
}

/// Writes the disk of the guest `name` to `disk`, by way of the folder `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, disk: &Path, name: &str, ports: &Ports, keys: &Keys) -> Result<()> {
    let put = |path: &str, bytes: &[u8], mode: u32| -> Result<()> {
        let file = dir.join(path);
        let folder = file.parent().unwrap_or(dir);
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).context("set a mode")
    };
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    put("root/.ssh/authorized_keys", &read(&keys.own.with_extension("pub"))?, 0o600)?;
    for folder in ["root", "root/.ssh"] {
        fs::set_permissions(dir.join(folder), fs::Permissions::from_mode(0o700)).context("set a mode")?;
    }
    put("etc/ssh/ssh_host_ed25519_key", &read(&keys.guest)?, 0o600)?;
    put("etc/hostname", format!("{name}\n").as_bytes(), 0o644)?;
    // Nobody answers there: a look-up fails at once.
    put("etc/resolv.conf", format!("nameserver {FABRIC_ADDRESS}\n").as_bytes(), 0o644)?;
    put("etc/docker/daemon.json", ENGINE.as_bytes(), 0o644)?;
    for (tap, address, gateway) in [
        (ports.fleet_tap(), ports.address(), format!("Gateway={FABRIC_ADDRESS}\n")),
        (ports.control_tap(), ports.control_address(), String::new()),
    ] {
        let network = format!(
            "[Match]\nMACAddress={}\n[Network]\nAddress={address}/24\n{gateway}LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            mac(&tap)
        );
        put(&format!("etc/systemd/network/10-{tap}.network"), network.as_bytes(), 0o644)?;
    }
    run(Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(disk).arg("."))?;
    run(Command::new("truncate").args(["-s", DISK_GRAIN]).arg(disk)).map(drop)
}

/// The address of the card behind a tap: locally administered, and the tap's own name in it.
pub fn mac(tap: &str) -> String {
    let tail: Vec<String> = tap.bytes().skip(2).map(|byte| format!("{byte:02x}")).collect();
    let [kind, index] = &tail[..] else { return "52:54:00:00:00:01".to_owned() };
    format!("52:54:00:00:{kind}:{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_has_an_address_of_its_own() {
        assert_eq!(mac("lpf1"), "52:54:00:00:66:31");
        assert_eq!(mac("lpc2"), "52:54:00:00:63:32");
    }
}
