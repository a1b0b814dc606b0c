//! The next revision of a bot that exists, where its owner changes what it may reach or its public names.
//!
//! `app::egress` and `app::domains` ask here; secrets have a file of their own (`secrets.rs`). The blueprint before is
//! taken as it was pinned, not made anew: neither a profile edited since, nor a newer coordinator with other defaults,
//! slips in with a change of something else.
//!
//! ```text
//! blueprint before ─┐
//! profile (pinned) ─┼─► the same, but for egress or public names, under its next number
//! owner's decision ─┘
//! ```
//! Both change under a running bot: the recreate hash stays as it was pinned.

use std::collections::BTreeSet;

use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::limits::{EGRESS_RULES_MAX, HOSTNAMES_MAX};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::InstanceSpec;

use super::plan_table::Plan;
use super::refusal::Refusal;

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

    #[test]
    fn what_a_spec_has_no_room_for_is_refused() {
        let many: BTreeSet<_> =
            (0..=EGRESS_RULES_MAX).map(|n| format!("a{n}.example.com").parse().expect("a rule")).collect();
        assert_eq!(allowed(&profile(), &many).expect_err("too many").reason.code, "too-many-egress-rules");
        let names = (0..=HOSTNAMES_MAX).map(|n| format!("a{n}.example.com")).collect();
        assert_eq!(with_hostnames(&starter(), names).expect_err("too many").reason.code, "too-many-domains");
    }
}
