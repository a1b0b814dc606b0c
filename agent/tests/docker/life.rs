//! A bot's life: made, started, changed, ended, told of.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use launchpad_agent::execute::{ExecuteError, Eyes as _, Hands as _};
use launchpad_agent::observe::{ContainerState, Observed};
use launchpad_agent::plan::action::{Action, files_digest};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::frame::{Answer, OutputStream, Question};
use launchpad_protocol::report::KernelLimits;
use launchpad_protocol::spec::{HttpProbe, Resources};
use tokio::sync::mpsc;

use crate::ground::{self, PORT, answers, deploy, deploy_up_to_start, on_ground, post, probe, stop, until};
use crate::outside::within;

#[tokio::test]
async fn a_bot_comes_and_goes_and_every_step_may_be_done_twice() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let spec = ground.bot("label = blue");
        deploy(&host, &spec).await;

        let observed = host.observe(&BTreeSet::from([spec.image.clone()])).await.unwrap();
        assert_eq!(observed.networks, BTreeSet::from([spec.account]));
        assert_eq!(observed.images, BTreeSet::from([spec.image.clone()]));
        assert!(observed.volumes[&spec.deployment].mounted);
        assert_eq!(observed.files[&spec.deployment], files_digest(&spec.files));
        assert_eq!(observed.containers.len(), 1, "{observed:#?}");
        let container = observed.containers.into_values().next().unwrap();
        assert_eq!((container.deployment, container.account), (spec.deployment, spec.account));
        assert_eq!((container.epoch, container.recreate_hash), (spec.epoch, spec.recreate_hash));
        assert_eq!((container.resources, container.image), (spec.resources, Some(spec.image.digest)));
        let limits = KernelLimits { cpu_millis: 500, memory_bytes: 64 << 20, pids: 40 };
        assert_eq!(container.limits(), Some(limits), "as the kernel has them");
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
        let left = host.observe(&BTreeSet::new()).await.unwrap();
        assert_eq!(left, Observed { gate: left.gate.clone(), ..Observed::default() });
        assert_eq!(ground::groups_of(spec.account), Vec::<PathBuf>::new(), "the tenant's cgroup is gone");
    })
    .await;
}

#[tokio::test]
async fn a_bot_sees_its_own_cgroup_as_the_root_and_no_tenants_name() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let process = ground.process_of(&host, &spec).await;
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/cgroup")).unwrap();
        assert_ne!(namespace(&process.to_string()), namespace("self"));
        // A reader inside that namespace is shown what the bot is.
        let membership = format!("/proc/{process}/cgroup");
        let shown = within(&format!("/proc/{process}/ns/cgroup"), || fs::read_to_string(membership).unwrap());
        assert!(!shown.contains(&spec.account.to_string()), "{shown}");
    })
    .await;
}

#[tokio::test]
async fn a_restarted_agent_finds_the_same_container_and_a_lost_address_book_changes_no_address() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let first = ground.host().await;
        deploy(&first, &spec).await;
        let before = until(&first, "it runs", |container| container.running_since().is_some()).await;
        drop(first);
        fs::remove_file(ground.dir.path().join("data/addresses")).unwrap();

        let second = ground.host().await;
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
        let host = ground.host().await;
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
        let host = ground.host().await;
        let spec = ground.bot("");
        deploy(&host, &spec).await;
        let before = until(&host, "it runs", |container| container.running_since().is_some()).await;
        for (cpu_millis, memory_bytes, pids) in [(1000, 128 << 20, 80), (250, 32 << 20, 20)] {
            let resources = Resources { cpu_millis, memory_bytes, pids };
            host.execute(&Action::UpdateResources { container: before.id.clone(), resources }).await.unwrap();
            let limits = KernelLimits { cpu_millis, memory_bytes, pids };
            let after = until(&host, "it has them", |container| container.limits() == Some(limits)).await;
            assert_eq!((after.resources, after.running_since()), (resources, before.running_since()));
        }
    })
    .await;
}

#[tokio::test]
async fn an_exit_is_noticed_by_itself_with_its_code_and_last_words() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        let spec = ground.bot("exit_code_at_start = 78\nlast_line = the owner lease is still active");
        deploy_up_to_start(&host, &spec).await;
        let ended =
            until(&host, "it has ended", |container| matches!(container.state, ContainerState::Exited(_))).await;
        let ContainerState::Exited(exit) = &ended.state else { unreachable!("it was waited for") };
        assert_eq!((exit.code, exit.out_of_memory), (78, false));
        assert!(exit.output_tail.contains("the owner lease is still active"), "{exit:?}");
        assert!(exit.at >= exit.started_at && ended.limits().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_bot_that_eats_too_much_is_killed_for_its_memory() {
    on_ground(|ground| async move {
        let host = ground.host().await;
        deploy_up_to_start(&host, &ground.bot("memory_mb = 200")).await;
        let ended =
            until(&host, "it has ended", |container| matches!(container.state, ContainerState::Exited(_))).await;
        let ContainerState::Exited(exit) = ended.state else { unreachable!("it was waited for") };
        assert_eq!((exit.code, exit.out_of_memory), (137, true));
    })
    .await;
}

#[tokio::test]
async fn logs_are_told_from_the_past_and_followed_until_nobody_listens() {
    on_ground(|ground| async move {
        let host = ground.host().await;
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
            assert!(first.at.apart(started_at) < ground::PATIENCE, "{first:?}");
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

fn hex_of(secret: &[u8]) -> String {
    Digest::of(secret).to_string().trim_start_matches("sha256:").to_owned()
}

#[tokio::test]
async fn after_a_boot_the_same_container_starts_on_files_written_anew() {
    on_ground(|ground| async move {
        let spec = ground.bot("label = kept");
        let host = ground.host().await;
        deploy(&host, &spec).await;
        let before = until(&host, "it runs", |container| container.running_since().is_some()).await;
        host.execute(&stop(&before)).await.unwrap();
        drop(host);
        // A boot takes the tmpfs, and all else that lives under /run.
        let run_dir = ground.dir.path().join("run");
        nix::mount::umount(&run_dir.join("files")).unwrap();
        fs::remove_dir_all(&run_dir).unwrap();

        let host = ground.host().await;
        let found = host.observe(&BTreeSet::new()).await.unwrap();
        assert!(found.files.is_empty() && found.volumes.contains_key(&spec.deployment), "{found:#?}");
        host.execute(&Action::WriteFiles { spec: Box::new(spec.clone()) }).await.unwrap();
        let start = Action::StartContainer { deployment: spec.deployment, container: Some(before.id.clone()) };
        host.execute(&start).await.unwrap();
        let after = until(&host, "it runs", |container| container.running_since().is_some()).await;
        assert_eq!((&after.id, after.address), (&before.id, before.address));
        answers(&host, after.address.unwrap(), &probe("/startupz")).await;
        let kept = HttpProbe { body_contains: Some("\"label\":\"kept\"".to_owned()), ..probe("/") };
        host.probe(after.address.unwrap(), PORT, &kept).await.unwrap();
    })
    .await;
}
