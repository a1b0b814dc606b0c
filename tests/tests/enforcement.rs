//! What the enforcement report says of a bot is what the kernel, nftables, the mount table and Docker say, read here by
//! other means than the agent's.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use launchpad_protocol::enforcement::Item;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::kernel;
use launchpad_tests::lab::Lab;
use launchpad_tests::process::run;
use serde_json::{Value, json};

/// What this kernel cannot hold: hybrid cgroups, no AppArmor, and an engine that maps no ids.
const DEGRADED_HERE: [Item; 4] = [Item::UserNamespace, Item::Apparmor, Item::MemoryHigh, Item::Io];

/// A running bot, its enforcement, its process, and what Docker says of it.
struct Scene {
    lab: Lab,
    deployment: Deployment,
    told: Value,
    pid: u64,
    docker: Value,
}

impl Scene {
    fn open() -> Result<Self> {
        let mut lab = Lab::with_hosts(1)?;
        let deployment = Deployment::running(&lab, "held")?;
        let judged = deployment.wait("its walls to be judged", |now| {
            now["instance"]["enforcement"].as_object().is_some_and(|items| items.len() == Item::ALL.len())
        })?;
        let host = lab.host(0)?;
        let identity = deployment.identity(&host.engine)?;
        let docker = host.engine.inspect(&identity.container)?;
        let told = judged["instance"]["enforcement"].clone();
        Ok(Self { lab, deployment, told, pid: identity.pid, docker })
    }

    fn seen(&self, item: Item) -> Result<&str> {
        self.told[item.as_str()]["seen"].as_str().with_context(|| format!("{item} was not looked at: {}", self.told))
    }

    /// That the report of an item holds that text, which was read by other means.
    fn holds(&self, item: Item, text: &str) -> Result<()> {
        let seen = self.seen(item)?;
        ensure!(seen.contains(text), "{item}: the report says `{seen}`, the host says `{text}`");
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }

    fn status(&self, field: &str) -> Result<String> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        Ok(line.with_context(|| format!("no {field}"))?.trim().to_owned())
    }

    /// The options of the mount at a place in the bot's own table.
    fn mount(&self, place: &str) -> Result<String> {
        let table = self.proc("mountinfo")?;
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(place));
        Ok(line.with_context(|| format!("nothing is mounted at {place}:\n{table}"))?.to_owned())
    }
}

#[test]
fn the_report_says_what_the_kernel_the_mount_table_nftables_and_docker_say() -> Result<()> {
    let mut scene = Scene::open()?;
    verdicts(&scene)?;
    process(&scene)?;
    cgroup(&scene)?;
    mounts(&scene)?;
    rules(&mut scene)?;
    scene.lab.close()
}

/// What this machine can hold is held, and what it cannot is told with its reason; nothing is failed.
fn verdicts(scene: &Scene) -> Result<()> {
    let degraded: BTreeSet<Item> = DEGRADED_HERE.into();
    for item in Item::ALL {
        let told = &scene.told[item.as_str()];
        let wanted = if degraded.contains(item) { "degraded" } else { "enforced" };
        assert_eq!(told["verdict"], wanted, "{item}: {told}");
        assert_eq!(told["reason"].is_object(), wanted == "degraded", "{item}: {told}");
    }
    Ok(())
}

fn process(scene: &Scene) -> Result<()> {
    let uid = scene.status("Uid")?;
    scene.holds(Item::User, uid.split_whitespace().next().context("a user")?)?;
    assert_eq!(scene.docker["Config"]["User"], "1000:1000");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(scene.status(set)?, "0000000000000000", "{set}");
    }
    assert_eq!((scene.status("NoNewPrivs")?.as_str(), scene.status("Seccomp")?.as_str()), ("1", "2"));
    let options = scene.docker["HostConfig"]["SecurityOpt"].to_string();
    assert!(options.contains("no-new-privileges") && options.contains("SCMP_ACT_ERRNO"), "{options}");
    assert_eq!(scene.docker["HostConfig"]["CapDrop"], json!(["ALL"]));
    let limits = scene.proc("limits")?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit of files")?;
    scene.holds(Item::OpenFiles, files.split_whitespace().next().context("a number")?)?;
    scene.holds(Item::ProcessEnvironment, "no secret")
}

fn cgroup(scene: &Scene) -> Result<()> {
    let limits = kernel::limits(scene.pid)?;
    scene.holds(Item::Memory, &limits.memory_bytes.context("a limit of memory")?.to_string())?;
    scene.holds(Item::Pids, &limits.pids.context("a limit of processes")?.to_string())?;
    assert_eq!(limits.cpu_millis, Some(500));
    assert_eq!(limits.memory_and_swap_bytes.unwrap_or(1 << 30), 1 << 30, "no swap on top");
    assert_eq!(scene.docker["HostConfig"]["Memory"], json!(1 << 30));
    Ok(())
}

fn mounts(scene: &Scene) -> Result<()> {
    let flags = |place: &str| -> Result<BTreeSet<String>> {
        let line = scene.mount(place)?;
        Ok(line.split(' ').nth(5).context("options")?.split(',').map(str::to_owned).collect())
    };
    assert!(flags("/")?.contains("ro"));
    for place in ["/state", "/tmp", "/dev/shm"] {
        let flags = flags(place)?;
        assert!(flags.contains("nosuid") && flags.contains("nodev"), "{place}: {flags:?}");
    }
    let secrets = flags("/run/launchpad/secrets")?;
    assert!(secrets.contains("ro"), "{secrets:?}");
    let volume = scene.deployment.get()?["instance"]["volume"].clone();
    let backend = volume["backend"].as_str().context("a backend")?;
    scene.holds(Item::VolumeQuota, backend)?;
    // The filesystem is never larger than what the plan grants; its own books take the rest.
    let granted = volume["bytes"].as_u64().context("a size")?;
    let root = format!("/proc/{}/root/state", scene.pid);
    let size = run(Command::new("stat").args(["-f", "-c", "%b %S", &root]))?;
    let numbers: Vec<u64> = size.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [blocks, block_bytes] = numbers[..] else { anyhow::bail!("stat said {size}") };
    assert!(blocks * block_bytes <= granted, "{size} against {granted}");
    Ok(())
}

/// The rules of the bot's tenant are in the ruleset, with the bot's own address; the routes behind them as well.
fn rules(scene: &mut Scene) -> Result<()> {
    let shown = scene.deployment.get()?;
    let address = shown["instance"]["address"].as_str().context("an address")?.to_owned();
    let (ruleset, routes) = scene.lab.host(0)?.net.inside(|| {
        let ruleset = run(Command::new("nft").args(["list", "table", "inet", "launchpad"]))?;
        Ok((ruleset, run(Command::new("ip").args(["rule", "show"]))?))
    })?;
    assert!(ruleset.contains(&address), "{address} is in no rule:\n{ruleset}");
    assert!(ruleset.contains("hook prerouting") && ruleset.contains("hook forward"), "{ruleset}");
    assert!(routes.contains("blackhole"), "nothing stops what carries no mark:\n{routes}");
    for item in [Item::Network, Item::Egress, Item::Ingress] {
        assert_eq!(scene.told[item.as_str()]["verdict"], "enforced", "{item}: {}", scene.told);
    }
    Ok(())
}
