//! `launchpad snapshot create|ls|restore|rm`: copies of a bot's volume, and the wait until its host has answered.

use std::time::{Duration, Instant};

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use serde_json::{Value, json};

use crate::answers::{SnapshotAsked, SnapshotOperation, Snapshots};
use crate::arguments::{SnapshotTarget, Target, Wait};
use crate::client::{Client, path, read};
use crate::failure::{Failure, Kind};
use crate::output::{Output, ago, bytes, table};
use crate::progress::Steps;

/// Between two questions: a copy takes seconds.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What is asked for, in words.
struct Words {
    /// `will be taken`
    begun: &'static str,
    /// `is taken`
    done: &'static str,
}

/// Takes one.
pub(super) fn create(
    client: &Client,
    target: &Target,
    name: Option<&str>,
    wait: Wait,
    output: Output,
) -> Result<(), Failure> {
    let body = name.map_or_else(|| json!({}), |name| json!({ "name": name }));
    let value = client.post(&address(target, &[]), &body)?;
    settle(client, target, value, wait, Words { begun: "will be taken", done: "is taken" }, output)
}

/// Lists them.
pub(super) fn list(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let value = client.get(&address(target, &[]))?;
    output.show(&value, || text(&read(&value)?, target))
}

/// Puts one in the volume's place.
pub(super) fn restore(client: &Client, wanted: &SnapshotTarget, output: Output) -> Result<(), Failure> {
    let value = client.post(&address(&wanted.target, &[&wanted.name, "restore"]), &json!({}))?;
    let words = Words { begun: "will be put in the volume's place", done: "is in the volume's place" };
    settle(client, &wanted.target, value, wanted.wait, words, output)
}

/// Deletes one.
pub(super) fn remove(client: &Client, unwanted: &SnapshotTarget, output: Output) -> Result<(), Failure> {
    let value = client.delete(&address(&unwanted.target, &[&unwanted.name]), &[])?;
    settle(
        client,
        &unwanted.target,
        value,
        unwanted.wait,
        Words { begun: "will be deleted", done: "is deleted" },
        output,
    )
}

/// Waits until the host has answered.
fn settle(
    client: &Client,
    target: &Target,
    accepted: Value,
    wait: Wait,
    words: Words,
    output: Output,
) -> Result<(), Failure> {
    let SnapshotAsked { operation, name } = read(&accepted)?;
    let Some(patience) = wait.patience() else {
        return output.show(&accepted, || Ok(format!("snapshot {name} {} ({operation})", words.begun)));
    };
    let steps = Steps::begin(&format!("waiting for its host: snapshot {name} {}", words.begun));
    let begun = now();
    loop {
        match client.get(&address(target, &[])).and_then(|value| read::<Snapshots>(&value)) {
            Ok(seen) => match seen.operations.into_iter().find(|asked| asked.operation == operation) {
                Some(SnapshotOperation { outcome, .. }) if outcome == "done" => {
                    return output.show(&accepted, || Ok(format!("snapshot {name} {}", words.done)));
                }
                Some(SnapshotOperation { outcome, reason, .. }) if outcome == "refused" => {
                    let silent = || Reason::new("refused", format!("its host refused {operation}, and said no more"));
                    return Err(Failure::deployment(reason.unwrap_or_else(silent)));
                }
                Some(_) | None => {}
            },
            // The host goes on without the coordinator.
            Err(failure) if failure.kind == Kind::Unreachable => steps.now(&failure.reason.sentence),
            Err(failure) => return Err(failure),
        }
        if begun.elapsed() > patience {
            let sentence = format!("its host has not answered {operation} after {} s", patience.as_secs());
            let mend = format!("it goes on without this command; see `launchpad snapshot ls {}`", target.deployment);
            return Err(Failure::deployment(Reason::new("waited-too-long", sentence).mend(mend)));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn text(seen: &Snapshots, target: &Target) -> Result<String, Failure> {
    let now = Clock::machine().wall();
    let rows = seen.items.iter();
    let rows: Vec<_> = rows
        .map(|kept| vec![kept.name.clone(), bytes(kept.bytes), format!("{} ago", ago(kept.taken_at_us, now))])
        .collect();
    let none = format!("No snapshots. Take one with `launchpad snapshot create {}`.", target.deployment);
    let mut text = if rows.is_empty() { none } else { table(&["NAME", "SIZE", "TAKEN"], rows) };
    let open = seen.operations.iter().filter(|asked| asked.outcome != "done").map(|asked| {
        let why = asked.reason.as_ref().map(|reason| reason.to_string()).unwrap_or_default();
        let age = format!("{} ago", ago(asked.asked_at_us, now));
        vec![asked.action.clone(), asked.name.clone(), asked.outcome.clone(), age, why]
    });
    let open: Vec<_> = open.collect();
    if !open.is_empty() {
        text.push_str(&format!("\n\n{}", table(&["ASKED TO", "SNAPSHOT", "OUTCOME", "ASKED", "WHY"], open)));
    }
    Ok(text)
}

fn address(target: &Target, rest: &[&str]) -> String {
    path(&[&["deployments", target.deployment.as_str(), "snapshots"], rest].concat())
}

#[allow(clippy::disallowed_methods, reason = "a command that waits for a person's patience, in no simulation")]
fn now() -> Instant {
    Instant::now()
}
