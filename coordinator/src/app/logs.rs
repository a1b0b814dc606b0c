//! What a bot writes: asked of its host, never stored here.

use std::time::Duration;

use launchpad_protocol::frame::Question;
use launchpad_protocol::id::HostId;
use launchpad_protocol::limits::ASK_DEADLINE;
use launchpad_protocol::reason::Reason;

use crate::command::{DeploymentRef, LogsWanted};
use crate::domain::actor::Actor;
use crate::domain::refusal::Refusal;
use crate::fleet::query::{Asker, HOST_OFFLINE};
use crate::store::hosts;

use super::{App, AppError};

pub use crate::fleet::query::Answers;

/// How long one follower is served: a day, so that a forgotten one ends at all.
const FOLLOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl App {
    /// The lines that a deployment writes, as they come from its host.
    ///
    /// # Errors
    /// When there is no such deployment in what the actor may see, it has no host, or its host is not connected.
    pub async fn logs(&self, actor: &Actor, target: &DeploymentRef, wanted: LogsWanted) -> Result<Answers, AppError> {
        let found = self.find_to_read(actor, target).await?;
        self.note_view(actor, "deployment.logs", Some(found.account), found.id.to_string()).await?;
        let host = found.host.ok_or_else(|| Refusal::conflict(without_host(target)))?;
        let question = Question::Logs { deployment: found.id, tail: wanted.tail, follow: wanted.follow };
        let deadline = if wanted.follow { FOLLOW_MAX } else { ASK_DEADLINE };
        let asker = if actor.role.is_staff() { Asker::Staff(actor.user) } else { Asker::Tenant(found.account) };
        match self.fleet.ask(host, asker, question, deadline) {
            Ok(answers) => Ok(answers),
            Err(reason) if reason.code == HOST_OFFLINE => {
                Err(Refusal::unavailable(self.why_not(host, reason).await?).into())
            }
            Err(reason) => Err(Refusal::unavailable(reason).into()),
        }
    }

    /// Why a host without a session here cannot be asked: it may have one with another coordinator.
    async fn why_not(&self, host: HostId, offline: Reason) -> Result<Reason, AppError> {
        let row = self.store.read(async |tx| hosts::get(tx, host).await).await?;
        let heard = row.and_then(|row| row.last_seen_at);
        let elsewhere = heard.is_some_and(|heard| self.clock.wall().since(heard) <= self.patience.silent_after);
        Ok(if elsewhere { connected_elsewhere() } else { offline })
    }
}

fn connected_elsewhere() -> Reason {
    Reason::new("host-elsewhere", "the host is not connected to this coordinator, and was heard of a moment ago")
        .because("it is connected to another coordinator on the same database, or has just lost its connection")
        .mend("ask again, at the other coordinator if there is one")
}

fn without_host(target: &DeploymentRef) -> Reason {
    Reason::new("not-placed", format!("`{target}` has no host yet, and so no log"))
        .mend(format!("see `launchpad status {target}` for what it waits for"))
}
