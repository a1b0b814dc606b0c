//! What a bot writes: asked of its host, never stored here.

use std::time::Duration;

use launchpad_protocol::frame::Question;
use launchpad_protocol::limits::ASK_DEADLINE;
use launchpad_protocol::reason::Reason;

use crate::command::{DeploymentRef, LogsWanted};
use crate::domain::actor::Actor;
use crate::domain::refusal::Refusal;

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
        self.fleet.ask(host, question, deadline).map_err(|reason| Refusal::unavailable(reason).into())
    }
}

fn without_host(target: &DeploymentRef) -> Reason {
    Reason::new("not-placed", format!("`{target}` has no host yet, and so no log"))
        .mend(format!("see `launchpad status {target}` for what it waits for"))
}
