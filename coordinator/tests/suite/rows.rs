//! Rows to try things on.

use std::collections::BTreeSet;

use launchpad_coordinator::domain::actor::Role;
use launchpad_coordinator::domain::deployment::State;
use launchpad_coordinator::domain::lease::Policy;
use launchpad_coordinator::domain::plan_table::PlanTable;
use launchpad_coordinator::domain::revision::{Ingredients, blueprint};
use launchpad_coordinator::store::accounts::{Account, User};
use launchpad_coordinator::store::deployments::Deployment;
use launchpad_coordinator::store::hosts::{Host, newcomer};
use launchpad_coordinator::store::revisions::{PinnedRevision, StoredFile};
use launchpad_coordinator::store::{Commit, Store, StoreError, Tx, accounts, deployments, hosts, revisions};
use launchpad_pki::envelope::Envelope;
use launchpad_pki::sealing::SealingKey;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{AccountId, HostId, TypedId, UserId};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::spec::Lease;
use launchpad_protocol::time::Moment;

pub(super) const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

pub(super) fn id<I: TypedId>() -> I {
    Entropy::system().id(NOW)
}

/// Writes, where any commit will do.
pub(super) async fn write<T>(store: &Store, body: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> T {
    store.write(Commit::Place, body).await.expect("a write")
}

pub(super) async fn read<T>(store: &Store, body: impl AsyncFnOnce(&mut Tx) -> Result<T, StoreError>) -> T {
    store.read(body).await.expect("a read")
}

pub(super) async fn account(store: &Store) -> AccountId {
    let account = Account { id: id(), name: "an account".to_owned(), created_at: NOW };
    write(store, async |tx| accounts::create(tx, &account).await).await;
    account.id
}

pub(super) async fn user(store: &Store) -> UserId {
    let user: UserId = id();
    let row =
        User { id: user, email: format!("{user}@launchpad.example"), staff: Some(Role::OnCall), created_at: NOW };
    write(store, async |tx| accounts::create_user(tx, &row).await).await;
    user
}

pub(super) async fn host(store: &Store) -> HostId {
    let host = some_host();
    write(store, async |tx| hosts::create(tx, &host).await).await;
    host.id
}

pub(super) fn some_host() -> Host {
    let key = SealingKey::generate().expect("random bytes").public();
    newcomer(id(), "web-1".to_owned(), "shared".to_owned(), &key, NOW)
}

/// A deployment of that account, not stored yet.
pub(super) fn some_deployment(account: AccountId, name: &str) -> (Deployment, PinnedRevision) {
    let profile = Profile::parse("echo.toml", include_str!("../../../profiles/echo.toml")).expect("a profile");
    let plan = PlanTable::default().get("starter").expect("a plan").clone();
    let image = format!("registry.example/echo@{}", Digest::of(b"echo")).parse().expect("a reference");
    let blueprint = blueprint(Ingredients {
        deployment: id(),
        account,
        name,
        revision: Revision(1),
        profile: &profile,
        plan: &plan,
        image: &image,
        egress: &BTreeSet::new(),
        hostnames: &BTreeSet::new(),
        secrets: &["token".to_owned()].into(),
        lease: Lease::Keep,
    })
    .expect("a blueprint");
    let deployment = Deployment {
        id: blueprint.deployment,
        account,
        name: name.to_owned(),
        profile: "echo".to_owned(),
        plan: "starter".to_owned(),
        image,
        pool: "shared".to_owned(),
        policy: Policy::Keep,
        state: State::Requested,
        reason: None,
        revision: Revision(1),
        epoch: Epoch(0),
        host: None,
        size: plan.size(),
        created_at: NOW,
        changed_at: NOW,
        deleted_at: None,
        version: 1,
    };
    let egress = ["api.example.com".parse().expect("a rule")].into();
    (deployment, PinnedRevision { profile, plan, egress, blueprint, created_at: NOW })
}

/// A config and a secret.
pub(super) fn some_files() -> [StoredFile; 2] {
    let file = |name: &str| StoredFile {
        name: name.to_owned(),
        version: 1,
        bytes: 1,
        envelope: Envelope { key_id: "key".to_owned(), wrapped_key: vec![1], ciphertext: vec![2] },
    };
    [file("echo.conf"), file("token")]
}

/// A deployment of that account with its first revision.
pub(super) async fn deployment(store: &Store, account: AccountId, name: &str) -> Deployment {
    let (deployment, revision) = some_deployment(account, name);
    let create = async |tx: &mut Tx| {
        assert!(deployments::create(tx, &deployment).await?, "the name is free");
        revisions::create(tx, &revision, &some_files()).await
    };
    write(store, create).await;
    deployment
}
