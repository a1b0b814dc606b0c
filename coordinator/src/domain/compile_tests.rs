//! The one complete spec of a host.

use launchpad_protocol::id::{OperationId, TombstoneId};
use launchpad_protocol::spec::{OperationAction, Seccomp, TombstoneScope};
use launchpad_protocol::wire::encode_spec;
use uuid::Uuid;

use super::*;
use crate::domain::revision::tests::starter;

fn heading() -> Heading {
    Heading {
        host: HostId::from(Uuid::from_u128(1)),
        incarnation: IncarnationId::from(Uuid::from_u128(2)),
        generation: Generation(3),
    }
}

fn placed(number: u128) -> PlacedDeployment {
    let mut blueprint = starter();
    blueprint.deployment = DeploymentId::from(Uuid::from_u128(number));
    let sealed = blueprint.files.iter().map(|file| (file.name.clone(), file.name.clone().into_bytes())).collect();
    let operation = Operation { id: OperationId::from(Uuid::from_u128(number)), action: OperationAction::Restart };
    PlacedDeployment { blueprint, epoch: Epoch(4), power: Power::Off, operations: vec![operation], sealed }
}

fn tombstone(number: u128) -> Tombstone {
    let spec = starter();
    Tombstone {
        id: TombstoneId::from(Uuid::from_u128(number)),
        deployment: DeploymentId::from(Uuid::from_u128(number)),
        account: spec.account,
        scope: TombstoneScope::Container,
        stop_grace: spec.stop_grace,
    }
}

#[test]
fn the_blueprint_is_completed_with_what_only_this_host_and_moment_decide() {
    let spec = compile(heading(), vec![placed(7)], vec![tombstone(9)], None).expect("a spec");
    assert_eq!(
        (spec.host, spec.incarnation, spec.generation),
        (heading().host, heading().incarnation, Generation(3))
    );
    let instance = spec.instances.values().next().expect("an instance");
    assert_eq!((instance.epoch, instance.power, instance.operations.len()), (Epoch(4), Power::Off, 1));
    assert_eq!(instance.files[0].ciphertext, b"echo.conf");
    assert_eq!(spec.tombstones.len(), 1);
    let blueprint = placed(7).blueprint;
    assert_eq!((instance.recreate_hash, &instance.resources), (blueprint.recreate_hash, &blueprint.resources));
}

#[test]
fn the_same_parts_in_any_order_make_the_same_bytes() {
    let one =
        compile(heading(), vec![placed(7), placed(8)], vec![tombstone(9), tombstone(10)], None).expect("a spec");
    let other =
        compile(heading(), vec![placed(8), placed(7)], vec![tombstone(10), tombstone(9)], None).expect("a spec");
    assert_eq!(encode_spec(&one).bytes, encode_spec(&other).bytes);
}

#[test]
fn a_bot_without_its_secrets_is_never_published() {
    let mut incomplete = placed(7);
    incomplete.sealed.remove("token");
    let error = compile(heading(), vec![placed(8), incomplete], Vec::new(), None).expect_err("a file is missing");
    assert!(error.to_string().contains("file `token` is not sealed"), "{error}");
}

#[test]
fn an_instance_reads_as_it_was_meant() {
    let spec = compile(heading(), vec![placed(7)], Vec::new(), None).expect("a spec");
    let mut instance = spec.instances.values().next().expect("an instance").clone();
    // `protocol` has the filter, and its tests.
    assert!(matches!(&instance.isolation.seccomp, Seccomp::Profile(_)));
    instance.isolation.seccomp = Seccomp::Profile("…".to_owned());
    let instance = serde_json::to_value(instance).expect("JSON");
    let fields = instance.as_object().expect("an object");
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    account: "acct_00000000000000000000000000000008"
    deployment: "dep_00000000000000000000000000000007"
    egress: {"rules":["api.example"]}
    epoch: 4
    files: [{"ciphertext":"6563686f2e636f6e66","dir":"/etc/launchpad/config","kind":"config","name":"echo.conf","version":1},{"ciphertext":"6b6579","dir":"/run/launchpad/secrets","kind":"secret","name":"key","version":1},{"ciphertext":"746f6b656e","dir":"/run/launchpad/secrets","kind":"secret","name":"token","version":1}]
    image: "127.0.0.1:5000/echo@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"
    ingress: {"hostnames":[],"port":8080}
    isolation: {"apparmor":null,"capabilities":[],"log_bytes":33554432,"no_new_privileges":true,"open_files":16384,"read_only_root":true,"seccomp":{"profile":"…"},"shm_bytes":67108864,"tmpfs":[{"bytes":16777216,"exec":false,"mode":1023,"path":"/tmp"}]}
    lease: {"policy":"keep"}
    name: "web"
    operations: [{"action":{"action":"restart"},"id":"op_00000000000000000000000000000007"}]
    power: "off"
    probes: {"liveness":{"body_contains":null,"failures":2,"path":"/healthz","period":{"nanos":0,"secs":5},"timeout":{"nanos":0,"secs":1}},"readiness":{"body_contains":"ok","failures":2,"path":"/readyz","period":{"nanos":0,"secs":5},"timeout":{"nanos":0,"secs":1}},"startup":{"body_contains":null,"failures":600,"path":"/startupz","period":{"nanos":50000000,"secs":0},"timeout":{"nanos":0,"secs":1}}}
    process: {"command":[],"environment":{"PORT":"8080"},"gid":1000,"uid":1000}
    profile: "echo"
    recreate_hash: "sha256:d7cf1939c827743220fe6944f4292d7e9757424f749a69d62263250bb167cdf5"
    requires: ["egress.v1","http-probes.v1","ingress.v1","limits.v1","restart-policy.v1","sealed-environment.v1","sealed-files.v1","seccomp.v1","tenant-network.v1","volume.v2"]
    resources: {"cpu_millis":500,"memory_bytes":1073741824,"pids":64}
    restart: {"backoff_cap":{"nanos":0,"secs":10},"backoff_initial":{"nanos":200000000,"secs":0},"forgiven_after":{"nanos":0,"secs":10},"terminal":[78],"transient":[{"believed_for":{"nanos":0,"secs":20},"code":1,"output_contains":"lease","retry":{"nanos":0,"secs":1}}]}
    revision: 1
    secret_environment: {"ECHO_KEY":"key"}
    stop_grace: {"nanos":0,"secs":3}
    volume: {"bytes":10000000000,"path":"/state"}
    "#);
}
