//! The hosts' certificates: which were issued, and which were taken back.

use std::collections::BTreeMap;

use launchpad_pki::ca::IssuedCertificate;
use launchpad_pki::serial::Serial;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Moment;

use super::tx::{StoreError, Tx};

/// The newest certificate of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Who signed it; none: the first CA, before anybody asked.
    pub issuer: Option<Digest>,
    /// In force until here.
    pub not_after: Moment,
}

/// Remembers a certificate that is being issued.
///
/// # Errors
/// When SQL fails.
pub async fn insert(tx: &mut Tx, host: HostId, issued: &IssuedCertificate, now: Moment) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO certificates (serial, host_id, issued_at, not_after, issuer) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(issued.serial.as_bytes().to_vec())
    .bind(host.to_string())
    .bind(now.micros())
    .bind(issued.not_after.micros())
    .bind(issued.chain_der.get(1).map(|issuer| Digest::of(issuer).as_bytes().to_vec()));
    tx.execute("remember a certificate", sql).await.map(drop)
}

/// Whether a certificate was taken back. One that nobody issued here was not.
///
/// # Errors
/// When SQL fails.
pub async fn is_revoked(tx: &mut Tx, serial: Serial) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT serial FROM certificates WHERE serial = $1 AND revoked_at IS NOT NULL")
        .bind(serial.as_bytes().to_vec());
    Ok(tx.optional("read whether a certificate is revoked", sql).await?.is_some())
}

/// Whether a certificate was issued here, and is remembered.
///
/// # Errors
/// When SQL fails.
pub async fn is_known(tx: &mut Tx, serial: Serial) -> Result<bool, StoreError> {
    let sql = sqlx::query("SELECT serial FROM certificates WHERE serial = $1").bind(serial.as_bytes().to_vec());
    Ok(tx.optional("read whether a certificate is known", sql).await?.is_some())
}

/// The newest certificate of each host that has one.
///
/// # Errors
/// When SQL fails.
pub async fn newest(tx: &mut Tx) -> Result<BTreeMap<HostId, Newest>, StoreError> {
    let sql = sqlx::query(
        "SELECT host_id, issuer, not_after FROM certificates WHERE (host_id, issued_at) IN
         (SELECT host_id, MAX(issued_at) FROM certificates GROUP BY host_id) ORDER BY not_after",
    );
    let rows = tx.all("read the newest certificates", sql).await?;
    let newest = |row: &super::row::Row| {
        let newest = Newest { issuer: row.digest_if_any("issuer")?, not_after: row.moment("not_after")? };
        Ok((row.parse("host_id")?, newest))
    };
    rows.iter().map(newest).collect()
}

/// Takes all of a host's certificates back. Answers how many were not taken back before.
///
/// # Errors
/// When SQL fails.
pub async fn revoke_all(tx: &mut Tx, host: HostId, now: Moment) -> Result<u64, StoreError> {
    let sql = sqlx::query("UPDATE certificates SET revoked_at = $2 WHERE host_id = $1 AND revoked_at IS NULL")
        .bind(host.to_string())
        .bind(now.micros());
    tx.execute("revoke a host's certificates", sql).await
}

/// What was taken back and has not ended by itself at that moment, and when: the revocation list.
///
/// # Errors
/// When SQL fails.
pub async fn revoked(tx: &mut Tx, now: Moment) -> Result<BTreeMap<Serial, Moment>, StoreError> {
    let sql = sqlx::query(
        "SELECT serial, revoked_at FROM certificates WHERE revoked_at IS NOT NULL AND not_after > $1 ORDER BY serial",
    )
    .bind(now.micros());
    let rows = tx.all("list revoked certificates", sql).await?;
    rows.iter().map(|row| Ok((row.serial("serial")?, row.moment("revoked_at")?))).collect()
}

/// Forgets certificates that ended before that moment. Answers how many.
///
/// # Errors
/// When SQL fails.
pub async fn sweep(tx: &mut Tx, before: Moment) -> Result<u64, StoreError> {
    let sql = sqlx::query("DELETE FROM certificates WHERE not_after < $1").bind(before.micros());
    tx.execute("forget ended certificates", sql).await
}
