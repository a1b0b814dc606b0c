//! Whether the engine would see what the agent mounts: told from the two mount tables.

use std::fs;

use launchpad_agent::doctor::{Whereabouts, examine};
use launchpad_agent::execute::volume::reach;
use launchpad_protocol::capability::VOLUME_QUOTA;
use launchpad_protocol::report::Capability;
use nix::mount::{MsFlags, mount};

use crate::ground::{Alive, Ground, run};

#[tokio::test]
async fn an_engine_in_a_namespace_that_hears_nothing_of_us_is_found_and_the_mend_names_the_unit() {
    let ground = Ground::alone();
    let data = ground.path("data");
    fs::create_dir(&data).unwrap();
    let apart = Alive::apart("private", "");
    let reason = reach::reaches_process(&data, apart.id()).unwrap_err();
    assert_eq!(reason.code, "mounts-out-of-sight");
    assert!(reason.mend.as_ref().unwrap().contains("PrivateTmp="), "{reason}");
    assert!(reason.cause.as_ref().unwrap().contains(&apart.id().to_string()), "{reason}");
    let beside = Alive::ready(std::process::Command::new("sh").args(["-c", "echo ready; exec sleep 600"]));
    reach::reaches_process(&data, beside.id()).unwrap();
}

#[tokio::test]
async fn an_engine_in_another_namespace_that_is_told_of_our_mounts_is_fine() {
    let ground = Ground::alone();
    let data = ground.path("data");
    fs::create_dir(&data).unwrap();
    run("mount", ["-t", "tmpfs", "shared", &data.display().to_string()]);
    mount(None::<&str>, &data, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for propagation in ["slave", "shared", "unchanged"] {
        let engine = Alive::apart(propagation, "");
        reach::reaches_process(&data, engine.id()).unwrap();
        // And so it is.
        let point = data.join(propagation);
        fs::create_dir(&point).unwrap();
        run("mount", ["-t", "tmpfs", "seen", &point.display().to_string()]);
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", engine.id())).unwrap();
        assert!(table.contains(&format!("{} rw", point.display())), "{table}");
        run("umount", [&point]);
    }
    let deaf = Alive::apart("private", "");
    assert!(reach::reaches_process(&data, deaf.id()).is_err());
}

#[tokio::test]
async fn whoever_listens_on_the_engines_socket_is_the_engine() {
    let ground = Ground::alone();
    let (data, socket) = (ground.path("data"), ground.path("docker.sock"));
    fs::create_dir(&data).unwrap();
    // Nobody listens: the first process counts, and where it may not be looked at, nothing is said.
    reach::reaches(&data, &socket).await.unwrap();
    let listens = format!(
        "$s = IO::Socket::UNIX->new(Local => '{}', Listen => 1) or die; $| = 1; print \"ready\\n\"; \
         close $_ while $_ = $s->accept",
        socket.display()
    );
    let mut command = std::process::Command::new("unshare");
    let engine = Alive::ready(command.args(["--mount", "perl", "-MIO::Socket::UNIX", "-e", &listens]));
    let reason = reach::reaches(&data, &socket).await.unwrap_err();
    assert!(reason.cause.as_ref().unwrap().contains(&engine.id().to_string()), "{reason}");
    // And `doctor` says so before a bot is refused for it.
    let found = examine(&Whereabouts { docker: socket, data_dir: data, gate: None }).await;
    let told = &found.capabilities[VOLUME_QUOTA];
    assert!(matches!(told, Capability::Absent { reason: same } if *same == reason), "{told:?}");
}
