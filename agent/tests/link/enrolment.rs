//! `launchpad-agent enroll`: once, twice, cut off, and turned away.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Parser as _;
use launchpad_agent::config::{Cli, Command, EnrollArgs};
use launchpad_agent::enroll::{EnrollError, Enrolment, enroll};
use launchpad_agent::identity::{Enrolled, IdentityFiles};
use launchpad_agent::local::lock::DataLock;
use launchpad_pki::token::JoinToken;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;

use crate::coordinator::Coordinator;
use crate::world::{World, any_port};

fn args(data: &Path, coordinator: SocketAddr, token: &str, more: &[&str]) -> EnrollArgs {
    let coordinator = coordinator.to_string();
    bare_args(data, &[&["--coordinator", &coordinator, "--token", token], more].concat())
}

/// Without a word of where to join.
fn bare_args(data: &Path, more: &[&str]) -> EnrollArgs {
    let data = data.display().to_string();
    let given = ["launchpad-agent", "enroll", "--data-dir", &data];
    let cli = Cli::try_parse_from(given.into_iter().chain(more.iter().copied())).unwrap();
    let Command::Enroll(args) = cli.command else { panic!("enroll is enroll") };
    args
}

fn token(world: &World) -> String {
    JoinToken::new(Entropy::system().id(world.now()), world.ca.root_digest()).unwrap().to_text()
}

async fn join(args: &EnrollArgs) -> Result<Enrolment, EnrollError> {
    enroll(args, "0.1.0", &Clock::machine()).await
}

async fn installation() -> (Arc<World>, Coordinator, tempfile::TempDir) {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    (world, coordinator, tempfile::tempdir().unwrap())
}

fn one_line(error: &EnrollError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[tokio::test]
async fn a_host_joins_and_keeps_its_keys_to_itself() {
    let (world, coordinator, data) = installation().await;
    let args = args(data.path(), coordinator.enroll, &token(&world), &["--name", "web-1"]);
    let joined = Enrolment::Joined { host: world.host, name: "web-1".to_owned() };
    assert_eq!(join(&args).await.unwrap(), joined);

    let enrolled = Enrolled::load(data.path()).unwrap();
    assert_eq!(enrolled.identity().host, world.host);
    assert_eq!(enrolled.identity().enroll_endpoint.to_string(), coordinator.enroll.to_string());
    enrolled.sealing_key().unwrap();
    let dir = data.path().join("identity");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    // Where the machine has an id.
    names.retain(|name| name != "machine");
    names.sort();
    assert_eq!(names, ["identity", "sealing.key"]);
}

#[tokio::test]
async fn joining_again_says_so_and_changes_nothing() {
    let (world, coordinator, data) = installation().await;
    join(&args(data.path(), coordinator.enroll, &token(&world), &[])).await.unwrap();
    let file = data.path().join("identity/identity");
    let before = fs::read(&file).unwrap();
    let again = join(&args(data.path(), coordinator.enroll, "not even a token", &[])).await.unwrap();
    assert!(matches!(&again, Enrolment::JoinedBefore { host, .. } if *host == world.host), "{again:?}");
    assert!(again.to_string().contains("nothing was changed"));
    assert_eq!(join(&bare_args(data.path(), &[])).await.unwrap(), again, "nor has it to be told where");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(coordinator.heard.asked_for.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_host_that_has_joined_nowhere_is_told_what_to_say() {
    let data = tempfile::tempdir().unwrap();
    let refused = one_line(&join(&bare_args(data.path(), &[])).await.unwrap_err());
    assert!(refused.contains("--coordinator") && refused.contains("launchpad host token create"), "{refused}");
    let halfway = join(&bare_args(data.path(), &["--coordinator", "cp.example:7702"])).await.unwrap_err();
    assert_eq!(one_line(&halfway), refused);
}

#[tokio::test]
async fn a_host_joins_anew_when_told_to_and_keeps_its_sealing_key() {
    let (world, coordinator, data) = installation().await;
    join(&args(data.path(), coordinator.enroll, &token(&world), &[])).await.unwrap();
    let sealing = || IdentityFiles::open(data.path()).unwrap().sealing_key().unwrap().public();
    let before = sealing();
    let again = join(&args(data.path(), coordinator.enroll, &token(&world), &["--replace"])).await.unwrap();
    assert!(matches!(again, Enrolment::Joined { .. }));
    assert_eq!(sealing(), before);
    assert_eq!(coordinator.heard.asked_for.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn when_the_answer_is_lost_the_same_command_works_with_the_same_key() {
    let (world, coordinator, data) = installation().await;
    coordinator.heard.answers_to_lose.store(1, Ordering::SeqCst);
    let args = args(data.path(), coordinator.enroll, &token(&world), &[]);
    one_line(&join(&args).await.unwrap_err());
    assert!(Enrolled::load(data.path()).is_err(), "half an enrolment is none");
    join(&args).await.unwrap();
    let asked = coordinator.heard.asked_for.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn a_used_token_is_told_in_the_coordinators_words_on_one_line() {
    let (world, coordinator, data) = installation().await;
    let why = Reason::new("token-used", "the token was used by web-7")
        .mend("make a new one with `launchpad host token create`");
    *coordinator.heard.refuses.lock().unwrap() = Some(why);
    let error = join(&args(data.path(), coordinator.enroll, &token(&world), &[])).await.unwrap_err();
    let text = one_line(&error);
    assert_eq!(text, "the token was used by web-7; make a new one with `launchpad host token create`");
}

#[tokio::test]
async fn the_token_of_another_coordinator_is_told_before_it_is_shown() {
    let (_world, coordinator, data) = installation().await;
    let other = World::new();
    let error = join(&args(data.path(), coordinator.enroll, &token(&other), &[])).await.unwrap_err();
    let text = one_line(&error);
    assert!(text.contains("not the coordinator that was expected"), "{text}");
    assert!(coordinator.heard.asked_for.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    let (world, _coordinator, data) = installation().await;
    let dead = tokio::net::TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap();
    let text = one_line(&join(&args(data.path(), dead, &token(&world), &[])).await.unwrap_err());
    assert!(text.contains(&dead.to_string()) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_clock_that_is_far_off_is_told_as_such() {
    let (world, coordinator, data) = installation().await;
    let args = args(data.path(), coordinator.enroll, &token(&world), &[]);
    let week_us = 7 * 24 * 3600 * 1_000_000;
    for skew in [week_us, -week_us] {
        let text = one_line(&enroll(&args, "0.1.0", &Clock::skewed(skew)).await.unwrap_err());
        assert!(text.contains("clock") && text.contains("NTP"), "{text}");
    }
}

#[tokio::test]
async fn a_bad_token_and_a_running_agent_are_each_told() {
    let (world, coordinator, data) = installation().await;
    let text = one_line(&join(&args(data.path(), coordinator.enroll, "lpj1.half", &[])).await.unwrap_err());
    assert!(text.contains("launchpad host token create"), "{text}");
    let _running = DataLock::take(data.path()).unwrap();
    let text = one_line(&join(&args(data.path(), coordinator.enroll, &token(&world), &[])).await.unwrap_err());
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
}
