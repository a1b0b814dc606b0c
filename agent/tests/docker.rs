//! The agent's hands and eyes on a real Docker engine.
//!
//! One test a promise of `execute/docker.rs` that only a real engine can keep. They run where `make test` has
//! started a private engine, and say so when they do not (`docker_ground`).

mod docker_ground;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use docker_ground::{PORT, SECRETS_DIR, answers, deploy, on_ground, post, probe, steps, stop, until};
use launchpad_agent::execute::{ExecuteError, Eyes as _, Hands as _};
use launchpad_agent::observe::{ContainerState, Observed};
use launchpad_agent::plan::action::{Action, files_digest};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::frame::{Answer, OutputStream, Question};
use launchpad_protocol::report::KernelLimits;
use launchpad_protocol::spec::{HttpProbe, Resources};
use tokio::sync::mpsc;

/// What Docker calls an image's manifest.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[tokio::test]
async fn a_bot_comes_and_goes_and_every_step_may_be_done_twice() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("label = blue");
        deploy(&host, &spec).await;

        let observed = host.observe(&BTreeSet::from([spec.image.clone()])).await.unwrap();
        assert_eq!(observed.networks, BTreeSet::from([spec.account]));
        assert_eq!(observed.images, BTreeSet::from([spec.image.clone()]));
        assert_eq!(observed.volumes, BTreeSet::from([spec.deployment]));
        assert_eq!(observed.files[&spec.deployment], files_digest(&spec.files));
        assert_eq!(observed.containers.len(), 1, "{observed:#?}");
        let container = observed.containers.into_values().next().unwrap();
        assert_eq!((container.deployment, container.account), (spec.deployment, spec.account));
        assert_eq!((container.epoch, container.recreate_hash), (spec.epoch, spec.recreate_hash));
        assert_eq!((container.resources, container.image), (spec.resources, Some(spec.image.digest)));
        let limits = KernelLimits { cpu_millis: 500, memory_bytes: 64 << 20, pids: 40 };
        assert_eq!(container.limits, Some(limits), "as the kernel has them");
        assert!(container.running_since().is_some(), "{container:?}");

        let address = container.address.unwrap();
        answers(&host, address, &probe("/startupz")).await;
        let says = |path: &str, text: &str| HttpProbe { body_contains: Some(text.to_owned()), ..probe(path) };
        host.probe(address, PORT, &says("/", "\"label\":\"blue\"")).await.unwrap();
        host.probe(address, PORT, &says("/secret?name=token", &hex_of(b"a secret"))).await.unwrap();
        for confined in [
            "\"uid\":\"1000\"",
            "\"capabilities\":\"0000000000000000\"",
            "\"no_new_privileges\":\"1\"",
            "\"seccomp\":\"2\"",
            "\"root\":false,\"tmp\":true,\"state\":true",
        ] {
            host.probe(address, PORT, &says("/whoami", confined)).await.unwrap();
        }

        for action in [
            stop(&container),
            Action::RemoveContainer { container: container.id.clone() },
            Action::RemoveFiles { deployment: spec.deployment },
            Action::RemoveVolume { deployment: spec.deployment },
            Action::RemoveNetwork { account: spec.account },
        ] {
            for _ in ["once", "twice"] {
                host.execute(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
            }
        }
        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap(), Observed::default());
        let cgroups = ["memory/launchpad", "launchpad"].map(|dir| format!("/sys/fs/cgroup/{dir}/{}", spec.account));
        assert!(cgroups.iter().all(|dir| !fs::exists(dir).unwrap()), "the tenant's cgroup is gone");
    })
    .await;
}

#[tokio::test]
async fn a_restarted_agent_finds_the_same_container_and_a_lost_address_book_changes_no_address() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let first = ground.host();
        deploy(&first, &spec).await;
        let before = until(&first, "it runs", |container| container.running_since().is_some()).await;
        drop(first);
        fs::remove_file(ground.dir.path().join("data/addresses")).unwrap();

        let second = ground.host();
        deploy(&second, &spec).await;
        let after = until(&second, "it runs", |container| container.running_since().is_some()).await;
        assert_eq!(after, before, "the same container, start and address");

        let neighbour = ground.bot_of(spec.account, "");
        deploy(&second, &neighbour).await;
        let both = second.observe(&BTreeSet::new()).await.unwrap().containers;
        let addresses: BTreeSet<_> = both.values().filter_map(|container| container.address).collect();
        assert_eq!((both.len(), addresses.len()), (2, 2), "{both:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_container_made_anew_keeps_its_address_and_never_runs_beside_the_old_one() {
    on_ground(|ground| async move {
        let host = ground.host();
        let mut spec = ground.bot("");
        deploy(&host, &spec).await;
        let old = until(&host, "it runs", |container| container.running_since().is_some()).await;

        spec.recreate_hash = Digest::of(b"second");
        let make = Action::CreateContainer { spec: Box::new(spec.clone()) };
        assert!(matches!(host.execute(&make).await, Err(ExecuteError::Passing(_))), "its name is taken");
        let remove = Action::RemoveContainer { container: old.id.clone() };
        assert!(matches!(host.execute(&remove).await, Err(ExecuteError::Passing(_))), "it runs");

        host.execute(&stop(&old)).await.unwrap();
        host.execute(&remove).await.unwrap();
        deploy(&host, &spec).await;
        let new = until(&host, "the new one runs", |container| container.running_since().is_some()).await;
        assert_ne!(new.id, old.id);
        assert_eq!(new.address, old.address);
    })
    .await;
}

#[tokio::test]
async fn limits_change_under_a_running_container() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let before = until(&host, "it runs", |container| container.running_since().is_some()).await;
        for (cpu_millis, memory_bytes, pids) in [(1000, 128 << 20, 80), (250, 32 << 20, 20)] {
            let resources = Resources { cpu_millis, memory_bytes, pids };
            host.execute(&Action::UpdateResources { container: before.id.clone(), resources }).await.unwrap();
            let limits = KernelLimits { cpu_millis, memory_bytes, pids };
            let after = until(&host, "it has them", |container| container.limits == Some(limits)).await;
            assert_eq!((after.resources, after.running_since()), (resources, before.running_since()));
        }
    })
    .await;
}

#[tokio::test]
async fn an_exit_is_noticed_by_itself_with_its_code_and_last_words() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("exit_code_at_start = 78\nlast_line = the owner lease is still active");
        deploy_up_to_start(&host, &spec).await;
        let ended =
            until(&host, "it has ended", |container| matches!(container.state, ContainerState::Exited(_))).await;
        let ContainerState::Exited(exit) = ended.state else { unreachable!("it was waited for") };
        assert_eq!((exit.code, exit.out_of_memory), (78, false));
        assert!(exit.output_tail.contains("the owner lease is still active"), "{exit:?}");
        assert!(exit.at >= exit.started_at && ended.limits.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_bot_that_eats_too_much_is_killed_for_its_memory() {
    on_ground(|ground| async move {
        let host = ground.host();
        deploy_up_to_start(&host, &ground.bot("memory_mb = 200")).await;
        let ended =
            until(&host, "it has ended", |container| matches!(container.state, ContainerState::Exited(_))).await;
        let ContainerState::Exited(exit) = ended.state else { unreachable!("it was waited for") };
        assert_eq!((exit.code, exit.out_of_memory), (137, true));
    })
    .await;
}

#[tokio::test]
async fn only_an_image_that_no_retry_mends_is_refused() {
    on_ground(|ground| async move {
        let host = ground.host();
        let mut unknown = ground.image.clone();
        unknown.digest = Digest::of(b"nobody pushed this");
        let error = host.execute(&Action::PullImage { image: unknown }).await.unwrap_err();
        assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "image-unknown"), "{error:?}");

        let mut away = ground.image.clone();
        away.repository = "127.0.0.1:1/echo".to_owned();
        away.digest = Digest::of(b"no registry listens there");
        let error = host.execute(&Action::PullImage { image: away }).await.unwrap_err();
        assert!(matches!(&error, ExecuteError::Passing(reason) if reason.code == "image-pull-failed"), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_have_its_digest_is_refused() {
    on_ground(|ground| async move {
        let host = ground.host();
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{{\"mediaType\":\
             \"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"{}\"}},\"layers\":[]}}",
            Digest::of(b"{}")
        );
        let liar = registry_that_answers(manifest).await;
        let image = format!("{liar}/echo@{}", Digest::of(b"what was asked for")).parse().unwrap();
        let error = host.execute(&Action::PullImage { image }).await.unwrap_err();
        assert!(
            matches!(&error, ExecuteError::Refused(reason) if reason.code == "image-digest-mismatch"),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_somebody_took_away_is_a_passing_failure() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        let steps = steps(&spec);
        let (before, create) = (&steps[..4], &steps[4]);
        for action in before {
            host.execute(action).await.unwrap();
        }
        fs::remove_dir_all(ground.dir.path().join(format!("data/volumes/{}", spec.deployment))).unwrap();
        let error = host.execute(create).await.unwrap_err();
        assert!(matches!(&error, ExecuteError::Passing(reason) if reason.code == "mount-missing"), "{error:?}");
        deploy(&host, &spec).await;
    })
    .await;
}

#[tokio::test]
async fn a_command_that_the_image_does_not_have_is_refused() {
    on_ground(|ground| async move {
        let host = ground.host();
        let mut spec = ground.bot("");
        let engine_made = ground.engine();
        spec.process.command = vec!["ignored by the image's entry point".to_owned()];
        deploy(&host, &spec).await;
        let made = until(&host, "it runs", |container| container.running_since().is_some()).await;
        host.execute(&stop(&made)).await.unwrap();
        // A container of ours whose entry point is missing, as an image without its program would have.
        let found = engine_made.inspect_container(&made.id, None).await.unwrap();
        let body = bollard::models::ContainerCreateBody {
            image: Some(spec.image.to_string()),
            entrypoint: Some(vec!["/no-such-program".to_owned()]),
            labels: found.config.unwrap().labels,
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some("none".into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let broken = engine_made.create_container(None, body).await.unwrap().id;
        let start = Action::StartContainer { deployment: spec.deployment, container: Some(broken) };
        let error = host.execute(&start).await.unwrap_err();
        assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "start-refused"), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_broken_seal_is_refused_and_the_files_that_run_stay_as_they_were() {
    on_ground(|ground| async move {
        let host = ground.host();
        let mut spec = ground.bot("label = first");
        deploy(&host, &spec).await;
        let before = host.observe(&BTreeSet::new()).await.unwrap().files;

        let whole = spec.clone();
        spec.files[0] = ground.seal(spec.deployment, docker_ground::CONFIG_DIR, "echo.conf", b"label = second");
        spec.files[1].ciphertext[40] ^= 1;
        let error = host.execute(&Action::WriteFiles { spec: Box::new(spec) }).await.unwrap_err();
        assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "seal-broken"), "{error:?}");
        assert!(!error.to_string().contains("secret\""), "{error}");
        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap().files, before);

        // A set without the secret takes it away, and the rest is whole, private and the bot's own.
        let mut fewer = whole;
        fewer.files.truncate(1);
        host.execute(&Action::WriteFiles { spec: Box::new(fewer.clone()) }).await.unwrap();
        let root = ground.dir.path().join(format!("run/files/{}", fewer.deployment));
        let files: Vec<_> = files_below(&root);
        assert_eq!(files.len(), 2, "the config and the marker: {files:?}");
        let config = files.iter().find(|path| path.ends_with("echo.conf")).unwrap();
        let found = fs::metadata(config).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o400, 1000, 1000));
        assert_eq!(fs::read(config).unwrap(), b"label = first");
    })
    .await;
}

#[tokio::test]
async fn a_flushed_firewall_is_seen_and_mended() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let host = ground.host();
        deploy(&host, &spec).await;
        let flushed = std::process::Command::new("nft").args(["delete", "table", "inet", "launchpad_nat"]).status();
        assert!(flushed.unwrap().success());
        // A restarted agent looks at everything, as a running one does every minute.
        let host = ground.host();
        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap().networks, BTreeSet::new());
        host.execute(&Action::EnsureNetwork { account: spec.account }).await.unwrap();
        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap().networks, BTreeSet::from([spec.account]));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_ours_is_neither_seen_nor_touched() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        host.execute(&Action::PullImage { image: spec.image.clone() }).await.unwrap();
        let engine = ground.engine();
        let body = bollard::models::ContainerCreateBody {
            image: Some(spec.image.to_string()),
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some("none".into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let theirs = engine.create_container(None, body).await.unwrap().id;
        engine.start_container(&theirs, None).await.unwrap();

        assert_eq!(host.observe(&BTreeSet::new()).await.unwrap(), Observed::default());
        let mut container = fake_container(&spec);
        container.id = theirs.clone();
        for action in [stop(&container), Action::RemoveContainer { container: theirs.clone() }] {
            let error = host.execute(&action).await.unwrap_err();
            assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "not-ours"), "{error:?}");
        }
        let found = engine.inspect_container(&theirs, None).await.unwrap();
        let options = bollard::query_parameters::RemoveContainerOptions { force: true, ..Default::default() };
        engine.remove_container(&theirs, Some(options)).await.unwrap();
        assert_eq!(found.state.unwrap().running, Some(true));
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_goes_away_is_never_taken_for_an_empty_one_and_its_return_is_noticed() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let door = Door::before(&ground);
        let host = ground.host_behind(door.socket.clone());
        deploy(&host, &spec).await;
        let before = until(&host, "it runs", |container| container.running_since().is_some()).await;

        let (door_path, listening) = door.close();
        let away = tokio::time::timeout(docker_ground::PATIENCE, async {
            loop {
                match host.observe(&BTreeSet::new()).await {
                    Err(ExecuteError::EngineAway(reason)) => return reason,
                    Err(other) => panic!("{other:?}"),
                    Ok(observed) => assert_eq!(observed.containers.len(), 1, "never without its container"),
                }
                host.changed().await;
            }
        });
        assert_eq!(away.await.unwrap().code, "engine-away");
        let error = host.execute(&stop(&before)).await.unwrap_err();
        assert!(matches!(error, ExecuteError::EngineAway(_)), "{error:?}");
        let neighbours = ground.host_behind(door_path.clone());
        assert!(matches!(neighbours.observe(&BTreeSet::new()).await, Err(ExecuteError::EngineAway(_))));

        let _door = Door::open(door_path, listening);
        let after = tokio::time::timeout(docker_ground::PATIENCE, async {
            loop {
                host.changed().await;
                if let Ok(observed) = host.observe(&BTreeSet::new()).await {
                    return observed;
                }
            }
        });
        assert_eq!(after.await.unwrap().containers[&before.id], before);
    })
    .await;
}

#[tokio::test]
async fn logs_are_told_from_the_past_and_followed_until_nobody_listens() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let container = until(&host, "it runs", |container| container.running_since().is_some()).await;
        let address = container.address.unwrap();
        answers(&host, address, &probe("/startupz")).await;

        let (pieces, mut told) = mpsc::channel(4);
        let question = Question::Logs { deployment: spec.deployment, tail: 10, follow: true };
        let listen = async {
            let Some(Answer::Line(first)) = told.recv().await else { panic!("a line") };
            assert_eq!(
                (first.stream, first.text.as_str()),
                (OutputStream::Stdout, "echo: listening on 0.0.0.0:8080")
            );
            let started_at = container.running_since().unwrap();
            assert!(first.at.apart(started_at) < docker_ground::PATIENCE, "{first:?}");
            post(address, "/log?lines=100&bytes=40000").await;
            for _ in 0..100 {
                let Some(Answer::Line(line)) = told.recv().await else { panic!("a line") };
                assert!(line.text.len() <= launchpad_protocol::limits::LOG_LINE_MAX_BYTES + 32);
            }
            drop(told);
        };
        tokio::join!(host.answer(&question, pieces), listen);
        post(address, "/log?lines=3").await;

        let (pieces, mut told) = mpsc::channel(4);
        let question = Question::Logs { deployment: spec.deployment, tail: 2, follow: false };
        let count = async {
            let mut lines = 0;
            while let Some(Answer::Line(_)) = told.recv().await {
                lines += 1;
            }
            lines
        };
        assert_eq!(tokio::join!(host.answer(&question, pieces), count).1, 2, "and then the end");

        let (pieces, mut told) = mpsc::channel(4);
        let nobodys = Question::Logs { deployment: ground.bot("").deployment, tail: 2, follow: false };
        host.answer(&nobodys, pieces).await;
        let Some(Answer::End(Some(reason))) = told.recv().await else { panic!("a reason") };
        assert_eq!(reason.code, "no-output");
    })
    .await;
}

#[tokio::test]
async fn a_bot_resolves_by_our_own_file_and_leaves_by_our_own_translation() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let resolv = ground.dir.path().join(format!("run/resolv/{}/resolv.conf", spec.deployment));
        assert!(fs::read_to_string(&resolv).unwrap().contains("nameserver 192.0.2.53\n"));
        let container = until(&host, "it runs", |container| container.running_since().is_some()).await;
        let found = ground.engine().inspect_container(&container.id, None).await.unwrap();
        let mounts = found.mounts.unwrap_or_default();
        let mount = |target: &str| mounts.iter().find(|mount| mount.destination.as_deref() == Some(target)).cloned();
        let resolv_mount = mount("/etc/resolv.conf").unwrap();
        assert_eq!((resolv_mount.source.as_deref(), resolv_mount.rw), (resolv.to_str(), Some(false)));
        assert_eq!(mount(SECRETS_DIR).unwrap().rw, Some(false));

        let rules =
            std::process::Command::new("nft").args(["list", "table", "inet", "launchpad_nat"]).output().unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        assert!(rules.contains("masquerade") && rules.contains(&spec.account.to_string()), "{rules}");
        let docker_nat =
            std::process::Command::new("iptables").args(["-t", "nat", "-S", "POSTROUTING"]).output().unwrap();
        let docker_nat = String::from_utf8(docker_nat.stdout).unwrap();
        assert!(!docker_nat.contains("172.29."), "Docker's own masquerade is off: {docker_nat}");
    })
    .await;
}

#[tokio::test]
async fn what_a_bot_sends_out_leaves_under_the_hosts_address() {
    on_ground(|ground| async move {
        let host = ground.host();
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let container = until(&host, "it runs", |container| container.running_since().is_some()).await;
        let found = ground.engine().inspect_container(&container.id, None).await.unwrap();
        let process = found.state.unwrap().pid.unwrap();
        let outside = Outside::new();
        let seen = tokio::task::spawn_blocking(move || outside.sees(process)).await.unwrap();
        assert_eq!(seen, "198.18.77.1", "and not {:?}", container.address);
    })
    .await;
}

/// Everything up to the start, which may find that the bot has ended already.
async fn deploy_up_to_start(
    host: &launchpad_agent::execute::docker::DockerHost,
    spec: &launchpad_protocol::spec::InstanceSpec,
) {
    for action in steps(spec) {
        host.execute(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}

fn hex_of(secret: &[u8]) -> String {
    Digest::of(secret).to_string().trim_start_matches("sha256:").to_owned()
}

fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// A container as a stale plan might name it.
fn fake_container(spec: &launchpad_protocol::spec::InstanceSpec) -> launchpad_agent::observe::Container {
    launchpad_agent::observe::Container {
        id: String::new(),
        deployment: spec.deployment,
        account: spec.account,
        epoch: spec.epoch,
        recreate_hash: spec.recreate_hash,
        state: ContainerState::Created,
        resources: spec.resources,
        limits: None,
        address: None,
        image: None,
    }
}

/// A door before the engine's socket that a test can close, as if dockerd had died.
struct Door {
    socket: std::path::PathBuf,
    engine: std::path::PathBuf,
    porter: tokio::task::JoinHandle<()>,
}

impl Door {
    fn before(ground: &docker_ground::Ground) -> Self {
        Self::open(ground.dir.path().join("door.sock"), ground.docker.clone())
    }

    fn open(socket: std::path::PathBuf, engine: std::path::PathBuf) -> Self {
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let beyond = engine.clone();
        let porter = tokio::spawn(async move {
            let mut guests = tokio::task::JoinSet::new();
            while let Ok((mut guest, _)) = listener.accept().await {
                let beyond = beyond.clone();
                guests.spawn(async move {
                    let mut engine = tokio::net::UnixStream::connect(&beyond).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut guest, &mut engine).await;
                });
            }
        });
        Self { socket, engine, porter }
    }

    fn close(self) -> (std::path::PathBuf, std::path::PathBuf) {
        self.porter.abort();
        fs::remove_file(&self.socket).unwrap();
        (self.socket, self.engine)
    }
}

/// A registry that has everything, and whatever it is asked for is this. Its address.
async fn registry_that_answers(body: String) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {MANIFEST}\r\n\
                 docker-distribution-api-version: registry/2.0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
        }
    });
    address
}

/// A network namespace beyond the host's, which has no way back to a tenant's addresses.
struct Outside;

impl Outside {
    const NAME: &str = "lp-test-outside";

    fn new() -> Self {
        let outside = Self;
        for command in [
            "ip netns add lp-test-outside",
            "ip link add lp-out-a type veth peer name lp-out-b netns lp-test-outside",
            "ip addr add 198.18.77.1/30 dev lp-out-a",
            "ip link set lp-out-a up",
            "ip -n lp-test-outside addr add 198.18.77.2/30 dev lp-out-b",
            "ip -n lp-test-outside link set lp-out-b up",
        ] {
            let mut words = command.split(' ');
            let ended = std::process::Command::new(words.next().unwrap()).args(words).output().unwrap();
            assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        outside
    }

    /// The address under which a connection from that process's network arrives.
    fn sees(&self, process: i64) -> String {
        let within = |namespace: String| {
            let namespace = fs::File::open(namespace).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        };
        let (listening, address) = std::sync::mpsc::channel();
        let listener = std::thread::spawn(move || {
            within(format!("/run/netns/{}", Self::NAME));
            let listener = std::net::TcpListener::bind("198.18.77.2:0").unwrap();
            listening.send(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap().1.ip().to_string()
        });
        let address = address.recv().unwrap();
        let caller = std::thread::spawn(move || {
            within(format!("/proc/{process}/ns/net"));
            std::net::TcpStream::connect_timeout(&address, docker_ground::PATIENCE).map(drop)
        });
        caller.join().unwrap().expect("the way out");
        listener.join().unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Its end of the link goes with it, and ours with that.
        let _ = std::process::Command::new("ip").args(["netns", "delete", Self::NAME]).status();
    }
}
