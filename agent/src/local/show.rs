//! What people on the host are shown of bots: all of them in a table, one of them with why. Pure.
//!
//! Made from the window of the reconciler, printed by `status/text.rs`, or as JSON.

use std::collections::BTreeMap;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::enforcement::{Enforcement, Item, Verdict};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::record::Past;
use crate::reconcile::request::Shown;

/// One bot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bot {
    /// Its id.
    pub deployment: DeploymentId,
    /// What its owner calls it; none: no spec lists it.
    pub name: Option<String>,
    /// Whose it is, if that is known.
    pub account: Option<AccountId>,
    /// Where it stands.
    pub state: BotState,
    /// Since when.
    pub since: Option<Moment>,
    /// Times that it was started again since it was placed here.
    pub restarts: u32,
    /// The engine's id of its container.
    pub container: Option<String>,
    /// Its image, as its spec has it.
    pub image: Option<String>,
    /// Why it stands there, where the state alone does not say.
    pub reason: Option<Reason>,
}

/// Where a bot stands, as its host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "phase")]
pub enum BotState {
    /// The spec lists it, and it stands there.
    Wished(Phase),
    /// No spec lists it, and it runs.
    OrphanRunning,
    /// No spec lists it, and it does not run.
    OrphanStopped,
    /// No spec lists it, and it has no container: its data is here, or another remnant.
    Remnant,
}

/// Why a bot stands where it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The bot.
    pub bot: Bot,
    /// Where it stood before, the latest first.
    pub before: Vec<Past>,
    /// When it is tried again, if it waits.
    pub retry_at: Option<Moment>,
    /// What is being done about it, and then.
    pub doing: Vec<String>,
    /// Promises that its host does not keep, and why.
    pub enforcement: BTreeMap<Item, Enforcement>,
    /// What is wrong with the host itself.
    pub host: Vec<Reason>,
}

/// Every bot of the host: those that it should run first.
pub(super) fn bots(shown: &Shown) -> Vec<Bot> {
    let wished = shown.spec.iter().flat_map(|spec| spec.instances.keys());
    let orphans =
        shown.report.iter().flat_map(|report| &report.orphans).filter_map(|orphan| orphan.deployment.as_ref());
    let mut found: Vec<Bot> = Vec::new();
    for deployment in wished.chain(orphans).chain(&shown.present) {
        if found.iter().all(|bot| bot.deployment != *deployment) {
            found.push(bot(*deployment, shown));
        }
    }
    found
}

fn bot(deployment: DeploymentId, shown: &Shown) -> Bot {
    let spec = shown.spec.as_ref().and_then(|spec| spec.instances.get(&deployment));
    let report = shown.report.as_ref().and_then(|report| report.instances.get(&deployment));
    let mut orphans = shown.report.iter().flat_map(|report| &report.orphans);
    let orphan = orphans.find(|orphan| orphan.deployment == Some(deployment));
    let state = match (spec, orphan) {
        (Some(_), _) => BotState::Wished(report.map_or(Phase::Absent, |report| report.phase)),
        (None, Some(orphan)) if orphan.running => BotState::OrphanRunning,
        (None, Some(_)) => BotState::OrphanStopped,
        (None, None) => BotState::Remnant,
    };
    let container = report.and_then(|report| report.container.as_ref()).map(|container| container.id.clone());
    Bot {
        deployment,
        name: spec.map(|spec| spec.name.clone()),
        account: spec.map(|spec| spec.account).or_else(|| orphan.and_then(|orphan| orphan.account)),
        state,
        since: shown.insides.get(&deployment).and_then(|inside| inside.past.last()).map(|past| past.at),
        restarts: report.map_or(0, |report| report.restarts),
        container: container.or_else(|| orphan.map(|orphan| orphan.container.clone())),
        image: spec.map(|spec| spec.image.to_string()),
        reason: report.and_then(|report| report.reason.clone()),
    }
}

/// Why that bot stands where it does; none: nothing of it is known here.
pub(super) fn why(deployment: DeploymentId, shown: &Shown) -> Option<Why> {
    let bot = bots(shown).into_iter().find(|bot| bot.deployment == deployment)?;
    let inside = shown.insides.get(&deployment).cloned().unwrap_or_default();
    let report = shown.report.as_ref();
    let found = report.and_then(|report| report.instances.get(&deployment)).map(|report| &report.enforcement);
    let is_broken = |(_, found): &(&Item, &Enforcement)| !matches!(found.verdict, Verdict::Enforced);
    let broken = found.into_iter().flatten().filter(is_broken);
    Some(Why {
        bot,
        before: inside.past.iter().rev().skip(1).cloned().collect(),
        retry_at: inside.retry_at,
        doing: inside.doing,
        enforcement: broken.map(|(item, found)| (*item, found.clone())).collect(),
        host: report.map(|report| report.troubles.clone()).unwrap_or_default(),
    })
}

/// The spec as it was accepted, of all bots or of one. What is sealed is told by its digest alone.
///
/// # Errors
/// When it cannot be written as JSON.
pub(super) fn unsealed_by_nobody(spec: &HostSpec, only: Option<DeploymentId>) -> Result<Value, serde_json::Error> {
    let mut shown = spec.clone();
    shown.instances.retain(|deployment, _| only.is_none_or(|only| only == *deployment));
    let mut value = serde_json::to_value(&shown)?;
    for (deployment, instance) in &shown.instances {
        for (at, file) in instance.files.iter().enumerate() {
            let sealed = &mut value["instances"][deployment.to_string()]["files"][at];
            if let Some(fields) = sealed.as_object_mut() {
                fields.remove("ciphertext");
                fields.insert("sealed_bytes".to_owned(), file.ciphertext.len().into());
                fields.insert("sealed_digest".to_owned(), Digest::of(&file.ciphertext).to_string().into());
            }
        }
    }
    Ok(value)
}
