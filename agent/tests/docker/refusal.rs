//! What is refused, what passes, and what is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use launchpad_agent::execute::{ExecuteError, Eyes as _, Hands as _};
use launchpad_agent::observe::{ContainerState, Observed};
use launchpad_agent::plan::action::Action;
use launchpad_protocol::digest::Digest;

use crate::ground::{self, deploy, on_ground, steps, stop, until};

/// What Docker calls an image's manifest.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[tokio::test]
async fn only_an_image_that_no_retry_mends_is_refused() {
    on_ground(|ground| async move {
        let host = ground.host().await;
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
        let host = ground.host().await;
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
        let host = ground.host().await;
        let spec = ground.bot("");
        let steps = steps(&spec);
        let at = steps.iter().position(|action| action.kind() == "create_container").unwrap();
        let (before, create) = (&steps[..at], &steps[at]);
        for action in before {
            host.execute(action).await.unwrap();
        }
        let mounted = ground.dir.path().join(format!("data/volumes/{}/mount", spec.deployment));
        nix::mount::umount(&mounted).unwrap();
        let error = host.execute(create).await.unwrap_err();
        assert!(matches!(&error, ExecuteError::Passing(reason) if reason.code == "mount-missing"), "{error:?}");
        deploy(&host, &spec).await;
    })
    .await;
}

#[tokio::test]
async fn a_command_that_the_image_does_not_have_is_refused() {
    on_ground(|ground| async move {
        let host = ground.host().await;
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
        let host = ground.host().await;
        let mut spec = ground.bot("label = first");
        deploy(&host, &spec).await;
        let before = host.observe(&BTreeSet::new()).await.unwrap().files;

        let whole = spec.clone();
        spec.files[0] = ground.seal(spec.deployment, ground::CONFIG_DIR, "echo.conf", b"label = second");
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
async fn what_is_not_ours_is_neither_seen_nor_touched() {
    on_ground(|ground| async move {
        let host = ground.host().await;
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

        let observed = host.observe(&BTreeSet::new()).await.unwrap();
        assert_eq!(observed, Observed { gate: observed.gate.clone(), ..Observed::default() });
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
        log_bytes: None,
        seccomp: None,
        process_id: None,
        kernel: None,
        address: None,
        image: None,
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
