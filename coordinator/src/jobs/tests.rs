//! From a wish to a host's spec, round by round, on a real store.

mod compiling;
mod deleting;
mod domains;
mod egress;
mod failover;
mod placing;
mod plans;
mod pools;
mod recovering;
mod restarting;
mod rotating;
mod secrets;
mod snapshots;
mod upgrading;

use launchpad_protocol::time::BootMoment;

use super::{Started, compiler, placer};
use crate::app::lab::{Lab, START};

/// The process began with the lab's clock.
const STARTED: Started = Started { wall: START, boot: BootMoment::from_micros(0) };

impl Lab {
    /// What the jobs do until there is nothing left to do.
    async fn settle(&self) {
        placer::round(&self.app, STARTED).await.unwrap();
        compiler::round(&self.app).await.unwrap();
    }
}
