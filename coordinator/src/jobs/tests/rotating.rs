//! The key that wraps is changed under everything that it wraps, wherever the coordinator dies.

use launchpad_pki::envelope::Envelope;
use launchpad_protocol::id::DeploymentId;

use crate::app::AppError;
use crate::app::idempotency::Once;
use crate::app::keys::Keys;
use crate::app::lab::{GIB, Lab, LabHost};
use crate::domain::actor::Role;
use crate::domain::refusal::RefusalKind;
use crate::jobs::rotator::{Turn, round};
use crate::store::{Commit, StoreError, Tx, audit, keys, revisions};

/// Deployments: with the config, the given secret and the generated one, more files than one batch has.
const BOTS: usize = 23;

impl Lab {
    async fn keys(&self) -> Keys {
        let operator = self.actor(Role::Operator).await;
        self.app.keys(&operator).await.unwrap()
    }

    async fn rotate(&self) -> Result<Keys, AppError> {
        let operator = self.actor(Role::Operator).await;
        self.app.rotate_keys(&operator, &Once::unclaimed()).await
    }

    /// What the job does until there is nothing left to do.
    async fn rotated(&self) {
        let mut turn = Turn::default();
        while round(&self.app, &mut turn).await.unwrap() {}
    }

    /// Whether every secret still opens on its host.
    async fn all_open(&self, host: &LabHost, bots: &[DeploymentId]) {
        let spec = self.spec(host).await;
        for bot in bots {
            assert_eq!(host.opened(&spec.instances[bot])["key"], "geheim");
        }
    }
}

async fn bots(lab: &Lab) -> Vec<DeploymentId> {
    let mut bots = Vec::new();
    for number in 0..BOTS {
        bots.push(lab.create(&format!("web-{number}")).await);
    }
    bots
}

#[tokio::test]
async fn everything_is_wrapped_with_the_new_key_and_the_old_one_is_gone() {
    let lab = Lab::new().await;
    let (host, bots) = (lab.host(100 * GIB).await, bots(&lab).await);
    let before = lab.keys().await;
    let files = before.wraps[&before.current];
    assert!(files > 64, "{files} files are one batch");
    lab.rotate().await.unwrap();
    lab.rotated().await;
    let after = lab.keys().await;
    assert_ne!(after.current, before.current);
    assert_eq!(after.wraps, [(after.current.clone(), files)].into());
    let rotation = after.rotation.unwrap();
    assert!(rotation.done_at.is_some() && rotation.trouble.is_none());
    // Sealed only now: each envelope is opened by the new key alone.
    lab.settle().await;
    lab.all_open(&host, &bots).await;
    let log = lab.read(async |tx| audit::all(tx).await).await;
    assert_eq!(log.iter().filter(|(entry, _)| entry.action == "keys.rotate").count(), 1);
}

#[tokio::test]
async fn a_coordinator_killed_after_any_step_goes_on_and_loses_nothing() {
    let mut lab = Lab::new().await;
    let (host, bots) = (lab.host(100 * GIB).await, bots(&lab).await);
    let old = lab.keys().await.current;
    lab.rotate().await.unwrap();
    // The key is made by the first step; two batches and the end follow. Each is taken by a process of its
    // own.
    let mut steps = 0;
    while lab.keys().await.rotation.unwrap().done_at.is_none() {
        round(&lab.app, &mut Turn::default()).await.unwrap();
        lab = lab.killed().await;
        steps += 1;
        assert!(steps < 10, "it does not end");
    }
    assert_eq!(steps, 4);
    assert!(!lab.keys().await.wraps.contains_key(&old));
    lab.settle().await;
    lab.all_open(&host, &bots).await;
}

#[tokio::test]
async fn a_key_that_was_made_and_never_noted_goes_with_the_old_one() {
    let lab = Lab::new().await;
    lab.create("web").await;
    lab.rotate().await.unwrap();
    lab.app.keys.rotate().await.unwrap();
    let lab = lab.killed().await;
    lab.rotated().await;
    assert_eq!((lab.keys().await.wraps.len(), lab.app.keys.older()), (1, Vec::new()));
}

#[tokio::test]
async fn what_was_encrypted_just_before_its_key_went_is_refused_and_not_lost() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let row = lab.row(id).await;
    let files = async |tx: &mut Tx| revisions::files(tx, id, row.revision).await;
    let stale: Vec<_> = lab.read(files).await.into_values().collect();
    lab.rotate().await.unwrap();
    lab.rotated().await;
    let late = async |tx: &mut Tx| {
        let mut revision = revisions::get(tx, id, row.revision).await?;
        revision.blueprint.revision = row.revision.next();
        revisions::create(tx, &revision, &stale).await
    };
    let refused = lab.app.store.write::<_, StoreError>(Commit::SetSecret, late).await;
    assert!(matches!(refused, Err(StoreError::Raced { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_does_not_open_keeps_its_key_and_is_told() {
    let lab = Lab::new().await;
    let (broken, well) = (lab.create("broken").await, lab.create("well").await);
    let old = lab.keys().await.current;
    lab.spoil_files(broken).await;
    lab.rotate().await.unwrap();
    lab.rotated().await;
    let now = lab.keys().await;
    let rotation = now.rotation.clone().unwrap();
    let trouble = rotation.trouble.expect("a trouble");
    assert!(rotation.done_at.is_none() && trouble.sentence.contains(&broken.to_string()), "{trouble}");
    assert_eq!((now.wraps[&old], now.wraps[&now.current]), (3, 3));
    let row = lab.row(well).await;
    let files = lab.read(async |tx| revisions::files(tx, well, row.revision).await).await;
    assert!(files.values().all(|file| file.envelope.key_id == now.current));
    // Another one cannot be asked for meanwhile.
    let Err(AppError::Refused(refusal)) = lab.rotate().await else { panic!("another one") };
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Conflict, "rotation-under-way"));
    assert!(refusal.to_string().contains(&broken.to_string()));
    // Once the file is gone, so is the key.
    lab.write(async |tx| revisions::destroy_files(tx, broken).await).await;
    lab.rotated().await;
    assert_eq!(lab.keys().await.wraps, [(now.current, 3)].into());
}

#[tokio::test]
async fn only_operators_rotate_and_only_staff_see_the_keys() {
    let lab = Lab::new().await;
    for (role, may_read, may_rotate) in
        [(Role::Owner, false, false), (Role::OnCall, true, false), (Role::Operator, true, true)]
    {
        let actor = lab.actor(role).await;
        assert_eq!(lab.app.keys(&actor).await.is_ok(), may_read, "{role}");
        assert_eq!(lab.app.rotate_keys(&actor, &Once::unclaimed()).await.is_ok(), may_rotate, "{role}");
    }
}

#[tokio::test]
async fn a_rewrapped_envelope_is_not_put_over_one_that_came_meanwhile() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let row = lab.row(id).await;
    let rewrapped = Envelope { key_id: "local:another".to_owned(), wrapped_key: vec![1], ciphertext: vec![2] };
    let first = async |tx: &mut Tx| keys::wrapped_otherwise(tx, "", &Default::default(), 1).await;
    let (at, _) = lab.read(first).await.remove(0);
    lab.write(async |tx| keys::rewrap(tx, &at, "a key that it had before", &rewrapped).await).await;
    let files = lab.read(async |tx| revisions::files(tx, id, row.revision).await).await;
    assert!(files.values().all(|file| file.envelope != rewrapped));
}
