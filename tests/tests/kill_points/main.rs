//! SIGKILL at every action of a plan and at every commit of ledger and store, on a real Docker engine.
//!
//! For each point one journey: a host joins, a bot is deployed, restarted and purged, beside a neighbour whose
//! container must stay the same throughout. The process that has the point dies there, is started again without it,
//! and the journey has to end as if nothing had happened. Points come from the code's own lists, so a new one is
//! visited, or told apart below with its reason, or this suite fails.
//!
//! The programs must be built with the feature `killpoints`, as `make test` does.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use launchpad_agent::ledger;
use launchpad_agent::plan::action::{Action, BY_LEDGER};
use launchpad_coordinator::store::Commit;
use launchpad_tests::deployment::{Deployment, Identity};
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::wait_for;
use serde_json::{Value, json};

/// A journey takes three seconds on a quiet machine, and one death adds a reconnect with its backoff.
const PATIENCE: Duration = Duration::from_secs(90);
/// Laboratories that visit points at the same time. Each takes some 300 MB.
const LABORATORIES: usize = 4;
/// Actions that a host with another bot of the same tenant has no need of.
const ALONE: [&str; 3] = ["pull_image", "ensure_network", "remove_network"];
/// Arms a point; `launchpad_protocol::killpoint` reads it.
const KILL_AT: &str = "LAUNCHPAD_KILL_AT";

/// Points of the agent that the journey cannot reach, each with the reason.
const AGENT_ELSEWHERE: [(&str, &str); 2] = [
    ("update_resources", "no wish changes a running bot's limits yet; plan_properties.rs crashes the agent there"),
    (
        "ledger-local-stop",
        "made by a person on the host, not by a journey through the API; the ledger's own tests do it",
    ),
];
/// Commits of the coordinator that the journey cannot reach, each with the reason.
const COORDINATOR_ELSEWHERE: [(&str, &str); 11] = [
    ("note-view", "staff look at another account: no step of a tenant's journey, and a look changes nothing"),
    ("silence", "after a host has not spoken for too long: told by the clock, and no step of a journey"),
    ("initialise", "made once by `init`, before there is anything to keep running"),
    ("restamp", "made by `restore`: restore.rs"),
    ("confirm-recovery", "an operator's word after a restore: restore.rs"),
    ("freeze", "a store older than its hosts: restore.rs"),
    ("create-join-token", "a host joins before the journey begins"),
    ("enroll", "likewise"),
    ("renew-certificate", "after twelve hours, by the clock: the store's own tests do it"),
    ("revoke-host", "ends the host's part in any journey"),
    ("reap", "after the retention window, by the clock: the store's own tests do it"),
];

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Coordinator,
}

/// One lab, one armed point, and how often its process died.
struct Journey<'a> {
    lab: &'a mut Lab,
    victim: Victim,
    deaths: u32,
}

impl Journey<'_> {
    /// Starts whatever died again, disarmed.
    fn revive(&mut self) -> Result<()> {
        match self.victim {
            Victim::Agent => {
                let agent = self.lab.host(0)?.agent()?;
                if !agent.process().is_running()? {
                    agent.place().environment.remove(KILL_AT);
                    agent.restart()?;
                    self.deaths += 1;
                }
            }
            Victim::Coordinator => {
                let coordinator = self.lab.coordinator()?;
                if !coordinator.process().is_running()? {
                    coordinator.place().environment.remove(KILL_AT);
                    coordinator.restart()?;
                    self.deaths += 1;
                }
            }
        }
        Ok(())
    }

    /// Tries until `attempt` gives a value, reviving the dead. `Err` in the value is "not yet".
    fn until<T>(&mut self, what: &str, mut attempt: impl FnMut(&Lab) -> Result<Option<T>>) -> Result<T> {
        wait_for(what, PATIENCE, || {
            self.revive()?;
            Ok(match attempt(self.lab) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err("not yet".to_owned()),
                // The coordinator is away or dies in the middle of an answer.
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Sends an order until it is answered; its key makes it count once.
    fn order(&mut self, path: &str, body: &Value, key: &str) -> Result<Value> {
        self.until(&format!("an answer to POST {path}"), |lab| {
            let answer = lab.api()?.post_once(path, body, key)?;
            ensure!(answer.status < 500, "status {}: {}", answer.status, answer.body);
            answer.success().map(Some)
        })
    }

    fn until_deployment(&mut self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let path = format!("/deployments/{id}");
        self.until(&format!("{id}: {what}"), |lab| {
            let deployment = lab.api()?.get(&path)?.success()?;
            if holds(&deployment) { Ok(Some(deployment)) } else { anyhow::bail!("{deployment}") }
        })
    }
}

/// Deploys, restarts and purges a bot named after the point.
fn travel(journey: &mut Journey<'_>, name: &str, image: &str) -> Result<()> {
    let body = json!({ "name": name, "profile": "echo", "plan": "starter", "image": image });
    let accepted = journey.order("/deployments", &body, &format!("{name}-deploy"))?;
    let id = accepted["id"].as_str().context("the API answered without an id")?.to_owned();
    let running = journey.until_deployment(&id, "running", |now| now["state"] == "running")?;

    let started = running["instance"]["started_at_us"].clone();
    journey.order(&format!("/deployments/{id}/restart"), &json!({}), &format!("{name}-restart"))?;
    journey.until_deployment(&id, "running anew", |now| {
        now["state"] == "running" && now["instance"]["started_at_us"] != started
    })?;

    journey.until("an answer to DELETE", |lab| {
        let answer = lab.api()?.delete(&format!("/deployments/{id}?purge=true"))?;
        // A repeated DELETE may find it gone, or on its way.
        ensure!(answer.status < 500, "status {}", answer.status);
        Ok(Some(()))
    })?;
    journey.until_deployment(&id, "terminated", |now| now["state"] == "terminated")?;
    Ok(())
}

/// Runs one journey with `point` armed in `victim`.
fn visit(lab: &mut Lab, victim: Victim, point: &str, neighbour: Option<(&Deployment, &Identity)>) -> Result<()> {
    let image = lab.image("echo")?;
    match victim {
        Victim::Agent => {
            let agent = lab.host(0)?.agent()?;
            agent.place().environment.insert(KILL_AT.to_owned(), point.to_owned());
            agent.restart()?;
        }
        Victim::Coordinator => {
            let coordinator = lab.coordinator()?;
            coordinator.place().environment.insert(KILL_AT.to_owned(), point.to_owned());
            coordinator.restart()?;
        }
    }
    let name: String = point.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut journey = Journey { lab, victim, deaths: 0 };
    travel(&mut journey, &name, &image)?;
    ensure!(journey.deaths > 0, "no {victim:?} died at {point}: is it built with the feature killpoints?");

    let engine = &lab.host(0)?.engine;
    let left = engine.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
    let expected = neighbour.map_or_else(String::new, |(_, identity)| identity.container.clone());
    ensure!(left == expected, "containers after the journey: {left:?}, expected {expected:?}");
    if let Some((neighbour, before)) = neighbour {
        let after = neighbour.identity(engine)?;
        ensure!(after == *before, "the neighbour was touched: {before:?} became {after:?}");
    }
    Ok(())
}

/// Each point on both sides, as `killpoint` names them.
fn both_sides(process: &str, place: &str) -> [String; 2] {
    [format!("{process}:{place}:before"), format!("{process}:{place}:after")]
}

/// Visits the points in laboratories side by side: most of a journey is waiting for a killed process's peer to notice.
fn visit_all(victim: Victim, points: &[String]) -> Result<()> {
    let share = points.len().div_ceil(LABORATORIES).max(1);
    thread::scope(|scope| {
        let runs: Vec<_> = points.chunks(share).map(|share| scope.spawn(move || visit_some(victim, share))).collect();
        runs.into_iter().try_for_each(|run| run.join().map_err(|_| anyhow!("a laboratory's thread panicked"))?)
    })
}

fn visit_some(victim: Victim, points: &[String]) -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let neighbour = Deployment::running(&lab, "neighbour")?;
    let before = neighbour.identity(&lab.host(0)?.engine)?;
    for point in points {
        visit(&mut lab, victim, point, Some((&neighbour, &before))).with_context(|| point.clone())?;
    }
    lab.close()
}

/// The points that only a host without any other bot has: with a neighbour, image and network are there already.
#[test]
fn an_agent_killed_while_it_makes_or_removes_what_a_first_bot_needs_finishes_the_journey() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let image = lab.image("echo")?;
    for point in ALONE.iter().flat_map(|place| both_sides("agent", place)) {
        if !lab.host(0)?.engine.docker(&["images", "--quiet"])?.is_empty() {
            lab.host(0)?.engine.docker(&["rmi", "--force", &image])?;
        }
        visit(&mut lab, Victim::Agent, &point, None).with_context(|| point.clone())?;
    }
    lab.close()
}

#[test]
fn an_agent_killed_at_any_action_or_note_finishes_the_journey_and_leaves_the_neighbour_alone() -> Result<()> {
    let notes = ledger::Commit::ALL.map(ledger::Commit::name);
    let actions = Action::KINDS.into_iter().filter(|kind| !BY_LEDGER.contains(kind) && !ALONE.contains(kind));
    let places = actions.chain(notes).chain([launchpad_agent::book::COMMIT]);
    let here = places.filter(|place| AGENT_ELSEWHERE.iter().all(|(elsewhere, _)| elsewhere != place));
    let points: Vec<String> = here.flat_map(|place| both_sides("agent", place)).collect();
    visit_all(Victim::Agent, &points)
}

#[test]
fn a_coordinator_killed_at_any_commit_finishes_the_journey_and_leaves_the_neighbour_alone() -> Result<()> {
    let places = Commit::ALL.iter().map(|commit| commit.name());
    let here = places.filter(|place| COORDINATOR_ELSEWHERE.iter().all(|(elsewhere, _)| elsewhere != place));
    let points: Vec<String> = here.flat_map(|place| both_sides("coordinator", place)).collect();
    visit_all(Victim::Coordinator, &points)
}

#[test]
fn what_is_told_apart_still_exists() {
    let notes = ledger::Commit::ALL.map(ledger::Commit::name);
    for (place, reason) in AGENT_ELSEWHERE {
        assert!(Action::KINDS.contains(&place) || notes.contains(&place), "{place} is gone ({reason})");
    }
    for (place, reason) in COORDINATOR_ELSEWHERE {
        assert!(Commit::ALL.iter().any(|commit| commit.name() == place), "{place} is gone ({reason})");
    }
}
