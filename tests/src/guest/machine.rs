//! One guest: a machine under qemu's software emulation that is booted, rebooted, killed and booted again.
//!
//! Its disks tell the truth: what the guest has flushed is on them when qemu is killed, and what it has not may be lost,
//! because qemu keeps the map of the upper disk in its own memory until then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::control::Control;
use super::image::Base;
use super::seed::{self, Keys};
use super::switch::{Ports, Switch};
use crate::process::{Process, Recipe, run};

/// From power to an engine that answers: thirty seconds on a quiet machine, for one of two guests sixty.
pub const BOOT_WITHIN: Duration = Duration::from_secs(600);
/// A gigabyte and less: two guests and a build have to fit on one machine.
const MEMORY_MIB: u32 = 896;
/// The disk of the volumes: sparse.
const VOLUMES_DISK: &str = "3G";
/// Until the guest says that it is another boot than before.
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
/// What has to be up before a guest is a host.
const IS_UP: &str = "systemctl is-active --quiet docker.service && docker info >/dev/null && ! systemctl is-system-running | grep -q starting";

/// A guest that was started. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Guest {
    /// Its name in the fleet: `h1`.
    pub name: String,
    /// Where it is plugged in.
    pub ports: Ports,
    /// The way into it.
    pub control: Control,
    qemu: Process,
    dir: PathBuf,
}

impl Guest {
    /// Starts guest `index`, from 1, with its files in `dir`. It is not up yet: see [`Guest::wait_up`].
    ///
    /// # Errors
    /// When a disk cannot be made, or qemu not be started.
    pub fn start(dir: &Path, index: u8, base: &Base, keys: &Keys, switch: &Switch) -> Result<Self> {
        let name = format!("h{index}");
        let dir = dir.join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let ports = switch.plug(index)?;
        let disk = |name: &str| dir.join(name);
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(&base.root)
            .arg(disk("root.qcow2")))?;
        run(Command::new("truncate").args(["-s", VOLUMES_DISK]).arg(disk("volumes.img")))?;
        run(Command::new("mkfs.xfs").arg("-q").arg(disk("volumes.img")))?;
        seed::write(&disk("seed"), &disk("seed.tar"), &name, &ports, keys)?;
        let control = Control::new(&dir, keys, &ports.control_address())?;
        let qemu = recipe(&name, &dir, base, &ports).spawn()?;
        Ok(Self { name, ports, control, qemu, dir })
    }

    /// Waits until its engine answers.
    ///
    /// # Errors
    /// When qemu ends first, or the guest is not up in time: the end of its console is in the error.
    pub fn wait_up(&mut self) -> Result<()> {
        self.control.unshare();
        let console = self.dir.join("console.log");
        let control = &self.control;
        let up =
            self.qemu.wait_ready(BOOT_WITHIN, || control.sh(IS_UP).map(drop).map_err(|error| format!("{error:#}")));
        up.with_context(|| format!("the end of {}:\n{}", console.display(), tail(&console)))?;
        self.control.share()
    }

    /// Reboots it as an operator does, and returns when the old boot is over.
    ///
    /// # Errors
    /// When it does not go down in time.
    pub fn reboot(&mut self) -> Result<()> {
        let before = self.control.sh(BOOT_ID)?;
        // The connection ends with it, and that is no failure.
        let _ = self.control.sh("systemctl --no-block reboot");
        self.control.unshare();
        let other = format!("test \"$({BOOT_ID})\" != {before}");
        self.control.wait(&format!("{} to boot again", self.name), BOOT_WITHIN, &other).map(drop)
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.control.unshare();
        self.qemu.kill()
    }

    /// Puts it back in. It is not up yet: see [`Guest::wait_up`].
    ///
    /// # Errors
    /// When qemu cannot be started.
    pub fn boot(&mut self) -> Result<()> {
        self.qemu.restart()
    }

    /// Its journal since it was installed, for whoever looks into a failure.
    ///
    /// # Errors
    /// When the guest does not answer, or the file cannot be written.
    pub fn save_journal(&self, to: &Path) -> Result<()> {
        let text = self.control.sh("journalctl --no-pager -o short-precise")?;
        fs::write(to, text).with_context(|| format!("write {}", to.display()))
    }
}

/// `discard` and native aio are left out: neither is faster under emulation.
fn recipe(name: &str, dir: &Path, base: &Base, ports: &Ports) -> Recipe {
    let path = |file: &str| dir.join(file).display().to_string();
    // Neither cache of the host's: what the guest flushes is flushed here.
    let drive = |file: &str, format: &str| format!("file={},format={format},if=virtio,cache=none", path(file));
    let words = "-accel tcg,thread=multi,tb-size=256 -cpu max -smp 1 -nodefaults -no-user-config -display none -device virtio-rng-pci";
    let mut arguments: Vec<String> = words.split(' ').map(str::to_owned).collect();
    arguments.extend(["-m".to_owned(), MEMORY_MIB.to_string()]);
    arguments.extend(["-name".to_owned(), name.to_owned()]);
    arguments.extend(["-chardev".to_owned(), format!("file,id=console,append=on,path={}", path("console.log"))]);
    arguments.extend(["-serial".to_owned(), "chardev:console".to_owned()]);
    arguments.extend(["-kernel".to_owned(), base.kernel.display().to_string()]);
    arguments.extend(["-initrd".to_owned(), base.initrd.display().to_string()]);
    let words = "console=ttyS0 root=/dev/vda rw mitigations=off quiet panic=1";
    arguments.extend(["-append".to_owned(), words.to_owned()]);
    arguments.extend(["-drive".to_owned(), drive("root.qcow2", "qcow2")]);
    arguments.extend(["-drive".to_owned(), drive("volumes.img", "raw")]);
    arguments.extend(["-drive".to_owned(), format!("file={},format=raw,if=virtio,readonly=on", path("seed.tar"))]);
    for tap in [ports.fleet_tap(), ports.control_tap()] {
        arguments.extend(["-netdev".to_owned(), format!("tap,id={tap},ifname={tap},script=no,downscript=no")]);
        arguments
            .extend(["-device".to_owned(), format!("virtio-net-pci,netdev={tap},mac={},romfile=", seed::mac(&tap))]);
    }
    Recipe::new(&format!("qemu of {name}"), "qemu-system-x86_64", dir.join("qemu.log")).args(arguments)
}

fn tail(file: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
