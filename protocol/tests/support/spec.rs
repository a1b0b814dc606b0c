//! A host's spec with every field set and every variant present.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::{Epoch, Generation, Revision};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::spec::{
    AgentUpgrade, EgressPolicy, FileKind, HostSpec, HttpProbe, Ingress, InstanceSpec, Isolation, Lease, Operation,
    OperationAction, Power, ProbeSet, ProcessSpec, Resources, RestartPolicy, SealedFile, Seccomp, Tmpfs, Tombstone,
    TombstoneScope, Transient, Volume,
};

use super::{digest, id};

/// Two instances and two tombstones.
pub(crate) fn host_spec() -> HostSpec {
    let instances = [instance(1), other_instance(2)];
    let tombstones = [tombstone(8, TombstoneScope::Container), tombstone(9, TombstoneScope::Data)];
    HostSpec {
        host: id(100),
        incarnation: id(101),
        generation: Generation(42),
        instances: instances.into_iter().map(|instance| (instance.deployment, instance)).collect(),
        tombstones: tombstones.into_iter().map(|tombstone| (tombstone.id, tombstone)).collect(),
        upgrade: Some(AgentUpgrade { operation: id(310), version: "0.2.0".parse().expect("a version") }),
    }
}

/// An instance with every field set.
pub(crate) fn instance(number: u128) -> InstanceSpec {
    InstanceSpec {
        deployment: id::<DeploymentId>(number),
        account: id(200 + number),
        name: "support-bot".to_owned(),
        revision: Revision(7),
        epoch: Epoch(3),
        lease: Lease::Failover { term: Duration::from_secs(90) },
        power: Power::On,
        profile: "echo".to_owned(),
        image: format!("registry.example:5000/bots/echo@{}", digest("image")).parse().expect("by digest"),
        process: ProcessSpec {
            uid: 1000,
            gid: 1001,
            command: vec!["/bot".to_owned(), "--serve".to_owned()],
            environment: texts([("LANG", "C.UTF-8"), ("PORT", "8080")]),
        },
        resources: Resources { cpu_millis: 500, memory_bytes: 1 << 30, pids: 256 },
        isolation: isolation(),
        volume: Some(Volume { path: "/data".to_owned(), bytes: 10_000_000_000 }),
        egress: EgressPolicy {
            rules: ["*.example.org", "203.0.113.0/24:8443", "api.example.com"]
                .map(|rule| rule.parse().expect("a rule"))
                .into(),
        },
        ingress: Ingress { port: 8080, hostnames: names(["support-bot.bots.example"]) },
        files: files(),
        secret_environment: texts([("BOT_TOKEN", "token")]),
        probes: probes(),
        restart: restart(),
        stop_grace: Duration::from_secs(20),
        requires: BTreeSet::from([Feature::limits(), Feature::sealed_files()]),
        recreate_hash: digest("all that needs a new container"),
        operations: operations(),
    }
}

/// The variants that [`instance`] does not have.
fn other_instance(number: u128) -> InstanceSpec {
    let mut other = instance(number);
    other.lease = Lease::Keep;
    other.power = Power::Off;
    other.isolation.read_only_root = true;
    other.isolation.no_new_privileges = true;
    other.isolation.seccomp = Seccomp::EngineDefault;
    other.isolation.apparmor = None;
    other.probes.readiness.body_contains = None;
    other.files.clear();
    other.operations.clear();
    other
}

fn isolation() -> Isolation {
    Isolation {
        read_only_root: false,
        no_new_privileges: false,
        capabilities: names(["CAP_NET_BIND_SERVICE"]),
        seccomp: Seccomp::Profile(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#.to_owned()),
        apparmor: Some("launchpad-bot".to_owned()),
        tmpfs: vec![Tmpfs { path: "/tmp".to_owned(), bytes: 64 << 20, mode: 0o1777, exec: true }],
        open_files: 4096,
        shm_bytes: 64 << 20,
        log_bytes: 40_000_000,
    }
}

fn files() -> Vec<SealedFile> {
    let file = |name: &str, dir: &str, kind, version, ciphertext: &[u8]| SealedFile {
        name: name.to_owned(),
        dir: dir.to_owned(),
        kind,
        version: Revision(version),
        ciphertext: ciphertext.to_vec(),
    };
    vec![
        file("token", "/etc/launchpad/secrets", FileKind::Secret, 5, b"\x01\xff sealed token"),
        file("echo.json", "/etc/launchpad/config", FileKind::Config, 7, b"\x02\xfe sealed config"),
    ]
}

fn probes() -> ProbeSet {
    let probe = |path: &str, period_s, timeout_ms, failures, body: &str| HttpProbe {
        path: path.to_owned(),
        period: Duration::from_secs(period_s),
        timeout: Duration::from_millis(timeout_ms),
        failures,
        body_contains: Some(body.to_owned()),
    };
    ProbeSet {
        startup: probe("/startupz", 1, 900, 300, "started"),
        readiness: probe("/readyz", 5, 2_000, 3, "ok"),
        liveness: probe("/healthz", 10, 5_000, 6, "alive"),
    }
}

fn restart() -> RestartPolicy {
    RestartPolicy {
        terminal: BTreeSet::from([-1, 64, 78]),
        transient: vec![Transient {
            code: 1,
            output_contains: Some("lease is still active".to_owned()),
            believed_for: Duration::from_secs(300),
            retry: Duration::from_secs(10),
        }],
        backoff_initial: Duration::from_secs(1),
        backoff_cap: Duration::from_secs(300),
        forgiven_after: Duration::from_secs(600),
    }
}

fn operations() -> Vec<Operation> {
    let actions = [
        OperationAction::Snapshot { name: "before-8".to_owned() },
        OperationAction::DropSnapshot { name: "before-6".to_owned() },
        OperationAction::Restart,
        OperationAction::Restore { name: "before-7".to_owned() },
        OperationAction::ClearLocalStop,
    ];
    (300..).zip(actions).map(|(number, action)| Operation { id: id(number), action }).collect()
}

fn tombstone(number: u128, scope: TombstoneScope) -> Tombstone {
    Tombstone {
        id: id(400 + number),
        deployment: id(number),
        account: id(200 + number),
        scope,
        stop_grace: Duration::from_millis(1_500),
    }
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
