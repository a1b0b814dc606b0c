//! A gate's own life: told, stopped, killed, started again, without nft, and the last tenant gone.

use std::fs;

use launchpad_agent::gate::policy::Change;

use crate::lab::{Lab, THERE, Tenant, echoes, until};
use crate::world::{Server, name_server, resolve};

#[tokio::test]
async fn the_last_tenant_leaves_nothing_behind_and_a_tenant_that_goes_nothing_of_its_own() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let all = |lab: &Lab| lab.rules() + &lab.host("ip rule") + &lab.host("ip -6 rule");
    let blank = all(&lab);
    lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let one = all(&lab);
    lab.tenant_with_bot(Tenant(2), &["198.51.100.0/24:8080", "api.example.com"]).await;
    assert_ne!(all(&lab), one);
    lab.tell(Change::DropTenant { account: Tenant(2).account() }).await;
    assert_eq!(all(&lab), one);
    lab.tell(Change::DropTenant { account: Tenant(1).account() }).await;
    lab.tell(Change::DropTenant { account: Tenant(1).account() }).await;
    assert_eq!(all(&lab), blank);
}

#[tokio::test]
async fn a_restart_cuts_no_connection_and_keeps_what_names_have_opened() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["*.example.com:8080"]).await;
    let there = "203.0.113.5".parse().unwrap();
    lab.world_has(there);
    let _server = Server::at(&lab.outside(), (there, 8080));
    name_server(&lab.outside(), THERE, &[("api.example.com", there)]);
    resolve(&bot, "api.example.com").expect("an address");
    let mut open = bot.reaches((there, 8080)).expect("the name");
    let before = lab.rules();
    assert!(lab.stop_gate(), "SIGTERM is a good end");
    assert_eq!(lab.rules(), before, "it leaves its rules in place");
    for _ in 0..2 {
        lab.start_gate().await;
        assert_eq!(lab.rules(), before);
        echoes(&mut open).expect("the connection is still open");
        bot.reaches((there, 8080)).expect("what the name had opened is open still");
        lab.kill_gate();
    }
}

#[tokio::test]
async fn without_nft_nothing_is_let_out_anew_and_all_goes_on_once_it_is_there() {
    let Some(mut lab) = Lab::new() else { return };
    let programs = lab.dir.path().join("bin");
    fs::create_dir(&programs).unwrap();
    let nft = String::from_utf8(std::process::Command::new("which").arg("nft").output().unwrap().stdout).unwrap();
    let (real, link) = (nft.trim().to_owned(), programs.join("nft"));
    let install = || std::os::unix::fs::symlink(&real, &link).unwrap();
    install();
    lab.start_gate_on(programs.to_str().unwrap()).await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let _server = Server::at(&lab.outside(), (THERE, 8080));
    let newcomer = lab.bot(Tenant(1), 3);

    fs::remove_file(&link).unwrap();
    let refused = lab.client().change(newcomer.may(&["198.51.100.0/24:8080"])).await.unwrap_err();
    let reason = refused.reason();
    assert!(reason.mend.as_deref().is_some_and(|mend| mend.contains("nftables")), "{reason}");
    newcomer.reaches((THERE, 8080)).expect_err("it was not let out");
    bot.reaches((THERE, 8080)).expect("who was stays so");
    lab.host("nft flush ruleset");
    until("the gate has tried in vain", || lab.log().contains("not what they should be"));
    bot.reaches((THERE, 8080)).expect_err("no mark, no route");
    let look = lab.look().await;
    assert!(look.instances[&bot.deployment()].egress_fault.is_some(), "{look:?}");

    install();
    until("the rules are back by themselves", || bot.reaches((THERE, 8080)).is_ok());
    lab.tell(newcomer.may(&["198.51.100.0/24:8080"])).await;
    newcomer.reaches((THERE, 8080)).expect("it is let out");
    assert_eq!(lab.look().await.instances[&bot.deployment()].egress_fault, None);
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_and_changes_nothing() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let bot = lab.tenant_with_bot(Tenant(1), &["198.51.100.0/24:8080"]).await;
    let before = (lab.rules(), lab.look().await.instances);
    let other = Tenant(2);
    let mut evil = other.told();
    evil.bridge = "lp0 accept; #".to_owned();
    let mut inside = other.told();
    inside.subnet = "172.29.1.0/27".parse().unwrap();
    let stranger = lab.bot_on_paper(other, 2);
    let (mut outside, mut taken) = (lab.bot_on_paper(Tenant(1), 63), lab.bot_on_paper(Tenant(1), 2));
    (outside.number, taken.number) = (63, 2);
    let Change::PutInstance { instance, .. } = taken.may(&[]) else { unreachable!("it puts an instance") };
    let deployment = lab.bot_on_paper(Tenant(9), 9).deployment();
    for (change, code) in [
        (Change::PutTenant { account: other.account(), tenant: evil }, "bridge-name"),
        (Change::PutTenant { account: other.account(), tenant: inside }, "network-taken"),
        (stranger.may(&[]), "tenant-unknown"),
        (outside.may(&[]), "address-outside"),
        (Change::PutInstance { deployment, instance }, "address-taken"),
    ] {
        let refused = lab.client().change(change.clone()).await.expect_err("it makes no sense");
        assert_eq!(refused.reason().code, code, "{change:?}");
    }
    assert_eq!((lab.rules(), lab.look().await.instances), before);
    assert_eq!(lab.look().await.instances.keys().collect::<Vec<_>>(), [&bot.deployment()]);
}

#[tokio::test]
async fn a_change_that_the_disk_refuses_counts_and_is_kept_as_soon_as_the_disk_takes_it() {
    let Some(mut lab) = Lab::new() else { return };
    let (keeper, _stop) = lab.keeper();
    lab.bridge(Tenant(1));
    let bot = lab.bot(Tenant(1), 2);
    let kept = lab.data_dir().join("gate");
    // Where a state is written before it takes the place of the older one.
    let in_the_way = lab.data_dir().join("gate.new");
    fs::create_dir(&in_the_way).unwrap();
    let tenant = Change::PutTenant { account: bot.tenant.account(), tenant: bot.tenant.told() };
    for _ in ["once", "and again"] {
        let refused = keeper.change(tenant.clone()).await.expect_err("the disk refuses");
        assert_eq!(refused.code, "state-file", "{refused}");
    }
    assert!(keeper.policy().borrow().tenants.contains_key(&bot.tenant.account()));
    assert!(lab.rules().contains(&bot.tenant.told().bridge) && !kept.exists());
    fs::remove_dir(&in_the_way).unwrap();
    until("the gate has written it without being asked", || kept.exists());
    keeper.change(tenant).await.unwrap();
}
