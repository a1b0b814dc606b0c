//! `launchpad egress show|set|add|rm`: what a bot may reach; `launchpad denials`: what it was kept from.

use std::collections::BTreeSet;

use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use serde_json::{Value, json};

use crate::answers::{Denials, Egress};
use crate::arguments::{Rules, SomeRules, Target};
use crate::client::{Client, path, read};
use crate::failure::Failure;
use crate::output::{Output, ago, table};

/// Shows.
pub(super) fn show(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let value = client.get(&address(target))?;
    output.show(&value, || text(&value))
}

/// Lets it reach these beyond its profile, and nothing else.
pub(super) fn set(client: &Client, wanted: &Rules, output: Output) -> Result<(), Failure> {
    put(client, &wanted.target, &rules(&wanted.rules)?, output)
}

/// Adds to what was added.
pub(super) fn add(client: &Client, wanted: &SomeRules, output: Output) -> Result<(), Failure> {
    let all = &current(client, &wanted.target)? | &rules(&wanted.rules)?;
    put(client, &wanted.target, &all, output)
}

/// Takes back what was added.
pub(super) fn remove(client: &Client, unwanted: &SomeRules, output: Output) -> Result<(), Failure> {
    let (current, unwanted_rules) = (current(client, &unwanted.target)?, rules(&unwanted.rules)?);
    if let Some(rule) = unwanted_rules.difference(&current).next() {
        let reason = Reason::new("no-such-rule", format!("`{rule}` is not among the rules that were added"));
        let mend =
            format!("see `launchpad egress show {}`; what the profile allows stays", unwanted.target.deployment);
        return Err(Failure::refused(reason.mend(mend)));
    }
    put(client, &unwanted.target, &(&current - &unwanted_rules), output)
}

/// What a bot was kept from.
pub(super) fn denials(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let value = client.get(&path(&["deployments", &target.deployment, "denials"]))?;
    output.show(&value, || {
        let Denials { count, items } = read(&value)?;
        if items.is_empty() {
            return Ok(format!("{} was kept from nothing that its host remembers.", target.deployment));
        }
        let now = Clock::machine().wall();
        let whose = |certain: bool| if certain { "" } else { "it, or another bot of yours" };
        let rows = items.into_iter().map(|denial| {
            vec![ago(denial.at_us, now), denial.count.to_string(), denial.target, whose(denial.certain).to_owned()]
        });
        let told = table(&["AGE", "TIMES", "KEPT FROM", ""], rows.collect());
        Ok(format!("{told}\n\n{count} in all, of all your bots on that host. What it needs: `launchpad egress add`."))
    })
}

fn put(client: &Client, target: &Target, rules: &BTreeSet<EgressRule>, output: Output) -> Result<(), Failure> {
    let value = client.put(&address(target), &[], &json!({ "allow": rules }))?;
    output.show(&value, || text(&value))
}

fn current(client: &Client, target: &Target) -> Result<BTreeSet<EgressRule>, Failure> {
    rules(&read::<Egress>(&client.get(&address(target))?)?.allow)
}

/// Rules in the one grammar that all of the fleet has: two spellings of one rule are one.
fn rules(texts: &[String]) -> Result<BTreeSet<EgressRule>, Failure> {
    let rule = |text: &String| {
        text.parse().map_err(|error| Failure::usage(Reason::new("malformed-rule", format!("{error}"))))
    };
    texts.iter().map(rule).collect()
}

fn text(value: &Value) -> Result<String, Failure> {
    let Egress { profile, allow, granted } = read(value)?;
    let mut rows: Vec<_> = profile.into_iter().map(|rule| vec![rule, "its profile".to_owned()]).collect();
    let left = (granted as usize).saturating_sub(allow.len());
    rows.extend(allow.into_iter().map(|rule| vec![rule, "you".to_owned()]));
    let told = if rows.is_empty() { "It reaches nothing.".to_owned() } else { table(&["TO", "ALLOWED BY"], rows) };
    Ok(format!("{told}\n\nIts plan has room for {left} more of {granted} rules of yours."))
}

fn address(target: &Target) -> String {
    path(&["deployments", &target.deployment, "egress"])
}
