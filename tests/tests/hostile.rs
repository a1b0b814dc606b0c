//! The hostile bot where nothing holds it: every attack gets through and every stand-in records it, so that a
//! wall which is missing cannot pass unseen. The same attacks against all the walls are the contract's
//! (`contract.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use launchpad_hostile::{Bounds, Orders, Outcome, Report, Room};
use launchpad_tests::hostile::{Hostile, tries};
use launchpad_tests::lab::Lab;
use launchpad_tests::netns::FABRIC_ADDRESS;
use launchpad_tests::stand_in::cast::{self, Cast, GATEWAY_PORT, INSIDE_PORT, UPSTREAM};
use launchpad_tests::stand_in::record::By;
use launchpad_tests::stand_in::{Port, Sockets};
use launchpad_tests::wait::wait_until;

const SOON: Duration = Duration::from_secs(20);
/// Where the bot listens, unless it is told otherwise.
const DOOR_PORT: u16 = 8080;

/// What a container gets in which nothing should hold.
const CAPABILITIES: [&str; 6] = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYSLOG", "SYS_NICE"];
/// The attacks that then get through on every kernel that we know.
const OPEN_TO_ROOT: &str = "
    other-tenants cgroups secrets-on-show core-dump
    become-root setuid-exec chroot mknod open-by-handle raise-limits
    mount unshare clone clone3 setns ptrace
    keyctl bpf io-uring perf userfaultfd
    host-name kernel-log fanotify raw-sockets packet-sockets change-network
    write-root write-given links-out mount-flags
    fork-bomb thread-bomb file-bomb cpu-bomb memory-bomb tmpfs-bomb disk-bomb";

/// Starts the hostile image with these orders and these arguments of `docker run`.
fn start(lab: &mut Lab, orders: &Orders, arguments: &[&str]) -> Result<()> {
    let (config, image) = (lab.dir().join("config"), lab.image("hostile")?);
    fs::create_dir_all(&config)?;
    fs::write(config.join("hostile.json"), serde_json::to_string(orders)?)?;
    let mount = format!("{}:/etc/launchpad/config", config.display());
    let engine = &lab.host(0)?.engine;
    engine.docker(&["pull", "--quiet", &image])?;
    engine.docker(&[&["run", "--detach", "--volume", &mount], arguments, &[&image]].concat())?;
    Ok(())
}

fn wait_ready(lab: &mut Lab, address: &str) -> Result<()> {
    let host = lab.host(0)?;
    wait_until("the bot to answer", SOON, || {
        Ok(host.bot(address).get("/readyz").is_ok_and(|answer| answer.status == 200))
    })
}

/// The names of the attacks whose worst outcome was this.
fn named(reports: &[Report], outcome: Outcome) -> BTreeSet<&str> {
    reports.iter().filter(|report| report.outcome == outcome).map(|report| report.attack.name.as_str()).collect()
}

#[test]
fn without_walls_every_visit_arrives_and_is_recorded() -> Result<()> {
    let mut lab = Lab::enter(&["hostile"])?;
    let world = lab.world()?;
    let mut cast = Cast::on(&world)?;
    world.stand_in("coordinator", FABRIC_ADDRESS, &[Port::Tcp(7700), Port::Tcp(7702)])?;
    let host = lab.add_host()?;
    host.net.add_ipv6()?;
    let (address, gateway) = (host.net.address(), host.net.gateway());
    let ports = [Port::Tcp(INSIDE_PORT), Port::Udp(INSIDE_PORT)];
    world.listen("host", host.net.inside(|| Sockets::open(address.parse()?, &ports))?)?;
    world.stand_in("gateway", &gateway, &[Port::Tcp(GATEWAY_PORT)])?;
    // As Docker has it in containers.
    host.net.inside(|| Ok(fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?))?;
    cast.visit_inside("host", address.parse()?, &[]);
    let visits = cast.visits().into_iter().chain(Cast::controls()).collect();
    // The host's own network: no bridge, no border, IPv6 as well.
    let orders = Orders { visits, ..Orders::default() };
    start(&mut lab, &orders, &["--network", "host", "--dns", UPSTREAM])?;
    let door = format!("{address}:{DOOR_PORT}");
    wait_ready(&mut lab, &door)?;
    let reports = Hostile::new(lab.host(0)?.bot(&door)).attack_all(&[Room::Network])?;

    assert_eq!(tries(&reports, Outcome::Untried), Vec::<String>::new());
    // No server waits for UDP-Lite, and Linux routes nothing under an address that is not the sender's.
    let unanswered = ["spoof-neighbour", "spoof-public", "udp-lite"];
    assert_eq!(named(&reports, Outcome::Refused), unanswered.into(), "{:#?}", tries(&reports, Outcome::Refused));

    let arrived: BTreeSet<String> = world.record().arrivals().into_iter().map(|arrival| arrival.stand_in).collect();
    let waiting: BTreeSet<String> =
        cast::names().chain(["coordinator", "gateway", "host", "upstream"]).map(str::to_owned).collect();
    assert_eq!(arrived, waiting, "every stand-in was visited");
    let asked = |domain| world.record().asked_below(domain);
    assert!(
        asked("leak.test").iter().all(|arrival| arrival.stand_in == "other-dns") && asked("leak.test").len() == 2
    );
    assert_eq!(asked("direct.test").len(), 2);
    assert!(asked(cast::TUNNEL_DOMAIN).len() >= 7, "each kind of question");
    assert!(
        asked("evil.test").iter().any(|arrival| matches!(&arrival.by, By::Question { kind, .. } if kind == "NULL"))
    );

    // What no server could have seen.
    let flows: BTreeSet<_> = world.wire().flows()?.into_iter().map(|flow| (flow.protocol, flow.port)).collect();
    for (protocol, port) in [("udplite", Some(443)), ("icmp", None), ("ipv6-icmp", None), ("udp", Some(123))] {
        assert!(flows.contains(&(protocol.to_owned(), port)), "{protocol}: {flows:?}");
    }
    world.forget()?;
    assert!(world.record().arrivals().is_empty() && world.wire().flows()?.is_empty());
    drop(world);
    lab.close()
}

#[test]
fn without_walls_the_kernel_the_files_and_the_neighbours_are_open() -> Result<()> {
    let mut lab = Lab::enter(&["hostile"])?;
    let (secrets, neighbour) = (lab.dir().join("secrets"), lab.dir().join("neighbour"));
    for (folder, text) in [(&secrets, "a secret of its own"), (&neighbour, "red's own words")] {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("token"), text)?;
    }
    lab.add_host()?;
    lab.host(0)?.engine.docker(&["network", "create", "--subnet", "172.30.1.0/24", "tenant"])?;
    let tmpfs_mb = [("/tmp".to_owned(), 1)].into();
    let bounds =
        Bounds { volume_mb: 1, memory_mb: 1, pids: 8, open_files: 64, cpu_millis: 50, tmpfs_mb, ..Bounds::default() };
    let mut orders = Orders { bounds, ..Orders::default() };
    orders.hunt("red's own words");
    let mounts = [format!("{}:/run/launchpad/secrets", secrets.display()), format!("{}:/mnt", neighbour.display())];
    let network = ["--network", "tenant", "--ip", "172.30.1.2", "--user", "0", "--env", "TOKEN=a secret of its own"];
    let open =
        ["--security-opt", "seccomp=unconfined", "--cgroupns", "host", "--ulimit", "core=-1", "--volume", "/state"];
    let volumes = ["--volume", &mounts[0], "--volume", &mounts[1]];
    let capabilities = CAPABILITIES.map(|name| format!("--cap-add={name}"));
    let capabilities: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    start(&mut lab, &orders, &[&network[..], &open, &volumes, &capabilities].concat())?;
    let door = format!("172.30.1.2:{DOOR_PORT}");
    wait_ready(&mut lab, &door)?;
    let hostile = Hostile::new(lab.host(0)?.bot(&door));
    let reports = hostile.attack_all(&[Room::Looks, Room::Kernel, Room::Files, Room::Bombs])?;

    assert_eq!(tries(&reports, Outcome::Untried), Vec::<String>::new());
    let reached = named(&reports, Outcome::Reached);
    let missing: Vec<_> = OPEN_TO_ROOT.split_whitespace().filter(|name| !reached.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} did not get through: {:#?}", tries(&reports, Outcome::Refused));
    // Its bombs were processes of their own, and are over.
    assert_eq!(hostile.attack("other-processes")?.outcome, Outcome::Refused);
    lab.close()
}
