//! Deployments: what each is now. What it was made from is in `revisions`, what happened to it in `timeline`.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId, HostId, TimelineId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capacity;
use launchpad_protocol::time::Moment;

use super::revisions;
use super::row::{Row, to_int, to_json};
use super::timeline::{self, TimelineEntry};
use super::tx::{StoreError, Tx};
use crate::domain::actor::Scope;
use crate::domain::deployment::{State, Transition};
use crate::domain::lease::Policy;

/// A deployment as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The tenant.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// The workload.
    pub profile: String,
    /// The plan's name.
    pub plan: String,
    /// What runs.
    pub image: ImageRef,
    /// Where it may be placed.
    pub pool: String,
    /// What becomes of it when its host falls silent.
    pub policy: Policy,
    /// What it is.
    pub state: State,
    /// Why, where the state alone does not say.
    pub reason: Option<Reason>,
    /// The revision that is wished.
    pub revision: Revision,
    /// The lease under which it may run.
    pub epoch: Epoch,
    /// Where it is placed.
    pub host: Option<HostId>,
    /// What it takes from a host.
    pub size: Capacity,
    /// When it was asked for.
    pub created_at: Moment,
    /// When its state or reason last changed.
    pub changed_at: Moment,
    /// When it was deleted.
    pub deleted_at: Option<Moment>,
    /// Counts its changes; guards them against each other.
    pub version: u64,
}

impl Deployment {
    /// Takes a transition over, in memory. Answers whether it was news.
    pub fn advance(&mut self, transition: &Transition, now: Moment) -> bool {
        let news = transition.is_news(self.reason.as_ref());
        if news {
            self.state = transition.to;
            self.reason.clone_from(&transition.reason);
            self.changed_at = now;
        }
        news
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, name, profile, plan, image, pool, policy, state, reason, revision, epoch, host_id, \
             cpu_millis, memory_bytes, storage_bytes, created_at, changed_at, deleted_at, version FROM deployments ",
            $rest
        )
    };
}

/// How a scope is bound: an account's id, `*` for all, or what no account is called.
fn bound(scope: Scope) -> String {
    match scope {
        Scope::Account(account) => account.to_string(),
        Scope::Every => "*".to_owned(),
        Scope::Nothing => String::new(),
    }
}

/// Adds a deployment. Answers false, and changes nothing, when its account has another of that name.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, new: &Deployment) -> Result<bool, StoreError> {
    let sql = sqlx::query(
        "INSERT INTO deployments (id, account_id, name, profile, plan, image, pool, state, reason, revision, epoch,
         host_id, cpu_millis, memory_bytes, storage_bytes, created_at, changed_at, deleted_at, version, policy)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
         ON CONFLICT (account_id, name) WHERE state <> 'terminated' DO NOTHING",
    )
    .bind(new.id.to_string())
    .bind(new.account.to_string())
    .bind(new.name.clone())
    .bind(new.profile.clone())
    .bind(new.plan.clone())
    .bind(new.image.to_string())
    .bind(new.pool.clone())
    .bind(new.state.as_str())
    .bind(new.reason.as_ref().map(to_json))
    .bind(to_int(new.revision.0))
    .bind(to_int(new.epoch.0))
    .bind(new.host.map(|host| host.to_string()))
    .bind(i64::from(new.size.cpu_millis))
    .bind(to_int(new.size.memory_bytes))
    .bind(to_int(new.size.storage_bytes))
    .bind(new.created_at.micros())
    .bind(new.changed_at.micros())
    .bind(new.deleted_at.map(Moment::micros))
    .bind(to_int(new.version))
    .bind(new.policy.as_str());
    Ok(tx.execute("add a deployment", sql).await? > 0)
}

/// Commits what changed of a deployment since it was read, and raises its version here too. A terminated deployment's
/// configs and secrets are destroyed with it.
///
/// # Errors
/// [`StoreError::Raced`] when somebody else changed it since; or when SQL fails.
pub async fn update(tx: &mut Tx, changed: &mut Deployment) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "UPDATE deployments SET state = $3, reason = $4, revision = $5, epoch = $6, host_id = $7, changed_at = $8,
         deleted_at = $9, plan = $10, cpu_millis = $11, memory_bytes = $12, storage_bytes = $13, version = version + 1
         WHERE id = $1 AND version = $2",
    )
    .bind(changed.id.to_string())
    .bind(to_int(changed.version))
    .bind(changed.state.as_str())
    .bind(changed.reason.as_ref().map(to_json))
    .bind(to_int(changed.revision.0))
    .bind(to_int(changed.epoch.0))
    .bind(changed.host.map(|host| host.to_string()))
    .bind(changed.changed_at.micros())
    .bind(changed.deleted_at.map(Moment::micros))
    .bind(changed.plan.clone())
    .bind(i64::from(changed.size.cpu_millis))
    .bind(to_int(changed.size.memory_bytes))
    .bind(to_int(changed.size.storage_bytes));
    if tx.execute("change a deployment", sql).await? == 0 {
        return Err(StoreError::Raced { what: changed.id.to_string() });
    }
    changed.version += 1;
    if changed.state == State::Terminated {
        revisions::destroy_files(tx, changed.id).await?;
    }
    Ok(())
}

/// Commits a transition and its line in the timeline, with whatever else was changed of the deployment since it was
/// read. Answers false, and changes nothing, when the transition is no news.
///
/// # Errors
/// [`StoreError::Raced`] when somebody else changed it since; or when SQL fails.
pub async fn advance(
    tx: &mut Tx,
    deployment: &mut Deployment,
    transition: &Transition,
    line: TimelineId,
    at: Moment,
) -> Result<bool, StoreError> {
    if !deployment.advance(transition, at) {
        return Ok(false);
    }
    update(tx, deployment).await?;
    let entry = TimelineEntry {
        id: line,
        account: deployment.account,
        deployment: deployment.id,
        at,
        state: transition.to,
        cause: transition.cause.to_owned(),
        reason: transition.reason.clone(),
    };
    timeline::append(tx, &entry).await?;
    Ok(true)
}

/// One deployment, if the scope covers it.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, scope: Scope, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
    let sql = sqlx::query(select!("WHERE id = $1 AND ($2 = '*' OR account_id = $2)"))
        .bind(id.to_string())
        .bind(bound(scope));
    tx.optional("read a deployment", sql).await?.as_ref().map(deployment).transpose()
}

/// The deployments of that name that the scope covers: at most one of an account that is not terminated. Those that
/// are not come last, the newest first.
///
/// # Errors
/// When SQL fails.
pub async fn named(tx: &mut Tx, scope: Scope, name: &str) -> Result<Vec<Deployment>, StoreError> {
    let sql = sqlx::query(select!(
        "WHERE name = $1 AND ($2 = '*' OR account_id = $2)
         ORDER BY CASE WHEN state = 'terminated' THEN 1 ELSE 0 END, id DESC"
    ))
    .bind(name.to_owned())
    .bind(bound(scope));
    tx.all("find a deployment by name", sql).await?.iter().map(deployment).collect()
}

/// The deployments that the scope covers and that are not terminated, by id, from the one after `after`.
///
/// # Errors
/// When SQL fails.
pub async fn list(tx: &mut Tx, scope: Scope, after: &str, limit: u32) -> Result<Vec<Deployment>, StoreError> {
    let sql = sqlx::query(select!(
        "WHERE ($1 = '*' OR account_id = $1) AND state <> 'terminated' AND id > $2 ORDER BY id LIMIT $3"
    ))
    .bind(bound(scope))
    .bind(after.to_owned())
    .bind(i64::from(limit));
    tx.all("list deployments", sql).await?.iter().map(deployment).collect()
}

/// All deployments in that state, by id. For jobs: of every account.
///
/// # Errors
/// When SQL fails.
pub async fn in_state(tx: &mut Tx, state: State) -> Result<Vec<Deployment>, StoreError> {
    let sql = sqlx::query(select!("WHERE state = $1 ORDER BY id")).bind(state.as_str());
    tx.all("list deployments by state", sql).await?.iter().map(deployment).collect()
}

/// All deployments placed on that host and not terminated, by id. For jobs and `fleet`: of every account.
///
/// # Errors
/// When SQL fails.
pub async fn on_host(tx: &mut Tx, host: HostId) -> Result<Vec<Deployment>, StoreError> {
    let sql = sqlx::query(select!("WHERE host_id = $1 AND state <> 'terminated' ORDER BY id")).bind(host.to_string());
    tx.all("list a host's deployments", sql).await?.iter().map(deployment).collect()
}

/// Whose deployments are on each host. Hosts without any are not in it.
///
/// # Errors
/// When SQL fails.
pub async fn tenants(tx: &mut Tx) -> Result<BTreeMap<HostId, BTreeSet<AccountId>>, StoreError> {
    let sql = sqlx::query(
        "SELECT DISTINCT host_id, account_id FROM deployments WHERE host_id IS NOT NULL AND state <> 'terminated'",
    );
    let mut tenants: BTreeMap<HostId, BTreeSet<AccountId>> = BTreeMap::new();
    for row in tx.all("see whose deployments hosts hold", sql).await? {
        tenants.entry(row.parse("host_id")?).or_default().insert(row.parse("account_id")?);
    }
    Ok(tenants)
}

/// What the deployments on each host take together, and how many they are. Hosts without any are not in it. A deleted one
/// whose container is gone takes storage only: nothing of it can run again, and its data is kept.
///
/// # Errors
/// When SQL fails.
pub async fn allocated(tx: &mut Tx) -> Result<Vec<(HostId, Capacity, usize)>, StoreError> {
    // Postgres sums BIGINTs to a NUMERIC.
    let sql = sqlx::query(
        "SELECT host_id, CAST(SUM(cpu_millis * runs) AS BIGINT) AS cpu,
         CAST(SUM(memory_bytes * runs) AS BIGINT) AS memory, CAST(SUM(storage_bytes) AS BIGINT) AS storage,
         CAST(SUM(runs) AS BIGINT) AS instances FROM (
             SELECT host_id, cpu_millis, memory_bytes, storage_bytes,
             CASE WHEN state = 'terminating' AND EXISTS (
                 SELECT 1 FROM tombstones WHERE tombstones.deployment_id = deployments.id
                 AND tombstones.host_id = deployments.host_id AND scope = 'container' AND buried_at IS NOT NULL
             ) THEN 0 ELSE 1 END AS runs
             FROM deployments WHERE host_id IS NOT NULL AND state <> 'terminated'
         ) AS held GROUP BY host_id ORDER BY host_id",
    );
    let rows = tx.all("sum up what hosts hold", sql).await?;
    rows.iter()
        .map(|row| {
            let size = Capacity {
                cpu_millis: u32::try_from(row.uint("cpu")?).unwrap_or(u32::MAX),
                memory_bytes: row.uint("memory")?,
                storage_bytes: row.uint("storage")?,
            };
            Ok((row.parse("host_id")?, size, usize::try_from(row.uint("instances")?).unwrap_or(usize::MAX)))
        })
        .collect()
}

fn deployment(row: &Row) -> Result<Deployment, StoreError> {
    Ok(Deployment {
        id: row.parse("id")?,
        account: row.parse("account_id")?,
        name: row.text("name")?,
        profile: row.text("profile")?,
        plan: row.text("plan")?,
        image: row.parse("image")?,
        pool: row.text("pool")?,
        policy: row.parse("policy")?,
        state: row.parse("state")?,
        reason: row.json_if_any("reason")?,
        revision: Revision(row.uint("revision")?),
        epoch: Epoch(row.uint("epoch")?),
        host: row.parse_if_any("host_id")?,
        size: Capacity {
            cpu_millis: u32::try_from(row.uint("cpu_millis")?).unwrap_or(u32::MAX),
            memory_bytes: row.uint("memory_bytes")?,
            storage_bytes: row.uint("storage_bytes")?,
        },
        created_at: row.moment("created_at")?,
        changed_at: row.moment("changed_at")?,
        deleted_at: row.moment_if_any("deleted_at")?,
        version: row.uint("version")?,
    })
}
