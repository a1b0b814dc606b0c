//! `launchpad pki status|rotate|revoke`: who signs for hosts, one issuing CA taking over from another, and cutting a host
//! off. For operators.

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde_json::{Value, json};

use super::hosts;
use crate::answers::{CaRotation, HostCertificate, Issuer, Pki};
use crate::arguments::HostTarget;
use crate::client::{Client, read};
use crate::failure::Failure;
use crate::output::{Output, table};

const ISSUER_HEADS: [&str; 4] = ["ISSUER", "ROOT", "NOW", "UNTIL"];
const HOST_HEADS: [&str; 5] = ["HOST", "LINK", "ISSUER", "UNTIL", "MISSES"];

/// Characters of a digest that tell one CA from another.
const SHORT_CHARS: usize = 12;

/// Shows who signs, how far a rotation is, and who misses what.
pub(super) fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.get("/pki")?;
    output.show(&value, || text(&value))
}

/// Takes the next step of a rotation, or the last one back.
pub(super) fn rotate(client: &Client, back: bool, output: Output) -> Result<(), Failure> {
    let Pki { rotation, .. } = read(&client.get("/pki")?)?;
    let Some(CaRotation { phase, .. }) = rotation else { return Err(Failure::refused(never_begun())) };
    let value = client.post("/pki/rotate", &json!({ "from": phase, "back": back }))?;
    output.show(&value, || text(&value))
}

/// Cuts a host off.
pub(super) fn revoke(client: &Client, target: &HostTarget, output: Output) -> Result<(), Failure> {
    hosts::revoke(client, target, output)
}

fn text(value: &Value) -> Result<String, Failure> {
    let Pki { roots, issuers, rotation, hosts } = read(value)?;
    let mut text = String::new();
    for root in roots {
        text.push_str(&format!("root {}, until {}\n", short(&root.id), until(root.not_after_us)));
    }
    text.push_str(&format!("\n{}", table(&ISSUER_HEADS, issuers.iter().map(issuer).collect())));
    if let Some(rotation) = rotation {
        text.push_str(&format!("\n\n{}", progress(&rotation, &hosts)));
    }
    if !hosts.is_empty() {
        text.push_str(&format!("\n\n{}", table(&HOST_HEADS, hosts.iter().map(host).collect())));
    }
    Ok(text)
}

fn issuer(issuer: &Issuer) -> Vec<String> {
    vec![short(&issuer.id), short(&issuer.root), issuer.role.clone(), until(issuer.not_after_us)]
}

fn host(host: &HostCertificate) -> Vec<String> {
    let misses = match (host.has_certificate, host.has_roots) {
        (true, true) => "",
        (true, false) => "roots",
        (false, true) => "certificate",
        (false, false) => "certificate, roots",
    };
    vec![
        host.name.clone(),
        if host.connected { "yes" } else { "–" }.to_owned(),
        host.issuer.as_deref().map_or_else(|| "–".to_owned(), short),
        until(host.not_after_us),
        misses.to_owned(),
    ]
}

/// How far the fleet has followed, and what may be done next.
fn progress(rotation: &CaRotation, hosts: &[HostCertificate]) -> String {
    let CaRotation { id, phase, old, new, .. } = rotation;
    let count = |has: fn(&HostCertificate) -> bool| hosts.iter().filter(|host| has(host)).count();
    let (all, roots, certificates) = (hosts.len(), count(|host| host.has_roots), count(|host| host.has_certificate));
    let so_far = format!("{roots} of {all} hosts trust its roots, {certificates} of {all} have a certificate of it");
    let next = match phase.as_str() {
        "distribute" => "Next: `launchpad pki rotate` has the new CA sign; `--back` gives the rotation up.",
        "issue" => "Next: `launchpad pki rotate` ends the old CA, for ever; `--back` has it sign again.",
        _ => "It is over.",
    };
    format!("{id}: {} → {}, phase `{phase}`.\nOf the CA that signs: {so_far}.\n{next}", short(old), short(new))
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(SHORT_CHARS).collect()
}

fn until(at_us: Option<i64>) -> String {
    at_us.map_or_else(|| "–".to_owned(), |at| Moment::from_micros(at).to_string())
}

fn never_begun() -> Reason {
    Reason::new("no-ca-rotation", "no rotation of the CA is under way").mend(
        "begin one on the coordinator's machine, with the root's key at hand: `launchpad-coordinator pki rotate --data-dir \
         DIR --root-key FILE`",
    )
}
