//! Following a deployment: each line of its timeline is shown as it happens, until what was asked for is so.
//!
//! The coordinator is asked again and again. When it is away for a while, its deployment goes on, and so does this.

use std::time::{Duration, Instant};

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde_json::Value;

use crate::answers::{Deployment, TimelineEntry};
use crate::client::{Client, path, read};
use crate::failure::{Failure, Kind};
use crate::progress::Steps;

/// Between two questions: a step is seen at once, and a hundred followers cost the coordinator little.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long the coordinator may be away: it restarts within seconds.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// What to make of the deployment as it is now.
pub(super) enum Verdict {
    /// What was asked for is so.
    Done,
    /// Not yet.
    Wait,
    /// It will not be, and why.
    Failed(Reason),
}

/// Follows a deployment until the verdict is clear. Lines of the timeline up to that of the id `known` are not shown:
/// ids are in the order of their lines.
pub(super) fn follow(
    client: &Client,
    id: &str,
    known: &str,
    patience: Duration,
    judge: &dyn Fn(&Deployment) -> Verdict,
) -> Result<(Value, Deployment), Failure> {
    let steps = Steps::begin("waiting for the first step");
    let begun = now();
    let (mut shown, mut last_seen, mut last) = (known.to_owned(), begun, None);
    loop {
        match seen(client, id) {
            Ok((value, deployment)) => {
                for entry in deployment.timeline.iter().filter(|entry| entry.id > shown) {
                    steps.step(&line(entry, deployment.created_at_us));
                }
                shown = shown.max(newest(&deployment).to_owned());
                steps.now(&waiting_for(&deployment));
                match judge(&deployment) {
                    Verdict::Done => return Ok((value, deployment)),
                    Verdict::Failed(reason) => return Err(Failure::deployment(reason)),
                    Verdict::Wait => last = Some(deployment),
                }
                last_seen = now();
            }
            Err(failure) if failure.kind == Kind::Unreachable && last_seen.elapsed() < AWAY_MAX => {
                steps.now(&format!("{}; asking again", failure.reason.sentence));
            }
            Err(failure) => return Err(failure),
        }
        if begun.elapsed() > patience {
            return Err(Failure::deployment(too_long(id, patience, last.as_ref())));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// One look at a deployment, by name or id.
pub(super) fn seen(client: &Client, target: &str) -> Result<(Value, Deployment), Failure> {
    let value = client.get(&path(&["deployments", target]))?;
    let deployment = read(&value)?;
    Ok((value, deployment))
}

/// The id of the newest line of the timeline.
pub(super) fn newest(deployment: &Deployment) -> &str {
    deployment.timeline.last().map_or("", |entry| entry.id.as_str())
}

/// Why a deployment is not what it should be: its own reason, or its instance's.
pub(super) fn why(deployment: &Deployment) -> Option<Reason> {
    let instance = deployment.instance.as_ref().and_then(|instance| instance.reason.clone());
    deployment.reason.clone().or(instance)
}

/// The verdict on a deployment that should run.
pub(super) fn running(deployment: &Deployment) -> Verdict {
    match deployment.state.as_str() {
        "running" => Verdict::Done,
        "failed" | "terminated" | "suspended" => {
            let fallback =
                || Reason::new(&deployment.state, format!("`{}` is {}", deployment.name, deployment.state));
            Verdict::Failed(why(deployment).unwrap_or_else(fallback))
        }
        _ => Verdict::Wait,
    }
}

/// A line of the timeline: `   0.4 s  provisioning  placed on host web-1`.
pub(super) fn line(entry: &TimelineEntry, created_at_us: i64) -> String {
    let after = Moment::from_micros(entry.at_us).since(Moment::from_micros(created_at_us));
    let mut line = format!("{:>7.1} s  {:<12}  {}", after.as_secs_f64(), entry.state, entry.cause);
    if let Some(reason) = &entry.reason {
        line.push_str(&format!(": {reason}"));
    }
    line
}

fn waiting_for(deployment: &Deployment) -> String {
    let phase = deployment.instance.as_ref().map(|instance| format!(", {}", instance.phase)).unwrap_or_default();
    let why = why(deployment).map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}{phase}{why}", deployment.state)
}

fn too_long(id: &str, patience: Duration, last: Option<&Deployment>) -> Reason {
    let state = last.map_or("unknown", |deployment| deployment.state.as_str());
    let sentence = format!("`{id}` is still {state} after {} s", patience.as_secs());
    let reason = Reason::new("waited-too-long", sentence)
        .mend(format!("it goes on without this command; see `launchpad status {id}`"));
    match last.and_then(why) {
        Some(why) => reason.because(why.to_string()),
        None => reason,
    }
}

#[allow(clippy::disallowed_methods, reason = "a command that waits for a person's patience, in no simulation")]
fn now() -> Instant {
    Instant::now()
}
