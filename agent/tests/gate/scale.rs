//! A full host: a hundred tenants' rules in one go.

use std::time::Duration;

use launchpad_agent::gate::policy::Change;
use tokio::time::Instant;

use crate::lab::{Lab, Tenant, until};

/// A hundred tenants take a tenth of a second on a quiet machine; tests share two busy cores.
const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_hundred_tenants_rules_are_applied_in_one_go() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start_gate().await;
    let mut one_by_one = Duration::ZERO;
    for number in 0..100 {
        let tenant = Tenant(number);
        let asked = Instant::now();
        lab.tell(Change::PutTenant { account: tenant.account(), tenant: tenant.told() }).await;
        let rules = ["api.example.com", "*.example.org:443,8443", "203.0.113.0/24", "198.51.100.0/24:8080"];
        lab.tell(lab.bot_on_paper(tenant, 2).may(&rules)).await;
        one_by_one = one_by_one.max(asked.elapsed());
    }
    let whole = lab.rules();
    lab.host("nft flush ruleset");
    until("all of it is back", || lab.rules().len() == whole.len());
    assert!(lab.rules() == whole);
    let report = lab.look().await.report;
    assert_eq!(report.flushes, 1);
    assert!(report.longest_exposure < WITHIN && one_by_one < WITHIN, "{report:?}, {one_by_one:?}");
    eprintln!(
        "measured: 100 tenants with a bot each: all at once {:?}, the last one beside 99 others {one_by_one:?}",
        report.longest_exposure
    );
}
