//! `make check-contract`: the host contract, proved on this machine from inside.
//!
//! The hostile bot attacks a host once for each volume backend that the machine has; the last line is one
//! JSON object:
//!
//! ```text
//! {"attempts":…,"refused":…,"degraded":[{"item":…,"why":…},…],"enforcement":{…}}
//! ```
//! `attempts` and `refused` count single tries over all backends, `degraded` is what this machine cannot hold
//! for the hostile bot, or for volumes at all, and `enforcement` is the report of an openclaw bot on the same
//! host. The line is there whatever went wrong before it; what could not be done is one more breach.
//!
//! Exit codes: 0 it holds, 1 something got through or could not be proved (each thing on stderr), 130
//! interrupted, without the line. What never happens here: anything on the machine's own network. The
//! laboratory has no way out of itself.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::contract::backend::Backend;
use launchpad_tests::contract::site::Site;
use launchpad_tests::contract::summary::Summary;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::interrupt;
use launchpad_tests::lab::{Remains, Run};
use serde_json::{Value, json};

/// The workload whose enforcement is shown.
const BOT: &str = "openclaw";
/// Its startup probe gives up after five minutes; the image has to be pulled before.
const READY_WITHIN: Duration = Duration::from_secs(420);

fn main() -> ExitCode {
    let mut summary = Summary::default();
    let checked = check(&mut summary);
    interrupt::unless_stopping(summary.done("the check ended early", checked));
    summary.breaches.iter().for_each(|breach| eprintln!("contract: {breach}"));
    println!("{}", summary.line());
    if summary.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Attacks a host for each backend; what comes of it is in the summary, an error only what kept it from that.
fn check(summary: &mut Summary) -> Result<()> {
    let mut runs = Vec::new();
    for backend in Backend::ALL {
        match backend.available(&std::env::temp_dir()) {
            Ok(()) => runs.push((backend, Run::fresh()?)),
            Err(why) => summary.lacks(backend, why),
        }
    }
    ensure!(!runs.is_empty(), "this machine can hold volumes in no way at all: {:?}", summary.degraded);
    let remains: Vec<Remains> = runs.iter().map(|(_, run)| run.remains()).collect();
    interrupt::on_interrupt("contract", move || remains.iter().try_for_each(Remains::sweep))?;
    for (backend, run) in runs {
        eprintln!("contract: attacking a host with volumes by {}", backend.name());
        let attacked = attack(summary, backend, run);
        // The next one has its turn all the same.
        summary.done(&format!("a host with volumes by {}", backend.name()), attacked);
    }
    Ok(())
}

/// Has a host with that backend attacked.
fn attack(summary: &mut Summary, backend: Backend, run: Run) -> Result<()> {
    // openclaw once: what it is held by does not depend on who holds the volumes.
    let others: &[&str] = if summary.enforcement.is_empty() { &[BOT] } else { &[] };
    let mut site = Site::open(run, backend, others)?;
    let attacked = site.attack();
    if let Some(evidence) = summary.done("the attack ended early", attacked) {
        summary.take(&evidence);
    }
    if let Some(of_hostile) = summary.done("hostile", site.enforcement(&site.hostile)) {
        summary.judge("hostile", &of_hostile);
    }
    if !others.is_empty()
        && let Some(of_bot) = summary.done(BOT, enforcement_of_bot(&site))
    {
        summary.judge(BOT, &of_bot);
        summary.enforcement = of_bot;
    }
    site.close()
}

/// Deploys the workload on Starter, beside what attacked before, and answers how it is held.
fn enforcement_of_bot(site: &Site) -> Result<BTreeMap<String, Value>> {
    let body = json!({ "name": BOT, "profile": BOT, "plan": "starter", "image": site.lab.image(BOT)? });
    let deployment = Deployment::order(&site.hostile.api, &body)?;
    let shown = deployment.api.wait_for_state(&deployment.id, "running", READY_WITHIN)?;
    // Without one, its ingress would hold whatever became of Caddy.
    shown["url"].as_str().with_context(|| format!("no public name in {shown}"))?;
    site.enforcement(&deployment)
}
