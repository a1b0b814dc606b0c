//! A secret that changes reaches its host, and the bot's other files stay as they are.

use launchpad_protocol::spec::{InstanceSpec, OperationAction};

use crate::app::AppError;
use crate::app::lab::{GIB, Lab, LabHost, named};
use crate::app::secrets::SecretChanged;
use crate::command::{RemoveSecret, Secret, SecretRef, SetSecret};
use crate::domain::actor::Role;
use crate::domain::deployment::{Event, State};
use crate::domain::refusal::RefusalKind;
use crate::domain::secrets::Effect;
use crate::store::{StoreError, audit, revisions, timeline};
use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::DeploymentId;

/// A running bot of the tiny profile, which generates `token`; its owner gave it `key`.
struct Bench {
    lab: Lab,
    host: LabHost,
    id: DeploymentId,
}

impl Bench {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let host = lab.host(4 * GIB).await;
        let id = lab.create("web").await;
        lab.settle().await;
        lab.happen(id, Event::Ready).await;
        Self { lab, host, id }
    }

    fn secret(&self, name: &str) -> SecretRef {
        SecretRef::new(named(self.id), name).unwrap()
    }

    async fn try_set(&self, name: &str, value: &str, restart: bool) -> Result<SecretChanged, AppError> {
        let command = SetSecret::new(self.secret(name), Secret::new(value.to_owned()), restart).unwrap();
        let member = self.lab.actor(Role::Member).await;
        let changed = self.lab.app.set_secret(&member, command).await;
        self.lab.settle().await;
        changed
    }

    async fn set(&self, name: &str, value: &str) -> SecretChanged {
        self.try_set(name, value, false).await.unwrap()
    }

    async fn remove(&self, name: &str) -> Result<SecretChanged, AppError> {
        let member = self.lab.actor(Role::Member).await;
        let command = RemoveSecret { secret: self.secret(name), restart: false };
        let removed = self.lab.app.remove_secret(&member, command).await;
        self.lab.settle().await;
        removed
    }

    async fn spec(&self) -> InstanceSpec {
        self.lab.spec(&self.host).await.instances[&self.id].clone()
    }

    /// What its host would write.
    async fn opened(&self, name: &str) -> Option<String> {
        self.host.opened(&self.spec().await).remove(name)
    }
}

fn ciphertext<'a>(spec: &'a InstanceSpec, name: &str) -> &'a [u8] {
    &spec.files.iter().find(|file| file.name == name).unwrap().ciphertext
}

#[tokio::test]
async fn a_changed_secret_reaches_its_host_under_the_same_container() {
    let bench = Bench::new().await;
    let before = bench.spec().await;
    let changed = bench.set("key", "neu").await;
    assert_eq!((changed.version, changed.revision), (Some(Revision(2)), Revision(2)));
    let after = bench.spec().await;
    assert_eq!((after.revision, after.recreate_hash), (Revision(2), before.recreate_hash));
    assert_eq!(bench.opened("key").await.as_deref(), Some("neu"));
    for same in ["echo.conf", "token"] {
        assert_eq!(ciphertext(&after, same), ciphertext(&before, same), "{same} would be written anew");
    }
    assert_eq!(bench.lab.row(bench.id).await.state, State::Updating);
    let lines = bench.lab.read(async |tx| timeline::latest(tx, bench.id, 1).await).await;
    assert_eq!(lines[0].cause, "a secret was set");
}

#[tokio::test]
async fn two_changes_in_a_row_are_two_revisions() {
    let bench = Bench::new().await;
    bench.set("key", "eins").await;
    bench.set("key", "zwei").await;
    bench.set("lock", "drei").await;
    assert_eq!(bench.spec().await.revision, Revision(4));
    assert_eq!(bench.opened("key").await.as_deref(), Some("zwei"));
    assert_eq!(bench.opened("lock").await.as_deref(), Some("drei"));
    let lines = bench.lab.read(async |tx| timeline::latest(tx, bench.id, 3).await).await;
    assert!(lines.iter().all(|line| line.cause == "a secret was set"), "{lines:?}");
}

#[tokio::test]
async fn the_same_value_again_changes_nothing() {
    let bench = Bench::new().await;
    let before = bench.spec().await;
    let changed = bench.try_set("key", "geheim", true).await.unwrap();
    assert_eq!((changed.effect, changed.revision, changed.restart), (Effect::Unchanged, Revision(1), None));
    assert_eq!(bench.spec().await, before);
    assert_eq!(bench.lab.row(bench.id).await.state, State::Running);
}

#[tokio::test]
async fn a_wanted_restart_is_ordered_with_the_change_and_only_if_there_is_anything_for_it_to_do() {
    let bench = Bench::new().await;
    let changed = bench.try_set("key", "neu", true).await.unwrap();
    let spec = bench.spec().await;
    assert_eq!(spec.operations.iter().map(|one| one.id).collect::<Vec<_>>(), changed.restart.as_slice());
    assert_eq!(spec.operations[0].action, OperationAction::Restart);
    // What has no host yet starts with it.
    let waiting = bench.lab.try_create("large", "pro").await.unwrap().id;
    let bench = Bench { id: waiting, ..bench };
    let changed = bench.try_set("key", "neu", true).await.unwrap();
    assert_eq!((changed.effect, changed.restart), (Effect::AtStart, None));
}

#[tokio::test]
async fn a_removed_secret_is_gone_from_every_revision() {
    let bench = Bench::new().await;
    bench.set("key", "neu").await;
    let removed = bench.remove("key").await.unwrap();
    assert_eq!((removed.version, removed.revision), (None, Revision(3)));
    assert_eq!(bench.opened("key").await, None);
    for revision in 1..=3 {
        let files = bench.lab.read(async |tx| revisions::files(tx, bench.id, Revision(revision)).await).await;
        assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["echo.conf", "token"], "{revision}");
    }
    // The next one of that name is another, of a version that never was.
    bench.set("key", "wieder").await;
    assert_eq!(bench.opened("key").await.as_deref(), Some("wieder"));
}

#[tokio::test]
async fn what_the_workload_needs_stays() {
    let bench = Bench::new().await;
    let Err(AppError::Refused(refusal)) = bench.remove("token").await else { panic!("removed") };
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Impossible, "secret-needed"));
    assert_eq!(bench.set("token", "mine").await.version, Some(Revision(2)));
    assert_eq!(bench.opened("token").await.as_deref(), Some("mine"));
}

#[tokio::test]
async fn only_the_latest_revisions_keep_their_files() {
    let bench = Bench::new().await;
    let changes = revisions::FILES_KEPT + 2;
    for number in 0..changes {
        bench.set("key", &format!("value {number}")).await;
    }
    let newest = 1 + changes;
    for revision in 1..=newest {
        let files = bench.lab.read(async |tx| revisions::files(tx, bench.id, Revision(revision)).await).await;
        assert_eq!(files.len(), if revision > newest - revisions::FILES_KEPT { 3 } else { 0 }, "{revision}");
    }
    // A file that never changed is still the one of the first revision.
    assert_eq!(bench.spec().await.files[0].version, Revision(1));
    assert_eq!(bench.opened("echo.conf").await.as_deref(), Some("label = mine"));
}

#[tokio::test]
async fn names_and_versions_are_shown_and_values_are_not() {
    let bench = Bench::new().await;
    bench.set("key", "neu").await;
    let viewer = bench.lab.actor(Role::Viewer).await;
    let shown = bench.lab.app.secrets(&viewer, &named(bench.id)).await.unwrap();
    let told: Vec<_> = shown.iter().map(|one| (one.name.as_str(), one.version.0, one.needed)).collect();
    assert_eq!(told, [("key", 2, false), ("token", 1, true)]);
    let log = bench.lab.read(async |tx| audit::all(tx).await).await;
    let (last, _) = log.last().unwrap();
    assert_eq!((last.action.as_str(), last.detail.as_str()), ("secret.set", "key"));
    assert!(!format!("{shown:?} {log:?}").contains("neu"));
}

#[tokio::test]
async fn of_two_who_change_at_once_one_is_told_to_look_again() {
    let bench = Bench::new().await;
    let member = bench.lab.actor(Role::Member).await;
    let set = |value: &str| SetSecret::new(bench.secret("key"), Secret::new(value.to_owned()), false).unwrap();
    let (one, two) =
        tokio::join!(bench.lab.app.set_secret(&member, set("a")), bench.lab.app.set_secret(&member, set("b")));
    let raced = |answer: &Result<_, AppError>| matches!(answer, Err(AppError::Store(StoreError::Raced { .. })));
    assert_eq!([raced(&one), raced(&two)].iter().filter(|raced| **raced).count(), 1, "{one:?} {two:?}");
    bench.lab.settle().await;
    let value = bench.opened("key").await.unwrap();
    assert_eq!(value, if raced(&one) { "b" } else { "a" });
}
