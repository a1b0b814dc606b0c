//! Two tenants on one host and one coordinator: neither sees, changes or reaches what is the other's.
//!
//! Signing up comes later; until then these tests put accounts and tokens where it will: into the store.

mod terminal;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_coordinator::domain::actor::Role;
use launchpad_tests::accounts::sign_up;
use launchpad_tests::api::{Answer, Api};
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::engine::Engine;
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::wait_until;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use terminal::Line;

/// A bot on the same machine answers within a millisecond; what is dropped never does.
const REACHED_WITHIN: Duration = Duration::from_secs(2);

fn order(lab: &Lab, name: &str) -> Result<Value> {
    Ok(json!({ "name": name, "profile": "echo", "plan": "starter", "image": lab.image("echo")? }))
}

/// problem+json of that status and code, with its mend.
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body["type"], format!("urn:launchpad:{code}"), "{}", answer.body);
    assert!(answer.body["detail"].is_string() && answer.body["mend"].is_string(), "{}", answer.body);
}

/// Whether a process in the container with that pid reaches the address.
fn reaches(pid: u64, address: &str) -> Result<bool> {
    let (file, address): (_, SocketAddr) = (std::fs::File::open(format!("/proc/{pid}/ns/net"))?, address.parse()?);
    let inside = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).context("enter the container's network")?;
        Ok(TcpStream::connect_timeout(&address, REACHED_WITHIN).is_ok())
    });
    inside.join().map_err(|_| anyhow::anyhow!("the thread inside panicked"))?
}

/// The network of a deployment's container, as Docker calls it, and its pid.
fn network(engine: &Engine, deployment: &Deployment) -> Result<(String, u64)> {
    let identity = deployment.identity(engine)?;
    let networks = engine.inspect(&identity.container)?["NetworkSettings"]["Networks"].clone();
    let names: Vec<_> = networks.as_object().context("a container has networks")?.keys().cloned().collect();
    let [name] = &names[..] else { anyhow::bail!("not one network: {names:?}") };
    Ok((name.clone(), identity.pid))
}

#[test]
fn another_tenants_deployment_does_not_exist_and_a_viewer_changes_nothing() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    let operator = lab.api()?;
    let blue = sign_up(&mut lab, "blue", &[Role::Owner, Role::Viewer])?;
    let red = sign_up(&mut lab, "red", &[Role::Owner])?;
    let (owner, viewer, stranger) =
        (operator.as_caller(&blue[0]), operator.as_caller(&blue[1]), operator.as_caller(&red[0]));
    let deployment = Deployment::order(&owner, &order(&lab, "web")?)?;
    let path = format!("/deployments/{}", deployment.id);

    // By id and by name, for reading and for changing: the same words as for what never was.
    for target in [path.as_str(), "/deployments/web"] {
        assert_refused(&stranger.get(target)?, 404, "no-such-deployment");
        assert_refused(&stranger.delete(target)?, 404, "no-such-deployment");
        assert_refused(&stranger.post(&format!("{target}/restart"), &json!({}))?, 404, "no-such-deployment");
        assert_refused(&stranger.get(&format!("{target}/logs"))?, 404, "no-such-deployment");
    }
    let absent = path.replace(|c: char| c.is_ascii_digit(), "7");
    let (other, none) = (stranger.get(&path)?.body, stranger.get(&absent)?.body);
    assert_eq!(other["title"], none["title"]);
    assert_eq!(stranger.get("/deployments")?.success()?["items"], json!([]));
    // A name is an account's own.
    let same_name = Deployment::order(&stranger, &order(&lab, "web")?)?;
    assert_ne!(same_name.id, deployment.id);

    assert_eq!(viewer.get(&path)?.success()?["name"], "web");
    assert_refused(&viewer.delete(&path)?, 403, "role-too-low");
    assert_refused(&viewer.post(&format!("{path}/restart"), &json!({}))?, 403, "role-too-low");
    assert_refused(&viewer.post("/deployments", &order(&lab, "more")?)?, 403, "role-too-low");
    for caller in [&owner, &viewer] {
        assert_refused(&caller.get("/hosts")?, 403, "role-too-low");
        assert_refused(&caller.post("/hosts/tokens", &json!({}))?, 403, "role-too-low");
        assert_refused(&caller.post("/recovery/confirm", &json!({}))?, 403, "role-too-low");
    }
    assert_eq!(deployment.get()?["state"], "requested");

    let as_viewer = |arguments: &[&str]| Line::launchpad(&viewer, &blue[1])?.args(arguments).run();
    as_viewer(&["rm", "web", "--no-wait"])?.refused(1, &["role-too-low", "viewer", "member or owner"]);
    Line::launchpad(&stranger, &red[0])?
        .args(["status", deployment.id.as_str()])
        .run()?
        .refused(1, &["no-such-deployment"]);
    let wrong = format!("{}0000", &blue[0][..blue[0].len() - 4]);
    Line::launchpad(&owner, &wrong)?.args(["ps"]).run()?.refused(1, &["token", "launchpad login"]);
    lab.close()
}

#[test]
fn bots_of_two_tenants_on_one_host_do_not_reach_each_other() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let operator = lab.api()?;
    let (blue, red) = (sign_up(&mut lab, "blue", &[Role::Member])?, sign_up(&mut lab, "red", &[Role::Member])?);
    let deploy = |caller: &Api, name: &str| {
        let deployment = Deployment::order(caller, &order(&lab, name)?)?;
        deployment.wait_state("running")?;
        Ok::<_, anyhow::Error>(deployment)
    };
    let (blue, red) = (operator.as_caller(&blue[0]), operator.as_caller(&red[0]));
    let (web, neighbour, stranger) = (deploy(&blue, "web")?, deploy(&blue, "neighbour")?, deploy(&red, "web")?);
    let engine = &lab.host(0)?.engine;
    let (of_web, web_pid) = network(engine, &web)?;
    let (of_stranger, stranger_pid) = network(engine, &stranger)?;
    assert_eq!(network(engine, &neighbour)?.0, of_web, "a tenant's bots share the tenant's network");
    assert_ne!(of_web, of_stranger);
    for (deployment, pid) in [(&web, web_pid), (&stranger, stranger_pid)] {
        assert!(reaches(pid, &deployment.address()?)?, "the test's own way in");
    }
    assert!(reaches(web_pid, &neighbour.address()?)?, "a tenant's own bots reach each other");
    assert!(!reaches(web_pid, &stranger.address()?)?, "blue reaches red");
    assert!(!reaches(stranger_pid, &web.address()?)?, "red reaches blue");
    assert!(!reaches(stranger_pid, &neighbour.address()?)?, "red reaches blue's other one");

    // The last of a tenant takes its network along, and nobody else's.
    stranger.delete(true)?;
    stranger.wait_state("terminated")?;
    let engine = &lab.host(0)?.engine;
    wait_until("the tenant's network to be gone", SOON, || Ok(engine.inspect(&of_stranger).is_err()))?;
    assert!(reaches(web_pid, &neighbour.address()?)?);
    assert!(Path::new(&format!("/proc/{web_pid}")).exists());
    lab.close()
}
