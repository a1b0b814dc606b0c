//! What root does on a host whose coordinator is down: looks, reads, restarts, stops, and has bots gone, with the agent
//! and without it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use launchpad_tests::agent::Place;
use launchpad_tests::deployment::{Deployment, Identity, SOON, identity};
use launchpad_tests::lab::Lab;
use launchpad_tests::process::run;
use launchpad_tests::programs;
use launchpad_tests::wait::wait_for;
use serde_json::Value;

/// `launchpad-agent` on the host, as its root would type it.
fn agent(place: &Place, words: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", place.namespace.display())).arg(programs::binary("launchpad-agent")?);
    command.args(words).arg("--run-dir").arg(&place.run);
    run(&mut command)
}

fn evict(place: &Place, words: &[&str]) -> Result<String> {
    let (data, docker) = (place.data.display().to_string(), place.docker.display().to_string());
    agent(place, &[&["evict", "--data-dir", &data, "--docker", &docker], words].concat())
}

fn ps(place: &Place) -> Result<Value> {
    Ok(serde_json::from_str(&agent(place, &["ps", "--output", "json"])?)?)
}

/// A stock Debian gives huge pages to everybody: by the kernel's own word, this process takes none.
#[test]
fn an_agents_memory_is_in_small_pages_whatever_its_host_gives_to_others() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let status = fs::read_to_string(format!("/proc/{}/status", lab.host(0)?.agent()?.process().pid()))?;
    assert!(status.contains("THP_enabled:\t0\n"), "{status}");
    lab.close()
}

#[test]
fn root_sees_restarts_and_evicts_bots_with_the_coordinator_down_and_the_agent_gone() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let (first, second) = (Deployment::running(&lab, "first")?, Deployment::running(&lab, "second")?);
    let before = [first.identity(&lab.host(0)?.engine)?, second.identity(&lab.host(0)?.engine)?];
    lab.wait_settled(0)?;
    lab.coordinator()?.kill()?;
    let place = lab.host(0)?.agent()?.place().clone();

    let table = agent(&place, &["ps"])?;
    assert!(table.contains("first") && table.contains("second") && table.contains("ready"), "{table}");
    let why = agent(&place, &["why", "first"])?;
    assert!(why.contains("ready since") && why.contains("before: starting"), "{why}");
    let log = agent(&place, &["logs", "first", "--tail", "5"])?;
    assert!(!log.is_empty(), "a bot that runs has said something");
    let spec: Value = serde_json::from_str(&agent(&place, &["spec", "first", "--output", "json"])?)?;
    let instance = spec["instances"].as_object().and_then(|all| all.values().next()).context("one instance")?;
    let files = instance["files"].as_array().context("files")?;
    assert!(files.iter().all(|file| file["ciphertext"].is_null() && file["sealed_digest"].is_string()), "{files:?}");
    assert!(agent(&place, &["stop", "nobody"]).unwrap_err().to_string().contains("there is no bot `nobody`"));

    agent(&place, &["restart", "first"])?;
    wait_for("the restart of the first alone", SOON, || {
        let now = ps(&place)?;
        let of = |name: &str| now.as_array().into_iter().flatten().find(|bot| bot["name"] == name).cloned();
        let is_done = of("first").is_some_and(|bot| bot["restarts"] == 1 && bot["state"]["phase"] == "ready");
        Ok(if is_done && of("second").is_some_and(|bot| bot["restarts"] == 0) {
            Ok(())
        } else {
            Err(now.to_string())
        })
    })?;
    // Not by the API, which is down: by the engine.
    let mut now: Vec<Identity> = Vec::new();
    for bot in ps(&place)?.as_array().into_iter().flatten() {
        now.push(identity(&lab.host(0)?.engine, bot["container"].as_str().context("a container")?)?);
    }
    assert!(!now.contains(&before[0]) && now.contains(&before[1]), "{now:?} after {before:?}");

    // By the running agent, which keeps its data; then by nobody, all that is left, data and all.
    assert!(evict(&place, &["first"]).unwrap_err().to_string().contains("--yes"));
    evict(&place, &["first", "--yes"])?;
    assert_eq!(lab.host(0)?.engine.running()?.len(), 1);
    let volumes = place.data.join("volumes");
    let kept = || Ok::<_, anyhow::Error>(fs::read_dir(&volumes)?.filter_map(Result::ok).count());
    let with_both = kept()?;
    lab.host(0)?.agent()?.kill()?;
    evict(&place, &["--yes", "--data"])?;
    let engine = &lab.host(0)?.engine;
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"])?.trim(), "", "no container is left, running or not");
    let networks = engine.docker(&["network", "ls", "--quiet", "--filter", "label=launchpad.host"])?;
    assert_eq!(networks.trim(), "", "nor a network");
    assert!(kept()? < with_both, "nor their data");
    evict(&place, &["--yes", "--data"])?;

    // Nobody starts them again, and the coordinator is told.
    lab.host(0)?.agent()?.restart()?;
    lab.coordinator()?.restart()?;
    lab.wait_for_report(0)?;
    second.wait("told of it", |now| now["state"] == "failed")?;
    assert!(lab.host(0)?.engine.running()?.is_empty());
    lab.close()
}
