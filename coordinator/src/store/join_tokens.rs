//! Join tokens: each lets one host in, once. The store has hashes only.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{HostId, JoinTokenId, UserId};
use launchpad_protocol::time::Moment;

use super::tx::{StoreError, Tx};

/// A token as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// Its id.
    pub id: JoinTokenId,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// What the host will be called, if the operator chose.
    pub name: Option<String>,
    /// The pool that the host joins.
    pub pool: String,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Moment,
    /// When it stops working.
    pub expires_at: Moment,
    /// Who joined with it.
    pub used: Option<TokenUse>,
}

/// Who joined with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenUse {
    /// When.
    pub at: Moment,
    /// As which host.
    pub host: HostId,
    /// With which key: the digest of the request's public key. The same key may ask again when its answer was lost.
    pub key: Digest,
}

/// Adds a token.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, token: &JoinTokenRow) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO join_tokens (id, secret_hash, name, pool, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(token.id.to_string())
    .bind(token.secret_hash.as_bytes().to_vec())
    .bind(token.name.clone())
    .bind(token.pool.clone())
    .bind(token.created_by.to_string())
    .bind(token.created_at.micros())
    .bind(token.expires_at.micros());
    tx.execute("add a join token", sql).await.map(drop)
}

/// One token, used and expired ones included.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, id: JoinTokenId) -> Result<Option<JoinTokenRow>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, secret_hash, name, pool, created_by, created_at, expires_at, used_at, host_id, csr_digest
         FROM join_tokens WHERE id = $1",
    )
    .bind(id.to_string());
    let Some(row) = tx.optional("read a join token", sql).await? else { return Ok(None) };
    let used = match row.moment_if_any("used_at")? {
        Some(at) => Some(TokenUse { at, host: row.parse("host_id")?, key: row.digest("csr_digest")? }),
        None => None,
    };
    Ok(Some(JoinTokenRow {
        id: row.parse("id")?,
        secret_hash: row.digest("secret_hash")?,
        name: row.text_if_any("name")?,
        pool: row.text("pool")?,
        created_by: row.parse("created_by")?,
        created_at: row.moment("created_at")?,
        expires_at: row.moment("expires_at")?,
        used,
    }))
}

/// Uses a token up. Answers false, and changes nothing, when it was used already.
///
/// # Errors
/// When SQL fails.
pub async fn consume(tx: &mut Tx, id: JoinTokenId, by: TokenUse) -> Result<bool, StoreError> {
    let sql = sqlx::query(
        "UPDATE join_tokens SET used_at = $2, host_id = $3, csr_digest = $4 WHERE id = $1 AND used_at IS NULL",
    )
    .bind(id.to_string())
    .bind(by.at.micros())
    .bind(by.host.to_string())
    .bind(by.key.as_bytes().to_vec());
    Ok(tx.execute("use a join token up", sql).await? > 0)
}
