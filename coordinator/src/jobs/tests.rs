//! From a wish to a host's spec, round by round, on a real store.

mod compiling;
mod deleting;
mod placing;
mod recovering;
mod restarting;

use super::{compiler, placer};
use crate::app::lab::{Lab, START};

impl Lab {
    /// What the jobs do until there is nothing left to do.
    async fn settle(&self) {
        placer::round(&self.app, START).await.unwrap();
        compiler::round(&self.app).await.unwrap();
    }
}
