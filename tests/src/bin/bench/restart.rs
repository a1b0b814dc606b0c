//! How long an agent is away: from its process's beginning to its first word about every bot, and to its first spec.
//!
//! The socket is asked and not the log: what it says there is what a person, or an upgrade, goes by.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::{Stopwatch, wait_at_most_every, wait_for};
use serde_json::{Value, json};

use crate::figure::{Figure, median};

/// Of which the middle is told.
const ROUNDS: usize = 5;
/// From the start of the process to its first report with every bot ready.
const ADOPTED_TARGET_MS: f64 = 500.0;
/// For either.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks: they cost the agent something, too.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Restarts the agent of the first host, with whatever runs there.
pub(crate) fn adopts_all(lab: &mut Lab) -> Result<Vec<Figure>> {
    let run_dir = lab.host(0)?.agent()?.place().run.clone();
    let before = wait_for("the agent to say what runs", PATIENCE, || {
        Ok(ready(&run_dir).map_err(|error| format!("{error:#}")))
    })?;
    ensure!(!before.is_empty(), "no bot is ready");
    let (api, image) = (lab.api()?, lab.image("echo")?);
    let (mut adopted, mut accepted) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        lab.host(0)?.agent()?.kill()?;
        let clock = Stopwatch::start();
        lab.host(0)?.agent()?.restart()?;
        adopted.push(until(&clock, "every bot adopted", || Ok(ready(&run_dir)? == before))?);
        lab.wait_settled(0)?;
    }
    for round in 0..ROUNDS {
        // While it is away something is wished: the first thing that it hears is a spec.
        let settled = generation(&lab.wait_settled(0)?)?;
        lab.host(0)?.agent()?.kill()?;
        let body = json!({ "name": format!("late-{round}"), "profile": "echo", "plan": "tiny", "image": image });
        let wished = Deployment::order(&api, &body)?;
        lab.wait_shown(0, "wished anew", |host| generation(host).is_ok_and(|now| now > settled))?;
        let clock = Stopwatch::start();
        lab.host(0)?.agent()?.restart()?;
        accepted.push(until(&clock, "the new spec accepted", || Ok(held(&run_dir)? > settled))?);
        wished.delete(true)?;
        wished.wait_state("terminated")?;
    }
    Ok(vec![
        Figure::alone("agent restart with 30 bots, all adopted", "ms", median(adopted), Some(ADOPTED_TARGET_MS)),
        Figure::alone("agent start to first accepted spec", "ms", median(accepted), None),
    ])
}

/// Milliseconds until it holds; an agent that does not answer yet is "not yet".
fn until(clock: &Stopwatch, what: &str, holds: impl Fn() -> Result<bool>) -> Result<f64> {
    wait_at_most_every(LOOK_EVERY, what, PATIENCE, || {
        Ok(match holds() {
            Ok(true) => Ok(()),
            Ok(false) => Err("not yet".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        })
    })?;
    Ok(clock.elapsed().as_secs_f64() * 1_000.0)
}

/// Every ready bot, with its container and the start of it.
fn ready(run_dir: &Path) -> Result<BTreeMap<String, (Value, Value)>> {
    let report = report(run_dir)?;
    let instances = report["instances"].as_object().context("a report has instances")?;
    let ready = instances.iter().filter(|(_, instance)| instance["phase"] == "ready");
    let start = |instance: &Value| (instance["container"]["id"].clone(), instance["container"]["started_at"].clone());
    Ok(ready.map(|(id, instance)| (id.clone(), start(instance))).collect())
}

/// The generation in the agent's ledger.
fn held(run_dir: &Path) -> Result<u64> {
    report(run_dir)?["accepted"]["generation"].as_u64().context("nothing is accepted yet")
}

fn generation(host: &Value) -> Result<u64> {
    host["generation"]["published"].as_u64().context("nothing is published yet")
}

fn report(run_dir: &Path) -> Result<Value> {
    let mut stream = UnixStream::connect(run_dir.join("agent.sock")).context("reach the agent")?;
    stream.write_all(b"{\"do\":\"status\"}\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    let report = answer["report"].take();
    ensure!(!report.is_null(), "it has not looked yet");
    Ok(report)
}
