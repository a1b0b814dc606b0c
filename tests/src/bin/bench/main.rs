//! `make bench`: what it costs, against plain Docker where there is a peer. Prints a table and writes
//! `target/bench/results.ndjson`, a line a figure.
//!
//! Run it alone on the machine and in release: the figures are for a quiet machine and real binaries. What is here
//! reports what is; a target that is missed is a line with `ok: false` and exit code 1, never a retry.

mod deploy;
mod figure;
mod footprint;
mod handshake;
mod names;
mod restart;
mod scale;
mod walls;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use launchpad_tests::coordinator::Place;
use launchpad_tests::lab::Lab;
use launchpad_tests::programs;

use figure::Figure;

/// Below which the coordinator names bots: whatever is deployed here is reached by way of Caddy, as in production.
const INGRESS_DOMAIN: &str = "bots.example";

/// Starter as customers get it, for what is measured one bot at a time: the disk really gives up the ten gigabytes. And
/// limits small enough for thirty bots on any machine.
const PLANS: &str = "\
[starter]\ncpu_millis = 500\nmemory_gb = 1\nstorage_gb = 10\nretention_days = 7\negress_rules = 8\n\
[tiny]\ncpu_millis = 20\nmemory_mb = 32\nstorage_mb = 10\nretention_days = 1\negress_rules = 8\n";

fn main() -> ExitCode {
    match run() {
        Ok(figures) if figures.iter().all(Figure::is_ok) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Vec<Figure>> {
    // Before the laboratory's namespace, so that loopback is the machine's.
    let mut figures = vec![handshake::per_second()?];
    figures.extend(names::remembered()?);

    let mut lab = Lab::enter(&["echo"])?;
    figures.push(scale::a_hundred_tenants(&lab.dir().join("scale"))?);
    let plans = lab.dir().join("plans.toml");
    std::fs::write(&plans, PLANS).context("write the plans")?;
    let mut place = Place::new(lab.dir(), "198.18.0.1:7700");
    let plans = plans.display().to_string();
    place.arguments = ["--plans", &plans, "--ingress-domain", INGRESS_DOMAIN].map(str::to_owned).to_vec();
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    lab.host(0)?.start_caddy()?;

    figures.push(deploy::to_ready(&mut lab)?);
    figures.extend(footprint::with_thirty_bots(&mut lab)?);
    // With the same thirty.
    figures.extend(restart::adopts_all(&mut lab)?);
    // Last: its flushes take Docker's own rules too, without which Docker makes no network.
    figures.extend(walls::around_a_bot(&mut lab)?);
    lab.close()?;

    let folder = programs::target().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let lines: String = figures.iter().map(Figure::line).collect();
    std::fs::write(folder.join("results.ndjson"), lines).context("write the results")?;
    print!("{}", figure::table(&figures));
    Ok(figures)
}
