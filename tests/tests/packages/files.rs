//! The packages as files: the same bytes each time, nothing that lintian or rpmlint calls an error, everything in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use launchpad_tests::programs;
use tempfile::TempDir;

use crate::made::{Made, PACKAGES, RELEASED, make};

/// What each package puts below /usr, among other things.
const PLACES: [(&str, &[&str]); 3] = [
    ("launchpad", &["bin/launchpad", "share/man/man1/launchpad-deploy.1.gz"]),
    (
        "launchpad-agent",
        &[
            "bin/launchpad-agent",
            "lib/systemd/system/launchpad-agent.service",
            "lib/systemd/system/launchpad-gate.service",
            "lib/tmpfiles.d/launchpad-agent.conf",
            "share/man/man8/launchpad-agent.8.gz",
            "share/man/man8/launchpad-agent-enroll.8.gz",
        ],
    ),
    (
        "launchpad-coordinator",
        &[
            "bin/launchpad-coordinator",
            "lib/systemd/system/launchpad-coordinator.service",
            "lib/sysusers.d/launchpad-coordinator.conf",
            "share/man/man8/launchpad-coordinator-init.8.gz",
        ],
    ),
];

fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(said)
}

/// Fails on what lintian and rpmlint call errors, and repeats them.
pub(crate) fn look_over(made: &Made) -> Result<()> {
    let debs: Vec<_> = PACKAGES.iter().map(|name| made.deb(name)).collect::<Result<_>>()?;
    let rpms: Vec<_> = PACKAGES.iter().map(|name| made.rpm(name)).collect::<Result<_>>()?;
    said(Command::new("lintian").args(["--fail-on", "error", "--allow-root"]).args(debs))?;
    let config = programs::workspace().join("packaging/rpm/rpmlint.toml");
    let found = said(Command::new("rpmlint").arg("--config").arg(config).args(rpms))?;
    ensure!(found.contains("3 packages") && found.contains(" 0 errors"), "{found}");
    Ok(())
}

#[test]
fn lintian_and_rpmlint_find_no_error() -> Result<()> {
    look_over(&Made::of(RELEASED)?)
}

#[test]
fn the_same_input_makes_the_same_bytes_whatever_its_files_dates_and_modes_are() -> Result<()> {
    let (programs, once, again) = (TempDir::new()?, TempDir::new()?, TempDir::new()?);
    for package in PACKAGES {
        fs::copy("/usr/bin/sleep", programs.path().join(package))?;
    }
    make(programs.path(), once.path(), None)?;
    for package in PACKAGES {
        let program = programs.path().join(package);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        said(Command::new("touch").args(["--date", "1999-12-31"]).arg(&program))?;
    }
    make(programs.path(), again.path(), None)?;
    same_files(once.path(), again.path())
}

/// Whether two directories hold the same files, byte for byte, and six of them.
pub(crate) fn same_files(one: &Path, other: &Path) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(one)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    ensure!(names.len() == 2 * PACKAGES.len(), "{names:?}");
    for name in names {
        ensure!(fs::read(one.join(&name))? == fs::read(other.join(&name))?, "{name:?} came out in other bytes");
    }
    Ok(())
}

#[test]
fn both_kinds_hold_program_units_manual_completions_settings_and_licence() -> Result<()> {
    let made = Made::of(RELEASED)?;
    for (package, places) in PLACES {
        let deb = said(Command::new("dpkg-deb").arg("--contents").arg(made.deb(package)?))?;
        let rpm = said(Command::new("rpm").args(["--query", "--list", "--package"]).arg(made.rpm(package)?))?;
        for place in places {
            assert!(deb.contains(&format!("./usr/{place}\n")), "{place} is not in:\n{deb}");
            assert!(rpm.contains(&format!("/usr/{place}\n")), "{place} is not in:\n{rpm}");
        }
        for completion in [
            format!("usr/share/bash-completion/completions/{package}\n"),
            format!("usr/share/fish/vendor_completions.d/{package}.fish\n"),
            format!("_{package}\n"),
        ] {
            assert!(deb.contains(&completion) && rpm.contains(&completion), "no {completion}");
        }
        assert!(deb.contains(&format!("/usr/share/doc/{package}/changelog.gz\n")));
        assert!(deb.contains(&format!("/usr/share/doc/{package}/copyright\n")));
        assert!(rpm.contains(&format!("/usr/share/licenses/{package}/LICENSE\n")));
        let settings = format!("/etc/launchpad/{}.toml\n", package.trim_start_matches("launchpad-"));
        let kept = said(Command::new("rpm").args(["--query", "--configfiles", "--package"]).arg(made.rpm(package)?))?;
        assert_eq!(kept == settings, package != "launchpad", "{kept}");
        let conffiles =
            Command::new("dpkg-deb").arg("--info").arg(made.deb(package)?).arg("conffiles").output()?.stdout;
        assert_eq!(String::from_utf8(conffiles)?, kept);
    }
    Ok(())
}
