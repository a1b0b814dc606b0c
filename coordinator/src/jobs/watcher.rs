//! Hosts that have not spoken for too long are silent: nothing new is placed on them, and nothing of theirs is moved.

use launchpad_protocol::time::Moment;

use crate::app::App;
use crate::domain::host::{HostEvent, HostState, SILENT_AFTER, step};
use crate::store::hosts::Host;
use crate::store::{Commit, StoreError, hosts};

/// Notes which hosts fell silent. A coordinator that has just started (at `started`) was the silent one itself, and
/// gives every host time to speak. Answers how many fell silent.
pub(super) async fn round(app: &App, started: Moment) -> Result<usize, StoreError> {
    let now = app.clock.wall();
    let quiet = |host: &Host| {
        let heard = host.last_seen_at.unwrap_or(host.enrolled_at).max(started);
        host.state == HostState::Active && now.since(heard) > SILENT_AFTER
    };
    if !app.store.read(async |tx| hosts::all(tx).await).await?.iter().any(quiet) {
        return Ok(0);
    }
    let silence = async |tx: &mut crate::store::Tx| {
        let mut silent = 0;
        for host in hosts::all(tx).await?.into_iter().filter(quiet) {
            hosts::set_state(tx, host.id, step(host.state, HostEvent::FellSilent)).await?;
            tracing::warn!(host = %host.id, name = host.name, "a host has fallen silent");
            silent += 1;
        }
        Ok::<_, StoreError>(silent)
    };
    app.store.write(Commit::Silence, silence).await
}
