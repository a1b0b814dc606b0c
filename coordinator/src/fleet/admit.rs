//! A host has greeted: what the store says to it.
//!
//! The session gets its fence here, in one transaction with what it is told: a session with a lower fence has reported
//! for the last time. While publishing is frozen a host is admitted all the same, and told of no spec.
//!
//! Here also shows that the store is older than its fleet: a host holds a spec of another life of it, or has a
//! certificate of ours and is not in it. Either freezes publishing, in the same transaction.

use launchpad_protocol::frame::Hello;
use launchpad_protocol::id::{HostId, IncarnationId};
use launchpad_protocol::limits::CLOCK_SKEW_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::session::Admission;
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::Moment;

use super::renew;
use super::server::Ground;
use super::view::{LOOK_AND_CONFIRM, freeze};
use crate::store::{Commit, StoreError, Tx, hosts, meta, specs, strangers};

/// Admits the host under a new fence.
///
/// # Errors
/// Why not, in words for the host: it was revoked, is not known here, or the store is away.
pub(super) async fn admit(ground: &Ground, host: HostId, hello: &Hello) -> Result<Admission, Reason> {
    let now = ground.clock.wall();
    if hello.wall.apart(now) > CLOCK_SKEW_MAX {
        tracing::warn!(%host, theirs = %hello.wall, ours = %now, "a host's clock is off: its next renewal may fail");
    }
    let admitted = ground.store.write(Commit::AdmitHost, async |tx| admission(tx, host, hello, now).await).await;
    match admitted {
        Ok(Some(admission)) => Ok(admission),
        Ok(None) => Err(renew::revoked_or_unknown(host)),
        Err(error) => {
            tracing::error!(%host, %error, "cannot admit a host");
            Err(Reason::new("coordinator-in-trouble", "the coordinator's store is away")
                .mend("the agent connects again by itself; see the coordinator's log"))
        }
    }
}

async fn admission(tx: &mut Tx, host: HostId, hello: &Hello, now: Moment) -> Result<Option<Admission>, StoreError> {
    let row = hosts::get(tx, host).await?;
    let Some(row) = row else {
        stranger(tx, host, now).await?;
        return Ok(None);
    };
    let Some(fence) = hosts::next_fence(tx, host).await? else { return Ok(None) };
    let incarnation = meta::incarnation(tx).await?;
    if is_of_another_life(tx, host, hello, incarnation).await? {
        freeze(tx, host, &another_life(&row.name), now).await?;
    }
    hosts::introduce(tx, host, &hello.agent_version, &hello.features).await?;
    let latest = specs::latest(tx, host).await?;
    let frozen = meta::frozen(tx).await?.is_some();
    Ok(Some(Admission {
        incarnation,
        fence,
        wall: now,
        latest: latest.as_ref().map(SpecOffer::accepted),
        published: latest.filter(|_| !frozen),
    }))
}

/// Whether what the host holds was made in another life of the store, and nobody has looked at it in this one. Its number
/// says nothing then: this life's numbers may have risen past it.
async fn is_of_another_life(
    tx: &mut Tx,
    host: HostId,
    hello: &Hello,
    this: IncarnationId,
) -> Result<bool, StoreError> {
    match (hello.accepted, hello.incarnation) {
        (Some(held), Some(life)) if life != this => Ok(!specs::is_confirmed(tx, host, held.generation, this).await?),
        (Some(_) | None, Some(_) | None) => Ok(false),
    }
}

/// A host that joined after the copy was made. Once an operator has left it out it freezes nothing any more.
async fn stranger(tx: &mut Tx, host: HostId, now: Moment) -> Result<(), StoreError> {
    if !strangers::is_noted(tx, host).await? {
        freeze(tx, host, &not_in_store(host), now).await?;
    }
    strangers::note(tx, host, now).await
}

fn another_life(name: &str) -> Reason {
    Reason::new("host-above-store", format!("host {name} holds a spec of another life of this store"))
        .because("the store was restored from a copy, and what this host runs was not looked at since")
        .mend(LOOK_AND_CONFIRM)
}

fn not_in_store(host: HostId) -> Reason {
    Reason::new("host-above-store", format!("{host} has a certificate of ours and is not in this store"))
        .because("it joined after the copy was made from which the store was restored")
        .mend(LOOK_AND_CONFIRM)
}
