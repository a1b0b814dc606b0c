//! Issuing CAs, how one takes over from another, and what each host says that it holds.
//!
//! ```text
//! first CA, from the data directory ──► begun: another CA, a rotation in `distribute` ──► a phase at a time ──► ended
//! ```
//! A CA's key is here only encrypted, and only until the CA has ended. Which CA signs is nowhere written: the latest
//! rotation's phase says it ([`crate::domain::rotation`]).

use std::collections::BTreeMap;

use launchpad_pki::CertificateDer;
use launchpad_pki::ca::IssuingCa;
use launchpad_pki::envelope::Envelope;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{HostId, RotationId};
use launchpad_protocol::time::Moment;

use super::keys;
use super::row::{Row, to_json};
use super::tx::{StoreError, Tx};
use crate::domain::rotation::{Phase, Side};

/// An issuing CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The SHA-256 of its certificate.
    pub id: Digest,
    /// The root above it.
    pub root: CertificateDer<'static>,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// A certificate of the same key by the root before, if that was another.
    pub bridge: Option<CertificateDer<'static>>,
    /// Its key; none: it is the first, or has ended.
    pub key: Option<Envelope>,
    /// When it came.
    pub added_at: Moment,
    /// When its hosts were shut out.
    pub ended_at: Option<Moment>,
}

/// One issuing CA taking over from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaRotation {
    /// Its id.
    pub id: RotationId,
    /// The CA before.
    pub old: Digest,
    /// The CA after.
    pub new: Digest,
    /// How far it is.
    pub phase: Phase,
    /// When it began.
    pub begun_at: Moment,
    /// Since when it is in this phase.
    pub phase_at: Moment,
}

/// All that decides who signs and who is let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Every issuing CA, the first one first.
    pub issuers: Vec<Issuer>,
    /// The latest rotation, if there ever was one.
    pub rotation: Option<CaRotation>,
}

/// What a host says that it holds on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which roots.
    pub bundle: Digest,
    /// Who signed its certificate.
    pub issuer: Digest,
    /// When it said so first.
    pub told_at: Moment,
}

impl CaRotation {
    /// The CA on that side.
    #[must_use]
    pub const fn issuer(&self, side: Side) -> Digest {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }
}

impl Standing {
    /// Reads it.
    ///
    /// # Errors
    /// When SQL fails.
    pub async fn read(tx: &mut Tx) -> Result<Self, StoreError> {
        Ok(Self { issuers: all(tx).await?, rotation: latest(tx).await? })
    }

    /// The CA that signs; none: the one of the data directory, which nobody has written down yet.
    #[must_use]
    pub fn signer(&self) -> Option<&Issuer> {
        match &self.rotation {
            Some(rotation) => self.issuer(rotation.issuer(rotation.phase.signer())),
            None => self.issuers.first(),
        }
    }

    /// The CAs whose hosts are let in: the one that signs, then the other one of a rotation that is under way.
    #[must_use]
    pub fn accepted(&self) -> Vec<&Issuer> {
        let other = self.rotation.as_ref().filter(|rotation| !rotation.phase.is_over()).and_then(|rotation| {
            let other = if rotation.phase.signer() == Side::Old { Side::New } else { Side::Old };
            self.issuer(rotation.issuer(other))
        });
        self.signer().into_iter().chain(other).collect()
    }

    /// The roots that hosts are told to trust, that of the CA that signs first.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        for issuer in self.accepted() {
            if !roots.contains(&issuer.root) {
                roots.push(issuer.root.clone());
            }
        }
        roots
    }

    /// The CA of that id.
    #[must_use]
    pub fn issuer(&self, id: Digest) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.id == id)
    }
}

/// Writes down the CA of the data directory if nobody has, and that it has signed all that was signed before anybody asked who.
///
/// # Errors
/// When SQL fails.
pub async fn register_first(tx: &mut Tx, ca: &IssuingCa, now: Moment) -> Result<(), StoreError> {
    if !all(tx).await?.is_empty() {
        return Ok(());
    }
    let first = Issuer {
        id: ca.digest(),
        root: ca.root().clone(),
        certificate: ca.certificate().clone(),
        bridge: None,
        key: None,
        added_at: now,
        ended_at: None,
    };
    insert(tx, &first).await?;
    let sql = sqlx::query("UPDATE certificates SET issuer = $1 WHERE issuer IS NULL").bind(bytes(first.id));
    tx.execute("note who signed certificates", sql).await.map(drop)
}

/// Remembers a CA.
///
/// # Errors
/// [`StoreError::Raced`] when the key that wraps its own was retired meanwhile; or when SQL fails.
pub async fn insert(tx: &mut Tx, issuer: &Issuer) -> Result<(), StoreError> {
    if let Some(envelope) = &issuer.key {
        keys::refuse_retired(tx, &envelope.key_id).await?;
    }
    let sql = sqlx::query(
        "INSERT INTO issuers (id, root, certificate, bridge, key_id, envelope, added_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(bytes(issuer.id))
    .bind(issuer.root.to_vec())
    .bind(issuer.certificate.to_vec())
    .bind(issuer.bridge.as_ref().map(|der| der.to_vec()))
    .bind(issuer.key.as_ref().map(|envelope| envelope.key_id.clone()))
    .bind(issuer.key.as_ref().map(to_json))
    .bind(issuer.added_at.micros());
    tx.execute("remember an issuing CA", sql).await.map(drop)
}

/// Notes that a CA has ended, and forgets its key.
///
/// # Errors
/// When SQL fails.
pub async fn end(tx: &mut Tx, id: Digest, now: Moment) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE issuers SET ended_at = $2, key_id = NULL, envelope = NULL WHERE id = $1")
        .bind(bytes(id))
        .bind(now.micros());
    tx.execute("end an issuing CA", sql).await.map(drop)
}

/// CAs whose key another key than that one wraps.
///
/// # Errors
/// When SQL fails.
pub async fn wrapped_otherwise(tx: &mut Tx, key_id: &str) -> Result<Vec<(Digest, Envelope)>, StoreError> {
    let sql = sqlx::query("SELECT id, envelope FROM issuers WHERE key_id <> $1 ORDER BY added_at, id")
        .bind(key_id.to_owned());
    let rows = tx.all("find CA keys that another key wraps", sql).await?;
    rows.iter().map(|row| Ok((row.digest("id")?, row.json("envelope")?))).collect()
}

/// Puts a rewrapped envelope in the place of the one that `was` wrapped.
///
/// # Errors
/// [`StoreError::Raced`] when its key was retired since; or when SQL fails.
pub async fn rewrap(tx: &mut Tx, id: Digest, was: &str, envelope: &Envelope) -> Result<(), StoreError> {
    keys::refuse_retired(tx, &envelope.key_id).await?;
    let sql = sqlx::query("UPDATE issuers SET key_id = $3, envelope = $4 WHERE id = $1 AND key_id = $2")
        .bind(bytes(id))
        .bind(was.to_owned())
        .bind(envelope.key_id.clone())
        .bind(to_json(envelope));
    tx.execute("rewrap a CA key", sql).await.map(drop)
}

/// Begins a rotation.
///
/// # Errors
/// When SQL fails.
pub async fn begin(tx: &mut Tx, rotation: &CaRotation) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO ca_rotations (id, old_issuer, new_issuer, phase, begun_at, phase_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(rotation.id.to_string())
    .bind(bytes(rotation.old))
    .bind(bytes(rotation.new))
    .bind(rotation.phase.as_str())
    .bind(rotation.begun_at.micros())
    .bind(rotation.phase_at.micros());
    tx.execute("begin a rotation of the CA", sql).await.map(drop)
}

/// Moves a rotation from the phase that was read to another.
///
/// # Errors
/// [`StoreError::Raced`] when it is in another phase by now; or when SQL fails.
pub async fn advance(tx: &mut Tx, rotation: &CaRotation, to: Phase, now: Moment) -> Result<(), StoreError> {
    let sql = sqlx::query("UPDATE ca_rotations SET phase = $3, phase_at = $4 WHERE id = $1 AND phase = $2")
        .bind(rotation.id.to_string())
        .bind(rotation.phase.as_str())
        .bind(to.as_str())
        .bind(now.micros());
    match tx.execute("move a rotation of the CA on", sql).await? {
        0 => Err(StoreError::Raced { what: rotation.id.to_string() }),
        _ => Ok(()),
    }
}

/// Notes what a host says that it holds.
///
/// # Errors
/// When SQL fails.
pub async fn note_held(tx: &mut Tx, host: HostId, held: Held) -> Result<(), StoreError> {
    let sql = sqlx::query(
        "INSERT INTO host_trust (host_id, bundle, issuer, told_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (host_id) DO UPDATE SET bundle = excluded.bundle, issuer = excluded.issuer, told_at = excluded.told_at",
    )
    .bind(host.to_string())
    .bind(bytes(held.bundle))
    .bind(bytes(held.issuer))
    .bind(held.told_at.micros());
    tx.execute("note what a host trusts", sql).await.map(drop)
}

/// What every host says that it holds.
///
/// # Errors
/// When SQL fails.
pub async fn held(tx: &mut Tx) -> Result<BTreeMap<HostId, Held>, StoreError> {
    let sql = sqlx::query("SELECT host_id, bundle, issuer, told_at FROM host_trust");
    tx.all("read what hosts trust", sql)
        .await?
        .iter()
        .map(|row| Ok((row.parse("host_id")?, read_held(row)?)))
        .collect()
}

/// What one host says that it holds.
///
/// # Errors
/// When SQL fails.
pub async fn held_by(tx: &mut Tx, host: HostId) -> Result<Option<Held>, StoreError> {
    let sql = sqlx::query("SELECT bundle, issuer, told_at FROM host_trust WHERE host_id = $1").bind(host.to_string());
    tx.optional("read what a host trusts", sql).await?.as_ref().map(read_held).transpose()
}

async fn all(tx: &mut Tx) -> Result<Vec<Issuer>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, root, certificate, bridge, envelope, added_at, ended_at FROM issuers ORDER BY added_at, id",
    );
    tx.all("list issuing CAs", sql).await?.iter().map(issuer).collect()
}

async fn latest(tx: &mut Tx) -> Result<Option<CaRotation>, StoreError> {
    let sql = sqlx::query(
        "SELECT id, old_issuer, new_issuer, phase, begun_at, phase_at FROM ca_rotations
         ORDER BY begun_at DESC, id DESC LIMIT 1",
    );
    tx.optional("read the latest rotation of the CA", sql).await?.as_ref().map(rotation).transpose()
}

fn issuer(row: &Row) -> Result<Issuer, StoreError> {
    Ok(Issuer {
        id: row.digest("id")?,
        root: CertificateDer::from(row.bytes("root")?),
        certificate: CertificateDer::from(row.bytes("certificate")?),
        bridge: row.bytes_if_any("bridge")?.map(CertificateDer::from),
        key: row.json_if_any("envelope")?,
        added_at: row.moment("added_at")?,
        ended_at: row.moment_if_any("ended_at")?,
    })
}

fn rotation(row: &Row) -> Result<CaRotation, StoreError> {
    Ok(CaRotation {
        id: row.parse("id")?,
        old: row.digest("old_issuer")?,
        new: row.digest("new_issuer")?,
        phase: row.parse("phase")?,
        begun_at: row.moment("begun_at")?,
        phase_at: row.moment("phase_at")?,
    })
}

fn read_held(row: &Row) -> Result<Held, StoreError> {
    Ok(Held { bundle: row.digest("bundle")?, issuer: row.digest("issuer")?, told_at: row.moment("told_at")? })
}

fn bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}
