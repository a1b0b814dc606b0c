//! Agents become another version: from an operator's word to the hosts' specs, their answers, and the end.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, Outcome};

use crate::app::AppError;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, LabHost, START};
use crate::app::upgrades::UpgradeView;
use crate::command::{StartUpgrade, UpgradeDraft, ring_name};
use crate::domain::actor::Role;
use crate::domain::upgrade::{State, Steer, Turn};
use crate::jobs::{compiler, upgrader};

impl Lab {
    async fn upgrade(&self, rings: &[&str]) -> Result<UpgradeView, AppError> {
        let rings = rings.iter().map(|ring| (*ring).to_owned()).collect();
        let draft = UpgradeDraft { to: "9.9.9".to_owned(), rings, soak_s: Some(60), ..UpgradeDraft::default() };
        let operator = self.actor(Role::Operator).await;
        self.app.start_upgrade(&operator, &StartUpgrade::new(draft).unwrap(), &Once::unclaimed()).await
    }

    async fn upgrade_on(&self) -> usize {
        let asked = upgrader::round(&self.app).await.unwrap();
        compiler::round(&self.app).await.unwrap();
        asked
    }

    async fn shown(&self) -> UpgradeView {
        let operator = self.actor(Role::Operator).await;
        self.app.upgrade(&operator).await.unwrap().expect("one has begun")
    }

    /// That host answers what its spec wishes of its agent.
    async fn answers(&self, host: &LabHost, outcome: Outcome) {
        let wish = self.spec(host).await.upgrade.expect("its agent was asked");
        let outcomes = BTreeMap::from([(wish.operation, outcome)]);
        self.keep_report(host, &HostReport { outcomes, ..self.nothing() }).await;
    }
}

#[tokio::test]
async fn rings_are_asked_in_their_order_and_a_bots_spec_stays_what_it_was() {
    let lab = Lab::new().await;
    let (canary, main) = (lab.host(4 * GIB).await, lab.host(4 * GIB).await);
    let id = lab.create("web").await;
    lab.settle().await;
    let home = if lab.row(id).await.host == Some(canary.id) { &canary } else { &main };
    let before = lab.spec(home).await.instances;
    let operator = lab.actor(Role::Operator).await;
    lab.app.put_into_ring(&operator, canary.id, &ring_name("canary").unwrap()).await.unwrap();

    lab.upgrade(&["canary", "main"]).await.unwrap();
    assert_eq!(lab.upgrade_on().await, 1);
    assert_eq!(lab.upgrade_on().await, 0, "who was asked is not asked again");
    assert_eq!(lab.spec(&canary).await.upgrade.map(|wish| wish.version.to_string()).as_deref(), Some("9.9.9"));
    lab.answers(&canary, Outcome::Done { at: START }).await;
    assert_eq!(lab.upgrade_on().await, 0, "it soaks");
    lab.advance(Duration::from_secs(60));
    assert_eq!(lab.upgrade_on().await, 1);
    lab.answers(&main, Outcome::Done { at: START }).await;
    lab.upgrade_on().await;
    lab.advance(Duration::from_secs(60));
    lab.upgrade_on().await;
    assert_eq!(lab.shown().await.upgrade.state, State::Done);
    assert_eq!(lab.spec(home).await.instances, before, "no bot has anything to do with it");
}

#[tokio::test]
async fn a_host_that_came_back_halts_it_until_an_operator_goes_on() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.upgrade(&["main"]).await.unwrap();
    lab.upgrade_on().await;
    let first = lab.spec(&host).await.upgrade.unwrap().operation;
    let reason = Reason::new("agent-silent", "9.9.9 did not answer");
    lab.answers(&host, Outcome::Refused { reason: reason.clone() }).await;
    assert_eq!(lab.upgrade_on().await, 0);
    let halted = lab.shown().await.upgrade;
    assert!(matches!(halted.state, State::Halted { .. }), "{halted:?}");
    assert_eq!(halted.rings[0].hosts[&host.id], Turn::Failed { reason });
    let operator = lab.actor(Role::Operator).await;
    lab.app.steer_upgrade(&operator, halted.id, Steer::Resume).await.unwrap();
    assert_eq!(lab.upgrade_on().await, 1);
    assert_ne!(lab.spec(&host).await.upgrade.unwrap().operation, first);
}

#[tokio::test]
async fn an_upgrade_that_is_ended_is_no_longer_wished_of_anybody_and_another_may_begin() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let begun = lab.upgrade(&["main"]).await.unwrap().upgrade;
    lab.upgrade_on().await;
    let Err(AppError::Refused(refusal)) = lab.upgrade(&["main"]).await else { panic!("one is under way") };
    assert_eq!(refusal.reason.code, "upgrade-under-way");
    let operator = lab.actor(Role::Operator).await;
    lab.app.steer_upgrade(&operator, begun.id, Steer::Abort).await.unwrap();
    lab.upgrade_on().await;
    assert_eq!(lab.spec(&host).await.upgrade, None);
    lab.upgrade(&["main"]).await.unwrap();
}

#[tokio::test]
async fn a_ring_without_hosts_is_refused_by_name() {
    let lab = Lab::new().await;
    lab.host(4 * GIB).await;
    let Err(AppError::Refused(refusal)) = lab.upgrade(&["canary"]).await else { panic!("nobody is in it") };
    assert!(refusal.reason.sentence.contains("canary"), "{refusal}");
}
