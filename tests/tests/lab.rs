//! The laboratory alone, without any of our programs: engines, registry, links, Postgres, the echo bot, and that
//! nothing stays behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::engine::Engine;
use launchpad_tests::lab::Lab;
use launchpad_tests::postgres::Postgres;
use launchpad_tests::process::run;
use launchpad_tests::wait::wait_until;
use launchpad_tests::{kernel, sweep};

const SOON: Duration = Duration::from_secs(20);

/// Starts an echo container as an agent would, on a network of the test's own.
fn start_echo(engine: &Engine, image: &str) -> Result<String> {
    engine.docker(&["pull", "--quiet", image])?;
    engine.docker(&["network", "create", "--subnet", "172.30.1.0/24", "tenant"])?;
    let limits = ["--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "40"];
    let place = ["run", "--detach", "--network", "tenant", "--ip", "172.30.1.2", "--read-only", "--cap-drop", "ALL"];
    engine.docker(&[&place[..], &limits[..], &[image]].concat())
}

#[test]
fn a_bot_runs_under_kernel_limits_and_outlives_a_killed_dockerd() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    let image = lab.image("echo")?;
    let host = lab.add_host()?;
    let container = start_echo(&host.engine, &image)?;
    wait_until("the bot to answer", SOON, || {
        Ok(host.bot("172.30.1.2:8080").get("/readyz").is_ok_and(|answer| answer.status == 200))
    })?;

    let state = host.engine.inspect(&container)?["State"].clone();
    let limits = kernel::limits(state["Pid"].as_u64().context("a running container has a pid")?)?;
    assert_eq!((limits.memory_bytes, limits.cpu_millis, limits.pids), (Some(64 << 20), Some(500), Some(40)));
    let told = host.bot("172.30.1.2:8080").get("/whoami")?.body;
    assert_eq!((&told["uid"], &told["writable"]["root"]), (&"1000".into(), &false.into()), "{told}");

    host.engine.kill_dockerd()?;
    host.engine.restart_dockerd()?;
    let after = host.engine.inspect(&container)?["State"].clone();
    assert_eq!((&after["Pid"], &after["StartedAt"]), (&state["Pid"], &state["StartedAt"]));
    lab.close()
}

#[test]
fn two_hosts_have_their_own_engines_and_a_cut_link_cuts_one_off() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.add_host()?;
    lab.add_host()?;
    let reaches = |lab: &mut Lab, index: usize| {
        let host = lab.host(index)?;
        let registry = launchpad_tests::lab::registry_address().parse()?;
        host.net.inside(|| Ok(std::net::TcpStream::connect_timeout(&registry, Duration::from_millis(500)).is_ok()))
    };
    assert!(reaches(&mut lab, 0)? && reaches(&mut lab, 1)?);
    lab.host(0)?.net.set_connected(false)?;
    assert!(!reaches(&mut lab, 0)? && reaches(&mut lab, 1)?);
    let (first, second) = (lab.host(0)?.engine.docker(&["info", "-f", "{{.ID}}"])?, {
        let engine = &lab.host(1)?.engine;
        engine.docker(&["info", "-f", "{{.ID}}"])?
    });
    assert_ne!(first, second);
    lab.close()
}

#[test]
fn a_private_postgres_answers_on_its_socket_and_comes_back_after_a_kill() -> Result<()> {
    let lab = Lab::enter(&[])?;
    let mut postgres = Postgres::start(&lab.dir().join("postgres"))?;
    let ask =
        |statement: &str| run(Command::new("psql").args(["--quiet", "-At", &postgres_url(&lab), "-c", statement]));
    ask("create table kept (n int)")?;
    ask("insert into kept values (7)")?;
    postgres.kill()?;
    postgres.restart()?;
    assert_eq!(ask("select n from kept")?.trim(), "7");
    drop(postgres);
    lab.close()
}

fn postgres_url(lab: &Lab) -> String {
    let socket = lab.dir().join("postgres").display().to_string().replace('/', "%2F");
    format!("postgres://launchpad@localhost/launchpad?host={socket}")
}

#[test]
fn a_closed_laboratory_leaves_no_process_namespace_mount_cgroup_or_file() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    let (dir, image) = (lab.dir().to_owned(), lab.image("echo")?);
    let host = lab.add_host()?;
    let namespace = host.net.path();
    let container = start_echo(&host.engine, &image)?;
    let groups = || {
        let named = ["/sys/fs/cgroup", "-maxdepth", "4", "-type", "d", "-name", &container];
        run(Command::new("find").args(named))
    };
    assert!(!groups()?.is_empty(), "a running container has cgroups");
    // Killed daemons cannot tidy up: closing has to find the container and its shim by itself.
    host.engine.kill_dockerd()?;
    let table = host.net.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/unix")?))?;
    let paths = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7));
    let sockets: BTreeSet<&str> = paths.filter(|path| path.starts_with("/run/containerd/s/")).collect();
    assert_eq!(sockets.len(), 1, "one container has one shim");
    assert!(!sweep::processes(&dir).is_empty());
    // The engine cannot be asked any more, and closing says so; what counts is that nothing stays.
    let _ = lab.close();
    assert_eq!(sweep::processes(&dir), Vec::<i32>::new());
    assert!(!dir.exists() && !namespace.exists());
    assert_eq!(groups()?, "");
    assert!(sockets.iter().all(|socket| !Path::new(socket).exists()), "{sockets:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!mounts.contains(&*dir.to_string_lossy()));
    Ok(())
}
