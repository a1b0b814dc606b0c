//! Secrets of a deployment that exists: look, set, take away.
//!
//! ```text
//!   read: deployment, revision n, files ─► may it? another value? ─► encrypt: a key provider may be far away
//!     └─► one transaction: still revision n? ─► commit n+1 ─► restart, if wanted ─► audit
//! ```
//! A value comes in with a command and goes out encrypted: no answer, no error and no audit entry holds one.

use launchpad_pki::envelope::{Envelope, EnvelopeContext};
use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::OperationId;
use launchpad_protocol::profile::Profile;
use launchpad_protocol::time::Moment;

use super::deployments::{find, find_to_change, record};
use super::revise::{self, Content};
use super::{App, AppError};
use crate::command::{DeploymentRef, RemoveSecret, Secret, SecretRef, SetSecret};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::deployment::State;
use crate::domain::refusal::Refusal;
use crate::domain::secrets::{Change, Effect};
use crate::store::deployments::Deployment;
use crate::store::revisions::StoredFile;
use crate::store::secrets::SecretRow;
use crate::store::{Commit, StoreError, Tx, revisions, secrets};

/// A secret as it is shown: all but its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretView {
    /// What it is called.
    pub name: String,
    /// The revision that brought its value.
    pub version: Revision,
    /// When.
    pub set_at: Moment,
    /// Whether the workload cannot do without it.
    pub needed: bool,
    /// The variables that hand it over, where the workload takes it no other way.
    pub variables: Vec<String>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretChanged {
    /// Which secret.
    pub name: String,
    /// The version of its value; none: it was taken away.
    pub version: Option<Revision>,
    /// The deployment's revision now.
    pub revision: Revision,
    /// When the bot goes by it.
    pub effect: Effect,
    /// The restart that was asked for, if there is anything for it to do.
    pub restart: Option<OperationId>,
}

/// What a change starts from.
struct Before {
    deployment: Deployment,
    content: Content,
}

impl SecretView {
    fn of(row: SecretRow, profile: &Profile) -> Self {
        let given = profile.secrets.environment.iter().filter(|(_, secret)| **secret == row.name);
        Self {
            needed: profile.secrets.generated.contains(&row.name),
            variables: given.map(|(variable, _)| variable.clone()).collect(),
            name: row.name,
            version: row.version,
            set_at: row.set_at,
        }
    }
}

impl App {
    /// The secrets of a deployment by name.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may see; or the store failed.
    pub async fn secrets(&self, actor: &Actor, target: &DeploymentRef) -> Result<Vec<SecretView>, AppError> {
        let list = async |tx: &mut Tx| {
            let deployment = find(tx, actor, target).await?;
            authorise(actor, Action::ReadDeployments(deployment.account))?;
            let profile = revisions::get(tx, deployment.id, deployment.revision).await?.profile;
            let rows = secrets::list(tx, deployment.id, deployment.revision, &profile.config.file).await?;
            let views = rows.into_iter().map(|row| SecretView::of(row, &profile)).collect::<Vec<_>>();
            Ok::<_, AppError>((deployment, views))
        };
        let (deployment, views) = self.store.read(list).await?;
        self.note_view(actor, "secret.list", Some(deployment.account), deployment.id.to_string()).await?;
        Ok(views)
    }

    /// Gives a secret a value. The value that it has already changes nothing.
    ///
    /// # Errors
    /// A refusal when there is no deployment that the actor may change, it cannot be changed any more, or
    /// there is no room for the value; somebody else changed it meanwhile; or the store or the key provider
    /// failed.
    pub async fn set_secret(&self, actor: &Actor, command: SetSecret) -> Result<SecretChanged, AppError> {
        let name = command.secret.name.as_str();
        let before = self.before_change(actor, &command.secret).await?;
        let next = before.next(Change::Set, name)?;
        if self.has_value(&before, name, &command.value).await {
            return Ok(before.unchanged(name));
        }
        let file = self.encrypted(&before, name, &command.value).await?;
        let next = next.with(name, Some(file));
        self.commit_secret(actor, &command.secret, (Change::Set, before, next), command.restart).await
    }

    /// Takes a secret away, and destroys every value that it had.
    ///
    /// # Errors
    /// A refusal when there is no such secret that the actor may take away, or the workload cannot do without
    /// it; somebody else changed the deployment meanwhile; or the store failed.
    pub async fn remove_secret(&self, actor: &Actor, command: RemoveSecret) -> Result<SecretChanged, AppError> {
        let name = command.secret.name.as_str();
        let before = self.before_change(actor, &command.secret).await?;
        let next = before.next(Change::Remove, name)?.with(name, None);
        self.commit_secret(actor, &command.secret, (Change::Remove, before, next), command.restart).await
    }

    async fn before_change(&self, actor: &Actor, secret: &SecretRef) -> Result<Before, AppError> {
        let read = async |tx: &mut Tx| {
            let deployment = find_to_change(tx, actor, &secret.deployment).await?;
            let content = revise::current(tx, &deployment).await?;
            Ok::<_, AppError>(Before { deployment, content })
        };
        self.store.read(read).await
    }

    /// Whether a secret has that value. One that does not decrypt has another: setting it anew mends it.
    async fn has_value(&self, before: &Before, name: &str, value: &Secret) -> bool {
        let Some(file) = before.content.files.get(name) else { return false };
        let context = file.context(before.deployment.account, before.deployment.id);
        let known = file.envelope.decrypt(&*self.keys, &context).await;
        known.is_ok_and(|known| known.as_slice() == value.expose().as_bytes())
    }

    async fn encrypted(&self, before: &Before, name: &str, value: &Secret) -> Result<StoredFile, AppError> {
        let (account, deployment) = (before.deployment.account, before.deployment.id);
        let version = before.deployment.revision.next().0;
        let context = EnvelopeContext { account, deployment, file: name.to_owned(), version };
        let value = value.expose().as_bytes();
        let envelope = Envelope::encrypt(&*self.keys, &context, value).await?;
        let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
        Ok(StoredFile { name: name.to_owned(), version, bytes, envelope })
    }

    async fn commit_secret(
        &self,
        actor: &Actor,
        secret: &SecretRef,
        (change, before, next): (Change, Before, Content),
        restart: bool,
    ) -> Result<SecretChanged, AppError> {
        let now = self.clock.wall();
        let name = secret.name.as_str();
        let (commit, action) = match change {
            Change::Set => (Commit::SetSecret, "secret.set"),
            Change::Remove => (Commit::RemoveSecret, "secret.remove"),
        };
        let commit_all = async |tx: &mut Tx| {
            let mut deployment = find_to_change(tx, actor, &secret.deployment).await?;
            // What was encrypted is bound to the number that it was to have.
            if (deployment.id, deployment.revision) != (before.deployment.id, before.deployment.revision) {
                return Err(StoreError::Raced { what: deployment.id.to_string() }.into());
            }
            let was = deployment.state;
            revise::commit(self, tx, &mut deployment, next.clone(), change.cause(), now).await?;
            if change == Change::Remove {
                secrets::destroy(tx, deployment.id, name).await?;
            }
            let effect = before.effect(was, &next);
            let wanted = restart && effect.leaves_work_to_a_restart();
            let operation = if wanted { Some(self.order_restart(tx, &mut deployment, now).await?) } else { None };
            record(tx, actor, action, &deployment, name.to_owned(), now).await?;
            Ok::<_, AppError>(SecretChanged {
                name: name.to_owned(),
                version: next.files.get(name).map(|file| Revision(file.version)),
                revision: deployment.revision,
                effect,
                restart: operation,
            })
        };
        let changed = self.store.write(commit, commit_all).await?;
        self.wake_after_change();
        Ok(changed)
    }
}

impl Before {
    /// The content that follows, still without another value.
    fn next(&self, change: Change, name: &str) -> Result<Content, Refusal> {
        let mut next = self.content.clone();
        let Content { revision, .. } = &self.content;
        next.revision.blueprint = change.apply(name, &revision.profile, &revision.blueprint)?;
        Ok(next)
    }

    fn effect(&self, was: State, next: &Content) -> Effect {
        let before = &self.content.revision;
        Effect::of(was, &before.profile, &before.blueprint, &next.revision.blueprint)
    }

    fn unchanged(&self, name: &str) -> SecretChanged {
        SecretChanged {
            name: name.to_owned(),
            version: self.content.files.get(name).map(|file| Revision(file.version)),
            revision: self.deployment.revision,
            effect: Effect::Unchanged,
            restart: None,
        }
    }
}

impl Content {
    /// The same with another value of a file, or without it.
    fn with(mut self, name: &str, file: Option<StoredFile>) -> Self {
        match file {
            Some(file) => drop(self.files.insert(name.to_owned(), file)),
            None => drop(self.files.remove(name)),
        }
        self
    }
}
