//! `launchpad status NAME|ID`: one deployment, why it is so, and how it got there.

use launchpad_protocol::time::Moment;

use crate::answers::{Deployment, Enforcement, Volume};
use crate::arguments::Target;
use crate::client::Client;
use crate::command::follow::{line, seen, why};
use crate::failure::Failure;
use crate::output::{Output, bytes, facts, indented, table};

/// Shows.
pub(super) fn run(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let (value, deployment) = seen(client, &target.deployment)?;
    output.show(&value, || {
        let parts = [Some(summary(&deployment)), enforcement(&deployment), Some(timeline(&deployment))];
        Ok(parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n"))
    })
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
        ("policy", deployment.policy.clone().filter(|policy| policy != "keep")),
        ("revision", Some(deployment.revision.to_string())),
        ("host", deployment.host.clone()),
        ("url", deployment.url.clone()),
        ("container", instance.and_then(|instance| instance.container_id.clone())),
        ("address", instance.and_then(|instance| instance.address.clone())),
        ("started", instance.and_then(|instance| instance.started_at_us).map(moment)),
        ("ready", instance.and_then(|instance| instance.ready_at_us).map(moment)),
        ("restarts", instance.map(|instance| instance.restarts.to_string())),
        ("killed for memory", instance.map(|instance| instance.oom_kills).filter(|kills| *kills > 0).map(times)),
        ("volume", instance.and_then(|instance| instance.volume.as_ref()).map(volume)),
    ]);
    match why(deployment) {
        Some(reason) => format!("{text}\nwhy\n{}", indented(&reason)),
        None => text,
    }
}

/// How each promise of its spec stands in the kernel: what fails first, then what its host cannot do, then the rest.
fn enforcement(deployment: &Deployment) -> Option<String> {
    let found = &deployment.instance.as_ref()?.enforcement;
    if found.is_empty() {
        return None;
    }
    let mut items: Vec<_> = found.iter().collect();
    items.sort_by_key(|(name, one)| (rank(&one.verdict), *name));
    let row = |(name, one): (&String, &Enforcement)| {
        let why = one.reason.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![name.clone(), one.verdict.clone(), one.seen.clone(), why]
    };
    Some(table(&["ENFORCEMENT", "VERDICT", "SEEN", "WHY"], items.into_iter().map(row).collect()))
}

fn rank(verdict: &str) -> usize {
    ["failed", "degraded"].iter().position(|bad| *bad == verdict).unwrap_or(usize::MAX)
}

fn times(count: u64) -> String {
    format!("{count} times in this start")
}

fn volume(volume: &Volume) -> String {
    format!("{} of {}, {}", bytes(volume.used_bytes), bytes(volume.bytes), volume.backend)
}

fn timeline(deployment: &Deployment) -> String {
    let lines: Vec<_> = deployment.timeline.iter().map(|entry| line(entry, deployment.created_at_us)).collect();
    lines.join("\n")
}
