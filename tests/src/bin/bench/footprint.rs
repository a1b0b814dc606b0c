//! What our programs take while thirty bots run and nothing happens: memory and processor time, children counted.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::{Stopwatch, wait_until};
use serde_json::json;

use crate::figure::Figure;

/// What a well-filled small host runs.
const BOTS: usize = 30;
/// Long enough for every probe and several reports.
const WATCH: Duration = Duration::from_secs(60);
/// MB (of 10^6 bytes) for the agent and its children.
const AGENT_MEMORY_TARGET_MB: f64 = 12.0;
/// Percent of one core for the agent.
const AGENT_CPU_TARGET_PERCENT: f64 = 0.2;
/// Linux's USER_HZ on every architecture that Debian runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Starts the bots, waits until all run, and watches.
pub(crate) fn with_thirty_bots(lab: &mut Lab) -> Result<Vec<Figure>> {
    let (api, image) = (lab.api()?, lab.image("echo")?);
    let order = |index: usize| {
        let body = json!({ "name": format!("idle-{index}"), "profile": "echo", "plan": "tiny", "image": image });
        Deployment::order(&api, &body)
    };
    let bots: Vec<Deployment> = (0..BOTS).map(order).collect::<Result<_>>()?;
    for bot in &bots {
        bot.wait_state("running")?;
    }
    let agent = lab.host(0)?.agent()?.process().pid();
    let coordinator = lab.coordinator()?.process().pid();
    let (before, clock) = (ticks(agent)?, Stopwatch::start());
    wait_until("the watch to end", WATCH * 2, || Ok(clock.elapsed() >= WATCH))?;
    let percent = (ticks(agent)? - before) / TICKS_PER_SECOND / clock.elapsed().as_secs_f64() * 100.0;
    Ok(vec![
        Figure::alone("agent memory, 30 bots, PSS", "MB", memory_mb(agent)?, Some(AGENT_MEMORY_TARGET_MB)),
        Figure::alone("agent processor time, 30 bots, idle", "% of a core", percent, Some(AGENT_CPU_TARGET_PERCENT)),
        Figure::alone("coordinator memory, 30 bots, PSS", "MB", memory_mb(coordinator)?, None),
    ])
}

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut members = vec![pid];
    let mut next = 0;
    while let Some(parent) = members.get(next).copied() {
        let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            members.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    members
}

/// Proportional set size: shared pages count by their share.
fn memory_mb(pid: u32) -> Result<f64> {
    let mut kib = 0.0;
    for member in family(pid) {
        let path = format!("/proc/{member}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("no Pss in {path}"))?;
        kib += line.trim().trim_end_matches(" kB").parse::<f64>().with_context(|| format!("read Pss in {path}"))?;
    }
    Ok(kib * 1024.0 / 1e6)
}

/// Clock ticks that a process and its reaped children took so far.
fn ticks(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name, in brackets, may hold spaces; utime, stime, cutime and cstime are the 12th to 15th words after it.
    let after = text.rsplit_once(')').with_context(|| format!("read {path}"))?.1;
    let words = after.split_ascii_whitespace().skip(11).take(4).map(str::parse::<f64>);
    words.sum::<Result<f64, _>>().with_context(|| format!("read the times in {path}"))
}
