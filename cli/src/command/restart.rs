//! `launchpad restart NAME|ID`: restarts a bot and follows it until its new process runs.

use serde_json::json;

use crate::answers::Deployment;
use crate::arguments::Awaited;
use crate::client::{Client, path};
use crate::command::follow::{Verdict, follow, newest, running, seen};
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
    // Until its host has begun, the old process is the one that runs, and the old failure is the one that shows.
    let begun = |now: &Deployment| started(now) != started(&before) || news(now, &before) > 1;
    let judge = |now: &Deployment| if begun(now) { running(now) } else { Verdict::Wait };
    let (value, deployment) = follow(client, &before.id, newest(&before), patience, &judge)?;
    output.show(&value, || Ok(status::summary(&deployment)))
}

/// How many lines the timeline has gained: the first says that a restart was requested.
fn news(now: &Deployment, before: &Deployment) -> usize {
    now.timeline.iter().filter(|entry| entry.id.as_str() > newest(before)).count()
}

/// When the process of the deployment's container started.
fn started(deployment: &Deployment) -> Option<i64> {
    deployment.instance.as_ref().and_then(|instance| instance.started_at_us)
}
