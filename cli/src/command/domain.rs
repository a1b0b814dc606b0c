//! `launchpad domain add|ls|verify|rm`: the public names that lead to a bot.

use serde_json::{Value, json};

use crate::answers::{DnsRecord, Domain, Page};
use crate::arguments::{DomainTarget, Target};
use crate::client::{Client, path, read};
use crate::failure::Failure;
use crate::output::{Output, indented, table};

/// Claims a domain.
pub(super) fn add(client: &Client, wanted: &DomainTarget, output: Output) -> Result<(), Failure> {
    let value = client.post(&address(&wanted.target), &json!({ "name": wanted.domain }))?;
    output.show(&value, || {
        let domain: Domain = read(&value)?;
        let deployment = &wanted.target.deployment;
        Ok(format!(
            "{} is claimed for {deployment}. Set these records where it is hosted:\n\n{}\n\n\
             It leads to the bot within minutes of that; `launchpad domain verify {deployment} {}` looks at once.",
            domain.name,
            records(&domain),
            domain.name
        ))
    })
}

/// Lists public names.
pub(super) fn list(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let value = client.get(&address(target))?;
    output.show(&value, || listed(&value))
}

/// Looks for the proof.
pub(super) fn verify(client: &Client, wanted: &DomainTarget, output: Output) -> Result<(), Failure> {
    let address = path(&["deployments", &wanted.target.deployment, "domains", &wanted.domain, "verify"]);
    let value = client.post(&address, &json!({}))?;
    let domain: Domain = read(&value)?;
    match domain.reason {
        // A verified domain may have lost its record: it is told, and leads there for a while yet.
        Some(reason) if domain.state != "verified" => Err(Failure::refused(reason)),
        _ => output.show(&value, || Ok(standing(&domain))),
    }
}

/// Lets go of a domain.
pub(super) fn remove(client: &Client, unwanted: &DomainTarget, output: Output) -> Result<(), Failure> {
    let address = path(&["deployments", &unwanted.target.deployment, "domains", &unwanted.domain]);
    let value = client.delete(&address, &[])?;
    output.show(&value, || Ok(format!("{} leads there no more, and is free for others", unwanted.domain)))
}

fn listed(value: &Value) -> Result<String, Failure> {
    let items = read::<Page>(value)?.items;
    let domains = items.iter().map(read).collect::<Result<Vec<Domain>, _>>()?;
    if domains.is_empty() {
        return Ok("No public names: this installation gives none, and no domain is claimed.".to_owned());
    }
    let each = domains.iter().map(|domain| format!("{}\n{}", standing(domain), records(domain)));
    Ok(each.collect::<Vec<_>>().join("\n\n"))
}

fn standing(domain: &Domain) -> String {
    let state = match domain.state.as_str() {
        "own" => "its own name",
        "verified" => "verified, and leads to the bot",
        _ => "claimed, not proved yet",
    };
    let why = domain.reason.as_ref().map(|reason| format!("\n{}", indented(reason))).unwrap_or_default();
    format!("{}: {state}{why}", domain.name)
}

/// The records to set: the proof, and what leads the name there.
fn records(domain: &Domain) -> String {
    let row = |record: &DnsRecord, what: &str| {
        let DnsRecord { name, kind, value } = record.clone();
        vec![name, kind, value, what.to_owned()]
    };
    let proof = domain.proof.iter().map(|record| row(record, "the proof"));
    let has_alias = domain.records.iter().any(|record| record.kind == "CNAME");
    let leading = domain.records.iter().map(|record| match record.kind.as_str() {
        "CNAME" => row(record, "leads to the bot"),
        _ if has_alias => row(record, "instead of the CNAME, where there can be none"),
        _ => row(record, "leads to the bot"),
    });
    let rows: Vec<_> = proof.chain(leading).collect();
    if rows.is_empty() {
        return "  No records: its host has told of no address yet.".to_owned();
    }
    table(&["NAME", "TYPE", "VALUE", ""], rows)
}

fn address(target: &Target) -> String {
    path(&["deployments", &target.deployment, "domains"])
}
