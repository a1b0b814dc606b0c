//! Whether the agent is well after an upgrade, by what this host can see: pure, from one answer of `agent.sock`.
//!
//! The judge is of another version than the judged. So it reads no type of ours but the few fields below, and takes any other
//! for granted: an agent that tells more than its predecessor understood is not ill for it. These fields stay what they are.

use std::collections::BTreeMap;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::version::Version;
use serde::{Deserialize, Serialize};

/// The phase of a bot that takes its visitors.
const READY: &str = "ready";

/// What ran before anything was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The kernel's boot: after another one, no start is the same.
    pub boot_id: String,
    /// Every bot that was ready, by its deployment.
    pub ready: BTreeMap<String, Start>,
}

/// One start of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The engine's id.
    #[serde(rename = "id")]
    pub container: String,
    /// When its process started, in microseconds.
    pub started_at: Option<i64>,
}

/// What the agent says on its socket, as far as it is judged by it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Seen {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub agent_version: String,
    /// What it saw; none before it has looked.
    pub report: Option<SeenReport>,
}

/// The host as the agent saw it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenReport {
    boot_id: String,
    instances: BTreeMap<String, SeenInstance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct SeenInstance {
    phase: String,
    container: Option<Start>,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The version, and every bot as before.
    Well,
    /// Not so now; it may become so.
    NotYet(Reason),
    /// Not so, and it cannot become so any more.
    Ill(Reason),
}

impl Before {
    /// What is to be the same afterwards; none: the agent has not looked yet.
    #[must_use]
    pub fn of(seen: &Seen) -> Option<Self> {
        let report = seen.report.as_ref()?;
        let ready = report.instances.iter().filter(|(_, instance)| instance.phase == READY);
        let ready = ready.filter_map(|(id, instance)| Some((id.clone(), instance.container.clone()?)));
        Some(Self { boot_id: report.boot_id.clone(), ready: ready.collect() })
    }
}

/// Judges one answer.
#[must_use]
pub fn verdict(before: &Before, version: &Version, seen: &Seen) -> Verdict {
    if !version.is_package_of(&seen.agent_version) {
        let sentence = format!("the agent that answers is of version {}, not {version}", seen.agent_version);
        return Verdict::NotYet(Reason::new("agent-of-another-version", sentence));
    }
    let Some(report) = &seen.report else {
        return Verdict::NotYet(Reason::new(
            "agent-has-not-looked",
            "the agent answers, and has not seen its host yet",
        ));
    };
    let same_boot = report.boot_id == before.boot_id;
    for (deployment, start) in &before.ready {
        let now = report.instances.get(deployment);
        let container = now.and_then(|now| now.container.as_ref());
        let is_same =
            |now: &Start| now.container == start.container && (!same_boot || now.started_at == start.started_at);
        match container {
            Some(now) if is_same(now) => {}
            Some(_) => return Verdict::Ill(restarted(deployment)),
            None => return Verdict::NotYet(not_ready(deployment, "gone")),
        }
        let phase = now.map_or("gone", |now| now.phase.as_str());
        if phase != READY {
            return Verdict::NotYet(not_ready(deployment, phase));
        }
    }
    Verdict::Well
}

fn restarted(deployment: &str) -> Reason {
    Reason::new("bot-restarted", format!("{deployment} is in another start than before the upgrade"))
        .because("an upgrade of the agent must restart no bot; this one may have ended by itself meanwhile")
        .mend("see its timeline (`launchpad status`), then `launchpad hosts upgrade --resume`")
}

fn not_ready(deployment: &str, phase: &str) -> Reason {
    Reason::new("bot-not-ready", format!("{deployment} was ready before the upgrade, and is {phase} after it"))
        .mend("see its timeline (`launchpad status`), then `launchpad hosts upgrade --resume`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(version: &str, started: i64, phase: &str, boot: &str) -> Seen {
        // With what this version does not know: a new phase, new fields everywhere.
        serde_json::from_value(serde_json::json!({
            "is": "status", "pid": 7, "agent_version": version, "mood": "new",
            "report": { "boot_id": boot, "weather": {}, "instances": {
                "dep_1": { "phase": phase, "container": { "id": "c1", "started_at": started, "more": 1 } },
                "dep_2": { "phase": "dreaming", "container": null },
            } },
        }))
        .unwrap()
    }

    fn judged(before: &Seen, version: &str, after: &Seen) -> Verdict {
        verdict(&Before::of(before).unwrap(), &version.parse().unwrap(), after)
    }

    #[test]
    fn the_new_version_with_every_bot_in_the_same_start_is_well() {
        let before = seen("0.1.0", 5, "ready", "boot");
        assert_eq!(judged(&before, "0.2.0-1", &seen("0.2.0", 5, "ready", "boot")), Verdict::Well);
    }

    #[test]
    fn the_old_version_that_still_answers_is_not_well_yet() {
        let before = seen("0.1.0", 5, "ready", "boot");
        let Verdict::NotYet(reason) = judged(&before, "0.2.0", &before) else { panic!("it is not the new one") };
        assert_eq!(reason.code, "agent-of-another-version");
    }

    #[test]
    fn a_bot_that_was_restarted_is_never_made_well_again_by_waiting() {
        let before = seen("0.1.0", 5, "ready", "boot");
        let Verdict::Ill(reason) = judged(&before, "0.2.0", &seen("0.2.0", 6, "ready", "boot")) else {
            panic!("it was restarted")
        };
        assert_eq!(reason.code, "bot-restarted");
    }

    #[test]
    fn a_bot_that_is_not_ready_again_is_waited_for() {
        let before = seen("0.1.0", 5, "ready", "boot");
        let after = judged(&before, "0.2.0", &seen("0.2.0", 5, "unready", "boot"));
        assert!(matches!(after, Verdict::NotYet(_)), "{after:?}");
    }

    #[test]
    fn a_bot_that_was_not_ready_before_is_nobodys_fault() {
        let before = seen("0.1.0", 5, "starting", "boot");
        assert_eq!(judged(&before, "0.2.0", &seen("0.2.0", 9, "backoff", "boot")), Verdict::Well);
    }

    #[test]
    fn after_a_reboot_another_start_of_the_same_container_is_the_same_bot() {
        let before = seen("0.1.0", 5, "ready", "boot");
        assert_eq!(judged(&before, "0.2.0", &seen("0.2.0", 900, "ready", "another boot")), Verdict::Well);
    }
}
