//! A host has greeted: what the store says to it.
//!
//! The session gets its fence here, in one transaction with what it is told: a session with a lower fence has reported
//! for the last time. While publishing is frozen a host is admitted all the same, and told of no spec.

use launchpad_protocol::frame::Hello;
use launchpad_protocol::id::HostId;
use launchpad_protocol::limits::CLOCK_SKEW_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::session::Admission;
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::time::Moment;

use super::renew;
use super::server::Ground;
use crate::store::{Commit, StoreError, Tx, hosts, meta, specs};

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
    let Some(fence) = hosts::next_fence(tx, host).await? else { return Ok(None) };
    hosts::introduce(tx, host, &hello.agent_version, &hello.features).await?;
    let latest = specs::latest(tx, host).await?;
    let frozen = meta::frozen(tx).await?.is_some();
    Ok(Some(Admission {
        incarnation: meta::incarnation(tx).await?,
        fence,
        wall: now,
        latest: latest.as_ref().map(SpecOffer::accepted),
        published: latest.filter(|_| !frozen),
    }))
}
