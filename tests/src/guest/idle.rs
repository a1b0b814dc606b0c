//! What the agent takes of a whole host while nothing happens there: memory and processor time of its unit, as systemd counts
//! them. Under emulation a core does a tenth of a real one's work, so the share is for comparing runs, and no target's.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::control::Control;
use super::fleet::Fleet;
use crate::wait::{Stopwatch, wait_until};

/// How long they are watched: dozens of reports, and an examination of the host.
pub const WATCH: Duration = Duration::from_secs(300);

/// One line of words `NAME=VALUE`: the unit's memory and time by systemd, its process's proportional memory by the kernel.
const LOOK: &str = r#"
pid=$(systemctl show --value -p MainPID launchpad-agent)
systemctl show -p MemoryCurrent -p CPUUsageNSec launchpad-agent
awk '/^Pss:/ { printf "Pss=%d\n", $2 * 1024 }' "/proc/$pid/smaps_rollup""#;

/// An agent of a guest over [`WATCH`].
#[derive(Debug, Serialize)]
pub struct Idle {
    /// Whose.
    pub guest: String,
    /// What its control group is charged for, page cache included.
    pub charged_bytes: u64,
    /// The proportional set size of its process.
    pub pss_bytes: u64,
    /// Percent of an emulated core.
    pub cpu_percent: f64,
}

/// Watches every guest's agent.
///
/// # Errors
/// When a guest does not answer, or counts nothing.
pub fn watch(fleet: &Fleet) -> Result<Vec<Idle>> {
    let look = |control: &Control| -> Result<BTreeMap<String, u64>> { parse(&control.sh(LOOK)?) };
    let before: Vec<_> = fleet.guests.iter().map(|guest| look(&guest.control)).collect::<Result<_>>()?;
    let clock = Stopwatch::start();
    wait_until("the watch to end", WATCH * 2, || Ok(clock.elapsed() >= WATCH))?;
    let mut found = Vec::new();
    for (guest, before) in fleet.guests.iter().zip(before) {
        let (seconds, after) = (clock.elapsed().as_secs_f64(), look(&guest.control)?);
        let of = |seen: &BTreeMap<String, u64>, name: &str| {
            seen.get(name).copied().with_context(|| format!("{} tells no {name}", guest.name))
        };
        let nanos = of(&after, "CPUUsageNSec")?.saturating_sub(of(&before, "CPUUsageNSec")?);
        found.push(Idle {
            guest: guest.name.clone(),
            charged_bytes: of(&after, "MemoryCurrent")?,
            pss_bytes: of(&after, "Pss")?,
            cpu_percent: Duration::from_nanos(nanos).as_secs_f64() / seconds * 100.0,
        });
    }
    Ok(found)
}

/// What systemd does not count it tells as `[not set]`.
fn parse(text: &str) -> Result<BTreeMap<String, u64>> {
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').with_context(|| format!("a line of another form: {line}"))?;
        let value = value.parse().with_context(|| format!("no figure: {line}"))?;
        Ok((name.to_owned(), value))
    };
    text.lines().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_not_counted_is_an_error_and_not_nought() {
        let seen = parse("MemoryCurrent=12001280\nCPUUsageNSec=5\nPss=9\n").unwrap();
        assert_eq!((seen["MemoryCurrent"], seen["CPUUsageNSec"], seen["Pss"]), (12_001_280, 5, 9));
        assert!(parse("MemoryCurrent=[not set]\n").is_err());
    }
}
