//! The units as systemd reads them: well-formed, no more exposed than was decided, and nothing that would hide a bot's
//! volume from dockerd.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each unit's exposure, in tenths: what systemd/README.md gives reasons for, and no more.
const EXPOSURE_MAX: [(&str, u32); 4] = [
    ("launchpad-agent.service", 50),
    ("launchpad-gate.service", 40),
    ("launchpad-caddy.service", 20),
    ("launchpad-coordinator.service", 15),
];

/// Units that must see the host's mounts, and be seen to mount: the agent's volumes are dockerd's, too.
const WITH_THE_HOSTS_MOUNTS: [&str; 2] = ["launchpad-agent.service", "launchpad-gate.service"];

/// What gives a unit a mount namespace of its own (systemd 252, `exec_needs_mount_namespace`).
const MAKES_A_MOUNT_NAMESPACE: [&str; 28] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "InaccessiblePaths",
    "LoadCredential",
    "LogNamespace",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "TemporaryFileSystem",
];

/// Known from systemd 254 on; an older one says so and goes on.
const NEWER: [&str; 2] = ["RestartSteps", "RestartMaxDelaySec"];

fn units() -> BTreeMap<String, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let read = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_unit = name.ends_with(".service") || name.ends_with(".slice");
        is_unit.then(|| (name, fs::read_to_string(path).expect("a readable unit")))
    };
    fs::read_dir(dir).expect("the units").filter_map(|entry| read(entry.expect("an entry").path())).collect()
}

/// The value of every line with that key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let settings = unit.lines().filter_map(|line| line.split_once('='));
    settings.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn systemd_understands_every_line_of_every_unit() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for (name, unit) in units() {
        // It looks for the programs as well, which no build machine has installed.
        let unit: String = unit
            .lines()
            .map(
                |line| {
                    if line.starts_with("Exec") { "ExecStart=/bin/true\n".to_owned() } else { format!("{line}\n") }
                },
            )
            .collect();
        let path = dir.path().join(name);
        fs::write(&path, unit).expect("a copy");
        files.push(path);
    }
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files).output();
    let said = String::from_utf8(output.expect("systemd-analyze").stderr).expect("text");
    // Units of the machine itself are looked at with ours, and are none of our business.
    let ours = said.lines().filter(|line| line.contains("launchpad"));
    let complaints: Vec<&str> = ours.filter(|line| !NEWER.iter().any(|key| line.contains(key))).collect();
    assert_eq!(complaints, Vec::<&str>::new());
}

#[test]
fn no_unit_is_more_exposed_than_was_decided() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for (name, tenths) in EXPOSURE_MAX {
        let threshold = format!("--threshold={tenths}");
        let words = ["security", "--offline=true", "--no-pager", &threshold];
        let output =
            Command::new("systemd-analyze").args(words).arg(dir.join(name)).output().expect("systemd-analyze");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", text.lines().last().unwrap_or_default());
    }
}

#[test]
fn what_mounts_volumes_for_dockerd_has_the_hosts_own_mounts() {
    let units = units();
    for name in WITH_THE_HOSTS_MOUNTS {
        let found: Vec<&str> =
            MAKES_A_MOUNT_NAMESPACE.into_iter().filter(|key| !values(&units[name], key).is_empty()).collect();
        assert_eq!(found, Vec::<&str>::new(), "{name}");
        // Runtime directories are emptied at a stop otherwise, with what running bots have mounted.
        assert_eq!(values(&units[name], "RuntimeDirectoryPreserve"), ["yes"], "{name}");
    }
}

#[test]
fn bots_and_gate_outlive_the_agents_unit() {
    let units = units();
    let (agent, gate) = (&units["launchpad-agent.service"], &units["launchpad-gate.service"]);
    for (unit, key) in
        [(agent, "Requires"), (agent, "BindsTo"), (agent, "PartOf"), (gate, "Requires"), (gate, "PartOf")]
    {
        assert_eq!(values(unit, key), Vec::<&str>::new(), "{key}");
    }
    assert_eq!(values(agent, "KillMode"), ["process"]);
}

#[test]
fn whatever_runs_for_good_is_watched_and_started_again() {
    let units = units();
    for (name, unit) in EXPOSURE_MAX.map(|(name, _)| (name, &units[name])) {
        assert_eq!(values(unit, "Type"), ["notify"], "{name}");
        assert_eq!(values(unit, "Restart"), ["always"], "{name}");
        assert_eq!(values(unit, "StartLimitIntervalSec"), ["0"], "{name}");
        if !name.contains("caddy") {
            assert_eq!(values(unit, "WatchdogSec").len(), 1, "{name}");
        }
    }
}
