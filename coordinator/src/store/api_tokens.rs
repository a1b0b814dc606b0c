//! API tokens: who signs in with which, and as what. The store has hashes only.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{AccountId, ApiTokenId, UserId};
use launchpad_protocol::time::Moment;

use super::tx::{StoreError, Tx};
use crate::domain::actor::{Actor, Role};

/// A token as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenRow {
    /// Its id.
    pub id: ApiTokenId,
    /// Who signs in with it.
    pub user: UserId,
    /// In which account; none: on the staff, in no account.
    pub account: Option<AccountId>,
    /// As what.
    pub role: Role,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it was made.
    pub created_at: Moment,
    /// When it stops working.
    pub expires_at: Option<Moment>,
    /// When it was taken back.
    pub revoked_at: Option<Moment>,
}

impl ApiTokenRow {
    /// Who its bearer is.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        Actor { user: self.user, role: self.role, account: self.account }
    }

    /// Whether it works at that moment.
    #[must_use]
    pub fn works_at(&self, now: Moment) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Adds a token.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, token: &ApiTokenRow) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO api_tokens (id, user_id, account_id, role, name, secret_hash, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(token.id.to_string())
    .bind(token.user.to_string())
    .bind(token.account.map(|account| account.to_string()))
    .bind(token.role.as_str())
    .bind(token.name.clone())
    .bind(token.secret_hash.as_bytes().to_vec())
    .bind(token.created_at.micros())
    .bind(token.expires_at.map(Moment::micros))
    .bind(token.revoked_at.map(Moment::micros));
    tx.execute("add an API token", sql).await.map(drop)
}

/// One token, expired and revoked ones included.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, id: ApiTokenId) -> Result<Option<ApiTokenRow>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, user_id, account_id, role, name, secret_hash, created_at, expires_at, revoked_at
         FROM api_tokens WHERE id = $1",
    )
    .bind(id.to_string());
    let Some(row) = tx.optional("read an API token", sql).await? else { return Ok(None) };
    Ok(Some(ApiTokenRow {
        id: row.parse("id")?,
        user: row.parse("user_id")?,
        account: row.parse_if_any("account_id")?,
        role: row.parse("role")?,
        name: row.text("name")?,
        secret_hash: row.digest("secret_hash")?,
        created_at: row.moment("created_at")?,
        expires_at: row.moment_if_any("expires_at")?,
        revoked_at: row.moment_if_any("revoked_at")?,
    }))
}
