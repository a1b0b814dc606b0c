//! The newest spec of each connected host, to its session.
//!
//! One loop, woken by the compiler's signal and by a timer; each round rereads which generation the store has for each
//! host and hands the newer ones over. A round that is lost costs nothing but the timer's interval. While publishing is
//! frozen nothing is handed over, to anybody.

use std::sync::Arc;
use std::time::Duration;

use super::server::Ground;
use crate::store::{StoreError, meta, specs};

/// How often the store is reread without a signal: a spec that another replica compiled for a host of ours waits this
/// long at the most.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until the coordinator stops.
pub(super) async fn run(ground: Arc<Ground>) {
    loop {
        if let Err(error) = round(&ground).await {
            tracing::error!(%error, "cannot read the newest specs; trying again in {} s", PUBLISH_INTERVAL.as_secs());
        }
        // Cancel-safe: a signal that is not taken is found at the next wait, a lost one by the timer.
        tokio::select! {
            () = ground.signals.publisher.notified() => {}
            () = tokio::time::sleep(PUBLISH_INTERVAL) => {}
            () = ground.stop.cancelled() => return,
        }
    }
}

/// Hands each live session what is newer than what it was handed before.
async fn round(ground: &Ground) -> Result<(), StoreError> {
    let seats = ground.fleet.seats.all();
    if seats.is_empty() {
        return Ok(());
    }
    ground
        .store
        .read(async |tx| {
            if meta::frozen(tx).await?.is_some() {
                return Ok(());
            }
            for (host, newest) in specs::latest_of_all(tx).await? {
                let behind = seats.get(&host).filter(|seat| seat.handed() < Some(newest.generation));
                let Some(seat) = behind else { continue };
                if let Some(offer) = specs::latest(tx, host).await? {
                    seat.publish(offer);
                }
            }
            Ok(())
        })
        .await
}
