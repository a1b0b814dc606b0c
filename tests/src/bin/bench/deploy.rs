//! From the order to a ready bot, against the same container on the same network by plain `docker` calls.
//!
//! Ours has all that a customer gets: Starter's volume with every byte of it taken from the disk, its secrets and rules,
//! and a public name that Caddy has been told of. The tenant's network exists on both sides, the image is there, runs
//! alternate. Our clock stops when the API says `running`; the peer's at the first 200 from its readiness path.

use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::{Stopwatch, wait_at_most_every};
use serde_json::{Value, json};

use crate::figure::{Figure, median};

/// Of each side.
const RUNS: usize = 20;
/// Milliseconds that we may take longer.
const TARGET_MS: f64 = 100.0;
/// Between two looks, on both sides: what a figure of some hundred milliseconds can bear.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// For one bot to become ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the peer's container answers.
const PEER_ADDRESS: &str = "172.31.77.2";

/// Measures both sides.
pub(crate) fn to_ready(lab: &mut Lab) -> Result<Figure> {
    // Holds the tenant's network, and has the image pulled.
    let holder = Deployment::order(&lab.api()?, &order(lab, "holder", "tiny")?)?;
    holder.wait_state("running")?;
    lab.host(0)?.engine.docker(&["network", "create", "--subnet", "172.31.77.0/24", "peer"])?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        ours.push(deploy(lab, run).with_context(|| format!("our run {run}"))?);
        theirs.push(docker(lab).with_context(|| format!("the peer's run {run}"))?);
    }
    holder.delete(true)?;
    holder.wait_state("terminated")?;
    Ok(Figure {
        name: "deploy to ready, echo, p50",
        unit: "ms",
        ours: median(ours),
        peer: Some("docker run"),
        theirs: Some(median(theirs)),
        target: Some(TARGET_MS),
    })
}

fn order(lab: &Lab, name: &str, plan: &str) -> Result<Value> {
    let egress = ["api.example.com", "203.0.113.0/24:443"];
    Ok(json!({ "name": name, "profile": "echo", "plan": plan, "image": lab.image("echo")?, "egress": egress }))
}

fn deploy(lab: &Lab, run: usize) -> Result<f64> {
    let (api, body) = (lab.api()?, order(lab, &format!("run-{run}"), "starter")?);
    let clock = Stopwatch::start();
    let deployment = Deployment::order(&api, &body)?;
    wait_at_most_every(LOOK_EVERY, "our bot", PATIENCE, || {
        let state = deployment.get()?["state"].clone();
        Ok(if state == "running" { Ok(()) } else { Err(state.to_string()) })
    })?;
    let took = clock.elapsed().as_secs_f64() * 1000.0;
    // One at a time on the disk.
    deployment.delete(true)?;
    deployment.wait_state("terminated")?;
    Ok(took)
}

fn docker(lab: &mut Lab) -> Result<f64> {
    let image = lab.image("echo")?;
    let host = lab.host(0)?;
    let limits = ["--memory", "1g", "--memory-swap", "1g", "--cpus", "0.5", "--pids-limit", "64"];
    let held = [
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--tmpfs",
        "/tmp",
        "--volume",
        "/state",
    ];
    let place = ["run", "--detach", "--name", "peer", "--network", "peer", "--ip", PEER_ADDRESS];
    let clock = Stopwatch::start();
    host.engine.docker(&[&place[..], &limits[..], &held[..], &[&image]].concat())?;
    let bot = host.bot(&format!("{PEER_ADDRESS}:8080"));
    wait_at_most_every(LOOK_EVERY, "the peer's bot", PATIENCE, || match bot.get("/readyz") {
        Ok(answer) if answer.status == 200 => Ok(Ok(())),
        Ok(answer) => Ok(Err(answer.status.to_string())),
        Err(error) => Ok(Err(error.to_string())),
    })?;
    let took = clock.elapsed().as_secs_f64() * 1000.0;
    host.engine.docker(&["rm", "--force", "--volumes", "peer"])?;
    Ok(took)
}
