//! What happens to a host on a bad day: each fault strikes, stands for a while, and is mended.
//!
//! Called by [`super::cell`]. Faults strike the first guest; the second one looks on and is not to notice. What mends itself
//! (systemd starts what was killed) is only waited for.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::fleet::{Fleet, SOON};
use super::machine::Guest;
use super::standing::{self, Allowed};
use crate::wait::wait_for;

/// The guest that is struck.
const STRUCK: usize = 0;
/// Longer than a host's certificate lives.
const A_CERTIFICATE_LATER: Duration = Duration::from_hours(25);
/// Fills a filesystem to the last block, in ever smaller files.
const FILL: &str = r#"
for place in / /var/lib/launchpad-agent; do
    mkdir -p "$place/fill"; n=0
    for size in 256M 16M 1M 64K 4K; do
        while fallocate -l $size "$place/fill/$n" 2>/dev/null; do n=$((n+1)); done; rm -f "$place/fill/$n"
    done
done
! touch /var/lib/launchpad-agent/fill/probe 2>/dev/null || ! dd if=/dev/zero of=/var/lib/launchpad-agent/fill/probe bs=64k count=1 2>/dev/null"#;

/// Everything that a bot hangs on, from the bottom up; containers are no children of any of it.
const RESTART: &str = "systemctl restart containerd.service && systemctl restart docker.service && \
                       systemctl restart launchpad-gate.service && systemctl restart launchpad-agent.service";

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to the agent.
    AgentKill,
    /// SIGKILL to dockerd.
    DockerdKill,
    /// SIGKILL to the coordinator.
    CoordinatorKill,
    /// An operator restarts every unit that has to do with bots.
    UnitRestart,
    /// An operator reboots the host.
    Reboot,
    /// The same while no coordinator runs: the host has to find its bots by itself.
    LonelyReboot,
    /// The host's link is cut.
    Partition,
    /// The agent's package is upgraded.
    PackageUpgrade,
    /// The host's clock is an hour ahead, then right again.
    ClockJump,
    /// Both disks of the host are full.
    DiskFull,
    /// The network lets no UDP through.
    UdpBlocked,
    /// The host's power fails.
    HostKill,
    /// The host is away until its certificate has run out. Last: clocks stay where they are then.
    CertificateExpiry,
}

impl Fault {
    /// Each, in the order in which they are tried.
    pub const ALL: [Self; 13] = [
        Self::AgentKill,
        Self::DockerdKill,
        Self::UnitRestart,
        Self::CoordinatorKill,
        Self::Partition,
        Self::UdpBlocked,
        Self::ClockJump,
        Self::DiskFull,
        Self::PackageUpgrade,
        Self::Reboot,
        Self::LonelyReboot,
        Self::HostKill,
        Self::CertificateExpiry,
    ];

    /// What may become of a bot on guest `index`.
    pub const fn allows(self, index: usize) -> Allowed {
        match self {
            Self::Reboot | Self::LonelyReboot | Self::HostKill if index == STRUCK => Allowed::OneStart,
            Self::Reboot
            | Self::LonelyReboot
            | Self::UnitRestart
            | Self::HostKill
            | Self::AgentKill
            | Self::DockerdKill
            | Self::CoordinatorKill
            | Self::Partition
            | Self::PackageUpgrade
            | Self::ClockJump
            | Self::DiskFull
            | Self::UdpBlocked
            | Self::CertificateExpiry => Allowed::Nothing,
        }
    }

    /// Whether somebody takes an order while it stands.
    pub const fn takes_orders(self) -> bool {
        !matches!(self, Self::CoordinatorKill | Self::LonelyReboot)
    }

    /// Strikes, and returns when it can be felt.
    ///
    /// # Errors
    /// When it cannot be made to happen.
    pub fn strike(self, fleet: &mut Fleet) -> Result<()> {
        match self {
            Self::AgentKill => kill_unit(&fleet.guests[STRUCK], "launchpad-agent.service"),
            Self::DockerdKill => kill_unit(&fleet.guests[STRUCK], "docker.service"),
            Self::CoordinatorKill => fleet.lab.coordinator()?.kill(),
            Self::UnitRestart => fleet.guests[STRUCK].control.sh(RESTART).map(drop),
            Self::Reboot => fleet.guests[STRUCK].reboot(),
            Self::LonelyReboot => {
                fleet.lab.coordinator()?.kill()?;
                let guest = &mut fleet.guests[STRUCK];
                guest.reboot()?;
                guest.wait_up()?;
                runs_alone(guest)
            }
            Self::HostKill => fleet.guests[STRUCK].kill(),
            Self::Partition => cut(fleet),
            Self::PackageUpgrade => {
                let newer = fleet.package.newer(&fleet.dir())?;
                newer.install(&fleet.guests[STRUCK].control)
            }
            Self::ClockJump => {
                fleet.guests[STRUCK].control.sh("date -s '1 hour'")?;
                heard(fleet)
            }
            Self::DiskFull => {
                fleet.guests[STRUCK].control.sh(FILL).context("fill the disks")?;
                heard(fleet)
            }
            Self::UdpBlocked => {
                fleet.guests[STRUCK].ports.set_udp(false)?;
                fleet.wait_host(STRUCK, "connected by TCP", |host| host["transport"] == "tcp").map(drop)
            }
            Self::CertificateExpiry => {
                cut(fleet)?;
                fleet.ahead += A_CERTIFICATE_LATER;
                let later = format!("date -s '{} seconds'", A_CERTIFICATE_LATER.as_secs());
                fleet.guests.iter().try_for_each(|guest| guest.control.sh(&later).map(drop))?;
                coordinator_ahead(fleet)?;
                let guest = &fleet.guests[STRUCK];
                let now: i64 = guest.control.sh("date +%s")?.parse().context("read the guest's clock")?;
                ensure!(certificate_expires(guest)? < now * 1_000_000, "the certificate is still in force");
                Ok(())
            }
        }
    }

    /// Ends what strikes, and returns when everybody is back.
    ///
    /// # Errors
    /// When somebody does not come back in time.
    pub fn mend(self, fleet: &mut Fleet) -> Result<()> {
        match self {
            Self::CoordinatorKill | Self::LonelyReboot => fleet.lab.coordinator()?.restart()?,
            Self::Reboot => fleet.guests[STRUCK].wait_up()?,
            Self::HostKill => {
                fleet.guests[STRUCK].boot()?;
                fleet.guests[STRUCK].wait_up()?;
            }
            Self::Partition | Self::CertificateExpiry => fleet.guests[STRUCK].ports.set_connected(true)?,
            Self::ClockJump => fleet.guests[STRUCK].control.sh("date -s '-1 hour'").map(drop)?,
            Self::DiskFull => {
                fleet.guests[STRUCK].control.sh("rm -rf /fill /var/lib/launchpad-agent/fill").map(drop)?;
            }
            Self::UdpBlocked => fleet.guests[STRUCK].ports.set_udp(true)?,
            Self::AgentKill | Self::DockerdKill | Self::UnitRestart | Self::PackageUpgrade => {}
        }
        (0..fleet.guests.len())
            .try_for_each(|index| fleet.wait_host(index, "connected", |host| host["connected"] == true).map(drop))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        f.write_str(name.as_str().unwrap_or_default())
    }
}

/// Kills a unit's main process, and waits until systemd has started another.
fn kill_unit(guest: &Guest, unit: &str) -> Result<()> {
    let pid = format!("systemctl show --property MainPID --value {unit}");
    let before = guest.control.sh(&pid)?;
    guest.control.sh(&format!("kill -KILL {before}"))?;
    let again =
        format!("systemctl is-active --quiet {unit} && test \"$({pid})\" -gt 0 && test \"$({pid})\" -ne {before}");
    guest.control.wait(&format!("systemd to start {unit} again"), SOON, &again).map(drop)
}

/// Waits until a bot runs on a guest, whoever else does.
fn runs_alone(guest: &Guest) -> Result<()> {
    wait_for("the host to find its bot by itself", SOON, || {
        Ok(match standing::look(&guest.control) {
            Ok(bots) if !bots.is_empty() && bots.values().all(|bot| bot.running && bot.has_volume) => Ok(()),
            Ok(bots) => Err(format!("{bots:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
    })
}

/// Until when the guest's certificate is in force, in microseconds.
fn certificate_expires(guest: &Guest) -> Result<i64> {
    let told = guest.control.sh("launchpad-agent status --output json")?;
    let told: serde_json::Value = serde_json::from_str(&told).context("read the agent's status")?;
    told["certificate_expires"].as_i64().with_context(|| format!("no certificate in {told}"))
}

/// Cuts the guest off, and waits until the coordinator has noticed.
fn cut(fleet: &Fleet) -> Result<()> {
    fleet.guests[STRUCK].ports.set_connected(false)?;
    fleet.wait_host(STRUCK, "not connected", |host| host["connected"] == false).map(drop)
}

/// Waits for another word of the guest: whatever ails it, it says how it is.
fn heard(fleet: &Fleet) -> Result<()> {
    let before = fleet.host(STRUCK)?["last_seen_us"].clone();
    fleet.wait_host(STRUCK, "heard of again", |host| host["last_seen_us"] != before).map(drop)
}

/// Starts the coordinator again with its clock as far ahead as the guests'.
fn coordinator_ahead(fleet: &mut Fleet) -> Result<()> {
    let (preload, ahead) = (faketime()?, fleet.ahead);
    let coordinator = fleet.lab.coordinator()?;
    let environment = &mut coordinator.place().environment;
    environment.insert("LD_PRELOAD".to_owned(), preload.display().to_string());
    environment.insert("FAKETIME".to_owned(), format!("+{}s", ahead.as_secs()));
    environment.insert("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned());
    coordinator.restart()
}

/// The library that Debian's `faketime` preloads, wherever this machine keeps it.
fn faketime() -> Result<PathBuf> {
    let folders =
        fs::read_dir("/usr/lib").context("look into /usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    found.next().context("no libfaketime: packaging/setup.sh vm installs it")
}
