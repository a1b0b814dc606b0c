//! What a revision pins, and what asks for a new container.

use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::{HostId, IncarnationId};
use launchpad_protocol::limits::INSTANCE_SPEC_MAX_BYTES;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::wire::encode_spec;

use super::*;
use crate::domain::plan_table::PlanTable;

/// A profile of these tests' own: the built-in ones are edited as their bots change.
const PROFILE: &str = r#"
name = "echo"
description = "a tiny bot"
port = 8080
state_path = "/state"
stop_grace_s = 3
process = { uid = 1000, gid = 1000, env = { PORT = "8080" } }
config = { dir = "/etc/launchpad/config", file = "echo.conf", format = "text", default = "label = default" }
secrets = { dir = "/run/launchpad/secrets", generated = ["token"], environment = { ECHO_KEY = "key" } }
needs = { memory_floor_mb = 16, pids_max = 64 }
tmpfs = [{ path = "/tmp", size_mb = 16, mode = "1777" }]
egress = { allow = ["api.example"] }

[probes]
startup = { path = "/startupz", period_ms = 50, timeout_ms = 1000, failures = 600 }
readiness = { path = "/readyz", period_ms = 5000, timeout_ms = 1000, failures = 2, body_contains = "ok" }
liveness = { path = "/healthz", period_ms = 5000, timeout_ms = 1000, failures = 2 }

[exits]
terminal = [78]
transient = [{ code = 1, output_contains = "lease", for_s = 20, retry_ms = 1000 }]
backoff_initial_ms = 200
backoff_cap_ms = 10000
forgiven_after_s = 10
"#;

/// That profile.
pub(crate) fn profile() -> Profile {
    Profile::parse("echo.toml", PROFILE).expect("a profile")
}

/// A blueprint of the tiny bot on the Starter plan, with the secrets `key` and `token`.
pub(crate) fn starter() -> InstanceSpec {
    let plans = PlanTable::default();
    of(&profile(), plans.get("starter").expect("a plan of the spec"), &["key", "token"]).expect("a blueprint")
}

fn of(profile: &Profile, plan: &Plan, secrets: &[&str]) -> Result<InstanceSpec, Refusal> {
    blueprint(Ingredients {
        deployment: DeploymentId::from(uuid::Uuid::from_u128(7)),
        account: AccountId::from(uuid::Uuid::from_u128(8)),
        name: "web",
        revision: Revision(1),
        profile,
        plan,
        image: &format!("127.0.0.1:5000/echo@{}", Digest::of(b"image")).parse().expect("a reference"),
        egress: &BTreeSet::new(),
        hostnames: &BTreeSet::new(),
        secrets: &secrets.iter().map(|name| (*name).to_owned()).collect(),
        lease: Lease::Keep,
    })
}

#[test]
fn a_blueprint_is_far_smaller_than_a_spec_has_room_for() {
    let spec = HostSpec {
        host: HostId::from(uuid::Uuid::from_u128(1)),
        incarnation: IncarnationId::from(uuid::Uuid::from_u128(2)),
        generation: Generation(1),
        instances: BTreeMap::from([(starter().deployment, starter())]),
        tombstones: BTreeMap::new(),
        upgrade: None,
    };
    let bytes = encode_spec(&spec).bytes.len();
    assert!(bytes < INSTANCE_SPEC_MAX_BYTES / 4, "{bytes} bytes");
}

#[test]
fn the_blueprint_takes_limits_from_the_plan_and_everything_else_from_the_profile() {
    let spec = starter();
    assert_eq!(spec.resources, Resources { cpu_millis: 500, memory_bytes: 1 << 30, pids: profile().needs.pids_max });
    assert_eq!(spec.volume, Some(Volume { path: "/state".to_owned(), bytes: 10_000_000_000 }));
    assert_eq!((spec.ingress.port, spec.process.uid), (8080, 1000));
    assert_eq!(spec.stop_grace, Duration::from_secs(3));
    assert_eq!(spec.restart.terminal, [78].into());
    let files: Vec<_> = spec.files.iter().map(|file| (file.name.as_str(), file.kind)).collect();
    assert_eq!(files, [("echo.conf", FileKind::Config), ("key", FileKind::Secret), ("token", FileKind::Secret)]);
}

#[test]
fn every_bot_is_confined_whatever_its_profile_says() {
    let isolation = starter().isolation;
    assert!(isolation.read_only_root && isolation.no_new_privileges && isolation.capabilities.is_empty());
    let ours = seccomp::compile(&profile().seccomp.allow).expect("it adds nothing forbidden");
    assert_eq!(isolation.seccomp, Seccomp::Profile(ours));
    assert_eq!(isolation.tmpfs[0].mode, 0o1777);
}

#[test]
fn a_secret_in_the_environment_is_required_of_the_agent_only_where_it_is_given() {
    let plans = PlanTable::default();
    let plan = plans.get("starter").expect("a plan of the spec");
    assert!(starter().requires.contains(&Feature::sealed_environment()));
    let without = of(&profile(), plan, &["token"]).expect("a blueprint");
    assert!(without.secret_environment.is_empty());
    assert!(!without.requires.contains(&Feature::sealed_environment()));
}

#[test]
fn a_plan_below_the_workloads_floor_is_refused_in_numbers() {
    let mut needy = profile();
    needy.needs.memory_floor_mb = 2048;
    let plans = PlanTable::default();
    let refusal = of(&needy, plans.get("starter").expect("a plan of the spec"), &[]).expect_err("too small");
    assert_eq!(
        refusal.to_string(),
        "plan `starter` grants 1024 MiB of memory, `echo` needs 2048 MiB; choose a larger plan"
    );
}

#[test]
fn what_changes_in_place_asks_for_no_new_container() {
    let spec = starter();
    let mut changed = spec.clone();
    changed.name = "other".to_owned();
    changed.revision = Revision(9);
    changed.epoch = Epoch(9);
    changed.power = Power::Off;
    changed.resources.memory_bytes *= 2;
    changed.volume.as_mut().unwrap().bytes *= 2;
    changed.probes.liveness.failures += 1;
    changed.restart.terminal.clear();
    changed.stop_grace *= 2;
    changed.ingress.hostnames.insert("web.example".to_owned());
    changed.egress.rules.insert("api.example.com".parse().expect("a rule"));
    changed.requires.clear();
    changed.files[0].ciphertext = vec![1];
    changed.files[0].version = Revision(9);
    assert_eq!(recreate_hash(&changed), recreate_hash(&spec));
}

#[test]
fn what_docker_fixes_at_creation_asks_for_a_new_container() {
    let change = |edit: fn(&mut InstanceSpec)| {
        let mut spec = starter();
        edit(&mut spec);
        recreate_hash(&spec)
    };
    let hashes = [
        change(|_| {}),
        change(|spec| spec.image.digest = Digest::of(b"other")),
        change(|spec| spec.process.command.push("--verbose".to_owned())),
        change(|spec| spec.isolation.shm_bytes += 1),
        change(|spec| spec.volume.as_mut().unwrap().path = "/data".to_owned()),
        change(|spec| spec.ingress.port += 1),
        change(|spec| spec.secret_environment.clear()),
        change(|spec| spec.files[0].dir = "/etc/other".to_owned()),
        // The secret `key`, which the profile hands over in the environment.
        change(|spec| spec.files[1].version = Revision(9)),
    ];
    let different: BTreeSet<_> = hashes.iter().collect();
    assert_eq!(different.len(), hashes.len());
}

#[test]
fn the_hash_of_a_blueprint_stays_the_same_from_version_to_version() {
    // With a new value here each bot would get a new container at its next revision, whatever that changes.
    insta::assert_snapshot!(starter().recreate_hash, @"sha256:d7cf1939c827743220fe6944f4292d7e9757424f749a69d62263250bb167cdf5");
}
