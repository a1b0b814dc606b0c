//! Secrets by name, and which key wraps what.

use std::collections::BTreeMap;

use launchpad_coordinator::store::keys::{self, FileRow};
use launchpad_coordinator::store::{Commit, Store, StoreError, Tx, revisions, secrets};
use launchpad_pki::envelope::Envelope;
use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::RotationId;
use launchpad_protocol::reason::Reason;

use super::rows::{NOW, account, deployment, id, read, write};

/// The key that wraps the files of [`super::rows`].
const OLD: &str = "key";
const NEW: &str = "another key";

fn rewrapped() -> Envelope {
    Envelope { key_id: NEW.to_owned(), wrapped_key: vec![3], ciphertext: vec![2] }
}

async fn otherwise(store: &Store, after: &FileRow, limit: u32) -> Vec<FileRow> {
    let found = read(store, async |tx| keys::wrapped_otherwise(tx, NEW, after, limit).await).await;
    found.into_iter().map(|(at, _)| at).collect()
}

pub(crate) async fn secrets_are_listed_without_the_config_and_destroyed_in_every_revision(store: Store) {
    let row = deployment(&store, account(&store).await, "web").await;
    write(&store, async |tx| revisions::renumber(tx, row.id, Revision(1), Revision(2), NOW).await).await;
    let list = async |revision| {
        let list = async |tx: &mut Tx| secrets::list(tx, row.id, Revision(revision), "echo.conf").await;
        read(&store, list).await.into_iter().map(|one| (one.name, one.version, one.set_at)).collect::<Vec<_>>()
    };
    // A file that did not change is still of the revision that brought it.
    for revision in [1, 2] {
        assert_eq!(list(revision).await, [("token".to_owned(), Revision(1), NOW)]);
    }
    write(&store, async |tx| secrets::destroy(tx, row.id, "token").await).await;
    for revision in [1, 2] {
        assert_eq!(list(revision).await, []);
        let files = read(&store, async |tx| revisions::files(tx, row.id, Revision(revision)).await).await;
        assert_eq!(files.keys().collect::<Vec<_>>(), ["echo.conf"]);
    }
}

pub(crate) async fn what_another_key_wraps_is_found_page_by_page(store: Store) {
    let owner = account(&store).await;
    for name in ["one", "two", "three"] {
        deployment(&store, owner, name).await;
    }
    let all = otherwise(&store, &FileRow::default(), 100).await;
    assert_eq!(all.len(), 6);
    let (mut seen, mut after) = (Vec::new(), FileRow::default());
    loop {
        let page = otherwise(&store, &after, 4).await;
        let Some(last) = page.last() else { break };
        after = last.clone();
        seen.extend(page);
    }
    assert_eq!(seen, all);
    let rewrap = async |tx: &mut Tx| keys::rewrap(tx, &all[0], OLD, &rewrapped()).await;
    write(&store, rewrap).await;
    assert_eq!(otherwise(&store, &FileRow::default(), 100).await, all[1..]);
    let counts = read(&store, async |tx| keys::counts(tx).await).await;
    assert_eq!(counts, BTreeMap::from([(NEW.to_owned(), 1), (OLD.to_owned(), 5)]));
}

pub(crate) async fn a_key_is_retired_when_nothing_is_wrapped_with_it_and_wraps_nothing_afterwards(store: Store) {
    let row = deployment(&store, account(&store).await, "web").await;
    let retire = async || write(&store, async |tx| keys::retire_unused(tx, OLD, NOW).await).await;
    assert!(!retire().await);
    let files = read(&store, async |tx| revisions::files(tx, row.id, Revision(1)).await).await;
    for at in otherwise(&store, &FileRow::default(), 100).await {
        write(&store, async |tx| keys::rewrap(tx, &at, OLD, &rewrapped()).await).await;
    }
    // Whatever was rewrapped meanwhile by somebody else stays.
    let at = FileRow { deployment: row.id.to_string(), revision: Revision(1), name: "token".to_owned() };
    let stale = Envelope { key_id: "stale".to_owned(), ..rewrapped() };
    write(&store, async |tx| keys::rewrap(tx, &at, OLD, &stale).await).await;
    let now = read(&store, async |tx| revisions::files(tx, row.id, Revision(1)).await).await;
    assert!(now.values().all(|file| file.envelope == rewrapped()));
    assert!(retire().await && retire().await);
    let late = async |tx: &mut Tx| {
        let mut revision = revisions::get(tx, row.id, Revision(1)).await?;
        revision.blueprint.revision = Revision(2);
        revisions::create(tx, &revision, &files.values().cloned().collect::<Vec<_>>()).await
    };
    let refused = store.write(Commit::Place, late).await;
    assert!(matches!(refused, Err(StoreError::Raced { .. })), "{refused:?}");
}

pub(crate) async fn a_rotation_remembers_its_key_its_trouble_and_its_end(store: Store) {
    let latest = async || read(&store, async |tx| keys::latest(tx).await).await;
    assert_eq!(latest().await, None);
    let rotation: RotationId = id();
    write(&store, async |tx| keys::ask(tx, rotation, NOW).await).await;
    let asked = latest().await.expect("a rotation");
    assert_eq!((asked.id, asked.asked_at, asked.key_id, asked.done_at), (rotation, NOW, None, None));
    for key in [NEW, "a key that was made later"] {
        write(&store, async |tx| keys::made(tx, rotation, key).await).await;
        assert_eq!(latest().await.and_then(|one| one.key_id).as_deref(), Some(NEW));
    }
    let trouble = Reason::new("keys-unusable", "why").mend("so");
    write(&store, async |tx| keys::keep_trouble(tx, rotation, Some(&trouble)).await).await;
    assert_eq!(latest().await.and_then(|one| one.trouble), Some(trouble));
    write(&store, async |tx| keys::finish(tx, rotation, NOW).await).await;
    let done = latest().await.expect("a rotation");
    assert_eq!((done.trouble, done.done_at), (None, Some(NOW)));
}
