//! The two doors, and the store's own row.

use futures::future::join_all;
use launchpad_coordinator::store::hosts::Seen;
use launchpad_coordinator::store::{Commit, Store, StoreError, Tx, accounts, hosts, meta, operations, reports};
use launchpad_protocol::generation::Fence;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{Operation, OperationAction};

use super::fleet::report;
use super::rows::{NOW, account, deployment, host, id, read, write};

async fn add_account(tx: &mut Tx) -> Result<launchpad_protocol::id::AccountId, StoreError> {
    let account = accounts::Account { id: id(), name: "an account".to_owned(), created_at: NOW };
    accounts::create(tx, &account).await?;
    Ok(account.id)
}

pub(crate) async fn what_a_failed_body_wrote_is_gone(store: Store) {
    let mut added = None;
    let failed = store.write(Commit::Place, async |tx| {
        added = Some(add_account(tx).await?);
        Err::<(), _>(StoreError::Missing { what: "reason to go on" })
    });
    assert!(failed.await.is_err());
    let account = added.expect("it was written before the failure");
    assert_eq!(read(&store, async |tx| accounts::get(tx, account).await).await, None);
}

pub(crate) async fn a_transaction_that_is_dropped_has_written_nothing_and_frees_the_store(store: Store) {
    let (entered, inside) = tokio::sync::oneshot::channel();
    let held = store.clone();
    let hanging = tokio::spawn(async move {
        let body = async |tx: &mut Tx| {
            let account = add_account(tx).await?;
            let _ = entered.send(account);
            std::future::pending::<Result<(), StoreError>>().await
        };
        held.write(Commit::Place, body).await
    });
    let account = inside.await.expect("it is inside its transaction");
    hanging.abort();
    assert!(hanging.await.expect_err("aborted").is_cancelled());
    // The next writer gets in, and finds nothing of the other.
    let found = write(&store, async |tx| accounts::get(tx, account).await).await;
    assert_eq!(found, None);
}

pub(crate) async fn a_read_sees_one_moment_whatever_is_committed_meanwhile(store: Store) {
    let seen = store.read(async |tx| {
        let before = hosts::all(tx).await?.len();
        // A committed write beside an open snapshot: awaited here only because the test wants it in between.
        host(&store).await;
        let after = hosts::all(tx).await?.len();
        Ok::<_, StoreError>((before, after))
    });
    assert_eq!(seen.await.expect("a read"), (0, 0));
    assert_eq!(read(&store, async |tx| hosts::all(tx).await).await.len(), 1);
}

pub(crate) async fn a_read_cannot_write(store: Store) {
    let wrote = store.read(async |tx| add_account(tx).await).await;
    assert!(matches!(wrote, Err(StoreError::Statement { .. })), "{wrote:?}");
}

pub(crate) async fn writers_wait_for_each_other_and_no_update_is_lost(store: Store) {
    two_stores_lose_no_update(&store, &store.clone()).await;
}

/// Reads and writes one row through both at once; each counts.
pub(crate) async fn two_stores_lose_no_update(one: &Store, other: &Store) {
    let host = host(one).await;
    let bump = async |store: &Store| {
        let read_then_write = async |tx: &mut Tx| {
            let row = hosts::get(tx, host).await?.ok_or(StoreError::Missing { what: "host" })?;
            let mut capacity = row.capacity;
            capacity.cpu_millis += 1;
            let seen = Seen { state: row.state, capacity, capabilities: &row.capabilities };
            hosts::seen(tx, host, seen, NOW).await
        };
        store.write(Commit::StoreReport, read_then_write).await
    };
    let done = join_all((0..20).flat_map(|_| [bump(one), bump(other)])).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let row = read(one, async |tx| hosts::get(tx, host).await).await.expect("the host");
    assert_eq!(row.capacity.cpu_millis, 40);
}

pub(crate) async fn publishing_freezes_for_the_first_reason_until_it_is_thawed(store: Store) {
    let (first, second) = (Reason::new("first", "the first"), Reason::new("second", "the second"));
    assert!(write(&store, async |tx| meta::freeze(tx, &first, NOW).await).await);
    assert!(!write(&store, async |tx| meta::freeze(tx, &second, NOW).await).await);
    assert_eq!(read(&store, async |tx| meta::frozen(tx).await).await, Some(first));
    write(&store, async |tx| meta::thaw(tx).await).await;
    assert_eq!(read(&store, async |tx| meta::frozen(tx).await).await, None);
}

pub(crate) async fn freezing_refuses_what_waits_and_sets_earlier_reports_aside(store: Store) {
    let row = deployment(&store, account(&store).await, "web").await;
    let host = host(&store).await;
    let wish = Operation { id: id(), action: OperationAction::Restart };
    let speak = async |fence| {
        write(&store, async |tx| reports::keep(tx, host, Fence(fence), &report("one"), NOW).await).await;
    };
    let outdated =
        async || read(&store, async |tx| reports::latest(tx, host).await).await.expect("a report").outdated;
    let waiting = async || read(&store, async |tx| operations::unanswered(tx, row.id).await).await.len();
    let freeze = async |code: &str| {
        let why = Reason::new(code, "it is older than its fleet");
        write(&store, async |tx| meta::freeze(tx, &why, NOW).await).await
    };
    write(&store, async |tx| operations::create(tx, row.account, row.id, &wish, NOW).await).await;
    speak(1).await;
    assert_eq!((waiting().await, outdated().await), (1, false));
    assert!(freeze("first").await);
    assert_eq!((waiting().await, outdated().await), (0, true));
    speak(2).await;
    assert!(!freeze("again").await);
    assert!(!outdated().await, "what came after the first freeze counts");
    let (why, life) = (Reason::new("restored", "the store was restored"), id());
    write(&store, async |tx| meta::restamp(tx, life, &why, NOW).await).await;
    assert!(outdated().await);
}

pub(crate) async fn another_life_of_the_store_has_another_name(store: Store) {
    let before = read(&store, async |tx| meta::incarnation(tx).await).await;
    let after = id();
    let why = Reason::new("restored", "the store was restored");
    write(&store, async |tx| meta::restamp(tx, after, &why, NOW).await).await;
    assert_ne!(before, after);
    assert_eq!(read(&store, async |tx| meta::incarnation(tx).await).await, after);
    assert_eq!(read(&store, async |tx| meta::frozen(tx).await).await, Some(why));
}
