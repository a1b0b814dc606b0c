//! How long what was let out stays out: connections outlive a name's addresses, and end with the rule that let them out.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use launchpad_agent::gate::admitted::Admitted;
use launchpad_agent::gate::kernel::Kernel;
use launchpad_agent::gate::policy::Change;
use launchpad_agent::gate::ports::{Admission, Admits as _};
use launchpad_agent::gate::rules::Wanted;
use launchpad_agent::gate::state::State;

use crate::lab::{Lab, THERE, Tenant, echoes, inside, until};
use crate::world::{Server, name_server, resolve};

#[tokio::test]
async fn a_narrower_policy_cuts_what_it_no_longer_allows_and_nothing_else() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let all = ["a.example.com:8080", "b.example.com:8080", "198.51.100.0/24:8080,8081"];
    let bot = lab.tenant_with_bot(Tenant(1), &all).await;
    let addresses = [Ipv4Addr::new(203, 0, 113, 5), Ipv4Addr::new(203, 0, 113, 6)];
    for address in addresses {
        lab.world_has(address);
    }
    let _servers: Vec<Server> = addresses
        .map(|address| (address, 8080))
        .into_iter()
        .chain([(THERE, 8080), (THERE, 8081)])
        .map(|to| Server::at(&lab.outside(), to))
        .collect();
    name_server(&lab.outside(), THERE, &[("a.example.com", addresses[0]), ("b.example.com", addresses[1])]);
    for name in ["a.example.com", "b.example.com"] {
        resolve(&bot, name).expect("an address");
    }
    let mut open = [(addresses[0], 8080), (addresses[1], 8080), (THERE, 8080), (THERE, 8081)]
        .map(|to| bot.reaches(to).expect("a rule"));
    let mut flows = || open.each_mut().map(|stream| echoes(stream).is_ok());
    assert_eq!(flows(), [true; 4]);
    // Wider, and another tenant: nothing is touched.
    lab.tell(bot.may(&[all[0], all[1], all[2], "c.example.com"])).await;
    lab.tenant_with_bot(Tenant(2), &[]).await;
    assert_eq!(flows(), [true; 4]);
    lab.tell(bot.may(&["b.example.com:8080", "198.51.100.0/24:8081"])).await;
    assert_eq!(flows(), [false, true, false, true]);
    lab.tell(Change::DropInstance { deployment: bot.deployment() }).await;
    assert_eq!(flows(), [false; 4]);
}

#[tokio::test]
async fn a_connection_outlives_the_addresses_of_the_name_that_let_it_out() {
    let Some(mut lab) = Lab::new() else { return };
    let _server = Server::at(&lab.outside(), (THERE, 8080));
    let (keeper, _stop) = lab.keeper();
    lab.bridge(Tenant(1));
    let bot = lab.bot(Tenant(1), 2);
    keeper.change(Change::PutTenant { account: bot.tenant.account(), tenant: bot.tenant.told() }).await.unwrap();
    keeper.change(bot.may(&["a.example.com:8080"])).await.unwrap();
    let admission = Admission {
        deployment: bot.deployment(),
        bot: bot.address(),
        name: "a.example.com".to_owned(),
        to: vec![THERE],
        ports: vec![8080],
        lifetime: Duration::from_secs(1),
    };
    keeper.admit(admission.clone()).await.unwrap();
    let mut open = bot.reaches((THERE, 8080)).expect("the name");
    until("the name's addresses are out of date", || bot.reaches((THERE, 8080)).is_err());
    echoes(&mut open).expect("what is open stays open");
    // Asked for again, it is open again, also when it is refreshed before it ends.
    for _ in 0..3 {
        keeper.admit(admission.clone()).await.unwrap();
        bot.reaches((THERE, 8080)).expect("the name");
    }
    let refused = keeper.admit(Admission { name: "evil.example.com".to_owned(), ..admission.clone() }).await;
    assert_eq!(refused.unwrap_err().code, "name-not-allowed");
    let refused = keeper.admit(Admission { ports: vec![25], ..admission }).await;
    assert_eq!(refused.unwrap_err().code, "name-not-allowed");
    // And it ends with its rule.
    assert_eq!(keeper.losses(bot.deployment()), 0);
    keeper.change(bot.may(&["b.example.com:8080"])).await.unwrap();
    echoes(&mut open).expect_err("the rule is gone");
    assert_eq!(keeper.losses(bot.deployment()), 1, "whoever remembers what was admitted hears of it");
}

#[test]
fn one_tenants_altered_rules_make_no_others_report_wrong() {
    let Some(lab) = Lab::new() else { return };
    let mut policy = State::default().policy;
    for tenant in [Tenant(1), Tenant(2)] {
        let put = Change::PutTenant { account: tenant.account(), tenant: tenant.told() };
        policy = policy.after(&put).unwrap();
    }
    let (state, admitted) = (State::default().with(policy), Admitted::default());
    let wanted = || Wanted { state: &state, admitted: &admitted, now: tokio::time::Instant::now() };
    let bridge = Tenant(1).told().bridge;
    let found = inside(lab.name(), async {
        let mut kernel = Kernel::open(Arc::default()).unwrap();
        kernel.replace(&wanted()).await.unwrap();
        assert!(kernel.look(&wanted()).await.unwrap().0.is_empty());
        lab.host(&format!("nft add rule inet launchpad from_{bridge} accept"));
        kernel.look(&wanted()).await.unwrap().0
    });
    assert_eq!(found.of.keys().collect::<Vec<_>>(), [&bridge], "{found:?}");
    assert_eq!(
        (found.at(&bridge).map(|reason| reason.code.as_str()), found.at(&Tenant(2).told().bridge)),
        (Some("rules-altered"), None)
    );
}
