//! The agent's package for hosts without dpkg, and the coordinator's.

use anyhow::Result;

use crate::made::{Made, NEXT, RELEASED};
use crate::root::Root;

/// Debian's rpm wants to be told twice; what a package needs has other names there.
const RPM: [&str; 2] = ["--nodeps", "--force-debian"];

fn rpm(root: &Root, args: &[&str]) -> Result<String> {
    root.run("rpm", &[&RPM, args].concat())
}

#[test]
fn an_rpm_is_installed_upgraded_downgraded_and_erased_as_gently() -> Result<()> {
    let root = Root::new()?;
    let (here, next) = (Made::of(RELEASED)?, Made::of(NEXT)?);
    let (here, next) = (root.take_in(&here.rpm("launchpad-agent")?)?, root.take_in(&next.rpm("launchpad-agent")?)?);
    rpm(&root, &["--install", &here])?;
    assert_eq!(root.asked_of_systemd()?, ["--quiet daemon-reload"], "nothing is enabled or started");

    let volume = "/var/lib/launchpad-agent/volumes/dep_0198c0de/image";
    root.write(volume, "a bot's data")?;
    root.write("/run/stand-in/bots", "lp-shrimp  Up 3 days\n")?;
    root.write("/etc/launchpad/agent.toml", "# ours\n")?;
    root.serve("launchpad-gate.service", "/usr/bin/launchpad-agent")?;
    for way in [["--upgrade", &next], ["--upgrade", &here]] {
        rpm(&root, &[&["--oldpackage"], &way[..]].concat())?;
        let asked = root.asked_of_systemd()?;
        assert_eq!(asked[1..3], ["try-restart launchpad-gate.service", "try-restart launchpad-agent.service"]);
        assert!(!asked.iter().any(|asked| asked.starts_with("stop")), "{asked:?}");
        root.serve("launchpad-gate.service", "/usr/bin/launchpad-agent")?;
    }

    let said = root.run("rpm", &["--erase", "launchpad-agent"])?;
    assert!(said.contains("  lp-shrimp  Up 3 days"), "{said}");
    let asked = root.asked_of_systemd()?;
    assert_eq!(asked, ["--quiet daemon-reload", "stop launchpad-agent.service", "--quiet daemon-reload"]);
    for kept in [volume, "/var/lib/launchpad-kept/launchpad-agent", "/etc/systemd/system/launchpad-gate.service"] {
        assert!(root.has(kept), "{kept} is gone");
    }
    assert!(!root.has("/usr/bin/launchpad-agent"));
    Ok(())
}

#[test]
fn a_coordinators_package_makes_its_user_and_never_takes_a_fleet_away() -> Result<()> {
    let root = Root::new()?;
    let made = Made::of(RELEASED)?;
    let deb = root.take_in(&made.deb("launchpad-coordinator")?)?;
    let dpkg = |args: &[&str]| {
        root.run("dpkg", &[&["--force-depends", "--force-unsafe-io", "--no-triggers"], args].concat())
    };
    dpkg(&["--install", &deb])?;
    assert!(root.read("/etc/passwd")?.contains("\nlaunchpad:"));
    let data = "/var/lib/launchpad-coordinator";
    assert_eq!(root.run("stat", &["--format=%U %a", data])?, "launchpad 700\n");
    assert_eq!(root.asked_of_systemd()?, ["--quiet daemon-reload", "try-restart launchpad-coordinator.service"]);

    root.write(&format!("{data}/store.sqlite"), "a fleet")?;
    dpkg(&["--remove", "launchpad-coordinator"])?;
    assert_eq!(root.asked_of_systemd()?, ["stop launchpad-coordinator.service", "--quiet daemon-reload"]);
    let said = dpkg(&["--purge", "launchpad-coordinator"])?;
    assert!(said.contains("To give it up for good: rm -r /var/lib/launchpad-coordinator"), "{said}");
    assert_eq!(root.read(&format!("{data}/store.sqlite"))?, "a fleet");
    Ok(())
}
