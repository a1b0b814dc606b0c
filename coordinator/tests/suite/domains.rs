//! Domains: claimed by many, proved by one, looked at in their turn, and gone with their deployment.

use std::time::Duration;

use launchpad_coordinator::domain::domains::{Claim, Proof};
use launchpad_coordinator::domain::public_name::PublicName;
use launchpad_coordinator::store::deployments::Deployment;
use launchpad_coordinator::store::domains::{self, Domain};
use launchpad_coordinator::store::{Commit, Store, Tx};
use launchpad_protocol::reason::Reason;

use super::rows::{NOW, account, deployment, read, write};

fn name(text: &str) -> PublicName {
    text.parse().expect("a name")
}

/// A claim of a new bot of an account of its own.
async fn claim(store: &Store, text: &str) -> (Deployment, Domain) {
    let row = deployment(store, account(store).await, "web").await;
    let claim = Claim::new("token".to_owned(), NOW);
    let domain = Domain { name: name(text), account: row.account, deployment: row.id, claim };
    assert!(write(store, async |tx| domains::create(tx, &domain).await).await);
    (row, domain)
}

fn proved(domain: &Domain) -> Domain {
    let found = Proof::Texts(vec!["token".to_owned()]);
    Domain { claim: domain.claim.clone().after(&domain.name, found, None, NOW), ..domain.clone() }
}

pub(crate) async fn a_domain_reads_back_as_itself_and_is_claimed_once_by_a_deployment(store: Store) {
    let (row, mut domain) = claim(&store, "www.example.org").await;
    assert!(!write(&store, async |tx| domains::create(tx, &domain).await).await);
    domain.claim.checked_at = Some(NOW);
    domain.claim.verified_at = Some(NOW);
    domain.claim.missing_since = Some(NOW + Duration::from_secs(1));
    domain.claim.trouble = Some(Reason::new("domain-unproved", "no proof").mend("set it"));
    write(&store, async |tx| domains::update(tx, &domain).await).await;
    assert_eq!(read(&store, async |tx| domains::get(tx, row.id, &domain.name).await).await, Some(domain.clone()));
    assert_eq!(read(&store, async |tx| domains::of_deployment(tx, row.id).await).await, [domain]);
}

pub(crate) async fn of_many_claims_of_a_domain_one_is_proved(store: Store) {
    let ((_, one), (_, other)) = (claim(&store, "www.example.org").await, claim(&store, "www.example.org").await);
    let holder = async || read(&store, async |tx| domains::holder(tx, &one.name).await).await;
    assert_eq!(holder().await, None);
    write(&store, async |tx| domains::update(tx, &proved(&one)).await).await;
    assert_eq!(holder().await.map(|holder| holder.deployment), Some(one.deployment));
    let second =
        store.write(Commit::CheckDomain, async |tx: &mut Tx| domains::update(tx, &proved(&other)).await).await;
    assert!(second.is_err(), "the store itself refuses a second");
    write(&store, async |tx| domains::release(tx, one.deployment).await).await;
    assert_eq!(holder().await, None);
    write(&store, async |tx| domains::update(tx, &proved(&other)).await).await;
    assert!(write(&store, async |tx| domains::remove(tx, other.deployment, &other.name).await).await);
    assert!(!write(&store, async |tx| domains::remove(tx, other.deployment, &other.name).await).await);
}

pub(crate) async fn domains_are_looked_at_when_they_are_due_the_longest_waiting_first(store: Store) {
    let ((_, new), (_, young), (_, settled)) = (
        claim(&store, "new.example.org").await,
        claim(&store, "young.example.org").await,
        claim(&store, "settled.example.org").await,
    );
    let looked = Claim { checked_at: Some(NOW), ..young.claim.clone() };
    write(&store, async |tx| domains::update(tx, &Domain { claim: looked, ..young.clone() }).await).await;
    write(&store, async |tx| domains::update(tx, &proved(&settled)).await).await;
    let due = async |seconds: u64, most: u32| {
        let by = NOW + Duration::from_secs(seconds);
        let due = read(&store, async |tx| domains::due(tx, by, most).await).await;
        due.into_iter().map(|domain| domain.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(due(0, 9).await, ["new.example.org"]);
    assert_eq!(due(60, 9).await, ["new.example.org", "young.example.org"]);
    assert_eq!(due(60, 1).await, ["new.example.org"]);
    assert_eq!(due(12 * 60 * 60, 9).await, ["new.example.org", "young.example.org", "settled.example.org"]);
    assert_eq!(new.claim.due_at(), Some(NOW));
}
