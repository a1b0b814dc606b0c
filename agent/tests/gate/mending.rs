//! Whatever somebody takes away or changes is put back, and nothing is open meanwhile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use launchpad_agent::gate::policy::TenantGate;
use tokio::time::Instant;

use crate::lab::{Lab, THERE, Tenant, echoes, until, within};
use crate::world::{Server, name_server, resolve};

/// The bound that is promised on a host that has time, times four: tests share two busy cores.
const EXPOSED_AT_MOST: Duration = Duration::from_secs(1);

/// Where a bot may never come.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The gate answers when it has seen what it made: what is done next is a story of its own.
async fn settled(lab: &Lab) {
    lab.look().await;
}

#[tokio::test]
async fn a_flushed_ruleset_is_back_in_time_with_what_names_had_opened_and_nothing_got_out_meanwhile() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080", "api.example.com:8080"]).await;
    let there = Ipv4Addr::new(203, 0, 113, 5);
    for address in [there, METADATA] {
        lab.world_has(address);
    }
    let metadata = Server::at(&lab.outside(), (METADATA, 80));
    let _allowed = Server::at(&lab.outside(), (THERE, 8080));
    let _named = Server::at(&lab.outside(), (there, 8080));
    name_server(&lab.outside(), THERE, &[("api.example.com", there)]);
    resolve(&bot, "api.example.com").expect("an address");
    let mut open = bot.reaches((there, 8080)).expect("the name");
    let before = lab.chains();

    // A prober that tries all the time, as fast as it is refused.
    let (ends, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let prober = {
        let (bot, ends, tries) = (bot.clone(), Arc::clone(&ends), Arc::clone(&tries));
        std::thread::spawn(move || {
            within(&bot.namespace, || {
                while !ends.load(Ordering::SeqCst) {
                    let short = Duration::from_millis(20);
                    let _ = std::net::TcpStream::connect_timeout(&(METADATA, 80).into(), short);
                    tries.fetch_add(1, Ordering::SeqCst);
                }
            });
        })
    };
    let flushes: u64 = 20;
    for _ in 0..flushes {
        let tried = tries.load(Ordering::SeqCst);
        lab.host("nft flush ruleset");
        until("the rules are back", || lab.chains() == before);
        echoes(&mut open).expect("a connection that was open stays open");
        bot.reaches((there, 8080)).expect("what the name had opened is open still");
        until("the prober has tried", || tries.load(Ordering::SeqCst) > tried);
        settled(&lab).await;
    }
    ends.store(true, Ordering::SeqCst);
    prober.join().unwrap();
    assert_eq!(metadata.visits(), 0, "after {} tries", tries.load(Ordering::SeqCst));
    let report = lab.look().await.report;
    assert_eq!(report.flushes, flushes);
    assert!(report.longest_exposure < EXPOSED_AT_MOST, "{report:?}");
    eprintln!("measured: {flushes} flushes, exposed for {:?} at most", report.longest_exposure);
}

#[tokio::test]
async fn a_flush_right_behind_our_own_writing_is_mended_too() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let whole = lab.rules();
    // As soon as it shows, while the gate has not seen yet what it wrote. A try takes some milliseconds.
    let script = "for flush in $(seq 60); do nft flush ruleset; tries=0
        until nft list table inet launchpad >/dev/null 2>&1; do
            tries=$((tries + 1)); [ $tries -lt 2000 ] || { echo never back after flush $flush; exit 1; }
        done
    done";
    let flushed = std::process::Command::new("ip").args(["netns", "exec", lab.name(), "sh", "-c", script]).output();
    let flushed = flushed.unwrap();
    assert!(flushed.status.success(), "{}", String::from_utf8_lossy(&flushed.stdout));
    until("the rules are back", || lab.rules() == whole);
}

#[tokio::test]
async fn a_gate_that_is_dead_leaves_nothing_open_whatever_is_flushed() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    lab.world_has(METADATA);
    let servers = [Server::at(&lab.outside(), (METADATA, 80)), Server::at(&lab.outside(), (THERE, 8080))];
    lab.kill_gate();
    bot.reaches((THERE, 8080)).expect("its rules stand without it");
    lab.host("nft flush ruleset");
    for address in [(METADATA, 80), (THERE, 8080)] {
        bot.reaches(address).expect_err("no mark, no route");
    }
    servers[1].was_visited(1);
    assert_eq!(servers[0].visits(), 0);
    lab.start_gate().await;
    bot.reaches((THERE, 8080)).expect("the gate has its policy from its own disk");
    assert_eq!(lab.look().await.report.flushes, 0, "what happened before it started is not its story");
}

#[tokio::test]
async fn each_rule_that_is_taken_away_is_put_back() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let whole = lab.rules();
    let rules = || {
        let listing: serde_json::Value = serde_json::from_str(&lab.host("nft -j list table inet launchpad")).unwrap();
        let objects = listing["nftables"].as_array().unwrap().clone();
        let rules = objects.into_iter().filter_map(|object| object.get("rule").cloned());
        rules.map(|rule| (rule["chain"].as_str().unwrap().to_owned(), rule["handle"].to_string())).collect::<Vec<_>>()
    };
    let count = rules().len();
    assert!(count > 20, "{count} rules");
    for at in 0..count {
        // Handles change each time the table is made anew.
        let (chain, handle) = rules().swap_remove(at);
        lab.host(&format!("nft delete rule inet launchpad {chain} handle {handle}"));
        until("the rule is back", || lab.rules() == whole);
        settled(&lab).await;
    }
    assert_eq!(lab.look().await.report.flushes, count as u64);
}

#[tokio::test]
async fn a_rule_or_a_set_that_is_widened_is_narrowed_again() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080", "api.example.com"]).await;
    let whole = lab.rules();
    let TenantGate { bridge, .. } = bot.tenant.told();
    for meddling in [
        format!("insert rule inet launchpad from_{bridge} meta mark set 0x4c000000 accept"),
        format!("add rule inet launchpad from_{bridge} accept"),
        "delete element inet launchpad never { 10.0.0.0/8 }".to_owned(),
        format!(
            "add element inet launchpad names_{bridge} {{ 172.29.1.2 . 203.0.113.9 . 25 timeout 1h : 0x4c000001 }}"
        ),
        format!("add element inet launchpad nets_{bridge} {{ 172.29.1.2 . 0.0.0.0/0 . 25 : 0x4c000001 }}"),
        format!("add element inet launchpad open_{bridge} {{ 0x0 }}"),
        format!("delete element inet launchpad tenants {{ \"{bridge}\" }}"),
        "add chain inet launchpad mine { type filter hook forward priority -10; policy drop; }".to_owned(),
        "add table inet launchpad { flags dormant; }".to_owned(),
        "delete table inet launchpad".to_owned(),
    ] {
        // Not by way of a shell: the words of nft's own language are one argument.
        let ended =
            std::process::Command::new("ip").args(["netns", "exec", lab.name(), "nft"]).arg(&meddling).output();
        let ended = ended.unwrap();
        assert!(ended.status.success(), "{meddling}: {}", String::from_utf8_lossy(&ended.stderr));
        until(&format!("this is undone: {meddling}"), || lab.rules() == whole);
        settled(&lab).await;
    }
    // What others have besides ours is theirs.
    lab.host("nft add table ip theirs");
    let look = lab.look().await;
    assert_eq!((look.report.flushes, look.tenants[&bot.tenant.account()].fault.clone()), (10, None));
    assert!(lab.rules().contains("table ip theirs"));
}

#[tokio::test]
async fn each_routing_rule_that_is_taken_away_is_put_back_and_a_stale_one_goes() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &[]).await;
    let TenantGate { bridge, .. } = bot.tenant.told();
    let routes = || lab.host("ip rule") + &lab.host("ip -6 rule");
    let whole = routes();
    assert_eq!(whole.matches(&bridge).count(), 3, "{whole}");
    let started = Instant::now();
    let meddlings = ["ip rule del pref 1900", "ip rule del pref 1901", "ip -6 rule del pref 1901"];
    for meddling in meddlings {
        lab.host(meddling);
        until("it is back", || routes() == whole);
    }
    assert!(started.elapsed() < meddlings.len() as u32 * EXPOSED_AT_MOST);
    assert_eq!(lab.look().await.report.flushes, 3);
    lab.host("ip rule add pref 1901 iif lp0000000000ff blackhole");
    lab.host("ip rule add pref 77 iif up0 lookup main");
    lab.host("nft flush ruleset");
    until("what was left of a tenant goes when all is made anew", || !routes().contains("lp0000000000ff"));
    assert!(routes().contains("iif up0"), "rules of others stay");
}
