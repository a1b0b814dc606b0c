//! Tenants' rows: deployments and all that hangs on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_coordinator::domain::actor::Scope;
use launchpad_coordinator::domain::deployment::{Event, State, step};
use launchpad_coordinator::store::deployments::{self, Deployment};
use launchpad_coordinator::store::revisions::StoredFile;
use launchpad_coordinator::store::sealed::{self, SealedFor};
use launchpad_coordinator::store::timeline::TimelineEntry;
use launchpad_coordinator::store::{Commit, Store, StoreError, Tx, operations, revisions, timeline, tombstones};
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capacity, Outcome};
use launchpad_protocol::spec::{Operation, OperationAction, Tombstone, TombstoneScope};

use super::rows::{NOW, account, deployment, host, id, read, some_deployment, some_files, write};

async fn get(store: &Store, id: DeploymentId) -> Deployment {
    read(store, async |tx| deployments::get(tx, Scope::Every, id).await).await.expect("the deployment")
}

async fn advance(store: &Store, row: &mut Deployment, event: Event) -> bool {
    let transition = step(row.state, event).expect("a step");
    write(store, async |tx| deployments::advance(tx, row, &transition, id(), NOW).await).await
}

async fn place(store: &Store, row: &mut Deployment) -> HostId {
    let host = host(store).await;
    row.host = Some(host);
    row.epoch = Epoch(1);
    assert!(advance(store, row, Event::Placed).await);
    host
}

pub(crate) async fn a_deployment_reads_back_as_itself(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    assert_eq!(get(&store, row.id).await, row);
    place(&store, &mut row).await;
    row.reason = Some(Reason::new("why", "because").mend("so"));
    row.deleted_at = Some(NOW);
    row.revision = Revision(4);
    row.plan = "larger".to_owned();
    row.size = Capacity { cpu_millis: 7, memory_bytes: 8, storage_bytes: 9 };
    write(&store, async |tx| deployments::update(tx, &mut row).await).await;
    assert_eq!(get(&store, row.id).await, row);
}

pub(crate) async fn no_query_shows_another_accounts_deployments(store: Store) {
    let (own, other) = (account(&store).await, account(&store).await);
    let (mine, theirs) = (deployment(&store, own, "web").await, deployment(&store, other, "web").await);
    let seen = async |scope: Scope| {
        read(&store, async |tx| {
            let mut seen = BTreeSet::new();
            for id in [mine.id, theirs.id] {
                seen.extend(deployments::get(tx, scope, id).await?.map(|row| row.id));
            }
            let named: BTreeSet<_> = deployments::named(tx, scope, "web").await?.iter().map(|row| row.id).collect();
            let listed: BTreeSet<_> = deployments::list(tx, scope, "", 10).await?.iter().map(|row| row.id).collect();
            assert_eq!((&named, &listed), (&seen, &seen), "{scope:?}");
            Ok(seen)
        })
        .await
    };
    assert_eq!(seen(Scope::Account(own)).await, BTreeSet::from([mine.id]));
    assert_eq!(seen(Scope::Account(other)).await, BTreeSet::from([theirs.id]));
    assert_eq!(seen(Scope::Account(id())).await, BTreeSet::new());
    assert_eq!(seen(Scope::Nothing).await, BTreeSet::new());
    assert_eq!(seen(Scope::Every).await, BTreeSet::from([mine.id, theirs.id]));
}

pub(crate) async fn a_name_is_taken_until_its_deployment_is_terminated(store: Store) {
    let account = account(&store).await;
    let mut first = deployment(&store, account, "web").await;
    let (second, _) = some_deployment(account, "web");
    let create = async |tx: &mut Tx| deployments::create(tx, &second).await;
    assert!(!write(&store, create).await);
    advance(&store, &mut first, Event::Delete).await;
    assert!(!write(&store, create).await);
    advance(&store, &mut first, Event::DataGone).await;
    assert!(write(&store, create).await);
    let named = read(&store, async |tx| deployments::named(tx, Scope::Every, "web").await).await;
    assert_eq!(named.iter().map(|row| row.id).collect::<Vec<_>>(), [second.id, first.id]);
}

pub(crate) async fn of_two_changes_to_one_version_the_second_is_refused(store: Store) {
    let mut one = deployment(&store, account(&store).await, "web").await;
    let mut other = one.clone();
    one.epoch = Epoch(1);
    write(&store, async |tx| deployments::update(tx, &mut one).await).await;
    other.epoch = Epoch(9);
    let refused = store.write(Commit::Place, async |tx| deployments::update(tx, &mut other).await).await;
    assert!(matches!(refused, Err(StoreError::Raced { .. })), "{refused:?}");
    assert_eq!(get(&store, one.id).await.epoch, Epoch(1));
    // Whoever reads it again may go on.
    one.epoch = Epoch(2);
    write(&store, async |tx| deployments::update(tx, &mut one).await).await;
}

pub(crate) async fn a_transition_and_its_line_are_one_commit(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    place(&store, &mut row).await;
    // All in one moment: lines are in the order in which they were written.
    for event in [Event::Pulling, Event::Preparing, Event::Started, Event::Ready] {
        advance(&store, &mut row, event).await;
    }
    let lines = read(&store, async |tx| timeline::latest(tx, row.id, 10).await).await;
    let states: Vec<_> = lines.iter().map(|line| line.state).collect();
    assert_eq!(states, [State::Provisioning, State::Configuring, State::Starting, State::Running]);
    assert_eq!(lines[0].cause, "placed on a host");
    let latest = read(&store, async |tx| timeline::latest(tx, row.id, 1).await).await;
    assert_eq!(latest, lines[3..]);
}

pub(crate) async fn a_timeline_keeps_its_first_line_and_the_latest(store: Store) {
    let row = deployment(&store, account(&store).await, "web").await;
    let written = timeline::LINES_MAX + 5;
    let write_all = async |tx: &mut Tx| {
        for number in 1..=written {
            let cause = number.to_string();
            let entry = TimelineEntry {
                id: id(),
                account: row.account,
                deployment: row.id,
                at: NOW,
                state: State::Requested,
                cause,
                reason: None,
            };
            timeline::append(tx, &entry).await?;
        }
        Ok(())
    };
    write(&store, write_all).await;
    let lines = read(&store, async |tx| timeline::latest(tx, row.id, 2 * written).await).await;
    let causes: Vec<_> = lines.iter().map(|line| line.cause.as_str()).collect();
    assert_eq!(causes.len(), timeline::LINES_MAX as usize);
    assert_eq!((causes[0], causes[1]), ("1", "7"));
    assert_eq!(causes.last(), Some(&written.to_string().as_str()));
}

pub(crate) async fn a_transition_that_is_no_news_changes_nothing(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    let full = || Event::Unplaceable(Reason::new("pool-full", "no room"));
    assert!(advance(&store, &mut row, full()).await);
    let version = row.version;
    assert!(!advance(&store, &mut row, full()).await);
    assert_eq!(get(&store, row.id).await.version, version);
    assert_eq!(read(&store, async |tx| timeline::latest(tx, row.id, 10).await).await.len(), 1);
}

pub(crate) async fn a_terminated_deployments_files_are_destroyed(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    let host = place(&store, &mut row).await;
    let of = SealedFor { account: row.account, deployment: row.id, host };
    let [_, token] = some_files();
    write(&store, async |tx| sealed::keep(tx, of, &token, b"sealed").await).await;
    let left = async |store: &Store| {
        read(store, async |tx| {
            let files = revisions::files(tx, of.deployment, Revision(1)).await?.len();
            Ok((files, sealed::on_host(tx, host).await?.values().map(BTreeMap::len).sum::<usize>()))
        })
        .await
    };
    advance(&store, &mut row, Event::Delete).await;
    assert_eq!(left(&store).await, (2, 1));
    advance(&store, &mut row, Event::DataGone).await;
    assert_eq!(left(&store).await, (0, 0));
    // What it was made from stays, for its history.
    read(&store, async |tx| revisions::get(tx, row.id, row.revision).await).await;
}

pub(crate) async fn a_renumbered_revision_has_the_same_content(store: Store) {
    let row = deployment(&store, account(&store).await, "web").await;
    write(&store, async |tx| revisions::renumber(tx, row.id, Revision(1), Revision(7), NOW).await).await;
    let (mut one, seven) = read(&store, async |tx| {
        Ok((revisions::get(tx, row.id, Revision(1)).await?, revisions::get(tx, row.id, Revision(7)).await?))
    })
    .await;
    one.blueprint.revision = Revision(7);
    assert_eq!(one, seven);
    let files = read(&store, async |tx| revisions::files(tx, row.id, Revision(7)).await).await;
    // What they are bound to stays: they decrypt as what they were encrypted as.
    assert_eq!(files.into_values().collect::<Vec<_>>(), some_files());
}

pub(crate) async fn what_a_new_revision_does_not_change_stays_as_it_was_sealed(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    let host = place(&store, &mut row).await;
    let of = SealedFor { account: row.account, deployment: row.id, host };
    let [config, token] = some_files();
    for file in [&config, &token] {
        write(&store, async |tx| sealed::keep(tx, of, file, file.name.as_bytes()).await).await;
    }
    let mut next = read(&store, async |tx| revisions::get(tx, row.id, Revision(1)).await).await;
    next.blueprint.revision = Revision(2);
    let changed = StoredFile { version: 2, ..token };
    row.revision = Revision(2);
    let revise = async |tx: &mut Tx| {
        revisions::create(tx, &next, &[config, changed]).await?;
        deployments::update(tx, &mut row).await
    };
    write(&store, revise).await;
    let (mut left, missing) =
        read(&store, async |tx| Ok((sealed::on_host(tx, host).await?, sealed::missing(tx, host).await?))).await;
    assert_eq!(left.remove(&row.id), Some([("echo.conf".to_owned(), b"echo.conf".to_vec())].into()));
    let missing: Vec<_> = missing.into_iter().map(|(_, file)| (file.name, file.version)).collect();
    assert_eq!(missing, [("token".to_owned(), 2)]);
}

pub(crate) async fn pages_follow_each_other_without_gaps(store: Store) {
    let account = account(&store).await;
    let mut made = BTreeSet::new();
    for number in 0..7 {
        made.insert(deployment(&store, account, &format!("web-{number}")).await.id.to_string());
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = read(&store, async |tx| deployments::list(tx, Scope::Account(account), &after, 3).await).await;
        let Some(last) = page.last() else { break };
        after = last.id.to_string();
        seen.extend(page.iter().map(|row| row.id.to_string()));
    }
    assert_eq!(seen, made.into_iter().collect::<Vec<_>>());
}

pub(crate) async fn what_hosts_hold_is_the_sum_of_their_deployments(store: Store) {
    let account = account(&store).await;
    let mut one = deployment(&store, account, "one").await;
    let host = place(&store, &mut one).await;
    let mut two = deployment(&store, account, "two").await;
    two.host = Some(host);
    advance(&store, &mut two, Event::Placed).await;
    let held = async || read(&store, async |tx| deployments::allocated(tx).await).await;
    let both = Capacity {
        cpu_millis: 2 * one.size.cpu_millis,
        memory_bytes: 2 * one.size.memory_bytes,
        storage_bytes: 2 * one.size.storage_bytes,
    };
    assert_eq!(held().await, [(host, both, 2)]);
    // What is on its way out still takes its room, and its storage until its data is gone.
    advance(&store, &mut two, Event::Delete).await;
    let order = Tombstone {
        id: id(),
        deployment: two.id,
        account: two.account,
        scope: TombstoneScope::Container,
        stop_grace: Duration::from_secs(3),
    };
    write(&store, async |tx| tombstones::create(tx, host, &order, NOW).await).await;
    assert_eq!(held().await, [(host, both, 2)]);
    write(&store, async |tx| tombstones::bury(tx, order.id, NOW).await).await;
    let kept = Capacity { storage_bytes: both.storage_bytes, ..one.size };
    assert_eq!(held().await, [(host, kept, 1)]);
    let long_after = NOW + Duration::from_secs(1_000_000);
    assert_eq!(write(&store, async |tx| tombstones::sweep(tx, long_after).await).await, 0);
    assert_eq!(held().await, [(host, kept, 1)]);
    advance(&store, &mut two, Event::DataGone).await;
    assert_eq!(held().await, [(host, one.size, 1)]);
}

pub(crate) async fn operations_are_answered_once(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    let host = place(&store, &mut row).await;
    let operation = Operation { id: id(), action: OperationAction::Restart };
    write(&store, async |tx| operations::create(tx, row.account, row.id, &operation, NOW).await).await;
    let waiting = read(&store, async |tx| operations::unanswered(tx, row.id).await).await;
    assert_eq!(waiting, std::slice::from_ref(&operation));
    let on_host = read(&store, async |tx| operations::unanswered_on_host(tx, host).await).await;
    assert_eq!(on_host, [(row.id, operation.clone())]);
    let done = Outcome::Done { at: NOW };
    let answer = async |tx: &mut Tx| operations::answer(tx, operation.id, &done, NOW).await;
    assert!(write(&store, answer).await);
    assert!(!write(&store, answer).await);
    assert_eq!(read(&store, async |tx| operations::unanswered(tx, row.id).await).await, []);
    // After a restore whatever waits is answered at once; what was answered keeps its answer.
    let late = Operation { id: id(), action: OperationAction::Restart };
    write(&store, async |tx| operations::create(tx, row.account, row.id, &late, NOW).await).await;
    let refused = Outcome::Refused { reason: Reason::new("restored", "the store was restored") };
    let later = NOW + Duration::from_secs(5);
    assert_eq!(write(&store, async |tx| operations::answer_all(tx, &refused, later).await).await, 1);
    assert_eq!(read(&store, async |tx| operations::unanswered(tx, row.id).await).await, []);
    assert_eq!(write(&store, async |tx| operations::sweep(tx, NOW + Duration::from_secs(1)).await).await, 1);
}

pub(crate) async fn tombstones_are_buried_once(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    let host = place(&store, &mut row).await;
    let tombstone = |scope| Tombstone {
        id: id(),
        deployment: row.id,
        account: row.account,
        scope,
        stop_grace: Duration::from_millis(3_500),
    };
    let container = tombstone(TombstoneScope::Container);
    let ordered = async || read(&store, async |tx| tombstones::data_is_ordered_away(tx, row.id).await).await;
    let waiting = async || read(&store, async |tx| tombstones::unburied(tx, host).await).await;
    write(&store, async |tx| tombstones::create(tx, host, &container, NOW).await).await;
    assert_eq!((waiting().await, ordered().await), (vec![container.clone()], false));
    let bury = async |tx: &mut Tx| tombstones::bury(tx, container.id, NOW).await;
    assert!(write(&store, bury).await);
    assert!(!write(&store, bury).await);
    let data = tombstone(TombstoneScope::Data);
    write(&store, async |tx| tombstones::create(tx, host, &data, NOW).await).await;
    assert_eq!((waiting().await, ordered().await), (vec![data], true));
    let sweep = async || write(&store, async |tx| tombstones::sweep(tx, NOW + Duration::from_secs(1)).await).await;
    assert_eq!(sweep().await, 0, "the deployment is not gone");
    let mut gone = row.clone();
    advance(&store, &mut gone, Event::Delete).await;
    advance(&store, &mut gone, Event::DataGone).await;
    assert_eq!(sweep().await, 1);
}

pub(crate) async fn a_sealed_file_stays_as_it_was_first_sealed(store: Store) {
    let mut row = deployment(&store, account(&store).await, "web").await;
    let host = place(&store, &mut row).await;
    let of = SealedFor { account: row.account, deployment: row.id, host };
    let [_, token] = some_files();
    for ciphertext in [&b"first"[..], b"second"] {
        write(&store, async |tx| sealed::keep(tx, of, &token, ciphertext).await).await;
    }
    let mut kept = read(&store, async |tx| sealed::on_host(tx, host).await).await;
    assert_eq!(kept.remove(&row.id), Some([("token".to_owned(), b"first".to_vec())].into()));
    let missing = read(&store, async |tx| sealed::missing(tx, host).await).await;
    let missing: Vec<_> = missing.iter().map(|(of, file)| (of.deployment, file.name.as_str())).collect();
    assert_eq!(missing, [(row.id, "echo.conf")]);
    // What is on its way out needs nothing sealed.
    advance(&store, &mut row, Event::Delete).await;
    assert_eq!(read(&store, async |tx| sealed::missing(tx, host).await).await, []);
}

pub(crate) async fn each_host_is_known_with_the_tenants_on_it(store: Store) {
    let (own, other) = (account(&store).await, account(&store).await);
    let mut mine = deployment(&store, own, "web").await;
    let host = place(&store, &mut mine).await;
    let mut theirs = deployment(&store, other, "web").await;
    theirs.host = Some(host);
    advance(&store, &mut theirs, Event::Placed).await;
    let tenants = async || read(&store, async |tx| deployments::tenants(tx).await).await;
    assert_eq!(tenants().await, BTreeMap::from([(host, BTreeSet::from([own, other]))]));
    advance(&store, &mut theirs, Event::Delete).await;
    assert_eq!(tenants().await[&host].len(), 2, "its data is there still");
    advance(&store, &mut theirs, Event::DataGone).await;
    assert_eq!(tenants().await, BTreeMap::from([(host, BTreeSet::from([own]))]));
}
