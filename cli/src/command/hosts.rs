//! `launchpad hosts` and `launchpad host …`: the fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capability, Capacity};
use launchpad_protocol::time::{Clock, Moment};
use serde_json::json;

use crate::answers::{Failover, Gate, Host, HostedInstance, JoinToken};
use crate::arguments::HostTarget;
use crate::client::{Client, path, read};
use crate::failure::Failure;
use crate::output::{Output, ago, bytes, facts, indented, table};

/// Of the bots of one host.
const INSTANCE_HEADS: [&str; 5] = ["DEPLOYMENT", "PHASE", "VOLUME", "ENFORCED", "NOT ENFORCED"];
const HEADS: [&str; 9] = ["NAME", "ID", "POOL", "STATE", "LINK", "CPU", "MEMORY", "STORAGE", "SEEN"];

/// Lists the hosts.
pub(super) fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let items = client.list("/hosts")?;
    let failover = client.get("/failover")?;
    let now = Clock::machine().wall();
    output.show(&json!({ "items": items, "failover": failover }), || {
        let rows = items.iter().map(|item| read(item).map(|host| row(&host, now))).collect::<Result<Vec<_>, _>>()?;
        let none = "No hosts. Make a token with `launchpad host token create`.";
        let listed = if rows.is_empty() { none.to_owned() } else { table(&HEADS, rows) };
        Ok(match read::<Failover>(&failover)?.reason {
            Some(reason) => format!("{listed}\n\n{}", reason.paragraph()),
            None => listed,
        })
    })
}

/// Has nothing new go to a host, or lets it again.
pub(super) fn cordon(client: &Client, target: &HostTarget, cordoned: bool, output: Output) -> Result<(), Failure> {
    let verb = if cordoned { "cordon" } else { "uncordon" };
    let value = client.post(&path(&["hosts", &id_of(client, &target.host)?, verb]), &json!({}))?;
    output.show(&value, || {
        Ok(match cordoned {
            true => format!("{} is cordoned: nothing new goes there, and what is there stays", target.host),
            false => format!("{} is given deployments again", target.host),
        })
    })
}

/// Takes a host out of the fleet.
pub(super) fn retire(client: &Client, target: &HostTarget, force: bool, output: Output) -> Result<(), Failure> {
    let path = path(&["hosts", &id_of(client, &target.host)?, "retire"]);
    let value = client.post(&path, &json!({ "force": force }))?;
    output.show(&value, || Ok(format!("{} is retired; it does not come back under this id", target.host)))
}

/// Calls the hosts lost that fell silent together.
pub(super) fn thaw(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.post("/failover/thaw", &json!({}))?;
    let Failover { excused, .. } = read(&value)?;
    output.show(&value, || {
        Ok(match excused.len() {
            0 => "nothing was frozen".to_owned(),
            count => format!("{count} hosts are called lost; what may fail over leaves them"),
        })
    })
}

/// Shows one host.
pub(super) fn inspect(client: &Client, target: &HostTarget, output: Output) -> Result<(), Failure> {
    let value = client.get(&path(&["hosts", &id_of(client, &target.host)?]))?;
    output.show(&value, || read(&value).map(|host| details(&host)))
}

/// Cuts a host off.
pub(super) fn revoke(client: &Client, target: &HostTarget, output: Output) -> Result<(), Failure> {
    let value = client.post(&path(&["hosts", &id_of(client, &target.host)?, "revoke"]), &json!({}))?;
    output.show(&value, || Ok(format!("{} is revoked; what runs there runs on, and nobody answers it", target.host)))
}

/// Makes a join token.
pub(super) fn create_token(
    client: &Client,
    name: Option<String>,
    pool: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let mut body = json!({});
    for (field, value) in [("name", name), ("pool", pool)] {
        if let Some(value) = value {
            body[field] = value.into();
        }
    }
    let value = client.post("/hosts/tokens", &body)?;
    output.show(&value, || {
        let JoinToken { token, expires_at_us, enroll_endpoint } = read(&value)?;
        let expires = Moment::from_micros(expires_at_us);
        Ok(format!(
            "{token}\n\nIt lets one host join, until {expires}. On that host, run:\n  \
             launchpad-agent enroll --coordinator {enroll_endpoint} --token {token}"
        ))
    })
}

/// The id of a host that is named by name or id.
pub(super) fn id_of(client: &Client, target: &str) -> Result<String, Failure> {
    if target.starts_with("host_") {
        return Ok(target.to_owned());
    }
    let hosts = client.list("/hosts")?;
    let mut named = hosts.iter().filter(|host| host["name"] == target).filter_map(|host| host["id"].as_str());
    match (named.next(), named.next()) {
        (Some(id), None) => Ok(id.to_owned()),
        (Some(_), Some(_)) => {
            let reason = Reason::new("name-is-not-unique", format!("several hosts are called `{target}`"));
            Err(Failure::refused(reason.mend("use the id that `launchpad hosts` shows")))
        }
        (None, _) => {
            let reason = Reason::new("no-such-host", format!("there is no host `{target}`"));
            Err(Failure::refused(reason.mend("see `launchpad hosts`")))
        }
    }
}

fn row(host: &Host, now: Moment) -> Vec<String> {
    let absent = || "–".to_owned();
    let link = if host.connected { host.transport.clone().unwrap_or_else(|| "yes".to_owned()) } else { absent() };
    let used = |figure: &dyn Fn(&Capacity) -> String| match (&host.allocated, &host.capacity) {
        (Some(allocated), Some(capacity)) => format!("{} / {}", figure(allocated), figure(capacity)),
        _ => absent(),
    };
    vec![
        host.name.clone(),
        host.id.clone(),
        host.pool.clone(),
        host.state.clone(),
        link,
        used(&|size| format!("{:.1}", f64::from(size.cpu_millis) / 1_000.0)),
        used(&|size| bytes(size.memory_bytes)),
        used(&|size| bytes(size.storage_bytes)),
        host.last_seen_us.map_or_else(absent, |at| format!("{} ago", ago(at, now))),
    ]
}

fn details(host: &Host) -> String {
    let now = Clock::machine().wall();
    let cells = row(host, now);
    let named = HEADS.iter().zip(&cells).map(|(head, cell)| (head.to_lowercase(), cell.clone()));
    let named: Vec<_> = named.collect();
    let mut pairs: Vec<_> = named.iter().map(|(head, cell)| (head.as_str(), Some(cell.clone()))).collect();
    let generation = |generation: Option<launchpad_protocol::generation::Generation>| {
        generation.map_or_else(|| "–".to_owned(), |generation| generation.to_string())
    };
    let at = &host.generation;
    pairs.push(("agent", host.agent_version.clone()));
    pairs.push((
        "generation",
        Some(format!(
            "published {}, accepted {}, applied {}",
            generation(at.published),
            generation(at.accepted),
            generation(at.applied)
        )),
    ));
    pairs.push(("gate", host.gate.as_ref().map(gate)));
    let mut text = facts(&pairs);
    for (name, capability) in &host.capabilities {
        match capability {
            Capability::Present => text.push_str(&format!("\n{name}: yes")),
            Capability::Absent { reason } => text.push_str(&format!("\n{name}: no\n{}", indented(reason))),
        }
    }
    for reason in &host.reasons {
        text.push_str(&format!("\n{}", indented(reason)));
    }
    if !host.instances.is_empty() {
        text.push_str(&format!("\n\n{}", table(&INSTANCE_HEADS, host.instances.iter().map(contract).collect())));
    }
    text
}

fn gate(gate: &Gate) -> String {
    let exposure = Duration::from_micros(gate.longest_exposure_us);
    let flushes = match gate.flushes {
        0 => "its rules were never taken away".to_owned(),
        times => format!("its rules were taken away {times} times, for {} ms at the longest", exposure.as_millis()),
    };
    let addresses = gate.ingress_addresses.join(", ");
    if addresses.is_empty() { flushes } else { format!("{flushes}; takes traffic for public names at {addresses}") }
}

/// How the contract of one bot holds: what fails first, then what its host cannot do.
fn contract(instance: &HostedInstance) -> Vec<String> {
    let summary = instance.enforcement.clone().unwrap_or_default();
    let named = |verdict: &str, items: &BTreeMap<String, Reason>| {
        let names: Vec<_> = items.keys().map(String::as_str).collect();
        (!names.is_empty()).then(|| format!("{verdict}: {}", names.join(", ")))
    };
    let broken = named("failed", &summary.failed).into_iter().chain(named("degraded", &summary.degraded));
    let volume = instance
        .volume
        .as_ref()
        .map(|volume| format!("{} of {}, {}", bytes(volume.used_bytes), bytes(volume.bytes), volume.backend));
    vec![
        instance.deployment.clone(),
        instance.phase.clone(),
        volume.unwrap_or_else(|| "–".to_owned()),
        summary.enforced.to_string(),
        broken.collect::<Vec<_>>().join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_report_is_shown_all_the_same() {
        let host = json!({
            "id": "host_1", "name": "web", "pool": "shared", "state": "pending", "connected": false, "generation": {}
        });
        let cells = row(&read(&host).unwrap(), Moment::from_micros(0));
        assert_eq!(cells, ["web", "host_1", "shared", "pending", "–", "–", "–", "–", "–"]);
    }
}
