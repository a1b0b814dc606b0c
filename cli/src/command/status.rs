//! `launchpad status NAME|ID`: one deployment, why it is so, and how it got there.

use launchpad_protocol::time::Moment;

use crate::answers::Deployment;
use crate::arguments::Target;
use crate::client::Client;
use crate::command::follow::{line, seen, why};
use crate::failure::Failure;
use crate::output::{Output, facts, indented};

/// Shows.
pub(super) fn run(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let (value, deployment) = seen(client, &target.deployment)?;
    output.show(&value, || Ok(format!("{}\n\n{}", summary(&deployment), timeline(&deployment))))
}

/// What the deployment is now.
pub(super) fn summary(deployment: &Deployment) -> String {
    let instance = deployment.instance.as_ref();
    let moment = |micros: i64| Moment::from_micros(micros).to_string();
    let state = match instance {
        Some(instance) => format!("{} (instance: {})", deployment.state, instance.phase),
        None => deployment.state.clone(),
    };
    let text = facts(&[
        ("name", Some(deployment.name.clone())),
        ("id", Some(deployment.id.clone())),
        ("state", Some(state)),
        ("image", Some(deployment.image.clone())),
        ("profile", Some(format!("{}, plan {}, pool {}", deployment.profile, deployment.plan, deployment.pool))),
        ("revision", Some(deployment.revision.to_string())),
        ("host", deployment.host.clone()),
        ("container", instance.and_then(|instance| instance.container_id.clone())),
        ("address", instance.and_then(|instance| instance.address.clone())),
        ("started", instance.and_then(|instance| instance.started_at_us).map(moment)),
        ("ready", instance.and_then(|instance| instance.ready_at_us).map(moment)),
        ("restarts", instance.map(|instance| instance.restarts.to_string())),
    ]);
    match why(deployment) {
        Some(reason) => format!("{text}\nwhy\n{}", indented(&reason)),
        None => text,
    }
}

fn timeline(deployment: &Deployment) -> String {
    let lines: Vec<_> = deployment.timeline.iter().map(|entry| line(entry, deployment.created_at_us)).collect();
    lines.join("\n")
}
