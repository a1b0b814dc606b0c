//! The agent's package for Debian on a host with bots: installed, upgraded, interrupted, removed, purged, back again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::wait::wait_for;

use crate::made::{Made, NEXT, RELEASED};
use crate::root::Root;

/// dpkg, on a busy machine.
const DPKG_WITHIN: Duration = Duration::from_secs(60);

/// Dependencies are the machine's business here, its manual's index too; and what is thrown away need not reach a disk.
const DPKG: [&str; 4] = ["--force-depends", "--force-unsafe-io", "--force-confold", "--no-triggers"];

const AGENT: &str = "/usr/bin/launchpad-agent";
const KEPT: &str = "/var/lib/launchpad-kept/launchpad-agent";
const GATE_KEPT: &str = "/etc/systemd/system/launchpad-gate.service";
const GATE_AT_BOOT: &str = "/etc/systemd/system/multi-user.target.wants/launchpad-gate.service";
const AGENT_AT_BOOT: &str = "/etc/systemd/system/multi-user.target.wants/launchpad-agent.service";
const VOLUME: &str = "/var/lib/launchpad-agent/volumes/dep_0198c0de";
const BOT: &str = "lp-shrimp  Up 3 days\n";

/// The agent's package for Debian, here and one version later.
struct Debs {
    here: String,
    next: String,
    _made: [Made; 2],
}

impl Debs {
    fn taken_into(root: &Root) -> Result<Self> {
        let made = [Made::of(RELEASED)?, Made::of(NEXT)?];
        let [here, next] = &made;
        let (here, next) =
            (root.take_in(&here.deb("launchpad-agent")?)?, root.take_in(&next.deb("launchpad-agent")?)?);
        Ok(Self { here, next, _made: made })
    }
}

fn dpkg(root: &Root, args: &[&str]) -> Result<String> {
    root.run("dpkg", &[&DPKG, args].concat())
}

fn state(root: &Root) -> Result<String> {
    root.run("dpkg-query", &["--showformat=${db:Status-Status} ${Version}", "--show", "launchpad-agent"])
}

/// What `launchpad-agent enroll` leaves, and a bot with a volume.
fn joins_and_gets_a_bot(root: &Root) -> Result<u32> {
    root.write("/var/lib/launchpad-agent/identity/identity", "who this host is")?;
    root.write(&format!("{VOLUME}/image"), "a bot's data")?;
    root.write("/run/stand-in/bots", BOT)?;
    let script = "mkdir -p /etc/systemd/system/multi-user.target.wants && cd /etc/systemd/system/multi-user.target.wants \
                  && ln -s /usr/lib/systemd/system/launchpad-agent.service /usr/lib/systemd/system/launchpad-gate.service .";
    root.run("sh", &["-c", script])?;
    root.serve("launchpad-gate.service", AGENT)
}

/// A host with a bot, on which the agent's package is installed.
fn host_with_a_bot() -> Result<(Root, Debs, u32)> {
    let root = Root::new()?;
    let debs = Debs::taken_into(&root)?;
    dpkg(&root, &["--install", &debs.here])?;
    let gate = joins_and_gets_a_bot(&root)?;
    root.asked_of_systemd()?;
    Ok((root, debs, gate))
}

#[test]
fn a_first_installation_starts_and_enables_nothing_because_the_host_has_not_joined() -> Result<()> {
    let root = Root::new()?;
    let debs = Debs::taken_into(&root)?;
    dpkg(&root, &["--install", &debs.here])?;
    assert_eq!(root.asked_of_systemd()?, ["--quiet daemon-reload"]);
    assert!(!root.has(AGENT_AT_BOOT));
    assert!(root.has("/run/launchpad-agent"), "tmpfiles.d makes it");
    Ok(())
}

#[test]
fn an_upgrade_and_a_downgrade_restart_gate_and_agent_and_the_same_again_the_agent_alone() -> Result<()> {
    let (root, debs, _) = host_with_a_bot()?;
    let agent_alone = ["--quiet daemon-reload", "try-restart launchpad-agent.service"];
    let both = [agent_alone[0], "try-restart launchpad-gate.service", agent_alone[1]];

    dpkg(&root, &["--install", &debs.here])?;
    assert_eq!(root.asked_of_systemd()?, agent_alone, "the gate runs from the same bytes");
    dpkg(&root, &["--install", &debs.next])?;
    assert_eq!(root.asked_of_systemd()?, both);
    assert_eq!(state(&root)?, format!("installed {NEXT}"));

    root.serve("launchpad-gate.service", AGENT)?;
    dpkg(&root, &["--install", &debs.here])?;
    assert_eq!(root.asked_of_systemd()?, both);
    assert_eq!(state(&root)?, format!("installed {RELEASED}"));
    Ok(())
}

#[test]
fn an_operators_own_settings_outlive_upgrade_downgrade_and_removal() -> Result<()> {
    let (root, debs, _) = host_with_a_bot()?;
    let settings = "/etc/launchpad/agent.toml";
    root.write(settings, "# ours\n")?;
    for deb in [&debs.next, &debs.here] {
        dpkg(&root, &["--install", deb])?;
        assert_eq!(root.read(settings)?, "# ours\n");
    }
    dpkg(&root, &["--remove", "launchpad-agent"])?;
    assert_eq!(root.read(settings)?, "# ours\n");
    Ok(())
}

#[test]
fn an_upgrade_killed_before_the_agent_has_restarted_is_finished_by_configuring_again() -> Result<()> {
    let (root, debs, gate) = host_with_a_bot()?;
    // The new files are in place; the script that comes after them asks systemd, and gets no answer.
    root.run("mkfifo", &["/run/stand-in/hold"])?;
    let mut dpkg_dying = root.command("dpkg", &[&DPKG[..], &["--install", &debs.next]].concat()).spawn()?;
    wait_for("the new package's script", DPKG_WITHIN, || {
        let asked = root.read("/run/stand-in/asked").unwrap_or_default();
        Ok(if asked.is_empty() { Err("nothing asked of systemd".to_owned()) } else { Ok(()) })
    })?;
    root.run("sh", &["-c", "kill -KILL $(pidof dpkg) $(pidof -x launchpad-agent.postinst)"])?;
    ensure!(!dpkg_dying.wait()?.success(), "dpkg was not killed");
    root.run("rm", &["/run/stand-in/hold"])?;
    root.asked_of_systemd()?;
    assert_eq!(state(&root)?, format!("half-configured {NEXT}"));
    assert!(root.runs(gate), "an interrupted upgrade ends nothing");

    dpkg(&root, &["--configure", "--pending"])?;
    assert_eq!(state(&root)?, format!("installed {NEXT}"));
    let asked = root.asked_of_systemd()?;
    assert_eq!(asked.last().context("nothing asked")?, "try-restart launchpad-agent.service");
    Ok(())
}

#[test]
fn an_upgrade_killed_while_files_are_replaced_leaves_a_whole_program_and_is_mended_by_installing_again() -> Result<()>
{
    let (root, debs, gate) = host_with_a_bot()?;
    let before = std::fs::read(root.path(AGENT))?;
    let mut dpkg_dying = root.command("dpkg", &[&DPKG[..], &["--install", &debs.next]].concat()).spawn()?;
    let (fresh, record) = (format!("{AGENT}.dpkg-new"), "/var/lib/dpkg/tmp.ci/control");
    wait_for("files that dpkg has not put in place yet", DPKG_WITHIN, || {
        Ok(if root.has(&fresh) || root.has(record) { Ok(()) } else { Err("none".to_owned()) })
    })?;
    // Wherever that finds it: before, between or after two files.
    let _ = root.run("sh", &["-c", "kill -KILL $(pidof dpkg)"]);
    dpkg_dying.wait()?;
    let found = std::fs::read(root.path(AGENT))?;
    assert!(found == before || found.ends_with(NEXT.as_bytes()), "neither the old program nor the new one");
    assert!(root.runs(gate), "an interrupted upgrade ends nothing");

    dpkg(&root, &["--install", &debs.next])?;
    assert_eq!(state(&root)?, format!("installed {NEXT}"));
    assert!(std::fs::read(root.path(AGENT))?.ends_with(NEXT.as_bytes()));
    Ok(())
}

#[test]
fn a_removal_stops_the_agent_alone_and_says_which_bots_run_on_and_how_to_come_back() -> Result<()> {
    let (root, _debs, gate) = host_with_a_bot()?;
    let said = dpkg(&root, &["--remove", "launchpad-agent"])?;
    for line in ["  lp-shrimp  Up 3 days", "docker ps --all", "To come back, install launchpad-agent again"] {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    let asked = root.asked_of_systemd()?;
    assert_eq!(asked, ["--quiet daemon-reload", "stop launchpad-agent.service", "--quiet daemon-reload"]);
    assert!(root.runs(gate));
    assert!(!root.has(AGENT));
    assert!(root.has(&format!("{VOLUME}/image")));
    Ok(())
}

#[test]
fn a_gate_outlives_the_removal_of_its_package_also_through_a_crash_and_a_reboot() -> Result<()> {
    let (root, debs, gate) = host_with_a_bot()?;
    let program = std::fs::read(root.path(AGENT))?;
    root.write("/etc/launchpad/agent.toml", "# ours\n")?;
    dpkg(&root, &["--remove", "launchpad-agent"])?;

    assert_eq!(std::fs::read(root.path(KEPT))?, program);
    let unit = root.read(GATE_KEPT)?;
    let command =
        "ExecStart=/var/lib/launchpad-kept/launchpad-agent gate --config /var/lib/launchpad-kept/agent.toml";
    assert!(unit.lines().any(|line| line.starts_with(command)), "{unit}");
    assert_eq!(root.read("/var/lib/launchpad-kept/agent.toml")?, "# ours\n");
    assert_eq!(std::fs::read_link(root.path(GATE_AT_BOOT))?.to_str(), Some(GATE_KEPT));

    // And back: the same bytes are no reason to restart it.
    dpkg(&root, &["--install", &debs.here])?;
    assert!(!root.has(KEPT) && !root.has(GATE_KEPT));
    assert!(root.runs(gate));
    let asked = root.asked_of_systemd()?;
    assert!(!asked.iter().any(|asked| asked.contains("restart")), "{asked:?}");
    assert_eq!(asked.last().context("nothing asked")?, "start launchpad-agent.service", "it goes on where it was");
    let unit = root.run("cat", &[GATE_AT_BOOT])?;
    assert!(unit.contains(&format!("ExecStart={AGENT} gate")), "{unit}");
    Ok(())
}

#[test]
fn an_operators_own_unit_of_the_gate_is_neither_replaced_nor_removed() -> Result<()> {
    let (root, debs, _) = host_with_a_bot()?;
    root.write(GATE_KEPT, "[Service]\n")?;
    dpkg(&root, &["--remove", "launchpad-agent"])?;
    assert_eq!(root.read(GATE_KEPT)?, "[Service]\n");
    dpkg(&root, &["--install", &debs.here])?;
    assert_eq!(root.read(GATE_KEPT)?, "[Service]\n");
    Ok(())
}

#[test]
fn a_purge_keeps_bots_their_data_and_their_gate_and_names_the_way_to_give_them_up() -> Result<()> {
    let (root, debs, gate) = host_with_a_bot()?;
    // Docker may be away just then: whoever has data is known without it.
    root.run("rm", &["/run/stand-in/bots"])?;
    let said = dpkg(&root, &["--purge", "launchpad-agent"])?;
    for line in ["dep_0198c0de", "launchpad-agent evict"] {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    assert!(root.runs(gate));
    for kept in [&format!("{VOLUME}/image"), "/var/lib/launchpad-agent/identity/identity", KEPT, GATE_KEPT] {
        assert!(root.has(kept), "{kept} is gone");
    }
    // The way that it named: install again, and purge once they are given up.
    dpkg(&root, &["--install", &debs.here])?;
    root.run("rm", &["-r", VOLUME])?;
    root.write("/run/stand-in/bots", "")?;
    dpkg(&root, &["--purge", "launchpad-agent"])?;
    assert_eq!(root.ours()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_bot_without_a_volume_keeps_a_purge_from_taking_its_gate_away() -> Result<()> {
    let (root, _debs, gate) = host_with_a_bot()?;
    root.run("rm", &["-r", VOLUME])?;
    let said = dpkg(&root, &["--purge", "launchpad-agent"])?;
    assert!(said.contains("this host still has bots"), "{said}");
    assert!(root.runs(gate) && root.has(KEPT));
    Ok(())
}

#[test]
fn data_that_an_operator_has_moved_elsewhere_is_found_there() -> Result<()> {
    let (root, _debs, _) = host_with_a_bot()?;
    root.run("sh", &["-c", "mkdir /srv/bots && mv /var/lib/launchpad-agent/* /srv/bots && rm /run/stand-in/bots"])?;
    root.write("/etc/launchpad/agent.toml", "  data_dir = \"/srv/bots\" # a disk of its own\n")?;
    let said = dpkg(&root, &["--purge", "launchpad-agent"])?;
    assert!(said.contains("/srv/bots/volumes") && said.contains("dep_0198c0de"), "{said}");
    assert!(root.has("/srv/bots/volumes/dep_0198c0de/image"));
    Ok(())
}

#[test]
fn a_host_without_bots_is_left_without_a_trace() -> Result<()> {
    let root = Root::new()?;
    let debs = Debs::taken_into(&root)?;
    dpkg(&root, &["--install", &debs.here])?;
    let gate = joins_and_gets_a_bot(&root)?;
    root.run("rm", &["-r", VOLUME])?;
    root.write("/run/stand-in/bots", "")?;
    root.asked_of_systemd()?;
    dpkg(&root, &["--remove", "launchpad-agent"])?;
    let asked = root.asked_of_systemd()?;
    assert!(asked[0].starts_with("stop launchpad-agent.service launchpad-gate.service"), "{asked:?}");
    assert!(root.runs(gate) && !root.has(KEPT), "only systemd ends it, and nothing is kept for it");
    dpkg(&root, &["--purge", "launchpad-agent"])?;
    assert_eq!(root.ours()?, Vec::<String>::new());
    Ok(())
}
