//! What several test files wish for: one plain bot, and ids that read well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::{Epoch, Generation, Revision};
use launchpad_protocol::id::TypedId;
use launchpad_protocol::spec::{
    EgressPolicy, HostSpec, HttpProbe, Ingress, InstanceSpec, Isolation, Lease, Power, ProbeSet, ProcessSpec,
    Resources, RestartPolicy, Seccomp, Transient, Volume,
};
use uuid::Uuid;

/// An id that a person can tell from others.
pub(crate) fn id<I: TypedId>(n: u128) -> I {
    Uuid::from_u128(n).into()
}

/// A bot of no particular kind.
pub(crate) fn bot() -> InstanceSpec {
    let probe = |path: &str| HttpProbe {
        path: path.to_owned(),
        period: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        failures: 3,
        body_contains: None,
    };
    InstanceSpec {
        deployment: id(0xd),
        account: id(0xa),
        name: "web".to_owned(),
        revision: Revision(1),
        epoch: Epoch(1),
        lease: Lease::Keep,
        power: Power::On,
        profile: "echo".to_owned(),
        image: format!("registry.example/echo@{}", Digest::of(b"echo")).parse().expect("a reference"),
        process: ProcessSpec { uid: 1000, gid: 1000, command: Vec::new(), environment: BTreeMap::new() },
        resources: Resources { cpu_millis: 500, memory_bytes: 1 << 30, pids: 64 },
        isolation: Isolation {
            read_only_root: true,
            no_new_privileges: true,
            capabilities: BTreeSet::new(),
            seccomp: Seccomp::EngineDefault,
            apparmor: None,
            tmpfs: Vec::new(),
            open_files: 1024,
            shm_bytes: 1 << 20,
            log_bytes: 1 << 20,
        },
        volume: Some(Volume { path: "/state".to_owned(), bytes: 1 << 30 }),
        egress: EgressPolicy::default(),
        ingress: Ingress { port: 8080, hostnames: BTreeSet::new() },
        files: Vec::new(),
        secret_environment: BTreeMap::new(),
        probes: ProbeSet { startup: probe("/startupz"), readiness: probe("/readyz"), liveness: probe("/healthz") },
        restart: RestartPolicy {
            terminal: BTreeSet::from([78]),
            transient: vec![Transient {
                code: 1,
                output_contains: Some("lease is still active".to_owned()),
                believed_for: Duration::from_secs(300),
                retry: Duration::from_secs(10),
            }],
            backoff_initial: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            forgiven_after: Duration::from_secs(600),
        },
        stop_grace: Duration::from_secs(10),
        requires: Feature::all(),
        recreate_hash: Digest::of(b"first"),
        operations: Vec::new(),
    }
}

/// The spec of one host that wishes for those bots.
pub(crate) fn spec(generation: u64, bots: impl IntoIterator<Item = InstanceSpec>) -> HostSpec {
    HostSpec {
        host: id(0xf),
        incarnation: id(0x1),
        generation: Generation(generation),
        instances: bots.into_iter().map(|bot| (bot.deployment, bot)).collect::<BTreeMap<_, _>>(),
        tombstones: BTreeMap::new(),
        upgrade: None,
    }
}
