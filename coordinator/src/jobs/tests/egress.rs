//! What a bot may reach changes around it, and within its plan.

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::report::{Denial, Denials, HostReport};
use launchpad_protocol::spec::InstanceSpec;

use crate::app::AppError;
use crate::app::egress::EgressView;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, LabHost, START, named};
use crate::command::SetEgress;
use crate::domain::actor::Role;
use crate::domain::deployment::{Event, State};
use crate::domain::host::HostState;
use crate::domain::refusal::RefusalKind;
use crate::store::{audit, hosts, timeline};

async fn set(lab: &Lab, id: DeploymentId, rules: &[&str]) -> Result<EgressView, AppError> {
    let rules: Vec<_> = rules.iter().map(|rule| (*rule).to_owned()).collect();
    let member = lab.actor(Role::Member).await;
    let view = lab.app.set_egress(&member, SetEgress::new(named(id), &rules).unwrap()).await;
    lab.settle().await;
    view
}

async fn running() -> (Lab, LabHost, DeploymentId) {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Ready).await;
    (lab, host, id)
}

fn rules(spec: &InstanceSpec) -> Vec<String> {
    spec.egress.rules.iter().map(ToString::to_string).collect()
}

fn refused(answer: Result<EgressView, AppError>) -> (RefusalKind, String) {
    match answer {
        Err(AppError::Refused(refusal)) => (refusal.kind, refusal.reason.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_running_bot_may_reach_changes_and_its_container_and_files_stay() {
    let (lab, host, id) = running().await;
    let before = lab.spec(&host).await.instances[&id].clone();
    let view = set(&lab, id, &["api.example.com", "203.0.113.0/24:8443"]).await.unwrap();
    assert_eq!((view.revision, view.added.len()), (Revision(2), 2));
    let after = lab.spec(&host).await.instances[&id].clone();
    let added: Vec<_> = rules(&after).into_iter().filter(|rule| !rules(&before).contains(rule)).collect();
    assert_eq!(added, ["api.example.com", "203.0.113.0/24:8443"]);
    assert_eq!(after.files, before.files, "nothing is sealed or written anew");
    assert_eq!(after.recreate_hash, before.recreate_hash);
    let in_place = InstanceSpec { revision: after.revision, egress: after.egress.clone(), ..before };
    assert_eq!(after, in_place, "nothing else changes");
    assert_eq!(lab.row(id).await.state, State::Updating);
    let told = lab.read(async |tx| timeline::latest(tx, id, 1).await).await.remove(0);
    assert_eq!(told.cause, "what it may reach was changed");
    let deed = lab.read(async |tx| audit::all(tx).await).await.pop().unwrap().0;
    assert_eq!((deed.action.as_str(), deed.detail.as_str()), ("egress.set", "api.example.com 203.0.113.0/24:8443"));
}

#[tokio::test]
async fn the_same_rules_again_are_no_new_revision_and_none_takes_them_all_back() {
    let (lab, host, id) = running().await;
    let before = lab.spec(&host).await.instances[&id].clone();
    set(&lab, id, &["api.example.com"]).await.unwrap();
    let (generation, deeds) = (lab.generation(&host).await, lab.read(async |tx| audit::all(tx).await).await.len());
    let again = set(&lab, id, &["API.example.com:443"]).await.unwrap();
    assert_eq!((again.revision, lab.generation(&host).await), (Revision(2), generation));
    assert_eq!(lab.read(async |tx| audit::all(tx).await).await.len(), deeds);
    let back = set(&lab, id, &[]).await.unwrap();
    assert_eq!((back.revision, back.added.len()), (Revision(3), 0));
    assert_eq!(lab.spec(&host).await.instances[&id].egress, before.egress);
}

#[tokio::test]
async fn a_wish_may_bring_rules_and_a_plan_bounds_them_from_the_start() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let member = lab.actor(Role::Member).await;
    let mut wish = lab.wish("web", "starter");
    wish.egress = ["api.example.com".parse().unwrap()].into();
    let made = lab.app.create_deployment(&member, wish, &Once::unclaimed()).await.unwrap();
    lab.settle().await;
    assert!(rules(&lab.spec(&host).await.instances[&made.id]).contains(&"api.example.com".to_owned()));
    let granted = set(&lab, made.id, &[]).await.unwrap().granted;
    let many: Vec<_> = (0..=granted).map(|n| format!("a{n}.example.com")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let too_many = (RefusalKind::Impossible, "egress-over-plan".to_owned());
    assert_eq!(refused(set(&lab, made.id, &many).await), too_many);
    assert_eq!(set(&lab, made.id, &many[1..]).await.unwrap().added.len(), granted as usize);
    let mut greedy = lab.wish("other", "starter");
    greedy.egress = many.iter().map(|rule| rule.parse().unwrap()).collect();
    let answer = lab.app.create_deployment(&member, greedy, &Once::unclaimed()).await;
    assert!(matches!(answer, Err(AppError::Refused(refusal)) if refusal.reason.code == "egress-over-plan"));
}

#[tokio::test]
async fn what_waits_for_a_host_can_be_changed_and_what_is_on_its_way_out_cannot() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    set(&lab, id, &["api.example.com"]).await.unwrap();
    assert_eq!(lab.row(id).await.state, State::Requested);
    let host = lab.host(4 * GIB).await;
    lab.settle().await;
    assert_eq!(lab.spec(&host).await.instances[&id].revision, Revision(2));
    lab.write(async |tx| hosts::set_state(tx, host.id, HostState::Retired).await).await;
    assert_eq!(refused(set(&lab, id, &[]).await), (RefusalKind::Unavailable, "host-retired".to_owned()));
    lab.happen(id, Event::Delete).await;
    assert_eq!(refused(set(&lab, id, &[]).await), (RefusalKind::Conflict, "wrong-state".to_owned()));
}

#[tokio::test]
async fn denials_are_those_of_the_bots_own_account_and_of_nobody_else() {
    let (lab, host, id) = running().await;
    let member = lab.actor(Role::Member).await;
    let neighbour = lab.create("other").await;
    let denial = |deployment, target: &str| Denial { at: START, deployment, target: target.to_owned(), count: 3 };
    let own = vec![
        denial(Some(id), "evil.example"),
        denial(Some(neighbour), "other.example"),
        denial(None, "tcp 203.0.113.5:25"),
    ];
    let theirs = vec![denial(Some(id), "theirs.example")];
    let tell = |samples, count| Denials { count, samples };
    let denials = [(lab.account, tell(own, 7)), (lab.app.entropy.id(START), tell(theirs, 9))].into();
    lab.keep_report(&host, &HostReport { denials, ..lab.nothing() }).await;
    let view = lab.app.denials(&member, &named(id)).await.unwrap();
    let targets: Vec<_> = view.samples.iter().map(|denial| denial.target.as_str()).collect();
    assert_eq!((view.count, targets), (7, vec!["evil.example", "tcp 203.0.113.5:25"]));
}
