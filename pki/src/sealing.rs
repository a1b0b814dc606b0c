//! Sealing: config and secrets travel to a host as ciphertext that only this host can open.
//!
//! HPKE in base mode (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM, from rustls'
//! aws-lc-rs provider. What a ciphertext is for goes in as HPKE's `info`: moved to another host, deployment,
//! file or version, it does not open. The key is long-lived and apart from the TLS keys, because the ledger's
//! ciphertexts outlive those.
//!
//! ```text
//! sealed = enc (32 bytes: the ephemeral public key) || ciphertext || tag (16 bytes)
//! ```

use std::fmt;
use std::path::Path;

use aws_lc_rs::agreement;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{DeploymentId, HostId};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::serial::NoEntropy;

/// Bytes of an X25519 key, private or public, and of HPKE's `enc`: RFC 9180 §7.1.
const KEY_BYTES: usize = 32;

/// What HPKE's `info` begins with, so that no other use of these keys can be taken for this one.
const SEALED_FOR: &[u8] = b"launchpad seal v1";

/// What a sealed value is for. It opens in exactly this context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealContext {
    /// The host that may open it.
    pub host: HostId,
    /// The deployment that it belongs to, and with it the tenant.
    pub deployment: DeploymentId,
    /// Which of the deployment's files: `openclaw.json`, or a secret's name.
    pub file: String,
    /// Which version of that file.
    pub version: u64,
}

/// A host's sealing key pair.
pub struct SealingKey {
    private: Zeroizing<[u8; KEY_BYTES]>,
    public: SealingPublicKey,
}

/// The half to which values are sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealingPublicKey([u8; KEY_BYTES]);

/// Why a value was not sealed or opened. It never says anything about the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a public key.
    #[error("not a sealing key: expected 32 bytes of an X25519 public key")]
    PublicKey,
    /// Sealing failed: the public key is one of the few that X25519 refuses.
    #[error("cannot seal to this key")]
    Seal,
    /// Shorter than any sealed value.
    #[error("the sealed value is cut off")]
    Truncated,
    /// Sealed to another key or for another context, or altered.
    #[error("the sealed value does not open: it was sealed to another key or for another purpose, or it is damaged")]
    Open,
}

impl SealContext {
    /// HPKE's `info`. All but the last field have a fixed length, so that no two contexts encode alike.
    fn info(&self) -> Vec<u8> {
        let mut info = SEALED_FOR.to_vec();
        info.extend_from_slice(self.host.uuid().as_bytes());
        info.extend_from_slice(self.deployment.uuid().as_bytes());
        info.extend_from_slice(&self.version.to_be_bytes());
        info.extend_from_slice(self.file.as_bytes());
        info
    }
}

impl SealingKey {
    /// A new key pair.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn generate() -> Result<Self, NoEntropy> {
        let mut private = Zeroizing::new([0_u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut private[..]).map_err(|_| NoEntropy)?;
        Self::from_private(private).ok_or(NoEntropy)
    }

    /// Reads the key pair from its file.
    ///
    /// # Errors
    /// When the file is absent, open to others or damaged: each names the file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let content = files::read_private(path)?;
        let private = <[u8; KEY_BYTES]>::try_from(&content[..]).ok().map(Zeroizing::new);
        private.and_then(Self::from_private).ok_or_else(|| FileError::damaged(path, "a 32-byte sealing key"))
    }

    /// Writes the key pair to its file, mode 0600, unless one is there: what was sealed to that could never
    /// be opened again.
    ///
    /// # Errors
    /// [`FileError::Exists`], or when the operating system refuses.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        files::write_new_private(path, &self.private[..])
    }

    /// The half to register with the coordinator.
    #[must_use]
    pub const fn public(&self) -> SealingPublicKey {
        self.public
    }

    /// Opens what was sealed to this key in this context.
    ///
    /// # Errors
    /// When it was sealed to another key, in another context, or was altered.
    pub fn open(&self, context: &SealContext, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (enc, ciphertext) = sealed.split_at_checked(KEY_BYTES).ok_or(SealError::Truncated)?;
        let private = HpkePrivateKey::from(self.private.to_vec());
        let opened = SUITE.open(&EncapsulatedSecret(enc.to_vec()), &context.info(), &[], ciphertext, &private);
        opened.map(Zeroizing::new).map_err(|_| SealError::Open)
    }

    fn from_private(private: Zeroizing<[u8; KEY_BYTES]>) -> Option<Self> {
        let key = agreement::PrivateKey::from_private_key(&agreement::X25519, &private[..]).ok()?;
        let public = SealingPublicKey::from_bytes(key.compute_public_key().ok()?.as_ref()).ok()?;
        Some(Self { private, public })
    }
}

impl SealingPublicKey {
    /// The key whose bytes these are, as a host registered it.
    ///
    /// # Errors
    /// When they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        bytes.try_into().map(Self).map_err(|_| SealError::PublicKey)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key's name: its SHA-256. A sealed value carries it, so that a host can tell which key is missing.
    #[must_use]
    pub fn key_id(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Seals `plaintext` so that only this key opens it, and only in this context.
    ///
    /// # Errors
    /// When the key is one of the few that X25519 refuses.
    pub fn seal(&self, context: &SealContext, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let public = HpkePublicKey(self.0.to_vec());
        let (enc, ciphertext) = SUITE.seal(&context.info(), &[], plaintext, &public).map_err(|_| SealError::Seal)?;
        Ok([enc.0, ciphertext].concat())
    }
}

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealingPublicKey").field(&self.key_id()).finish()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn context() -> SealContext {
        SealContext {
            host: HostId::from(Uuid::from_u128(1)),
            deployment: DeploymentId::from(Uuid::from_u128(2)),
            file: "openclaw.json".to_owned(),
            version: 3,
        }
    }

    #[test]
    fn what_was_sealed_opens_where_it_belongs() {
        let key = SealingKey::generate().unwrap();
        for plaintext in [&b""[..], b"a secret", &[7; 100_000]] {
            let sealed = key.public().seal(&context(), plaintext).unwrap();
            assert_eq!(&key.open(&context(), &sealed).unwrap()[..], plaintext);
        }
    }

    #[test]
    fn a_ciphertext_moved_to_another_context_does_not_open() {
        let key = SealingKey::generate().unwrap();
        let sealed = key.public().seal(&context(), b"a secret").unwrap();
        let elsewhere = [
            SealContext { host: HostId::from(Uuid::from_u128(9)), ..context() },
            SealContext { deployment: DeploymentId::from(Uuid::from_u128(9)), ..context() },
            SealContext { file: "token".to_owned(), ..context() },
            SealContext { version: 4, ..context() },
        ];
        for other in elsewhere {
            assert_eq!(key.open(&other, &sealed), Err(SealError::Open), "{other:?}");
        }
    }

    #[test]
    fn another_host_cannot_open_it() {
        let sealed = SealingKey::generate().unwrap().public().seal(&context(), b"a secret").unwrap();
        let other = SealingKey::generate().unwrap();
        assert_eq!(other.open(&context(), &sealed), Err(SealError::Open));
    }

    #[test]
    fn an_altered_or_cut_ciphertext_does_not_open() {
        let key = SealingKey::generate().unwrap();
        let sealed = key.public().seal(&context(), b"a secret").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key.open(&context(), &altered).is_err(), "byte {at}");
            assert!(key.open(&context(), &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_key_survives_its_file_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealing.key");
        let key = SealingKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(SealingKey::load(&path).unwrap().public(), key.public());
        assert!(matches!(SealingKey::generate().unwrap().save(&path), Err(FileError::Exists { .. })));
        files::write_private(&path, &[1; KEY_BYTES - 1]).unwrap();
        let error = SealingKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("sealing.key") && error.contains("damaged"), "{error}");
    }
}
