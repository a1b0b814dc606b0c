//! What of ours is left on a host on which no bot is wished for any more: nothing but two empty frames.
//!
//! Called by scenarios after everything was purged. It looks with the programs that a person would use, at the places
//! that people look at; `sweep` is what cleans up behind a laboratory, and does not come before this.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::agent::Place;
use crate::host::Host;
use crate::process::run;

/// Where the kernel's groups lie: one folder for all, or one for each controller.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The group above all tenants' (`agent/src/execute/cgroup.rs`).
const CGROUP_PARENT: &str = "launchpad";
/// What tenants' networks and bridges are called (`agent/src/execute/places.rs`).
const NETWORK_PREFIX: &str = "lp-";
/// Digits at the end of an account's id by which its network, its bridge and its rules are named, likewise.
const NAME_DIGITS: usize = 12;

/// Networks, bridges, rules, routes and cgroups of that account.
///
/// # Errors
/// When the host cannot be looked at.
pub fn of_account(host: &Host, account: &str) -> Result<Vec<String>> {
    let digits = &account[account.len().saturating_sub(NAME_DIGITS)..];
    let mut left: Vec<String> = network_parts(host)?.into_iter().filter(|part| part.contains(digits)).collect();
    left.extend(groups_of(account)?);
    Ok(left)
}

/// Everything of any tenant: containers, networks, bridges, rules, routes, mounts and loop devices. Control groups of
/// these accounts only: a machine's other laboratories have theirs in the same place.
///
/// # Errors
/// When the host cannot be looked at.
pub fn of_anybody(host: &mut Host, accounts: &BTreeSet<String>) -> Result<Vec<String>> {
    let containers = host.engine.docker(&["ps", "--all", "--format", "{{.Names}}"])?;
    let mut left: Vec<String> = containers.lines().map(|name| format!("container {name}")).collect();
    left.extend(network_parts(host)?);
    for account in accounts {
        left.extend(groups_of(account)?);
    }
    let place = host.agent()?.place().clone();
    left.extend(mounts(&place)?);
    left.extend(loops_below(&place.data)?);
    for folder in
        [place.data.join("volumes"), place.data.join("trash"), place.run.join("files"), place.run.join("resolv")]
    {
        let names = fs::read_dir(&folder).into_iter().flatten();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        left.extend(names.filter(|name| name.contains("dep_")).map(|name| folder.join(name).display().to_string()));
    }
    Ok(left)
}

/// An account's control groups, by whichever driver the engine makes them, and in whichever hierarchy.
fn groups_of(account: &str) -> Result<Vec<String>> {
    let by_driver = [
        Path::new(CGROUP_PARENT).join(account),
        Path::new(&format!("{CGROUP_PARENT}.slice")).join(format!("{CGROUP_PARENT}-{account}.slice")),
    ];
    let groups = hierarchies()?.into_iter().flat_map(|folder| by_driver.each_ref().map(|below| folder.join(below)));
    Ok(groups.filter(|group| group.exists()).map(|group| format!("cgroup {}", group.display())).collect())
}

/// Lines of what Docker, `ip` and `nft` show that name a tenant's network.
fn network_parts(host: &Host) -> Result<Vec<String>> {
    let filter = format!("name={NETWORK_PREFIX}");
    let networks = host.engine.docker(&["network", "ls", "--filter", &filter, "--format", "{{.Name}}"])?;
    let mut parts: Vec<String> = networks.lines().map(|name| format!("network {name}")).collect();
    let shown = host.net.inside(|| {
        Ok([
            ("a bridge", run(Command::new("ip").args(["-o", "link", "show", "type", "bridge"]))?),
            ("a routing rule", run(Command::new("ip").args(["rule", "show"]))?),
            ("a routing rule of IPv6", run(Command::new("ip").args(["-6", "rule", "show"]))?),
            ("a rule of nftables", run(Command::new("nft").args(["list", "ruleset"]))?),
        ])
    })?;
    for (what, text) in shown {
        let ours = text.lines().filter(|line| names_a_tenant(line));
        parts.extend(ours.map(|line| format!("{what}: {}", line.trim())));
    }
    Ok(parts)
}

/// Whether a word of the line is `lp` and twelve hex digits, alone or inside a name.
fn names_a_tenant(line: &str) -> bool {
    let is_digits =
        |rest: &str| rest.len() >= NAME_DIGITS && rest.as_bytes()[..NAME_DIGITS].iter().all(u8::is_ascii_hexdigit);
    line.match_indices("lp").any(|(at, _)| is_digits(&line[at + 2..]))
        || line.match_indices("_").any(|(at, _)| is_digits(&line[at + 1..]))
}

/// Mounts in the agent's two directories. One is the agent's own, for as long as the machine is up: the tmpfs of the
/// tenants' files.
fn mounts(place: &Place) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    Ok(mounts_below(&table, place).into_iter().map(|point| format!("a mount at {}", point.display())).collect())
}

fn mounts_below(table: &str, place: &Place) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?)));
    let mut points: Vec<PathBuf> =
        points.filter(|point| point.starts_with(&place.data) || point.starts_with(&place.run)).collect();
    let files = place.run.join("files");
    // That one, once: a second tmpfs would hide the first, and whoever has that mounted.
    if let Some(own) = points.iter().position(|point| *point == files) {
        points.remove(own);
    }
    points
}

fn loops_below(dir: &Path) -> Result<Vec<String>> {
    let devices = run(Command::new("losetup").args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"]))?;
    let dir = dir.display().to_string();
    Ok(devices.lines().filter(|line| line.contains(&dir)).map(|line| format!("a loop device: {line}")).collect())
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let folders = fs::read_dir(CGROUPS)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(folders.chain([CGROUPS.into()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_name_is_known_in_whatever_it_stands() {
        assert!(names_a_tenant("7: lp1a2b3c4d5e6f: <BROADCAST> mtu 1500"));
        assert!(names_a_tenant("\tchain out_1a2b3c4d5e6f {"));
        assert!(!names_a_tenant("1: lpab12cdh1@if2: <UP>"));
        assert!(!names_a_tenant("table inet launchpad {"));
    }

    #[test]
    fn of_the_agents_mounts_one_tmpfs_is_its_own_and_every_other_is_left_over() {
        let place = Place::new("h1", Path::new("/lab/h1"), Path::new("/docker.sock"), Path::new("/netns"));
        let line = |point: &str| format!("30 29 0:40 / {point} rw - tmpfs launchpad-files rw\n");
        let table = ["/lab/h1/data", "/lab/h1/agent-run/files"].map(line).concat();
        assert_eq!(mounts_below(&table, &place), [] as [PathBuf; 0]);
        let left =
            ["/lab/h1/agent-run/files", "/lab/h1/agent-run/resolv/dep_1", "/lab/h1/agent/volumes/dep_1/mount/data"];
        let table = table + &left.map(line).concat();
        assert_eq!(mounts_below(&table, &place), left.map(PathBuf::from));
    }
}
