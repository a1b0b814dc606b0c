//! The spine: deployed through the API, run by the agent, restarted and removed, on a real Docker engine.

use anyhow::{Context as _, Result};
use launchpad_tests::coordinator::Place;
use launchpad_tests::deployment::{Deployment, SOON, identity};
use launchpad_tests::kernel;
use launchpad_tests::lab::Lab;
use launchpad_tests::postgres::Postgres;
use launchpad_tests::wait::wait_until;
use serde_json::json;

#[test]
fn a_deployed_bot_runs_as_ordered_and_the_api_tells_how_it_came_about() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::create(&lab, "first", "label = hello\n")?;
    let running = deployment.wait_state("running")?;

    let states: Vec<&str> = running["timeline"]
        .as_array()
        .context("a deployment has a timeline")?
        .iter()
        .filter_map(|entry| entry["state"].as_str())
        .collect();
    assert_eq!((states.first(), states.last()), (Some(&"requested"), Some(&"running")), "{running}");
    assert!(running["timeline"].as_array().unwrap().iter().all(|entry| entry["cause"].is_string()), "{running}");

    let host = lab.host(0)?;
    let identity = deployment.identity(&host.engine)?;
    let limits = kernel::limits(identity.pid)?;
    assert_eq!((limits.memory_bytes, limits.cpu_millis, limits.pids), (Some(1 << 30), Some(500), Some(64)));
    let bot = host.bot(&deployment.address()?);
    assert_eq!(bot.get("/")?.body, json!({ "label": "hello" }));
    let told = bot.get("/whoami")?.body;
    assert_eq!(told["writable"], json!({ "root": false, "tmp": true, "state": true }), "{told}");
    assert_eq!(
        (&told["capabilities"], &told["no_new_privileges"]),
        (&json!("0000000000000000"), &json!("1")),
        "{told}"
    );
    lab.close()
}

#[test]
fn a_coordinator_on_postgres_carries_the_same_journey_and_goes_on_after_a_kill() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    let postgres = Postgres::start(&lab.dir().join("postgres"))?;
    let place = Place::new(lab.dir(), &launchpad_tests::lab::http_address()).with_database(&postgres.url());
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    let deployment = Deployment::running(&lab, "kept-elsewhere")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    assert!(!lab.coordinator()?.place().data.join("coordinator.db").exists(), "all of it is in Postgres");

    lab.coordinator()?.kill()?;
    lab.coordinator()?.restart()?;
    lab.wait_connected(0)?;
    deployment.restart()?;
    let engine = &lab.host(0)?.engine;
    deployment.wait("a new process", |now| {
        now["state"] == "running" && deployment.identity(engine).is_ok_and(|now| now.started_at != before.started_at)
    })?;
    deployment.delete(true)?;
    deployment.wait_state("terminated")?;
    assert_eq!(lab.host(0)?.engine.docker(&["ps", "--all", "--quiet"])?, "");
    lab.close()
}

#[test]
fn a_secret_reaches_the_bot_as_a_file_and_shows_nowhere_else() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let secret = "a-secret-that-nobody-else-has-4711";
    let body = json!({
        "name": "keeper", "profile": "echo", "plan": "starter", "image": lab.image("echo")?,
        "secrets": { "token": secret },
    });
    let deployment = Deployment::order(&lab.api()?, &body)?;
    let shown = deployment.wait_state("running")?.to_string();
    let host = lab.host(0)?;
    let told = host.bot(&deployment.address()?).get("/secret?name=token")?.body;
    // SHA-256 of the secret above.
    let expected = sha256(secret)?;
    assert_eq!(told["sha256"], json!(expected), "{told}");

    let container = deployment.identity(&host.engine)?.container;
    let inspected = host.engine.inspect(&container)?.to_string();
    let logs = [
        std::fs::read_to_string(&host.agent()?.place().log)?,
        std::fs::read_to_string(&lab.coordinator()?.place().log)?,
    ];
    for (place, text) in [
        ("the API", &shown),
        ("docker inspect", &inspected),
        ("the agent's log", &logs[0]),
        ("the coordinator's log", &logs[1]),
    ] {
        assert!(!text.contains(secret), "the secret shows in {place}");
    }
    lab.close()
}

/// By coreutils, so that the test does not trust the code under test.
fn sha256(text: &str) -> Result<String> {
    let file = std::env::temp_dir().join(format!("launchpad-secret-{}", std::process::id()));
    std::fs::write(&file, text)?;
    let line = launchpad_tests::process::run(std::process::Command::new("sha256sum").arg(&file))?;
    std::fs::remove_file(&file)?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn a_restart_starts_the_bot_anew_exactly_once() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "again")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    deployment.restart()?;
    let engine = &lab.host(0)?.engine;
    wait_until("the bot to run under a new process", SOON, || {
        let now = deployment.get()?;
        Ok(now["state"] == "running"
            && deployment.identity(engine).is_ok_and(|now| now.started_at != before.started_at))
    })?;
    let after = deployment.identity(engine)?;
    // A report or two later nothing has started it again.
    lab.wait_for_report(0)?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, after);
    lab.close()
}

#[test]
fn a_deleted_bot_is_gone_from_its_host_and_a_neighbour_stays_untouched() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let doomed = Deployment::running(&lab, "doomed")?;
    let neighbour = Deployment::running(&lab, "neighbour")?;
    let engine = &lab.host(0)?.engine;
    let (before, container) = (neighbour.identity(engine)?, doomed.identity(engine)?.container);

    doomed.delete(true)?;
    doomed.wait_state("terminated")?;
    let engine = &lab.host(0)?.engine;
    assert!(identity(engine, &container).is_err(), "the container is still there");
    assert_eq!(neighbour.identity(engine)?, before);
    lab.close()
}
