//! What a whole spec becomes: read the snapshot as the list of what confines a bot.

use std::time::Duration;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::spec::{
    EgressPolicy, FileKind, HttpProbe, Ingress, Lease, Power, ProbeSet, ProcessSpec, RestartPolicy as Restarts,
    SealedFile, Volume,
};

use super::*;
use crate::execute::facts::CgroupDriver;
use crate::execute::facts::tests::capable;

fn probe() -> HttpProbe {
    HttpProbe {
        path: "/readyz".to_owned(),
        period: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
        body_contains: None,
    }
}

fn file(dir: &str, name: &str, kind: FileKind) -> SealedFile {
    SealedFile { name: name.to_owned(), dir: dir.to_owned(), kind, version: Revision(3), ciphertext: vec![1, 2, 3] }
}

fn isolation() -> Isolation {
    Isolation {
        read_only_root: true,
        no_new_privileges: true,
        capabilities: BTreeSet::new(),
        seccomp: Seccomp::EngineDefault,
        apparmor: Some("docker-default".to_owned()),
        tmpfs: vec![Tmpfs { path: "/tmp".to_owned(), bytes: 16 << 20, mode: 0o1777, exec: false }],
        open_files: 4096,
        shm_bytes: 16 << 20,
        log_bytes: 40_000_000,
    }
}

fn spec() -> InstanceSpec {
    InstanceSpec {
        deployment: "dep_0000000000000000000000000000000d".parse().unwrap(),
        account: "acct_0000000000000000000000000000000a".parse().unwrap(),
        name: "echo".to_owned(),
        revision: Revision(3),
        epoch: Epoch(2),
        lease: Lease::Keep,
        power: Power::On,
        profile: "echo".to_owned(),
        image: format!("198.18.0.1:5000/echo@{}", Digest::of(b"echo")).parse().unwrap(),
        process: ProcessSpec {
            uid: 1000,
            gid: 1001,
            command: vec![],
            environment: BTreeMap::from([("PORT".to_owned(), "8080".to_owned())]),
        },
        resources: Resources { cpu_millis: 500, memory_bytes: 1 << 30, pids: 256 },
        isolation: isolation(),
        volume: Some(Volume { path: "/state".to_owned(), bytes: 1 << 30 }),
        egress: EgressPolicy::default(),
        ingress: Ingress { port: 8080, hostnames: BTreeSet::new() },
        files: vec![
            file("/etc/launchpad/config", "echo.conf", FileKind::Config),
            file("/run/launchpad/secrets", "token", FileKind::Secret),
            file("/run/launchpad/secrets", "other", FileKind::Secret),
        ],
        secret_environment: BTreeMap::from([("TOKEN".to_owned(), "token".to_owned())]),
        probes: ProbeSet { startup: probe(), readiness: probe(), liveness: probe() },
        restart: Restarts {
            terminal: BTreeSet::from([78]),
            transient: vec![],
            backoff_initial: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            forgiven_after: Duration::from_secs(600),
        },
        stop_grace: Duration::from_secs(5),
        requires: BTreeSet::new(),
        recreate_hash: Digest::of(b"hash"),
        operations: vec![],
    }
}

fn body_on(spec: &InstanceSpec, facts: &EngineFacts) -> ContainerCreateBody {
    let secrets = BTreeMap::from([("TOKEN".to_owned(), Zeroizing::new("a secret".to_owned()))]);
    let around = Surroundings {
        host: "host_00000000000000000000000000000001".parse().unwrap(),
        places: &Places::under(Path::new("/data"), Path::new("/run/lp")),
        facts,
        address: Ipv4Addr::new(172, 29, 0, 2),
        secrets: &secrets,
    };
    body(spec, &around)
}

#[test]
fn a_spec_becomes_a_container_that_is_confined_in_every_way() {
    // By way of a value, so that maps are in order.
    let asked = serde_json::to_value(body_on(&spec(), &capable())).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&asked).unwrap());
}

#[test]
fn what_the_kernel_lacks_is_not_asked_for_and_the_rest_still_is() {
    let facts = EngineFacts { apparmor: false, cgroup_driver: CgroupDriver::Cgroupfs, ..capable() };
    let config = body_on(&spec(), &facts).host_config.unwrap();
    assert_eq!(config.security_opt, Some(vec!["no-new-privileges=true".to_owned()]));
    assert_eq!(config.cgroup_parent, Some("/launchpad/acct_0000000000000000000000000000000a".to_owned()));
}

#[test]
fn a_seccomp_profile_and_a_command_of_our_own_are_handed_on_as_they_are() {
    let mut spec = spec();
    spec.isolation.seccomp = Seccomp::Profile("{\"defaultAction\":\"SCMP_ACT_ERRNO\"}".to_owned());
    spec.process.command = vec!["/echo".to_owned(), "--loud".to_owned()];
    let body = body_on(&spec, &capable());
    assert_eq!(body.cmd, Some(spec.process.command.clone()));
    let options = body.host_config.unwrap().security_opt.unwrap();
    assert!(options.contains(&"seccomp={\"defaultAction\":\"SCMP_ACT_ERRNO\"}".to_owned()), "{options:?}");
}

#[test]
fn a_secret_takes_the_place_of_a_plain_variable_of_its_name() {
    let mut spec = spec();
    spec.process.environment.insert("TOKEN".to_owned(), "plain".to_owned());
    let environment = body_on(&spec, &capable()).env.unwrap();
    assert_eq!(environment, ["PORT=8080", "TOKEN=a secret"]);
}

#[test]
fn an_update_sets_memory_and_swap_together() {
    let update = update(&Resources { cpu_millis: 250, memory_bytes: 64 << 20, pids: 32 });
    assert_eq!(update.memory, update.memory_swap);
    assert_eq!((update.nano_cpus, update.pids_limit), (Some(250_000_000), Some(32)));
}
