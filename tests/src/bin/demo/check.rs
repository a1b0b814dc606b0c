//! `demo check`: the same path unattended, in a network and a directory of its own; what it prints last is for
//! machines.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::coordinator::Place;
use launchpad_tests::lab::{Lab, Run, http_address};
use launchpad_tests::wait::Stopwatch;
use launchpad_tests::{interrupt, kernel};
use serde_json::{Value, json};

use crate::verdict::{Facts, disagreements};
use crate::{known, page};

/// The bot's startup probe gives up after five minutes; the image has to be pulled before.
const READY_WITHIN: Duration = Duration::from_secs(420);
/// The spec's Starter plan: half a core.
const STARTER_CPU_MILLIS: u64 = 500;
/// The spec's Starter plan: 1 GB, as Docker counts it.
const STARTER_MEMORY_BYTES: u64 = 1 << 30;
/// Of each log, when the check fails.
const LOG_TAIL: &str = "the end of its log";

/// Deploys `bot` on Starter and compares what the API, Docker and the kernel say.
pub(crate) fn check(bot: &str) -> Result<ExitCode> {
    let profile = known(bot)?;
    let run = Run::fresh()?;
    let remains = run.remains();
    interrupt::on_interrupt("demo", move || remains.sweep())?;
    let line = interrupt::unless_stopping(run_once(run, bot, u64::from(profile.needs.pids_max)))?;
    let ok = line["ok"] == true;
    println!("{line}");
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_once(run: Run, bot: &str, pids: u64) -> Result<Value> {
    let mut lab = Lab::enter_as(run, &[bot])?;
    let mut place = Place::new(lab.dir(), &http_address()).with_real_plans();
    place.arguments = page::coordinator_arguments();
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    lab.host(0)?.start_caddy()?;
    let outcome = interrupt::unless_stopping(deploy(&mut lab, bot, pids));
    if outcome.is_err() {
        eprintln!("demo: coordinator, {LOG_TAIL}:\n{}", lab.coordinator()?.process().log_tail());
        eprintln!("demo: agent, {LOG_TAIL}:\n{}", lab.host(0)?.agent()?.process().log_tail());
    }
    lab.close()?;
    outcome
}

fn deploy(lab: &mut Lab, bot: &str, pids: u64) -> Result<Value> {
    let (api, image) = (lab.api()?, lab.image(bot)?);
    let started = Stopwatch::start();
    let body = json!({ "name": format!("check-{bot}"), "profile": bot, "plan": "starter", "image": image });
    let deployment = api.post("/deployments", &body)?.success()?;
    let id = deployment["id"].as_str().context("the API answered without an id")?;
    let deployment = api.wait_for_state(id, "running", READY_WITHIN)?;
    let seconds_to_ready = started.elapsed().as_secs_f64();

    let container = deployment["instance"]["container_id"].as_str().context("the API tells no container id")?;
    let engine = &lab.host(0)?.engine;
    let inspected = engine.inspect(container)?;
    let pid = inspected["State"]["Pid"].as_u64().context("the container has no pid")?;
    let image_id = inspected["Image"].as_str().context("the container has no image")?;
    let facts = Facts {
        cpu_millis: STARTER_CPU_MILLIS,
        memory_bytes: STARTER_MEMORY_BYTES,
        pids,
        image,
        image_digests: engine.docker(&["image", "inspect", "-f", "{{json .RepoDigests}}", image_id])?,
        kernel: kernel::limits(pid)?,
        api: deployment["instance"].clone(),
        docker: inspected,
    };
    let disagreements = disagreements(&facts);
    let page = page::look(lab, &deployment)?;
    Ok(json!({
        "state": deployment["state"],
        "image_digest": facts.image.split('@').nth(1),
        "seconds_to_ready": (seconds_to_ready * 10.0).round() / 10.0,
        "limits": facts.kernel,
        "page": page,
        "disagreements": disagreements,
        "ok": disagreements.is_empty(),
    }))
}
