//! People: tokens, the audit log, kept answers.

use std::time::Duration;

use futures::future::join_all;
use launchpad_coordinator::domain::actor::{Actor, Role};
use launchpad_coordinator::domain::audit::first_break;
use launchpad_coordinator::store::api_tokens::{self, ApiTokenRow};
use launchpad_coordinator::store::audit::{self, Deed};
use launchpad_coordinator::store::{Commit, Store, Tx, idempotency};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::UserId;

use super::rows::{NOW, account, id, read, user, write};

async fn token(store: &Store) -> ApiTokenRow {
    let row = ApiTokenRow {
        id: id(),
        user: user(store).await,
        account: Some(account(store).await),
        role: Role::Member,
        name: "laptop".to_owned(),
        secret_hash: Digest::of(b"secret"),
        created_at: NOW,
        expires_at: Some(NOW + Duration::from_secs(60)),
        revoked_at: None,
    };
    write(store, async |tx| api_tokens::create(tx, &row).await).await;
    row
}

pub(crate) async fn a_token_reads_back_with_its_hash_only(store: Store) {
    let row = token(&store).await;
    let found = read(&store, async |tx| api_tokens::get(tx, row.id).await).await;
    assert_eq!(found.as_ref(), Some(&row));
    assert_eq!(row.actor(), Actor { user: row.user, role: Role::Member, account: row.account });
    assert_eq!(read(&store, async |tx| api_tokens::get(tx, id()).await).await, None);
}

pub(crate) async fn an_expired_or_revoked_token_does_not_work(store: Store) {
    let row = token(&store).await;
    assert!(row.works_at(NOW));
    assert!(!row.works_at(NOW + Duration::from_secs(60)));
    assert!(!ApiTokenRow { revoked_at: Some(NOW), ..row }.works_at(NOW));
}

fn operator(user: UserId) -> Actor {
    Actor { user, role: Role::Operator, account: None }
}

fn deed(target: usize) -> Deed {
    Deed { action: "host.revoke", target: target.to_string(), account: None, detail: String::new() }
}

pub(crate) async fn the_audit_log_is_one_chain_even_under_contention(store: Store) {
    let actor = operator(user(&store).await);
    let record = async |store: Store, target: usize| {
        store.write(Commit::RevokeHost, async |tx| audit::record(tx, &actor, deed(target), NOW).await).await
    };
    let done = join_all((0..20).map(|target| record(store.clone(), target))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let log = read(&store, async |tx| audit::all(tx).await).await;
    assert_eq!(log.len(), 20);
    assert_eq!(first_break(log.iter().map(|(entry, hash)| (entry, *hash))), None);
}

pub(crate) async fn a_changed_audit_entry_breaks_the_chain(store: Store) {
    let actor = operator(user(&store).await);
    for target in 0..3 {
        write(&store, async |tx| audit::record(tx, &actor, deed(target), NOW).await).await;
    }
    let mut log = read(&store, async |tx| audit::all(tx).await).await;
    log[1].0.target = "another".to_owned();
    assert_eq!(first_break(log.iter().map(|(entry, hash)| (entry, *hash))), Some(1));
}

pub(crate) async fn a_key_is_claimed_once_and_answers_again(store: Store) {
    let user = user(&store).await;
    let digest = Digest::of(b"request");
    let claim = async |tx: &mut Tx| idempotency::claim(tx, user, "key", digest, NOW).await;
    assert_eq!(write(&store, claim).await, None);
    let working = write(&store, claim).await.expect("it is claimed");
    assert_eq!((working.digest, working.answer), (digest, None));
    write(&store, async |tx| idempotency::complete(tx, user, "key", 201, "{}", NOW).await).await;
    // An answered key is not given back.
    write(&store, async |tx| idempotency::release(tx, user, "key").await).await;
    let answered = write(&store, claim).await.expect("it is answered");
    assert_eq!(answered.answer, Some((201, "{}".to_owned())));
    let later = NOW + Duration::from_secs(1);
    assert_eq!(write(&store, async |tx| idempotency::sweep(tx, later).await).await, 1);
    assert_eq!(write(&store, claim).await, None);
}

pub(crate) async fn one_users_keys_are_not_anothers(store: Store) {
    for _ in 0..2 {
        let user = user(&store).await;
        let claim = async |tx: &mut Tx| idempotency::claim(tx, user, "key", Digest::of(b"request"), NOW).await;
        assert_eq!(write(&store, claim).await, None);
    }
}
