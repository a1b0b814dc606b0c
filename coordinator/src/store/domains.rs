//! Domains that owners bring, each as the claim of one deployment.

use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::time::Moment;

use super::row::{Row, to_json};
use super::tx::{StoreError, Tx};
use crate::domain::domains::Claim;
use crate::domain::public_name::PublicName;

/// A domain as one deployment claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The domain.
    pub name: PublicName,
    /// The tenant.
    pub account: AccountId,
    /// To which it is to lead.
    pub deployment: DeploymentId,
    /// How far it is the tenant's.
    pub claim: Claim,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT name, account_id, deployment_id, token, claimed_at, verified_at, missing_since, checked_at, trouble \
             FROM domains ",
            $rest
        )
    };
}

/// Adds a claim. Answers false, and changes nothing, when the deployment has claimed that domain before.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, new: &Domain) -> Result<bool, StoreError> {
    let sql = sqlx::query(
        "INSERT INTO domains (deployment_id, name, account_id, token, claimed_at, due_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (deployment_id, name) DO NOTHING",
    )
    .bind(new.deployment.to_string())
    .bind(new.name.to_string())
    .bind(new.account.to_string())
    .bind(new.claim.token.clone())
    .bind(new.claim.claimed_at.micros())
    .bind(new.claim.due_at().map(Moment::micros));
    Ok(tx.execute("add a domain", sql).await? > 0)
}

/// One claim.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, deployment: DeploymentId, name: &PublicName) -> Result<Option<Domain>, StoreError> {
    let sql = sqlx::query(select!("WHERE deployment_id = $1 AND name = $2"))
        .bind(deployment.to_string())
        .bind(name.to_string());
    tx.optional("read a domain", sql).await?.as_ref().map(domain).transpose()
}

/// The claims of a deployment, by name.
///
/// # Errors
/// When SQL fails.
pub async fn of_deployment(tx: &mut Tx, deployment: DeploymentId) -> Result<Vec<Domain>, StoreError> {
    let sql = sqlx::query(select!("WHERE deployment_id = $1 ORDER BY name")).bind(deployment.to_string());
    tx.all("read a deployment's domains", sql).await?.iter().map(domain).collect()
}

/// Who has proved a domain. For the one question whether anybody else may: of every account.
///
/// # Errors
/// When SQL fails.
pub async fn holder(tx: &mut Tx, name: &PublicName) -> Result<Option<Domain>, StoreError> {
    let sql = sqlx::query(select!("WHERE name = $1 AND verified_at IS NOT NULL")).bind(name.to_string());
    tx.optional("find who has a domain", sql).await?.as_ref().map(domain).transpose()
}

/// The claims whose proof is to be looked for by then, those that have waited longest first. For jobs: of every account.
///
/// # Errors
/// When SQL fails.
pub async fn due(tx: &mut Tx, by: Moment, most: u32) -> Result<Vec<Domain>, StoreError> {
    let sql = sqlx::query(select!("WHERE due_at <= $1 ORDER BY due_at, deployment_id, name LIMIT $2"))
        .bind(by.micros())
        .bind(i64::from(most));
    tx.all("find domains to look at", sql).await?.iter().map(domain).collect()
}

/// Keeps how far a claim has come.
///
/// # Errors
/// When SQL fails, as it does where a second claim of a domain would be verified.
pub async fn update(tx: &mut Tx, changed: &Domain) -> Result<(), StoreError> {
    let claim = &changed.claim;
    let sql = sqlx::query(
        "UPDATE domains SET claimed_at = $3, verified_at = $4, missing_since = $5, checked_at = $6, trouble = $7,
         due_at = $8 WHERE deployment_id = $1 AND name = $2",
    )
    .bind(changed.deployment.to_string())
    .bind(changed.name.to_string())
    .bind(claim.claimed_at.micros())
    .bind(claim.verified_at.map(Moment::micros))
    .bind(claim.missing_since.map(Moment::micros))
    .bind(claim.checked_at.map(Moment::micros))
    .bind(claim.trouble.as_ref().map(to_json))
    .bind(claim.due_at().map(Moment::micros));
    tx.execute("change a domain", sql).await.map(drop)
}

/// Forgets a claim. Answers false when there was none.
///
/// # Errors
/// When SQL fails.
pub async fn remove(tx: &mut Tx, deployment: DeploymentId, name: &PublicName) -> Result<bool, StoreError> {
    let sql = sqlx::query("DELETE FROM domains WHERE deployment_id = $1 AND name = $2")
        .bind(deployment.to_string())
        .bind(name.to_string());
    Ok(tx.execute("forget a domain", sql).await? > 0)
}

/// Forgets every claim of a deployment: what it had is free for others.
///
/// # Errors
/// When SQL fails.
pub async fn release(tx: &mut Tx, deployment: DeploymentId) -> Result<(), StoreError> {
    let sql = sqlx::query("DELETE FROM domains WHERE deployment_id = $1").bind(deployment.to_string());
    tx.execute("forget a deployment's domains", sql).await.map(drop)
}

fn domain(row: &Row) -> Result<Domain, StoreError> {
    Ok(Domain {
        name: row.parse("name")?,
        account: row.parse("account_id")?,
        deployment: row.parse("deployment_id")?,
        claim: Claim {
            token: row.text("token")?,
            claimed_at: row.moment("claimed_at")?,
            verified_at: row.moment_if_any("verified_at")?,
            missing_since: row.moment_if_any("missing_since")?,
            checked_at: row.moment_if_any("checked_at")?,
            trouble: row.json_if_any("trouble")?,
        },
    })
}
