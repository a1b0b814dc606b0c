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
//! host.
//!
//! Exit codes: 0 it holds, 1 something got through or could not be proved (each thing on stderr), 130
//! interrupted. What never happens here: anything on the machine's own network. The laboratory has no way out
//! of itself.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use launchpad_tests::contract::backend::Backend;
use launchpad_tests::contract::site::Site;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::interrupt;
use launchpad_tests::lab::{Remains, Run};
use serde_json::{Value, json};

/// The workload whose enforcement is shown.
const BOT: &str = "openclaw";
/// Its startup probe gives up after five minutes; the image has to be pulled before.
const READY_WITHIN: Duration = Duration::from_secs(420);

/// What came of all backends.
#[derive(Debug, Default)]
struct Sum {
    attempts: usize,
    refused: usize,
    breaches: Vec<String>,
    /// Item and why.
    degraded: BTreeMap<String, String>,
    /// Of the openclaw bot.
    enforcement: BTreeMap<String, Value>,
}

fn main() -> ExitCode {
    match interrupt::unless_stopping(check()) {
        Ok(sum) => {
            sum.breaches.iter().for_each(|breach| eprintln!("contract: {breach}"));
            let degraded = sum.degraded.iter().map(|(item, why)| json!({ "item": item, "why": why }));
            let line = json!({
                "attempts": sum.attempts,
                "refused": sum.refused,
                "degraded": degraded.collect::<Vec<_>>(),
                "enforcement": sum.enforcement,
            });
            println!("{line}");
            if sum.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("contract: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<Sum> {
    let mut sum = Sum::default();
    let mut runs = Vec::new();
    for backend in Backend::ALL {
        match backend.available(&std::env::temp_dir()) {
            Ok(()) => runs.push((backend, Run::fresh()?)),
            Err(why) => drop(sum.degraded.insert(format!("volumes by {}", backend.name()), why)),
        }
    }
    ensure!(!runs.is_empty(), "this machine can hold volumes in no way at all: {:?}", sum.degraded);
    let remains: Vec<Remains> = runs.iter().map(|(_, run)| run.remains()).collect();
    interrupt::on_interrupt("contract", move || remains.iter().try_for_each(Remains::sweep))?;
    for (backend, run) in runs {
        eprintln!("contract: attacking a host with volumes by {}", backend.name());
        sum.add(backend, run)?;
    }
    Ok(sum)
}

impl Sum {
    /// Has a host with that backend attacked.
    fn add(&mut self, backend: Backend, run: Run) -> Result<()> {
        // openclaw once: what it is held by does not depend on who holds the volumes.
        let others: &[&str] = if self.enforcement.is_empty() { &[BOT] } else { &[] };
        let mut site = Site::open(run, backend, others)?;
        let evidence = site.attack()?;
        self.attempts += evidence.attempts();
        self.refused += evidence.refused();
        self.breaches.extend(evidence.breaches());
        let of_hostile = site.enforcement(&site.hostile)?;
        self.judge("hostile", &of_hostile);
        if !others.is_empty() {
            self.enforcement = enforcement_of_bot(&site)?;
            let of_bot = self.enforcement.clone();
            self.judge(BOT, &of_bot);
        }
        site.close()
    }

    /// What cannot be had is told; what should hold and does not is a breach.
    fn judge(&mut self, bot: &str, enforcement: &BTreeMap<String, Value>) {
        for (item, told) in enforcement {
            let why = told["reason"]["sentence"].as_str().unwrap_or_default().to_owned();
            match told["verdict"].as_str() {
                Some("enforced") => {}
                Some("degraded") => drop(self.degraded.insert(item.clone(), why)),
                _ => self.breaches.push(format!("{bot}: {item} does not hold: {told}")),
            }
        }
    }
}

/// Deploys the workload on Starter, beside what attacked before, and answers how it is held.
fn enforcement_of_bot(site: &Site) -> Result<BTreeMap<String, Value>> {
    let body = json!({ "name": BOT, "profile": BOT, "plan": "starter", "image": site.lab.image(BOT)? });
    let deployment = Deployment::order(&site.hostile.api, &body)?;
    deployment.api.wait_for_state(&deployment.id, "running", READY_WITHIN)?;
    site.enforcement(&deployment)
}
