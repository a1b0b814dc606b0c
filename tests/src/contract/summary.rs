//! What came of the contract on all backends, and the one JSON line in which it ends. Pure.
//!
//! Called by the program behind `make check-contract` and by the scenario. Whatever goes wrong on the way is a
//! breach here, so that the line is there in any case, and what it says is true as far as it goes.
//!
//! ```text
//! {"attempts":…,"refused":…,"degraded":[{"item":…,"why":…},…],"enforcement":{…}}
//! ```

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::Evidence;
use super::backend::Backend;

/// What came of all backends.
#[derive(Debug, Default)]
pub struct Summary {
    /// Single tries.
    pub attempts: usize,
    /// Those of them that were refused, or stayed within their bounds.
    pub refused: usize,
    /// What should not have been, and what could not be proved. One line each.
    pub breaches: Vec<String>,
    /// What this machine cannot have: item and why.
    pub degraded: BTreeMap<String, String>,
    /// How the workload is held.
    pub enforcement: BTreeMap<String, Value>,
}

impl Summary {
    /// What a step gave; one that failed is a breach, and gives nothing.
    pub fn done<T>(&mut self, step: &str, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.breaches.push(format!("{step}: {error:#}"))).ok()
    }

    /// This machine cannot hold volumes by that backend.
    pub fn lacks(&mut self, backend: Backend, why: String) {
        self.degraded.insert(item(backend), why);
    }

    /// Whether the line says that this machine cannot hold volumes by that backend.
    pub fn tells_lack_of(&self, backend: Backend) -> bool {
        self.degraded.contains_key(&item(backend))
    }

    /// Adds one run.
    pub fn take(&mut self, evidence: &Evidence) {
        self.attempts += evidence.attempts();
        self.refused += evidence.refused();
        self.breaches.extend(evidence.breaches());
    }

    /// How a bot is held: what cannot be had is told; what should hold and does not is a breach.
    pub fn judge(&mut self, bot: &str, enforcement: &BTreeMap<String, Value>) {
        for (item, told) in enforcement {
            let why = told["reason"]["sentence"].as_str().unwrap_or_default().to_owned();
            match told["verdict"].as_str() {
                Some("enforced") => {}
                Some("degraded") => drop(self.degraded.insert(item.clone(), why)),
                _ => self.breaches.push(format!("{bot}: {item} does not hold: {told}")),
            }
        }
    }

    /// The line.
    pub fn line(&self) -> Value {
        let degraded = self.degraded.iter().map(|(item, why)| json!({ "item": item, "why": why }));
        json!({
            "attempts": self.attempts,
            "refused": self.refused,
            "degraded": degraded.collect::<Vec<_>>(),
            "enforcement": self.enforcement,
        })
    }
}

fn item(backend: Backend) -> String {
    format!("volumes by {}", backend.name())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_step_that_fails_is_a_breach_and_takes_nothing_from_the_line() {
        let mut summary = Summary { attempts: 7, refused: 7, ..Summary::default() };
        let failed: Result<()> = Err(anyhow!("no image").context("deploy openclaw"));
        assert_eq!(summary.done("openclaw", failed), None);
        assert_eq!(summary.done("openclaw", Ok(1)), Some(1));
        assert_eq!(summary.breaches, ["openclaw: deploy openclaw: no image"]);
        assert_eq!(summary.line()["attempts"], 7);
    }

    #[test]
    fn what_the_machine_cannot_have_is_told_and_what_does_not_hold_is_a_breach() {
        let mut summary = Summary::default();
        summary.lacks(Backend::XfsQuota, "no such file system".to_owned());
        let enforcement = [("memory", "enforced"), ("swap", "degraded"), ("pids", "failed")];
        let enforcement = enforcement.map(|(item, verdict)| {
            (item.to_owned(), json!({ "verdict": verdict, "reason": { "sentence": "the kernel's" } }))
        });
        summary.judge("bot", &enforcement.into());
        assert_eq!(
            summary.line()["degraded"],
            json!([
                { "item": "swap", "why": "the kernel's" },
                { "item": "volumes by xfs-quota", "why": "no such file system" },
            ])
        );
        assert!(matches!(&summary.breaches[..], [breach] if breach.starts_with("bot: pids does not hold")));
        assert!(summary.tells_lack_of(Backend::XfsQuota) && !summary.tells_lack_of(Backend::Ext4Image));
    }
}
