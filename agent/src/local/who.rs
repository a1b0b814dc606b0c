//! Which bot somebody means: its id, its name as its owner calls it, or the beginning of either. Pure.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;

use crate::reconcile::request::Shown;

/// Bots that a refusal lists: enough to see what was typed wrong.
const LISTED_MAX: usize = 8;

/// The bot that is meant. A whole id is taken at its word, known or not.
///
/// # Errors
/// When nothing, or more than one, is meant by it.
pub(crate) fn meant(said: &str, shown: &Shown) -> Result<DeploymentId, Reason> {
    if let Ok(id) = said.parse() {
        return Ok(id);
    }
    let names = names(shown);
    let begins = |id: &DeploymentId, name: &str| {
        let id = id.to_string();
        let digits = id.split_once('_').map_or("", |(_, digits)| digits);
        !said.is_empty() && (id.starts_with(said) || digits.starts_with(said) || name.starts_with(said))
    };
    let exact: Vec<_> =
        names.iter().filter(|(_, name)| !said.is_empty() && **name == said).map(|(id, _)| *id).collect();
    let found = if exact.is_empty() {
        names.iter().filter(|(id, name)| begins(id, name)).map(|(id, _)| *id).collect()
    } else {
        exact
    };
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Reason::new("instance-unknown", format!("there is no bot `{said}` on this host"))
            .because(listed(names.iter().map(|(id, name)| (id, *name))))
            .mend("launchpad-agent ps lists those that are")),
        several => Err(Reason::new("instance-ambiguous", format!("`{said}` may mean {} bots", several.len()))
            .because(listed(several.iter().map(|id| (id, names.get(id).copied().unwrap_or_default()))))
            .mend("name it by its id")),
    }
}

/// Everything that can be named: what the spec lists, and what else is here.
fn names(shown: &Shown) -> BTreeMap<DeploymentId, &str> {
    let present = shown.present.iter().map(|deployment| (*deployment, ""));
    let orphans = shown.report.iter().flat_map(|report| &report.orphans).filter_map(|orphan| orphan.deployment);
    let wished = shown.spec.iter().flat_map(|spec| spec.instances.values());
    let wished = wished.map(|instance| (instance.deployment, instance.name.as_str()));
    present.chain(orphans.map(|deployment| (deployment, ""))).chain(wished).collect()
}

fn listed<'a>(bots: impl Iterator<Item = (&'a DeploymentId, &'a str)>) -> String {
    let told: BTreeSet<String> = bots.map(|(id, name)| format!("{name} {id}").trim().to_owned()).collect();
    let more = told.len().saturating_sub(LISTED_MAX);
    let mut text = told.into_iter().take(LISTED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { "there is none at all".to_owned() } else { format!("there is {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(n: u128) -> DeploymentId {
        Uuid::from_u128(n).into()
    }

    fn code(said: &str, shown: &Shown) -> String {
        meant(said, shown).map_or_else(|reason| reason.code, |id| id.to_string())
    }

    #[test]
    fn a_bot_is_meant_by_its_id_or_by_what_only_it_begins_with() {
        let (one, two) = (id(0xa << 120), id(0xb << 120));
        let shown = Shown { present: BTreeSet::from([one, two]), ..Shown::default() };
        assert_eq!(meant(&one.to_string(), &shown), Ok(one));
        assert_eq!(meant(&id(7).to_string(), &shown), Ok(id(7)), "whole, it needs nobody who knows it");
        assert_eq!(meant("dep_0a", &shown), Ok(one));
        assert_eq!(meant("0b", &shown), Ok(two));
        assert_eq!(code("0", &shown), "instance-ambiguous");
        assert_eq!(code("", &shown), "instance-unknown");
        let refused = meant("web", &shown).unwrap_err();
        assert!(refused.code == "instance-unknown" && refused.to_string().contains(&one.to_string()), "{refused}");
    }
}
