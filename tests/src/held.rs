//! What the enforcement report says of a bot is what the kernel, nftables, the mount table and Docker say, read by other
//! means than the agent's.
//!
//! Called by the scenario of that name inside a laboratory's host, and by [`crate::guest`] inside a whole one: [`check`] reads
//! what is around it, so it has to run where the bot runs. What a host may lack follows from the capabilities that it tells.

mod group;
mod walls;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use launchpad_protocol::capability::{APPARMOR, CGROUP_V2, USERNS_REMAP};
use launchpad_protocol::enforcement::Item;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::group::Group;
use self::walls::Walls;
use crate::process::run;
use crate::{kernel, netns};

/// What a host may lack, by the capability that it then reports as absent.
const LACKED: [(Item, &str); 4] = [
    (Item::UserNamespace, USERNS_REMAP),
    (Item::Apparmor, APPARMOR),
    (Item::MemoryHigh, CGROUP_V2),
    (Item::Io, CGROUP_V2),
];

/// Where the bot may go: a range that is for documentation (RFC 5737), so that nothing answers there.
const RANGE: &str = "203.0.113.0/24";
const RANGE_PORT: u16 = 8443;

/// What cgroup v2 weighs a whole core.
const WEIGHT_OF_A_CORE: u64 = 100;

/// The rule of egress that the bot has to have.
pub fn egress() -> String {
    format!("{RANGE}:{RANGE_PORT}")
}

/// A running bot as it was told of, for whoever looks at it where it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scene {
    /// The deployment as the API shows it, with every promise judged.
    pub deployment: Value,
    /// What its host says that it can enforce.
    pub capabilities: Value,
    /// What `docker inspect` says of its container.
    pub docker: Value,
    /// What its plan grants.
    pub memory_bytes: u64,
    /// Likewise, in thousandths of a core.
    pub cpu_millis: u64,
}

/// Whether the API's deployment tells how each promise is kept.
pub fn is_judged(deployment: &Value) -> bool {
    deployment["instance"]["enforcement"].as_object().is_some_and(|items| items.len() == Item::ALL.len())
}

/// The codes of what a whole host keeps every promise without: none may be in the way.
///
/// # Errors
/// When an item is not enforced.
pub fn all_enforced(deployment: &Value) -> Result<()> {
    ensure!(is_judged(deployment), "not every promise is judged: {deployment}");
    let items = deployment["instance"]["enforcement"].as_object().into_iter().flatten();
    let others: Vec<String> =
        items.filter(|(_, one)| one["verdict"] != "enforced").map(|(name, one)| format!("{name}: {one}")).collect();
    ensure!(others.is_empty(), "not enforced: {}", others.join("; "));
    Ok(())
}

impl Scene {
    fn told(&self, item: Item) -> &Value {
        &self.deployment["instance"]["enforcement"][item.as_str()]
    }

    fn seen(&self, item: Item) -> Result<&str> {
        self.told(item)["seen"].as_str().with_context(|| format!("{item} was not looked at: {}", self.told(item)))
    }

    /// Its first process.
    fn pid(&self) -> Result<u64> {
        self.docker["State"]["Pid"].as_u64().context("the container has no pid")
    }

    /// That the report of an item holds that text, which was read by other means.
    fn holds(&self, item: Item, text: &str) -> Result<()> {
        let seen = self.seen(item)?;
        ensure!(seen.contains(text), "{item}: the report says `{seen}`, the host says `{text}`");
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid()?);
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }

    fn status(&self, field: &str) -> Result<String> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        Ok(line.with_context(|| format!("no {field}"))?.trim().to_owned())
    }

    /// The code of the reason for which its host cannot do that; none: it can.
    fn absent(&self, capability: &str) -> Option<&str> {
        self.capabilities[capability]["reason"]["code"].as_str()
    }

    /// What is mounted at a place in the bot's own table.
    fn mount(&self, place: &str) -> Result<Mount> {
        let table = self.proc("mountinfo")?;
        let line = table.lines().rev().find(|line| line.split(' ').nth(4) == Some(place));
        let line = line.with_context(|| format!("nothing is mounted at {place}:\n{table}"))?;
        Mount::read(line).with_context(|| format!("a line of another form: {line}"))
    }
}

/// A line of a mount table.
struct Mount {
    filesystem: String,
    flags: BTreeSet<String>,
    /// Those of the filesystem itself.
    options: BTreeSet<String>,
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut of_filesystem = filesystem.split(' ');
        Some(Self {
            flags: words(mount.split(' ').nth(5)?),
            filesystem: of_filesystem.next()?.to_owned(),
            options: words(of_filesystem.nth(1)?),
        })
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// Bytes that a tmpfs holds: the kernel tells them in KiB.
    fn bytes(&self) -> Option<u64> {
        let size = self.options.iter().find_map(|option| option.strip_prefix("size=")?.strip_suffix('k'))?;
        Some(size.parse::<u64>().ok()? << 10)
    }

    /// As the report tells it.
    fn shown(&self) -> String {
        let access = if self.has("ro") || self.options.contains("ro") { "ro" } else { "rw" };
        let flags = ["nosuid", "nodev", "noexec"].into_iter().filter(|flag| self.has(flag));
        let flags: String = flags.map(|flag| format!(",{flag}")).collect();
        let size = self.bytes().map(|bytes| format!(",size={bytes}")).unwrap_or_default();
        format!("{} {access}{flags}{size}", self.filesystem)
    }
}

/// Compares what is told of the bot with what this host shows of it.
///
/// # Errors
/// At the first thing that is not as it was told.
///
/// # Panics
/// Likewise, where two values are compared.
pub fn check(scene: &Scene) -> Result<()> {
    verdicts(scene)?;
    process(scene)?;
    cgroup(scene)?;
    mounts(scene)?;
    volume(scene)?;
    log(scene)?;
    rules(scene)
}

/// What this host can hold is held, and what it cannot is told with the reason that the host gives; nothing is failed.
fn verdicts(scene: &Scene) -> Result<()> {
    let group = Group::of(scene.pid()?)?;
    for item in Item::ALL {
        let told = scene.told(*item);
        let lacked = LACKED.iter().find(|(lacked, _)| lacked == item).and_then(|(_, by)| scene.absent(by));
        let excuse = if *item == Item::Swap && group.swap_bytes()?.is_none() {
            Some("no-swap-limit")
        } else if *item == Item::Io && lacked.is_none() && !is_disk_limited(&group)? {
            // A kernel without the controller, or a data directory on no single disk.
            Some("no-disk-limit")
        } else {
            lacked
        };
        let wanted = if excuse.is_some() { "degraded" } else { "enforced" };
        assert_eq!(
            (told["verdict"].as_str(), told["reason"]["code"].as_str()),
            (Some(wanted), excuse),
            "{item}: {told}"
        );
    }
    Ok(())
}

/// Whether the kernel limits what the bot's tenant asks of any disk.
fn is_disk_limited(group: &Group) -> Result<bool> {
    Ok(group.above().v2("io.max")?.is_some_and(|limits| !limits.is_empty()))
}

fn process(scene: &Scene) -> Result<()> {
    let uid = scene.status("Uid")?;
    scene.holds(Item::User, uid.split_whitespace().next().context("a user")?)?;
    assert_eq!(scene.docker["Config"]["User"], "1000:1000");
    let maps = scene.proc("uid_map")?;
    let maps: Vec<String> = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    scene.holds(Item::UserNamespace, &format!("uid_map {}", maps.join(", ")))?;
    if scene.absent(APPARMOR).is_none() {
        scene.holds(Item::Apparmor, scene.proc("attr/current")?.trim())?;
    }
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(scene.status(set)?, "0000000000000000", "{set}");
    }
    scene.holds(Item::Capabilities, "CapBnd 0000000000000000, CapEff 0000000000000000")?;
    assert_eq!((scene.status("NoNewPrivs")?.as_str(), scene.status("Seccomp")?.as_str()), ("1", "2"));
    scene.holds(Item::NoNewPrivileges, "NoNewPrivs 1")?;
    scene.holds(Item::Seccomp, &format!("mode 2, {} filters, our profile", scene.status("Seccomp_filters")?))?;
    let options = scene.docker["HostConfig"]["SecurityOpt"].to_string();
    assert!(options.contains("no-new-privileges") && options.contains("SCMP_ACT_ERRNO"), "{options}");
    assert_eq!(scene.docker["HostConfig"]["CapDrop"], json!(["ALL"]));
    let limits = scene.proc("limits")?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit of files")?;
    scene.holds(Item::OpenFiles, files.split_whitespace().next().context("a number")?)?;
    scene.holds(Item::ProcessEnvironment, "no secret")
}

fn cgroup(scene: &Scene) -> Result<()> {
    let (limits, group) = (kernel::limits(scene.pid()?)?, Group::of(scene.pid()?)?);
    let tenants = group.above();
    assert_eq!((limits.memory_bytes, limits.cpu_millis), (Some(scene.memory_bytes), Some(scene.cpu_millis)));
    scene.holds(Item::Memory, &format!("{} bytes", scene.memory_bytes))?;
    scene.holds(Item::Cpu, &format!("{} thousandths of a core", scene.cpu_millis))?;
    scene.holds(Item::Pids, &format!("pids.max {}", limits.pids.context("a limit of processes")?))?;
    let weight = scene.cpu_millis * WEIGHT_OF_A_CORE / 1000;
    assert_eq!(tenants.cpu_weight()?, weight);
    scene.holds(Item::CpuWeight, &format!("cpu.weight {weight}"))?;
    match group.swap_bytes()? {
        Some(swap) => {
            assert_eq!(swap, 0, "no swap on top");
            scene.holds(Item::Swap, "0 bytes")?;
        }
        None => scene.holds(Item::Swap, "not there")?,
    }
    match group.v2("memory.high")? {
        Some(own) => {
            let all = tenants.v2("memory.high")?.context("a tenant's memory.high")?;
            scene.holds(Item::MemoryHigh, &format!("{own} bytes, its tenant {all} bytes"))?;
        }
        None => scene.holds(Item::MemoryHigh, "not there")?,
    }
    match tenants.v2("io.max")?.as_deref().and_then(|limits| limits.lines().next()?.split_once(' ')) {
        Some((_, share)) => scene.holds(Item::Io, share)?,
        None => scene
            .holds(Item::Io, if tenants.v2("cgroup.controllers")?.is_some() { "no io.max" } else { "not there" })?,
    }
    let asked = &scene.docker["HostConfig"];
    assert_eq!((&asked["Memory"], &asked["PidsLimit"]), (&json!(scene.memory_bytes), &json!(limits.pids)));
    Ok(())
}

fn mounts(scene: &Scene) -> Result<()> {
    assert!(scene.mount("/")?.has("ro"));
    for place in ["/state", "/tmp", "/dev/shm"] {
        let mount = scene.mount(place)?;
        assert!(mount.has("nosuid") && mount.has("nodev"), "{place}: {}", mount.shown());
    }
    assert!(scene.mount("/run/launchpad/secrets")?.has("ro"));
    scene.holds(Item::RootFilesystem, &scene.mount("/")?.shown())?;
    scene.holds(Item::VolumeMount, &scene.mount("/state")?.shown())?;
    let secrets = scene.mount("/run/launchpad/secrets")?.shown();
    scene.holds(Item::Files, &format!("/run/launchpad/secrets {secrets}"))?;

    let shm = scene.mount("/dev/shm")?;
    assert_eq!(shm.bytes(), scene.docker["HostConfig"]["ShmSize"].as_u64(), "what Docker was asked for");
    assert_eq!(scene.seen(Item::SharedMemory)?, shm.shown());
    let asked = scene.docker["HostConfig"]["Tmpfs"].as_object().context("tmpfs mounts")?;
    assert!(asked.contains_key("/tmp"), "{asked:?}");
    for (place, options) in asked {
        let mount = scene.mount(place)?;
        let bytes = mount.bytes().context("a bound")?;
        let options = options.as_str().context("options")?;
        assert!(
            options.split(',').any(|option| option == format!("size={bytes}")),
            "{place}: {bytes}, asked {options}"
        );
        scene.holds(Item::Tmpfs, &format!("{place} {}", mount.shown()))?;
    }
    assert_eq!(scene.seen(Item::Tmpfs)?.split("; ").count(), asked.len());
    Ok(())
}

fn volume(scene: &Scene) -> Result<()> {
    let volume = &scene.deployment["instance"]["volume"];
    let backend = volume["backend"].as_str().context("a backend")?;
    scene.holds(Item::VolumeQuota, backend)?;
    // The filesystem is never larger than what the plan grants; its own books take the rest.
    let granted = volume["bytes"].as_u64().context("a size")?;
    let root = format!("/proc/{}/root/state", scene.pid()?);
    let size = run(Command::new("stat").args(["-f", "-c", "%b %S", &root]))?;
    let numbers: Vec<u64> = size.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [blocks, block_bytes] = numbers[..] else { bail!("stat said {size}") };
    assert!(blocks * block_bytes <= granted, "{size} against {granted}");
    Ok(())
}

/// The engine rotates the log, and says by what it does.
fn log(scene: &Scene) -> Result<()> {
    let config = &scene.docker["HostConfig"]["LogConfig"]["Config"];
    let number =
        |name: &str| config[name].as_str().and_then(|text| text.parse::<u64>().ok()).context(name.to_owned());
    let (bytes, files) = (number("max-size")?, number("max-file")?);
    assert_eq!(scene.seen(Item::Log)?, format!("{} bytes in {files} files", bytes * files));
    Ok(())
}

/// Every wall of the bot's tenant stands, with the bot's own address in it; so do the routes behind them.
fn rules(scene: &Scene) -> Result<()> {
    let address = scene.deployment["instance"]["address"].as_str().context("an address")?.to_owned();
    let inside = File::open(format!("/proc/{}/ns/net", scene.pid()?))?;
    let own = netns::inside(inside, || {
        run(Command::new("ip").args(["-4", "-oneline", "address", "show", "scope", "global"]))
    })?;
    assert!(own.contains(&format!(" {address}/")), "{address} against {own}");
    assert_eq!(scene.seen(Item::Network)?, address);

    let walls = Walls::around(&address)?;
    let bridge = &walls.bridge;
    let has = |rules: &[String], rule: String| assert!(rules.contains(&rule), "no `{rule}` in {rules:#?}");
    // Every packet of the bridge meets the tenant's chain, in which only the bot's own address counts.
    has(&walls.outbound, "type filter hook prerouting priority mangle; policy accept;".to_owned());
    has(&walls.outbound, "iifname vmap @tenants".to_owned());
    assert_eq!(walls.tenants, [format!("\"{bridge}\" : jump from_{bridge}")]);
    has(&walls.from, format!("ip saddr != @bots_{bridge} drop"));
    assert_eq!(walls.bots, [address.as_str()]);
    // The one range of its policy, under a number that stands, is all that it reaches.
    let (reached, number) = walls.nets.first().and_then(|net| net.split_once(" : ")).context("a range")?;
    assert_eq!((reached, walls.nets.len()), (format!("{address} . {RANGE} . {RANGE_PORT}").as_str(), 1));
    assert_eq!(walls.open, [number]);
    let way = format!("ct mark set ip saddr . ip daddr . tcp dport map @nets_{bridge} ");
    assert!(walls.from.iter().any(|rule| rule.starts_with(&way)), "no `{way}` in {:#?}", walls.from);
    assert_eq!(walls.from.last(), Some(&format!("goto refused_{bridge}")));
    // It leaves under the host's address.
    has(&walls.leaving, "ip saddr @subnets oifname != @bridges masquerade".to_owned());
    assert_eq!((&walls.subnets, &walls.bridges), (&vec![walls.subnet.clone()], &vec![format!("\"{bridge}\"")]));
    // What no rule has marked finds no route.
    let pass = format!("1900: from all fwmark 0x4c000000/0xff000000 iif {bridge} lookup main");
    assert_eq!(walls.routes, [pass, format!("1901: from all iif {bridge} blackhole")]);

    let said = format!("{} rules in chain from_{bridge}, 0 addresses of names open", walls.nets.len());
    assert_eq!(scene.seen(Item::Egress)?, said);
    Ok(())
}
