//! The host contract, proved from inside: a bot that attacks everything it can see gets nowhere, and its
//! neighbours do not notice.

use std::process::Command;

use anyhow::{Context as _, Result};
use launchpad_tests::contract::backend::Backend;
use launchpad_tests::contract::site::Site;
use launchpad_tests::contract::summary::Summary;
use launchpad_tests::deployment::SOON;
use launchpad_tests::lab::Run;
use launchpad_tests::programs;
use launchpad_tests::wait::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Fewer tries than this would mean that a room of attacks was left out.
const TRIES_MIN: usize = 300;

/// All attacks on one host, whose volumes that backend holds.
fn prove(backend: Backend, summary: &mut Summary) -> Result<()> {
    let mut site = Site::open(Run::fresh()?, backend, &[])?;
    let shown = site.hostile.get()?;
    assert_eq!(shown["instance"]["volume"]["backend"], backend.name(), "{}", shown["instance"]);
    assert!(shown["url"].is_string(), "it has a public name: {shown}");
    let evidence = site.attack()?;
    assert!(evidence.attempts() > TRIES_MIN, "only {} tries", evidence.attempts());
    summary.take(&evidence);
    summary.judge("hostile", &site.enforcement(&site.hostile)?);
    site.close()
}

#[test]
fn a_hostile_bot_gets_nowhere_with_every_volume_backend_that_the_machine_has() -> Result<()> {
    let mut summary = Summary::default();
    let mut proved = Vec::new();
    for backend in Backend::ALL {
        match backend.available(&std::env::temp_dir()) {
            Ok(()) => {
                prove(backend, &mut summary)?;
                proved.push(backend);
            }
            Err(why) => summary.lacks(backend, why),
        }
    }
    assert_eq!(summary.breaches, Vec::<String>::new());
    assert!(!proved.is_empty(), "this machine can hold volumes in no way at all: {}", summary.line());
    for backend in Backend::ALL {
        let told = summary.tells_lack_of(backend);
        assert!(proved.contains(&backend) != told, "{} neither proved nor told: {}", backend.name(), summary.line());
    }
    Ok(())
}

#[test]
fn once_the_gates_walls_are_torn_down_the_same_attacks_are_breaches() -> Result<()> {
    let mut site = Site::open(Run::fresh()?, Backend::Ext4Image, &[])?;
    site.tear_down_the_network_walls()?;
    let attacks = ["public", "host-8099", "host-443", "host-770", "stranger-8080"];
    let breaches = site.attack_by(&attacks, |_, _| Ok(()))?.breaches();
    // Seen by the bot, by the one who was visited, on the wire, and by whoever looks after the host.
    for seen in [
        "stranger-8080 got through",
        "host-443 got through",
        "host-770 got through",
        "came to host:",
        "left the host: tcp to 198.51.100.20 port 443",
        "the host's gate has ended",
    ] {
        assert!(breaches.iter().any(|breach| breach.starts_with(seen)), "no `{seen}` in {breaches:#?}");
    }
    site.close()
}

#[test]
fn a_neighbour_that_falls_silent_and_an_engine_that_is_away_are_breaches() -> Result<()> {
    let mut site = Site::open(Run::fresh()?, Backend::Ext4Image, &[])?;
    let unharmed = site.attack_by(&["public"], |_, _| Ok(()))?;
    assert_eq!(unharmed.harm, Vec::<String>::new());

    let stranger = Pid::from_raw(site.pid_of_stranger().try_into()?);
    let harmed = site.attack_by(&["public"], |lab, watch| {
        kill(stranger, Signal::SIGSTOP)?;
        let noticed = wait_until("the silence to be noticed", SOON, || Ok(!watch.harm().is_empty()));
        kill(stranger, Signal::SIGCONT)?;
        noticed?;
        lab.host(0)?.engine.kill_dockerd()
    })?;
    for seen in ["stranger did not answer for ", "the host's dockerd does not answer: "] {
        assert!(harmed.harm.iter().any(|line| line.starts_with(seen)), "no `{seen}` in {:#?}", harmed.harm);
    }
    assert!(!harmed.harm.iter().any(|line| line.starts_with("sibling did not")), "{:#?}", harmed.harm);
    site.lab.host(0)?.engine.restart_dockerd()?;
    site.close()
}

#[test]
fn the_check_ends_with_its_line_when_it_could_prove_nothing() -> Result<()> {
    // There, no backend can be tried and no laboratory be made.
    let output = Command::new(programs::binary("contract")?).env("TMPDIR", "/proc").output()?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stdout)?;
    let line: Value = serde_json::from_str(told.lines().last().context("no line at all")?)?;
    assert_eq!((&line["attempts"], &line["enforcement"]), (&0.into(), &serde_json::json!({})));
    assert_eq!(line["degraded"].as_array().map(Vec::len), Some(Backend::ALL.len()), "{line}");
    assert!(String::from_utf8(output.stderr)?.contains("in no way at all"));
    Ok(())
}
