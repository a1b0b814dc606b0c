//! What a purged deployment left on its host: nothing, whoever was killed on the way.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::host::Host;
use launchpad_tests::remains;
use launchpad_tests::wait::wait_for;
use serde_json::Value;

use super::site::{PATIENCE, Site, id};

/// The agent's file of addresses.
const ADDRESSES: &str = "addresses";
/// Where the agent keeps what belongs to one bot, below its data or its run directory (`agent/src/execute/places.rs`).
const HOMES: [(&str, &str); 6] = [
    ("data", "volumes"),
    ("run", "files"),
    ("run", "resolv"),
    ("data", ADDRESSES),
    // Half made, and half destroyed: of a bot that runs there is nothing here.
    ("data", "volumes/.making"),
    ("data", "trash"),
];
/// The last of them.
const HALFWAY: usize = 2;

/// That nothing of the deployment is left, and nothing of its account either unless the neighbour still needs it. Trash
/// is emptied, and a network removed, a moment after the tombstone was acknowledged.
pub(crate) fn assert_nothing_of(site: &mut Site, deployment: &Value) -> Result<()> {
    let (id, account) = (id(deployment)?, deployment["account"].as_str().context("an account")?.to_owned());
    let neighbour = site.neighbour.clone();
    let host = site.lab.host(0)?;
    if let Some((neighbour, _)) = &neighbour {
        // A bot that is there is found in each of these places, or nobody would be found in them.
        let found = files_of(host, &neighbour.id)?;
        ensure!(found.len() == HOMES.len() - HALFWAY, "of the neighbour there is only {found:?}");
    }
    wait_for(&format!("nothing of {id} to be left on its host"), PATIENCE, || {
        let mut left = files_of(host, &id)?;
        let containers = host.engine.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
        let known = neighbour.as_ref().map(|(_, identity)| identity.container.as_str());
        left.extend(containers.lines().filter(|one| Some(*one) != known).map(|one| format!("container {one}")));
        if neighbour.is_none() {
            left.extend(remains::of_account(host, &account)?);
        }
        Ok(if left.is_empty() { Ok(()) } else { Err(left.join(", ")) })
    })
}

/// What lies on the host under the deployment's id, alone or with a number behind it, and its address.
fn files_of(host: &mut Host, id: &str) -> Result<Vec<String>> {
    let place = host.agent()?.place();
    let mut found = Vec::new();
    for (root, home) in HOMES {
        let path = if root == "data" { place.data.join(home) } else { place.run.join(home) };
        if home == ADDRESSES {
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            found.extend(String::from_utf8_lossy(&text).contains(id).then(|| format!("an address in {home}")));
            continue;
        }
        let names = fs::read_dir(&path).into_iter().flatten();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        found.extend(names.filter(|name| name.starts_with(id)).map(|name| path.join(name).display().to_string()));
    }
    Ok(found)
}
