//! `launchpad hosts upgrade` and `launchpad hosts ring`: the versions of agents, a ring of hosts at a time.

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::{Clock, Moment};
use serde::Deserialize;
use serde_json::{Value, json};

use super::hosts;
use crate::arguments::{HostTarget, UpgradeHosts};
use crate::client::{Client, path, read};
use crate::failure::Failure;
use crate::output::{Output, ago, indented, table};

const HEADS: [&str; 6] = ["RING", "HOST", "VERSION", "TURN", "SINCE", "WHY NOT"];

/// The latest upgrade, if there ever was one.
#[derive(Debug, Deserialize)]
struct Latest {
    #[serde(default)]
    upgrade: Option<Upgrade>,
}

/// An upgrade of agents.
#[derive(Debug, Deserialize)]
struct Upgrade {
    id: String,
    to: String,
    state: String,
    #[serde(default)]
    reason: Option<Reason>,
    begun_at_us: i64,
    rings: Vec<Ring>,
}

#[derive(Debug, Deserialize)]
struct Ring {
    name: String,
    hosts: Vec<RingHost>,
}

#[derive(Debug, Deserialize)]
struct RingHost {
    name: String,
    version: String,
    turn: String,
    #[serde(default)]
    at_us: Option<i64>,
    #[serde(default)]
    reason: Option<Reason>,
}

/// Begins an upgrade, steers it, or shows it.
pub(super) fn upgrade(client: &Client, wanted: &UpgradeHosts, output: Output) -> Result<(), Failure> {
    let value = if let Some(to) = &wanted.to {
        let mut body = json!({ "to": to, "rings": wanted.ring, "hosts": wanted.hosts });
        for (field, value) in [("at_once", wanted.at_once.map(u64::from)), ("soak_s", wanted.soak)] {
            if let Some(value) = value {
                body[field] = value.into();
            }
        }
        client.post("/upgrades", &body)?
    } else if let Some(step) = wanted.step() {
        let latest = client.get("/upgrades")?;
        let Latest { upgrade: Some(upgrade) } = read(&latest)? else { return Err(none_yet()) };
        client.post(&path(&["upgrades", &upgrade.id, step]), &json!({}))?
    } else {
        let mut latest = client.get("/upgrades")?;
        let found = latest["upgrade"].take();
        if found.is_null() {
            return output.show(&json!({}), || Ok("No upgrade has begun yet.".to_owned()));
        }
        found
    };
    output.show(&value, || read(&value).map(|upgrade| text(&upgrade, Clock::machine().wall())))
}

/// Puts a host into a ring.
pub(super) fn put_into_ring(client: &Client, target: &HostTarget, ring: &str, output: Output) -> Result<(), Failure> {
    let value: Value =
        client.put(&path(&["hosts", &hosts::id_of(client, &target.host)?, "ring"]), &[], &json!({ "ring": ring }))?;
    output.show(&value, || Ok(format!("{} is in the ring {ring}", target.host)))
}

fn text(upgrade: &Upgrade, now: Moment) -> String {
    let mut rows = Vec::new();
    for ring in &upgrade.rings {
        rows.extend(ring.hosts.iter().map(|host| {
            vec![
                ring.name.clone(),
                host.name.clone(),
                host.version.clone(),
                host.turn.clone(),
                host.at_us.map_or_else(|| "–".to_owned(), |at| format!("{} ago", ago(at, now))),
                host.reason.as_ref().map_or_else(|| "–".to_owned(), |reason| reason.sentence.clone()),
            ]
        }));
    }
    let begun = ago(upgrade.begun_at_us, now);
    let mut text = format!("{} to {}, begun {begun} ago: {}", upgrade.id, upgrade.to, upgrade.state);
    if let Some(reason) = &upgrade.reason {
        text.push_str(&format!("\n{}", indented(reason)));
    }
    format!("{text}\n\n{}", table(&HEADS, rows))
}

fn none_yet() -> Failure {
    let reason = Reason::new("no-upgrade", "no upgrade has begun yet");
    Failure::refused(reason.mend("begin one with `launchpad hosts upgrade --to VERSION --ring RING`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halted_upgrade_says_which_host_halted_it_and_what_mends_it() {
        let told = json!({
            "id": "upg_1", "to": "0.2.0", "state": "halted", "begun_at_us": 0,
            "reason": { "code": "upgrade-halted", "sentence": "host web-1 did not take 0.2.0", "mend": "--resume" },
            "rings": [{ "name": "canary", "hosts": [{
                "id": "host_1", "name": "web-1", "version": "0.1.0", "turn": "failed",
                "reason": { "code": "agent-silent", "sentence": "it did not answer" },
            }] }],
        });
        let text = text(&read(&told).unwrap(), Moment::from_micros(60_000_000));
        for part in ["halted", "host web-1 did not take 0.2.0", "--resume", "it did not answer", "canary"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
