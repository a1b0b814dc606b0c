//! The upgrade that is under way, one step on: what hosts answered, and who is asked next.
//!
//! One transaction a round, from the hosts' reports to the wishes and the marks of their specs: whoever is killed in it has
//! asked nobody, and whoever comes next asks the same hosts.

use std::collections::BTreeMap;

use launchpad_protocol::id::HostId;

use crate::app::App;
use crate::domain::host::HostState;
use crate::domain::upgrade::{Standing, Turn, Upgrade};
use crate::store::{Commit, StoreError, Tx, hosts, outbox, reports, upgrades};

/// Advances the upgrade that is not over, if there is one. Answers how many hosts were asked.
pub(super) async fn round(app: &App) -> Result<usize, StoreError> {
    // Most rounds find none, and should not wait for writers to learn it.
    let is_under_way = async |tx: &mut Tx| {
        let Some(mut upgrade) = upgrades::latest(tx).await?.filter(|upgrade| !upgrade.is_over()) else {
            return Ok(false);
        };
        let before = upgrade.clone();
        let wishes =
            upgrade.advance(&standings(tx, &before).await?, app.clock.wall(), || app.entropy.id(before.begun_at));
        Ok::<_, StoreError>(!wishes.is_empty() || upgrade != before)
    };
    if !app.store.read(is_under_way).await? {
        return Ok(0);
    }
    let asked = app.store.write(Commit::Upgrade, async |tx| advance(app, tx).await).await?;
    if asked > 0 {
        app.signals.compiler.notify();
    }
    Ok(asked)
}

async fn advance(app: &App, tx: &mut Tx) -> Result<usize, StoreError> {
    let Some(mut upgrade) = upgrades::latest(tx).await? else { return Ok(0) };
    let hosts = standings(tx, &upgrade).await?;
    let now = app.clock.wall();
    let before = upgrade.state.clone();
    let wishes = upgrade.advance(&hosts, now, || app.entropy.id(now));
    for (host, wish) in &wishes {
        upgrades::set_wish(tx, *host, wish.as_ref()).await?;
        outbox::mark(tx, *host).await?;
        tracing::info!(%host, to = %upgrade.to, "a host's agent is asked to become another version");
    }
    if upgrade.state != before {
        tracing::info!(upgrade = %upgrade.id, to = %upgrade.to, state = ?upgrade.state, "an upgrade of agents stands otherwise");
    }
    upgrades::keep(tx, &upgrade).await?;
    Ok(wishes.len())
}

/// The hosts that are in the fleet; of those that were asked, what they answer.
async fn standings(tx: &mut Tx, upgrade: &Upgrade) -> Result<BTreeMap<HostId, Standing>, StoreError> {
    let mut standings = BTreeMap::new();
    for host in hosts::all(tx).await?.into_iter().filter(|host| host.state != HostState::Retired) {
        let turn = upgrade.rings.iter().find_map(|ring| ring.hosts.get(&host.id));
        let outcomes = match turn {
            Some(Turn::Asked { .. }) => {
                reports::latest(tx, host.id).await?.map(|stored| stored.report.outcomes).unwrap_or_default()
            }
            _ => BTreeMap::new(),
        };
        let speaks = matches!(host.state, HostState::Active | HostState::Cordoned);
        standings.insert(host.id, Standing { name: host.name, version: host.agent_version, speaks, outcomes });
    }
    Ok(standings)
}
