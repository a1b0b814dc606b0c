//! Nothing healthy stops because something of ours did: agent, coordinator and dockerd are killed, the bot goes on.

use anyhow::Result;
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::Lab;
use serde_json::Value;

#[test]
fn a_killed_agent_leaves_the_bot_running_and_adopts_it_when_it_returns() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "steady")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    lab.host(0)?.agent()?.kill()?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    lab.start_agent(0)?;
    // The coordinator may still take the dead session for alive: only the new process can say that it is back.
    lab.host(0)?.agent()?.wait_for_log("connected to the coordinator", SOON)?;
    lab.wait_for_report(0)?;
    lab.wait_settled(0)?;
    deployment.wait_state("running")?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}

#[test]
fn a_killed_coordinator_leaves_the_bot_running_and_knows_it_again() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "steady")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    lab.coordinator()?.kill()?;
    lab.coordinator()?.restart()?;
    lab.wait_settled(0)?;
    lab.wait_for_report(0)?;
    deployment.wait_state("running")?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}

#[test]
fn a_killed_dockerd_leaves_the_bot_running_and_is_not_held_against_it() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "steady")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    let address = deployment.address()?;
    let host = lab.host(0)?;
    host.engine.kill_dockerd()?;
    host.agent()?.wait_for_log("the host cannot be observed", SOON)?;
    assert_eq!(host.bot(&address).get("/healthz")?.status, 200);
    host.engine.restart_dockerd()?;
    host.agent()?.wait_for_log("the container engine answers again", SOON)?;
    lab.wait_for_report(0)?;
    lab.wait_settled(0)?;
    let after = deployment.wait_state("running")?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    assert_eq!(after["instance"]["restarts"], 0, "{after}");
    lab.close()
}

/// dockerd dies in the middle of what it is asked to do for a neighbour: the steady bot does not notice, and the
/// neighbour gets all that was ordered once dockerd is back.
#[test]
fn a_dockerd_killed_in_the_middle_of_a_neighbours_journey_costs_nobody_anything() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let steady = Deployment::running(&lab, "steady")?;
    let before = steady.identity(&lab.host(0)?.engine)?;
    for moment in ["requested", "configuring", "starting"] {
        let guest = Deployment::create(&lab, &format!("guest-{moment}"), "")?;
        guest.wait(moment, |now| reached(now, moment))?;
        bounce_dockerd(&mut lab)?;
        let running = guest.wait_state("running")?;
        guest.restart()?;
        bounce_dockerd(&mut lab)?;
        guest.wait("running anew", |now| {
            now["state"] == "running" && now["instance"]["started_at_us"] != running["instance"]["started_at_us"]
        })?;
        guest.delete(true)?;
        bounce_dockerd(&mut lab)?;
        guest.wait_state("terminated")?;
        assert_eq!(steady.identity(&lab.host(0)?.engine)?, before, "after {moment}");
    }
    lab.wait_settled(0)?;
    let after = steady.wait_state("running")?;
    assert_eq!(after["instance"]["restarts"], 0, "{after}");
    lab.close()
}

fn reached(deployment: &Value, state: &str) -> bool {
    deployment["timeline"].as_array().is_some_and(|lines| lines.iter().any(|line| line["state"] == state))
}

fn bounce_dockerd(lab: &mut Lab) -> Result<()> {
    let engine = &mut lab.host(0)?.engine;
    engine.kill_dockerd()?;
    engine.restart_dockerd()
}

#[test]
fn a_cut_link_changes_nothing_on_the_host_and_heals_by_itself() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "steady")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    lab.host(0)?.net.set_connected(false)?;
    lab.wait_shown(0, "gone", |host| host["connected"] == false)?;
    lab.host(0)?.net.set_connected(true)?;
    lab.wait_settled(0)?;
    lab.wait_for_report(0)?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}

#[test]
fn what_was_ordered_while_the_host_was_away_happens_when_it_returns() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    lab.host(0)?.agent()?.kill()?;
    let deployment = Deployment::create(&lab, "patient", "")?;
    lab.start_agent(0)?;
    deployment.wait_state("running")?;
    lab.close()
}
