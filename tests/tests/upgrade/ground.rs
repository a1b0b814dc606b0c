//! A host whose agent came from a package: apt-get, dpkg and systemctl are a few lines of shell, and a package is a line that
//! names its version. What they install is real: this build, or the same bytes with another version in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::lab::Lab;
use launchpad_tests::process::{Process, Recipe};
use launchpad_tests::programs;
use launchpad_tests::wait::{wait_for, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::terminal::Line;

/// This build's, as it stands in its bytes.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// Seconds in which the runner has to find a new version well, and for which it has to stay so.
const JUDGE_WITHIN_S: u32 = 20;
const STEADY_S: u32 = 1;

/// A download, an installation, a judgement, and the same back.
const UPGRADED_WITHIN: Duration = Duration::from_secs(120);

/// What systemd is to launchpad-agent.service: starts it again, as whatever is installed by then.
const SUPERVISE: &str = r#"#!/bin/sh
while :; do
    setpriv --pdeathsig KILL "$GROUND/current" run "$@" &
    echo $! >"$GROUND/pid"
    wait $!
    sleep 0.1
done
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
"start --no-block launchpad-upgrade.service")
    setsid "$GROUND/upgrade/launchpad-agent" --config /dev/null upgrade >>"$GROUND/upgrade.log" 2>&1 &
    ;;
*) exit 1 ;;
esac
"#;

const DPKG_QUERY: &str = "#!/bin/sh\ncat \"$GROUND/installed\"\n";

const DPKG_DEB: &str = "#!/bin/sh\nhead -n 1 \"$3\"\n";

const APT_GET: &str = r#"#!/bin/sh
for last; do :; done
case "$*" in
*download*) cp "$GROUND/repository/launchpad-agent_${last#launchpad-agent=}_amd64.deb" . ;;
*install*) exec dpkg --install "$last" ;;
esac
"#;

/// Puts the program in place of the other, and has the service tried again. Once it ends its own caller first, half-way.
const DPKG: &str = r#"#!/bin/sh
for last; do :; done
version=$(head -n 1 "$last" | cut -d ' ' -f 2)
if [ -e "$GROUND/dies" ]; then
    rm "$GROUND/dies"
    kill -KILL "$PPID"
    exit 1
fi
ln -sfn "$GROUND/bin/$version" "$GROUND/current.new"
mv -fT "$GROUND/current.new" "$GROUND/current"
printf %s "$version" >"$GROUND/installed"
kill "$(cat "$GROUND/pid")" 2>/dev/null || true
"#;

/// The host's package manager, its service manager, and its agent.
#[derive(Debug)]
pub(crate) struct Ground {
    dir: PathBuf,
    data: PathBuf,
    service: Process,
}

impl Ground {
    /// Has the first host's agent run as a service that came from a package.
    pub(crate) fn on(lab: &mut Lab) -> Result<Self> {
        let dir = lab.dir().join("packaged");
        let tools = dir.join("tools");
        for folder in ["tools", "bin", "repository"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let programs = [
            ("systemctl", SYSTEMCTL),
            ("dpkg-query", DPKG_QUERY),
            ("dpkg-deb", DPKG_DEB),
            ("apt-get", APT_GET),
            ("dpkg", DPKG),
            ("supervise", SUPERVISE),
        ];
        for (name, script) in programs {
            executable(&tools.join(name), script.as_bytes())?;
        }
        let agent = lab.host(0)?.agent()?;
        agent.kill()?;
        let place = agent.place().clone();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").context("there is a PATH")?);
        let at = |path: &Path| path.display().to_string();
        let service = Recipe::new("launchpad-agent.service", tools.join("supervise"), dir.join("agent.log"))
            .args(["--data-dir".to_owned(), at(&place.data), "--run-dir".to_owned(), at(&place.run)])
            .args(["--docker".to_owned(), at(&place.docker), "--upgrade-dir".to_owned(), at(&dir.join("upgrade"))])
            .env("PATH", path)
            .env("GROUND", at(&dir))
            .env("LAUNCHPAD_AGENT_UPGRADE_DIR", at(&dir.join("upgrade")))
            .env("LAUNCHPAD_UPGRADE_JUDGE_WITHIN", JUDGE_WITHIN_S.to_string())
            .env("LAUNCHPAD_UPGRADE_STEADY", STEADY_S.to_string())
            .in_namespace(Some(&place.namespace));
        install(&dir, OURS, &fs::read(programs::binary("launchpad-agent")?)?)?;
        fs::write(dir.join("installed"), OURS)?;
        std::os::unix::fs::symlink(dir.join("bin").join(OURS), dir.join("current"))?;
        let ground = Self { service: service.spawn()?, data: place.data, dir };
        lab.wait_shown(0, "connected as a service", |host| {
            host["connected"] == true && host["agent_version"] == OURS
        })?;
        Ok(ground)
    }

    /// Puts a version into the repository: one that is well, or one that does not start.
    pub(crate) fn package(&self, version: &str, well: bool) -> Result<()> {
        let program = if well {
            renamed(&programs::binary("launchpad-agent")?, version)?
        } else {
            b"#!/bin/sh\necho 'no such symbol' >&2\nexit 127\n".to_vec()
        };
        install(&self.dir, version, &program)
    }

    /// The runner, and what it calls, end in the middle of the next installation.
    pub(crate) fn runner_dies_while_it_installs(&self) -> Result<()> {
        Ok(fs::write(self.dir.join("dies"), "")?)
    }

    /// Waits until it has, and has the agent begin another life.
    pub(crate) fn runner_died(&self) -> Result<()> {
        wait_until("the runner to die", UPGRADED_WITHIN, || Ok(!self.dir.join("dies").exists()))?;
        let pid = fs::read_to_string(self.dir.join("pid"))?.trim().parse().context("a process's id")?;
        Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
    }

    /// `launchpad hosts upgrade …`, and what it printed.
    pub(crate) fn order(&self, lab: &mut Lab, words: &[&str]) -> Result<String> {
        let (api, token) = (lab.api()?, lab.coordinator()?.token().to_owned());
        Line::launchpad(&api, &token)?.args(["hosts", "upgrade"]).args(words).run()?.done()
    }

    /// Waits until the upgrade stands so, with what the runner said if it does not.
    pub(crate) fn wait_upgrade(&self, lab: &Lab, state: &str) -> Result<Value> {
        let api = lab.api()?;
        let said = || fs::read_to_string(self.dir.join("upgrade.log")).unwrap_or_default();
        wait_for(&format!("the upgrade to be {state}"), UPGRADED_WITHIN, || {
            let told = api.get("/upgrades")?.success()?["upgrade"].clone();
            Ok(if told["state"] == state { Ok(told) } else { Err(format!("{told}\n{}", said())) })
        })
    }

    /// Ends the service; its bots run on. One package of each side of the last upgrade is left.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.service.kill()?;
        let kept = fs::read_dir(self.data.join("packages"))?
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().is_file());
        ensure!(kept.count() == 2, "the shelf holds what was installed and what was there before");
        Ok(())
    }
}

fn install(dir: &Path, version: &str, program: &[u8]) -> Result<()> {
    let fresh = dir.join("bin").join(format!("{version}.new"));
    executable(&fresh, program)?;
    fs::rename(&fresh, dir.join("bin").join(version))?;
    let package = dir.join("repository").join(format!("launchpad-agent_{version}_amd64.deb"));
    Ok(fs::write(package, format!("launchpad-agent {version}\n"))?)
}

fn executable(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// The same program, which calls itself otherwise: every mention of its version becomes the other, which is as long.
fn renamed(program: &Path, version: &str) -> Result<Vec<u8>> {
    ensure!(version.len() == OURS.len(), "only a version of the same length fits into the same bytes");
    let words = format!("s/{}/{version}/g", OURS.replace('.', "\\."));
    let other = Command::new("sed").env("LC_ALL", "C").arg(words).arg(program).output().context("run sed")?;
    ensure!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    Ok(other.stdout)
}
