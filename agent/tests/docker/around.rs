//! What stands around a bot, broken behind our back: its volume, its files, its tenant's network, and the gate's rules.
//!
//! What the kernel no longer has of the gate's rules the gate puts back by itself, before anybody could look; that it
//! was away is told by the gate's own count. It is seen as it is where the gate cannot mend it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use launchpad_agent::execute::places::{Places, bridge_name};
use launchpad_protocol::enforcement::Item;
use launchpad_protocol::spec::{InstanceSpec, Power};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use crate::ground::{Ground, PATIENCE, not_here, on_ground};
use crate::keeper::Keeper;
use crate::outside::run;

/// Where the bot may go, for documentation (RFC 5737): nobody answers there.
const RANGE: &str = "203.0.113.0/24";
const RANGE_PORT: u16 = 8443;

/// What somebody leaves of a volume that was to hold 64 MiB: more than its filesystem needs for itself.
const SHRUNK_MIB: u64 = 48;

#[tokio::test]
async fn what_stands_around_a_bot_is_seen_and_put_right_without_a_restart() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let before = keeper.container().await;
        let deployment = keeper.bot().deployment;

        // Somebody may set programs' owners' rights free on the volume as the host has it.
        let volume = ground.dir.path().join(format!("data/volumes/{deployment}/mount"));
        mount(None::<&str>, &volume, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, None::<&str>).unwrap();
        assert!(keeper.broken().await.contains(&Item::VolumeMount), "it is seen");
        assert_eq!(keeper.settle().await, ["prepare_volume"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        // Its files go.
        let files = ground.dir.path().join(format!("run/files/{deployment}"));
        fs::remove_dir_all(&files).unwrap();
        assert!(keeper.broken().await.contains(&Item::Files), "it is seen");
        assert_eq!(keeper.settle().await, ["write_files"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        // The gate is told to let it nowhere, past the agent.
        let forget = launchpad_agent::gate::policy::Change::DropInstance { deployment };
        ground.gate.client().change(forget).await.unwrap();
        let broken = keeper.broken().await;
        assert!(broken.contains(&Item::Egress) && broken.contains(&Item::Ingress), "it is seen: {broken:?}");
        assert_eq!(keeper.settle().await, ["open_gate"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        assert_eq!(keeper.container().await.running_since(), before.running_since(), "it has run all the time");
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_somebody_made_smaller_is_seen_and_is_what_it_was_from_the_next_start_on() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::with_a_bot(&ground).await;
        let bot = keeper.bot().clone();
        let home =
            Places::under(&ground.dir.path().join("data"), &ground.dir.path().join("run")).volume(bot.deployment);
        if !home.image().exists() {
            return not_here(
                "a volume that is a file",
                "this host counts folders: agent/tests/volume/xfs.rs breaks those",
            );
        }
        let container = keeper.container().await.id;
        let size = |at: &Path| statvfs(at).map(|found| found.blocks() * found.fragment_size()).expect("a filesystem");
        let before = size(&home.mount());

        // As somebody does it who needs the room: without the bot, and all is put back as it was.
        let (engine, image, at) =
            (ground.engine(), home.image().display().to_string(), home.mount().display().to_string());
        engine.stop_container(&container, None).await.expect("stopped");
        run(&format!("umount {at}"));
        run(&format!("e2fsck -f -p {image}"));
        run(&format!("resize2fs {image} {SHRUNK_MIB}M"));
        run(&format!("mount -o loop,nosuid,nodev {image} {at}"));
        engine.start_container(&container, None).await.expect("started");
        assert!(size(&home.mount()) < bot.volume.as_ref().expect("it has one").bytes);

        assert_eq!(keeper.broken().await, BTreeSet::from([Item::VolumeQuota]), "it is seen");
        // Around a running bot it grows where the kernel lets us (agent/tests/volume/grow.rs), at the next start anywhere.
        keeper.switch(Power::Off);
        assert_eq!(keeper.settle().await, ["stop_container"]);
        keeper.switch(Power::On);
        assert_eq!(keeper.settle().await, ["prepare_volume", "start_container"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());
        assert_eq!(size(&home.mount()), before);
        assert_eq!(keeper.container().await.id, container, "the same one");
    })
    .await;
}

#[tokio::test]
async fn a_bridge_that_goes_is_seen_and_made_anew_before_the_bot_starts_again() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::of(&ground, &allowed(&ground)).await;
        let (account, before) = (keeper.bot().account, keeper.container().await);
        let right = rules(keeper.bot());
        let take_away = || run(&format!("ip link delete {}", bridge_name(account)));

        // Docker lets go of what is left of its network only when nothing on it runs any more.
        take_away();
        assert_eq!(keeper.broken().await, BTreeSet::from([Item::Network]), "under a bot that runs");
        keeper.switch(Power::Off);
        assert_eq!(keeper.settle().await, ["stop_container"]);
        keeper.switch(Power::On);
        assert_eq!(keeper.settle().await, ["ensure_network", "start_container"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        keeper.switch(Power::Off);
        keeper.settle().await;
        assert!(keeper.observe().await.networks.contains(&account));
        take_away();
        assert!(!keeper.observe().await.networks.contains(&account), "under one that stands still");
        keeper.switch(Power::On);
        assert_eq!(keeper.settle().await, ["ensure_network", "start_container"]);
        assert_eq!(keeper.broken().await, BTreeSet::new());

        let after = keeper.container().await;
        assert_eq!((after.id, after.address), (before.id, before.address), "the same bot, where it was");
        assert_eq!(rules(keeper.bot()), right);
    })
    .await;
}

#[tokio::test]
async fn what_somebody_takes_out_of_the_kernels_rules_the_gate_puts_back_and_tells() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::of(&ground, &allowed(&ground)).await;
        let before = keeper.container().await;
        let (address, bridge) = (before.address.expect("an address"), bridge_name(keeper.bot().account));
        let right = rules(keeper.bot());
        for (item, tampering) in [
            (
                Item::Egress,
                format!("nft delete element inet launchpad nets_{bridge} {{ {address} . {RANGE} . {RANGE_PORT} }}"),
            ),
            (Item::Egress, format!("nft delete element inet launchpad tenants {{ \"{bridge}\" }}")),
            (Item::Egress, format!("nft flush chain inet launchpad from_{bridge}")),
            (Item::Network, format!("ip rule delete pref 1900 iif {bridge}")),
            (Item::Network, format!("ip rule delete pref 1901 iif {bridge}")),
        ] {
            let flushes = flushes(&mut keeper).await;
            run(&tampering);
            // Whoever looks, looks behind the gate, which mends before it answers.
            let observed = keeper.observe().await;
            assert!(observed.gate.as_ref().expect("it answers").flushes > flushes, "it is told: {tampering}");
            assert_eq!(rules(keeper.bot()), right, "after {tampering}");
            assert_eq!(keeper.judge(&observed)[&item].enforcement.reason(), None, "after {tampering}");
            assert_eq!(keeper.settle().await, [""; 0], "nobody else has to do anything: {tampering}");
        }
        assert_eq!(keeper.container().await.running_since(), before.running_since(), "it has run all the time");
    })
    .await;
}

#[tokio::test]
async fn rules_that_somebody_keeps_from_the_gate_are_reported_until_it_has_them_back() {
    on_ground(|ground| async move {
        let mut keeper = Keeper::of(&ground, &allowed(&ground)).await;
        let before = keeper.container().await;
        let right = rules(keeper.bot());
        let usurper = Usurper::take_the_table();
        let observed = keeper.observe().await;
        let egress = keeper.judge(&observed).remove(&Item::Egress).expect("it is judged").enforcement;
        assert_eq!(egress.reason().map(|reason| reason.code.as_str()), Some("nftables-failed"), "{egress:?}");
        assert_eq!(keeper.broken().await, BTreeSet::from([Item::Network, Item::Egress]));

        drop(usurper);
        let mended = async {
            while !keeper.broken().await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, mended).await.expect("the gate has its table again");
        assert_eq!(rules(keeper.bot()), right);
        assert_eq!(keeper.settle().await, [""; 0]);
        assert_eq!(keeper.container().await.running_since(), before.running_since(), "it has run all the time");
    })
    .await;
}

/// A bot that may go somewhere.
fn allowed(ground: &Ground) -> InstanceSpec {
    let mut bot = ground.bot("");
    bot.egress.rules.insert(format!("{RANGE}:{RANGE_PORT}").parse().expect("a rule"));
    bot
}

/// How often the gate has put back what somebody had taken away.
async fn flushes(keeper: &mut Keeper) -> u64 {
    keeper.observe().await.gate.expect("the gate answers").flushes
}

/// What the kernel has about a bot's tenant, as `nft` and `ip` show it.
fn rules(bot: &InstanceSpec) -> String {
    let bridge = bridge_name(bot.account);
    let lists = ["map tenants".to_owned(), format!("chain from_{bridge}"), format!("map nets_{bridge}")];
    let lists = lists.map(|list| said(&format!("nft list {}", list.replacen(' ', " inet launchpad ", 1))));
    let routes = said("ip rule show");
    let routes: Vec<&str> = routes.lines().filter(|line| line.contains(&bridge)).collect();
    format!("{}\n{}", lists.join("\n"), routes.join("\n"))
}

fn said(command: &str) -> String {
    let mut words = command.split(' ');
    let ended = Command::new(words.next().expect("a program")).args(words).output().expect("it starts");
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// Somebody who has made our table theirs: as long as they live, the kernel lets nobody else write to it.
struct Usurper(Child);

impl Usurper {
    fn take_the_table() -> Self {
        let nft = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut usurper = Self(nft.expect("it starts"));
        let line = "delete table inet launchpad; add table inet launchpad { flags owner; }\n";
        usurper.0.stdin.as_mut().expect("its input").write_all(line.as_bytes()).expect("told");
        while !said("nft list ruleset").contains("flags owner") {
            assert!(usurper.0.try_wait().expect("a child").is_none(), "nft has ended");
        }
        usurper
    }
}

impl Drop for Usurper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
