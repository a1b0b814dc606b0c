//! `launchpad restart NAME|ID`: restarts a bot and follows it until its new process runs.

use serde_json::json;

use crate::answers::Deployment;
use crate::arguments::Awaited;
use crate::client::{Client, path};
use crate::command::follow::{Verdict, follow, running, seen};
use crate::command::status;
use crate::failure::Failure;
use crate::output::Output;

/// Restarts.
pub(super) fn run(client: &Client, arguments: &Awaited, output: Output) -> Result<(), Failure> {
    let (_, before) = seen(client, &arguments.target.deployment)?;
    let accepted = client.post(&path(&["deployments", &before.id, "restart"]), &json!({}))?;
    let Some(patience) = arguments.wait.patience() else {
        return output.show(&accepted, || Ok(format!("{} will restart", before.name)));
    };
    let judge = |now: &Deployment| {
        // Until its host has begun, the old process is the one that runs, and the old failure is the one that shows.
        let moved = started(now) != started(&before) || now.timeline.len() > before.timeline.len() + 1;
        if moved && started(now).is_some() { running(now) } else { Verdict::Wait }
    };
    let (value, deployment) = follow(client, &before.id, before.timeline.len(), patience, &judge)?;
    output.show(&value, || Ok(status::summary(&deployment)))
}

/// When the process of the deployment's container started.
fn started(deployment: &Deployment) -> Option<i64> {
    deployment.instance.as_ref().and_then(|instance| instance.started_at_us)
}
