//! The next revision of a bot that exists, where its owner changes what it may reach, its public names or its plan.
//!
//! `app::{egress, domains, plan}` ask here; secrets have a file of their own (`secrets.rs`). The blueprint before is
//! taken as it was pinned, not made anew: neither a profile edited since, nor a newer coordinator with other defaults,
//! slips in with a change of something else.
//!
//! ```text
//! blueprint before ─┐
//! profile (pinned) ─┼─► the same, but for egress, public names or what a plan grants, under its next number
//! owner's decision ─┘
//! ```
//! All of it changes under a running bot: the recreate hash stays as it was pinned.

use std::collections::BTreeSet;

use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::limits::{EGRESS_RULES_MAX, HOSTNAMES_MAX};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::InstanceSpec;

use super::plan_table::Plan;
use super::refusal::Refusal;
use super::revision::{above_the_floor, resources};

/// Bytes of a megabyte of storage, for people.
const MB_BYTES: u64 = 1_000_000;

/// The next blueprint, which may reach what its profile allows and what its owner adds. `profile` is the one that the
/// revision before pinned.
///
/// # Errors
/// A refusal when the rules are more than a spec has room for.
pub fn with_egress(
    before: &InstanceSpec,
    profile: &Profile,
    added: &BTreeSet<EgressRule>,
) -> Result<InstanceSpec, Refusal> {
    let mut spec = next(before);
    spec.egress.rules = allowed(profile, added)?;
    Ok(spec)
}

/// The next blueprint, to which those public names lead.
///
/// # Errors
/// A refusal when the names are more than a spec has room for.
pub fn with_hostnames(before: &InstanceSpec, names: BTreeSet<String>) -> Result<InstanceSpec, Refusal> {
    if names.len() > HOSTNAMES_MAX {
        let sentence = format!("{} public names would lead to it, {HOSTNAMES_MAX} are the most", names.len());
        return Err(Refusal::impossible(Reason::new("too-many-domains", sentence).mend("remove a domain first")));
    }
    let mut spec = next(before);
    spec.ingress.hostnames = names;
    Ok(spec)
}

/// The next blueprint, which may use what another plan grants. `profile` is the one that the revision before pinned,
/// `added` what the owner lets it reach beyond that.
///
/// # Errors
/// A refusal when the plan grants less storage than the bot has, fewer rules than its owner has added, or less memory
/// than the workload needs.
pub fn with_plan(
    before: &InstanceSpec,
    profile: &Profile,
    added: &BTreeSet<EgressRule>,
    plan: &Plan,
) -> Result<InstanceSpec, Refusal> {
    above_the_floor(profile, plan)?;
    within_plan(added, plan)?;
    let mut spec = next(before);
    spec.resources = resources(profile, plan);
    if let Some(volume) = &mut spec.volume {
        if plan.storage_bytes < volume.bytes {
            return Err(volume_would_shrink(volume.bytes, plan));
        }
        volume.bytes = plan.storage_bytes;
    }
    Ok(spec)
}

/// What a bot may reach: what its profile allows, and what its owner adds.
///
/// # Errors
/// A refusal when they are more than a spec has room for.
pub fn allowed(profile: &Profile, added: &BTreeSet<EgressRule>) -> Result<BTreeSet<EgressRule>, Refusal> {
    let rules = &profile.egress.allow | added;
    if rules.len() <= EGRESS_RULES_MAX {
        return Ok(rules);
    }
    let sentence = format!("{} egress rules with those of its profile, {EGRESS_RULES_MAX} are the most", rules.len());
    Err(Refusal::impossible(Reason::new("too-many-egress-rules", sentence).mend("join names below one `*.`")))
}

/// Whether a plan grants its owner that many rules.
///
/// # Errors
/// A refusal in numbers when it does not.
pub fn within_plan(added: &BTreeSet<EgressRule>, plan: &Plan) -> Result<(), Refusal> {
    let (wanted, granted) = (added.len(), plan.egress_rules);
    if wanted <= granted as usize {
        return Ok(());
    }
    let sentence =
        format!("{wanted} egress rules beside those of its profile, plan `{}` grants {granted}", plan.name);
    let mend = "remove rules, join names below one `*.`, or choose a larger plan";
    Err(Refusal::impossible(Reason::new("egress-over-plan", sentence).mend(mend)))
}

/// A filesystem that is mounted cannot be made smaller, and what is in it may not fit.
fn volume_would_shrink(bytes: u64, plan: &Plan) -> Refusal {
    let (has, grants) = (bytes / MB_BYTES, plan.storage_bytes / MB_BYTES);
    let sentence = format!("its volume has {has} MB, plan `{}` grants {grants} MB", plan.name);
    let reason = Reason::new("plan-shrinks-volume", sentence)
        .because("a volume grows, and is never made smaller: what is in it might not fit")
        .mend("choose a plan with as much storage, or deploy it anew on the smaller plan and move its data there");
    Refusal::impossible(reason)
}

fn next(before: &InstanceSpec) -> InstanceSpec {
    InstanceSpec { revision: before.revision.next(), ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan_table::PlanTable;
    use crate::domain::revision::recreate_hash;
    use crate::domain::revision::tests::{profile, starter};

    fn rules(texts: &[&str]) -> BTreeSet<EgressRule> {
        texts.iter().map(|text| text.parse().expect("a rule")).collect()
    }

    #[test]
    fn what_an_owner_adds_stands_beside_what_the_profile_allows_until_it_is_taken_back() {
        let added = rules(&["api.example.com", "203.0.113.0/24:8443"]);
        let changed = with_egress(&starter(), &profile(), &added).expect("a revision");
        assert_eq!(changed.egress.rules, &profile().egress.allow | &added);
        assert_eq!(changed.revision, starter().revision.next());
        let back = with_egress(&changed, &profile(), &BTreeSet::new()).expect("a revision");
        assert_eq!(back.egress, starter().egress);
    }

    #[test]
    fn egress_and_public_names_change_without_a_new_container() {
        let before = starter();
        let egress = with_egress(&before, &profile(), &rules(&["api.example.com"])).expect("a revision");
        let named = with_hostnames(&egress, ["www.example.com".to_owned()].into()).expect("a revision");
        assert_eq!(named.recreate_hash, before.recreate_hash);
        assert_eq!(recreate_hash(&named), recreate_hash(&before));
        assert_eq!(named.egress, egress.egress, "one change leaves the other alone");
        assert_eq!(named.files, before.files, "and the files as they are");
    }

    #[test]
    fn a_plan_grants_so_many_rules_and_not_one_more() {
        let plans = PlanTable::default();
        let plan = plans.get("starter").expect("a plan of the spec");
        let most: BTreeSet<_> =
            (0..plan.egress_rules).map(|n| format!("a{n}.example.com").parse().expect("a rule")).collect();
        assert_eq!(within_plan(&most, plan), Ok(()));
        let refusal = within_plan(&(&most | &rules(&["b.example.com"])), plan).expect_err("one too many");
        assert_eq!(refusal.reason.code, "egress-over-plan");
        assert!(refusal.to_string().contains(&format!("`starter` grants {}", plan.egress_rules)), "{refusal}");
    }

    /// A plan of the spec, with something changed.
    fn plan(name: &str, change: impl FnOnce(&mut Plan)) -> Plan {
        let mut plan = PlanTable::default().get(name).expect("a plan of the spec").clone();
        change(&mut plan);
        plan
    }

    #[test]
    fn a_larger_plan_changes_what_a_bot_may_use_and_nothing_else_and_asks_for_no_new_container() {
        let (before, pro) = (starter(), plan("pro", |_| ()));
        let after = with_plan(&before, &profile(), &BTreeSet::new(), &pro).expect("a revision");
        let used = (
            after.resources.cpu_millis,
            after.resources.memory_bytes,
            after.volume.as_ref().map(|volume| volume.bytes),
        );
        assert_eq!(used, (pro.cpu_millis, pro.memory_bytes, Some(pro.storage_bytes)));
        assert_eq!(after.revision, before.revision.next());
        assert_eq!(recreate_hash(&after), recreate_hash(&before));
        let (resources, volume) = (before.resources, before.volume.clone());
        assert_eq!(InstanceSpec { resources, volume, revision: before.revision, ..after }, before);
    }

    #[test]
    fn a_plan_that_grants_less_than_a_bot_has_is_refused_in_numbers() {
        let refused = |plan: &Plan, added: &[&str]| {
            let refusal = with_plan(&starter(), &profile(), &rules(added), plan).expect_err("too small");
            assert!(refusal.reason.mend.is_some(), "{refusal}");
            (refusal.reason.code.clone(), refusal.to_string())
        };
        let (code, told) = refused(&plan("pro", |plan| plan.storage_bytes = 9_999_000_000), &[]);
        assert_eq!(code, "plan-shrinks-volume");
        assert!(told.contains("10000 MB") && told.contains("`pro` grants 9999 MB"), "{told}");
        let narrow = plan("pro", |plan| plan.egress_rules = 1);
        assert_eq!(refused(&narrow, &["a.example.com", "b.example.com"]).0, "egress-over-plan");
        assert_eq!(refused(&plan("pro", |plan| plan.memory_bytes = 15 << 20), &[]).0, "plan-too-small");
        // Less of what can be given back is no harm.
        let slower = plan("starter", |plan| plan.cpu_millis = 100);
        assert!(with_plan(&starter(), &profile(), &BTreeSet::new(), &slower).is_ok());
    }

    #[test]
    fn what_a_spec_has_no_room_for_is_refused() {
        let many: BTreeSet<_> =
            (0..=EGRESS_RULES_MAX).map(|n| format!("a{n}.example.com").parse().expect("a rule")).collect();
        assert_eq!(allowed(&profile(), &many).expect_err("too many").reason.code, "too-many-egress-rules");
        let names = (0..=HOSTNAMES_MAX).map(|n| format!("a{n}.example.com")).collect();
        assert_eq!(with_hostnames(&starter(), names).expect_err("too many").reason.code, "too-many-domains");
    }
}
