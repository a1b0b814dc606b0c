//! What is not there yet and comes later: a deployment before its host, a host before its Docker. Nothing is lost,
//! and the API says what it waits for.

use anyhow::Result;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;

#[test]
fn a_deployment_without_a_host_waits_and_says_why() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    let deployment = Deployment::create(&lab, "homeless", "")?;
    let waiting = deployment.wait("a reason", |now| now["reason"].is_object())?;
    assert_ne!(waiting["state"], "running");
    assert!(!waiting["reason"]["sentence"].as_str().unwrap_or_default().is_empty(), "{waiting}");
    lab.add_host()?;
    lab.start_agent(0)?;
    deployment.wait_state("running")?;
    lab.close()
}

#[test]
fn a_host_without_docker_says_so_and_recovers_when_it_comes() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    lab.add_host()?;
    lab.host(0)?.engine.kill_dockerd()?;
    lab.start_agent(0)?;
    lab.wait_shown(0, "in trouble, and to say so", |host| {
        host["reasons"].to_string().to_lowercase().contains("engine")
    })?;
    lab.host(0)?.engine.restart_dockerd()?;
    Deployment::running(&lab, "late")?;
    lab.close()
}
