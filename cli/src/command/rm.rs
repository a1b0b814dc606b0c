//! `launchpad rm NAME|ID [--purge]`: removes a bot and follows until its container is gone.

use crate::answers::Deployment;
use crate::arguments::Remove;
use crate::client::{Client, path, read};
use crate::command::follow::{Verdict, follow, newest, seen};
use crate::failure::Failure;
use crate::output::Output;

/// The reason of a deployment whose container is gone and whose data is not.
const DATA_KEPT: &str = "data-kept";

/// Removes.
pub(super) fn run(client: &Client, arguments: &Remove, output: Output) -> Result<(), Failure> {
    let (_, before) = seen(client, &arguments.awaited.target.deployment)?;
    let query: &[(&str, &str)] = if arguments.purge { &[("purge", "true")] } else { &[] };
    let accepted = client.delete(&path(&["deployments", &before.id]), query)?;
    let data = if arguments.purge { "its data is destroyed" } else { "its data is kept as long as its plan says" };
    let Some(patience) = arguments.awaited.wait.patience() else {
        return output.show(&accepted, || Ok(format!("{} will be removed; {data}", before.name)));
    };
    // What the deletion itself answered is not news.
    let accepted: Deployment = read(&accepted)?;
    let purge = arguments.purge;
    let gone = |now: &Deployment| if is_gone(now, purge) { Verdict::Done } else { Verdict::Wait };
    let (value, after) = follow(client, &before.id, newest(&accepted), patience, &gone)?;
    let left = if after.state == "terminated" { "nothing of it is left" } else { data };
    output.show(&value, || Ok(format!("{} is removed; {left}", before.name)))
}

/// Without a purge the data, and with it the deployment, outlives the container.
fn is_gone(deployment: &Deployment, purge: bool) -> bool {
    let kept = deployment.reason.as_ref().is_some_and(|reason| reason.code == DATA_KEPT);
    deployment.state == "terminated" || (!purge && kept)
}
