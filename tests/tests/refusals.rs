//! Bad input at every door: each refusal says what, where and how to mend it, changes nothing, and is no backtrace.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use launchpad_tests::coordinator::Place;
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::wait_until;
use launchpad_tests::{agent, programs};
use serde_json::{Value, json};

/// An image that nobody has.
const ABSENT: &str = "198.18.0.1:5000/echo@sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(programs::binary(program)?);
    command.args(arguments).output().with_context(|| format!("start {program}"))
}

/// A refusal in the terminal: a failing exit code, something to read, nothing that only a programmer reads.
fn assert_refused(output: &Output, hint: &str) {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it succeeded: {words}");
    assert!(words.to_lowercase().contains(hint), "`{hint}` is not in: {words}");
    assert!(!words.contains("panicked") && !words.contains("stack backtrace"), "{words}");
    assert!(words.trim().lines().count() <= 4, "more than a person reads: {words}");
}

/// problem+json with something to do.
fn assert_problem(answer: &launchpad_tests::api::Answer, status: u16, hint: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let text = answer.body.to_string().to_lowercase();
    assert!(text.contains(hint), "`{hint}` is not in {text}");
    for field in ["type", "title", "status"] {
        assert!(!answer.body[field].is_null(), "problem+json wants `{field}`: {}", answer.body);
    }
}

fn order(lab: &Lab, changes: &Value) -> Result<Value> {
    let mut body = json!({ "name": "bot", "profile": "echo", "plan": "starter", "image": lab.image("echo")? });
    for (key, value) in changes.as_object().context("changes are an object")? {
        body[key] = value.clone();
    }
    Ok(body)
}

#[test]
fn orders_that_make_no_sense_are_refused_by_the_field_that_is_wrong() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    let api = lab.api()?;
    let wrong = [
        (json!({ "name": "Not A Label" }), "name"),
        (json!({ "profile": "no-such-profile" }), "profile"),
        (json!({ "plan": "no-such-plan" }), "plan"),
        (json!({ "image": "198.18.0.1:5000/echo:latest" }), "digest"),
        (json!({ "surprise": 1 }), "surprise"),
    ];
    for (changes, hint) in wrong {
        let answer = api.post("/deployments", &order(&lab, &changes)?)?;
        assert!((400..500).contains(&answer.status), "{changes}: {answer:?}");
        assert!(answer.body.to_string().contains(hint), "`{hint}` is not in {}", answer.body);
    }
    assert_eq!(api.get("/deployments")?.success()?["items"], json!([]));
    lab.close()
}

#[test]
fn a_name_that_is_taken_and_a_caller_without_a_token_are_refused() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    let api = lab.api()?;
    let body = order(&lab, &json!({}))?;
    api.post("/deployments", &body)?.success()?;
    assert_problem(&api.post("/deployments", &body)?, 409, "name");
    assert_problem(&api.as_caller("lp_nobody_nothing").get("/deployments")?, 401, "token");
    assert_problem(&api.get("/deployments/no-such-bot")?, 404, "no-such-bot");
    lab.close()
}

#[test]
fn a_deployment_without_a_host_waits_and_says_why() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    let deployment = Deployment::create(&lab, "homeless", "")?;
    let waiting = deployment.wait("a reason", |now| now["reason"].is_object())?;
    assert_ne!(waiting["state"], "running");
    assert!(!waiting["reason"]["sentence"].as_str().unwrap_or_default().is_empty(), "{waiting}");
    // It is not lost: with a host it runs.
    lab.add_host()?;
    lab.start_agent(0)?;
    deployment.wait_state("running")?;
    lab.close()
}

#[test]
fn an_image_that_is_not_there_fails_with_its_name_and_leaves_the_host_well() -> Result<()> {
    let lab = Lab::with_hosts(1)?;
    let deployment = Deployment::order(&lab.api()?, &order(&lab, &json!({ "image": ABSENT }))?)?;
    let told = deployment.wait("a reason", |now| now["reason"].is_object())?;
    assert!(told["reason"].to_string().contains("echo"), "the image is not named in {told}");
    Deployment::running(&lab, "other")?;
    lab.close()
}

#[test]
fn a_used_token_and_a_made_up_one_are_refused_in_one_line() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    lab.add_host()?;
    let token = lab.coordinator()?.host_token("h1")?;
    let host = lab.host(0)?;
    let place =
        |name: &str, dir: &Path| agent::Place::new(name, &dir.join(name), &host.engine.socket(), &host.net.path());
    let dir = std::env::temp_dir().join(format!("launchpad-refusals-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    agent::enroll(&place("first", &dir), &token)?;
    let reused = agent::enroll(&place("second", &dir), &token).unwrap_err().to_string();
    let made_up = agent::enroll(&place("third", &dir), "not-a-token").unwrap_err().to_string();
    std::fs::remove_dir_all(&dir)?;
    assert!(reused.to_lowercase().contains("used"), "{reused}");
    assert!(made_up.to_lowercase().contains("token"), "{made_up}");
    assert!(!reused.contains("panicked") && !made_up.contains("panicked"));
    lab.close()
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() -> Result<()> {
    let mut lab = Lab::enter(&[])?;
    let token = lab.start_coordinator()?.token().to_owned();
    let data = lab.coordinator()?.place().data.display().to_string();
    assert_refused(&run("launchpad-coordinator", &["init", "--data-dir", &data])?, &data);
    lab.coordinator()?.restart()?;
    assert_eq!(lab.coordinator()?.token(), token);
    assert_eq!(lab.api()?.get("/deployments")?.status, 200);
    lab.close()
}

#[test]
fn a_coordinator_that_cannot_serve_says_what_is_in_the_way() -> Result<()> {
    let mut lab = Lab::enter(&[])?;
    lab.start_coordinator()?;
    let empty = lab.dir().join("nothing-here").display().to_string();
    assert_refused(&run("launchpad-coordinator", &["serve", "--data-dir", &empty])?, "init");

    // The same port twice, on data of its own.
    let other = lab.dir().join("other").display().to_string();
    assert!(run("launchpad-coordinator", &["init", "--data-dir", &other])?.status.success());
    let taken = lab.coordinator()?.place().http.clone();
    let ports = ["--http", &taken, "--fleet", "198.18.0.1:7801", "--enroll", "198.18.0.1:7802"];
    let output = run("launchpad-coordinator", &[&["serve", "--data-dir", &other][..], &ports[..]].concat())?;
    assert_refused(&output, &taken);

    // A store that is no database is set aside by nobody: it is the only copy.
    let store = lab.dir().join("other/coordinator.db");
    let damaged = b"this is no database at all, not even nearly one".repeat(200);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(lab.dir().join(format!("other/coordinator.db{suffix}")));
    }
    std::fs::write(&store, &damaged)?;
    let ports = ["--http", "198.18.0.1:7800", "--fleet", "198.18.0.1:7801", "--enroll", "198.18.0.1:7802"];
    let output = run("launchpad-coordinator", &[&["serve", "--data-dir", &other][..], &ports[..]].concat())?;
    assert_refused(&output, "coordinator.db");
    assert_eq!(std::fs::read(&store)?, damaged);
    lab.close()
}

#[test]
fn a_host_without_docker_says_so_and_recovers_when_it_comes() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator_at(Place::new(lab.dir(), "198.18.0.1:7700"))?;
    lab.add_host()?;
    lab.host(0)?.engine.kill_dockerd()?;
    lab.start_agent(0)?;
    let api = lab.api()?;
    wait_until("the host to tell of its trouble", SOON, || {
        let host = api.get("/hosts")?.success()?["items"][0].clone();
        Ok(host["reasons"].to_string().to_lowercase().contains("engine"))
    })?;
    lab.host(0)?.engine.restart_dockerd()?;
    Deployment::running(&lab, "late")?;
    lab.close()
}
