//! What a bot's ends mean: a crash loop backs off, a config error is final, a lease is waited out, memory has a limit. And
//! what is none, though its owner must hear of it: a full volume.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_protocol::report::VOLUME_FULL;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use serde_json::{Value, json};

/// An agent looks at what no event tells of once a minute, and a report and a look at the API come on top.
const LOOKED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_bot_that_keeps_crashing_is_started_again_and_the_api_says_so() -> Result<()> {
    let lab = Lab::with_hosts(1)?;
    let deployment = Deployment::create(&lab, "crasher", "exit_code_at_start = 3\n")?;
    let seen = deployment.wait("two restarts", |now| now["instance"]["restarts"].as_u64() >= Some(2))?;
    assert_ne!(seen["state"], "running");
    let reason = deployment.wait("a reason", |now| now["reason"].is_object())?["reason"].to_string();
    assert!(reason.contains('3'), "the exit code is not in {reason}");
    lab.close()
}

#[test]
fn a_bot_that_refuses_its_config_is_not_tried_again() -> Result<()> {
    let lab = Lab::with_hosts(1)?;
    let deployment = Deployment::create(&lab, "misled", "no_such_key = 1\n")?;
    let failed = deployment.wait_state("failed")?;
    assert_eq!(failed["instance"]["phase"], "refused", "{failed}");
    assert_eq!(failed["instance"]["restarts"], 0, "{failed}");
    assert!(failed["reason"].to_string().contains("78"), "the exit code is not in {failed}");
    lab.close()
}

#[test]
fn a_bot_over_its_memory_is_killed_told_apart_and_started_again() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "glutton")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    let address = deployment.address()?;
    // Above Starter's 1 GB: no answer comes.
    let _ = lab.host(0)?.bot(&address).post("/eat?mb=1200");
    let engine = &lab.host(0)?.engine;
    let after = deployment.wait("running again", |now| {
        now["state"] == "running" && deployment.identity(engine).is_ok_and(|now| now.started_at != before.started_at)
    })?;
    let timeline = after["timeline"].to_string().to_lowercase();
    assert!(timeline.contains("memory") || timeline.contains("oom"), "{after}");
    lab.close()
}

#[test]
fn a_bot_that_fills_its_volume_runs_on_and_its_timeline_says_when_it_was_full_and_when_no_longer() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "hoarder")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    let hoard = format!("/proc/{}/root/state/hoard", before.pid);
    let mut file = File::create(&hoard)?;
    let block = vec![7; 1 << 20];
    let full = loop {
        if let Err(error) = file.write_all(&block) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    let last = |now: &Value| now["timeline"].as_array().and_then(|lines| lines.last()).cloned().unwrap_or_default();
    let wait = |what, holds: &dyn Fn(&Value) -> bool| {
        deployment.api.wait_for_deployment(&deployment.id, what, LOOKED_WITHIN, holds)
    };
    let told = wait("its volume to be called full", &|now| last(now)["reason"]["code"] == VOLUME_FULL)?;
    assert_eq!((&told["state"], &last(&told)["state"]), (&json!("running"), &json!("running")), "{told}");
    assert!(told["reason"]["mend"].to_string().contains("larger plan"), "{told}");

    drop(file);
    fs::remove_file(&hoard)?;
    let after = wait("room in its volume", &|now| now["reason"].is_null())?;
    assert_eq!((&last(&after)["state"], &last(&after)["reason"]), (&json!("running"), &Value::Null), "{after}");
    let lines = after["timeline"].as_array().context("a deployment has a timeline")?;
    assert_eq!(lines.iter().filter(|line| line["reason"]["code"] == VOLUME_FULL).count(), 1, "{after}");
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before, "nobody restarts it for that");
    lab.close()
}

#[test]
fn a_lease_left_by_a_killed_bot_is_waited_out_and_is_no_crash() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::create(&lab, "leased", "lease_ms = 4000\n")?;
    deployment.wait_state("running")?;
    let host = lab.host(0)?;
    let before = deployment.identity(&host.engine)?;
    host.engine.docker(&["kill", &before.container])?;
    let engine = &host.engine;
    let after = deployment.wait("running again", |now| {
        now["state"] == "running" && deployment.identity(engine).is_ok_and(|now| now.started_at != before.started_at)
    })?;
    assert!(after["timeline"].to_string().contains("exit-transient"), "{after}");
    lab.close()
}

#[test]
fn a_hung_bot_is_started_again_and_an_unready_one_is_left_alone() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "moody")?;
    let address = deployment.address()?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    lab.host(0)?.bot(&address).post("/unready")?;
    deployment.wait("unready", |now| now["instance"]["phase"] == "unready")?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    lab.host(0)?.bot(&address).post("/ready")?;
    deployment.wait("ready", |now| now["instance"]["phase"] == "ready")?;

    lab.host(0)?.bot(&address).post("/hang")?;
    let engine = &lab.host(0)?.engine;
    deployment.wait("a new process", |now| {
        let phase = now["instance"]["phase"].as_str();
        phase == Some("ready") && deployment.identity(engine).is_ok_and(|now| now.started_at != before.started_at)
    })?;
    lab.close()
}

#[test]
fn a_crash_after_a_long_run_is_mended_by_one_restart() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "unlucky")?;
    let address = deployment.address()?;
    let _ = lab.host(0)?.bot(&address).post("/crash?code=42");
    let after =
        deployment.wait("one restart", |now| now["state"] == "running" && now["instance"]["restarts"] == 1)?;
    let causes = after["timeline"].as_array().context("a deployment has a timeline")?.len();
    assert!(causes > 2, "{after}");
    lab.close()
}
