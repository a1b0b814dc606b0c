//! Envelope encryption: how the coordinator's store holds config and secrets.
//!
//! ```text
//! plaintext ── AES-256-GCM, a data key of its own ──► ciphertext ─┐
//! data key ─── KeyProvider::wrap (keyring file, or a KMS) ────────┴─► Envelope ──► a column of the store
//! ```
//!
//! The context (account, deployment, file, version) is authenticated on both levels: a row copied over
//! another tenant's does not decrypt. Rotating the key that wraps rewraps data keys ([`Envelope::rewrap`]),
//! and touches no ciphertext.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use futures::future::BoxFuture;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{AccountId, DeploymentId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::serial::NoEntropy;

/// Bytes of a data key, and of a key that wraps one.
pub(crate) const KEY_BYTES: usize = 32;

/// What the authenticated context begins with.
const ENVELOPE_FOR: &[u8] = b"launchpad envelope v1";

/// What a stored value is. It decrypts as exactly this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeContext {
    /// The tenant.
    pub account: AccountId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Which of its files, or the name of a secret.
    pub file: String,
    /// Which version of it.
    pub version: u64,
}

/// A key for one value. Wiped when dropped.
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

/// A data key as its provider wrapped it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Which key wraps it.
    pub key_id: String,
    /// The data key, wrapped.
    pub bytes: Vec<u8>,
}

/// A value as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Which key wraps the data key ([`WrappedKey::key_id`]).
    pub key_id: String,
    /// The data key, wrapped.
    #[serde(with = "encoded")]
    pub wrapped_key: Vec<u8>,
    /// Nonce, ciphertext and tag of the value.
    #[serde(with = "encoded")]
    pub ciphertext: Vec<u8>,
}

/// Why a value was not encrypted or decrypted. It never says anything about the value.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// No random bytes.
    #[error("cannot make a data key")]
    Entropy(#[from] NoEntropy),
    /// Wrapped by a key that is not at hand.
    #[error("the value is encrypted under key `{wanted}`, the keyring holds {held}: restore the keyring file")]
    OtherKey {
        /// The key that wrapped it.
        wanted: String,
        /// The keys at hand.
        held: String,
    },
    /// Encrypted as something else, or altered.
    #[error("the stored value does not decrypt: it is damaged, or was moved from another row")]
    Altered,
    /// The library refused to encrypt.
    #[error("cannot encrypt the value")]
    Encrypt,
    /// A provider that is reached over the network did not answer.
    #[error("the key provider failed: {0}")]
    Provider(String),
}

/// Whatever holds the key that wraps data keys. Asynchronous, because a KMS is far away; never called inside
/// a transaction.
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// The name of the key that wraps now.
    fn key_id(&self) -> String;

    /// Wraps a data key; `aad` is authenticated along with it.
    fn wrap<'a>(&'a self, key: &'a DataKey, aad: &'a [u8]) -> BoxFuture<'a, Result<WrappedKey, EnvelopeError>>;

    /// Unwraps a data key that `key_id` wrapped with the same `aad`.
    fn unwrap<'a>(
        &'a self,
        key_id: &'a str,
        wrapped: &'a [u8],
        aad: &'a [u8],
    ) -> BoxFuture<'a, Result<DataKey, EnvelopeError>>;

    /// Makes another key the one that wraps, and answers its name; the one before it still unwraps. A
    /// provider whose keys are made elsewhere answers the one that it was told to use.
    fn rotate(&self) -> BoxFuture<'_, Result<String, EnvelopeError>>;

    /// The keys that it holds and that do not wrap any more, oldest first.
    fn older(&self) -> Vec<String>;

    /// Destroys a key that does not wrap any more: its caller has seen to it that it wraps nothing that is
    /// kept. One that is not held, or that wraps now, is left as it is.
    fn forget<'a>(&'a self, key_id: &'a str) -> BoxFuture<'a, Result<(), EnvelopeError>>;
}

impl Envelope {
    /// Encrypts a value with a data key of its own.
    ///
    /// # Errors
    /// When there are no random bytes, or the provider fails.
    pub async fn encrypt(
        provider: &dyn KeyProvider,
        context: &EnvelopeContext,
        plaintext: &[u8],
    ) -> Result<Self, EnvelopeError> {
        let aad = context.aad();
        let key = DataKey::random()?;
        let ciphertext = seal(key.expose(), &aad, plaintext)?;
        let WrappedKey { key_id, bytes } = provider.wrap(&key, &aad).await?;
        Ok(Self { key_id, wrapped_key: bytes, ciphertext })
    }

    /// The same value, its data key wrapped by the key that wraps now.
    ///
    /// # Errors
    /// When the key that wraps it is not at hand, the context is another, or the provider fails.
    pub async fn rewrap(&self, provider: &dyn KeyProvider, context: &EnvelopeContext) -> Result<Self, EnvelopeError> {
        let aad = context.aad();
        let key = provider.unwrap(&self.key_id, &self.wrapped_key, &aad).await?;
        let WrappedKey { key_id, bytes } = provider.wrap(&key, &aad).await?;
        Ok(Self { key_id, wrapped_key: bytes, ciphertext: self.ciphertext.clone() })
    }

    /// Decrypts the value as what it was encrypted as.
    ///
    /// # Errors
    /// When the key is not at hand, the context is another, or something was altered.
    pub async fn decrypt(
        &self,
        provider: &dyn KeyProvider,
        context: &EnvelopeContext,
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let aad = context.aad();
        let key = provider.unwrap(&self.key_id, &self.wrapped_key, &aad).await?;
        open(key.expose(), &aad, &self.ciphertext)
    }
}

impl EnvelopeContext {
    /// That of an issuing CA's key, which is no tenant's. No deployment has the id that is all zeros.
    #[must_use]
    pub fn of_issuer(certificate: Digest) -> Self {
        Self {
            account: AccountId::from(Uuid::nil()),
            deployment: DeploymentId::from(Uuid::nil()),
            file: format!("issuing CA {certificate}"),
            version: 0,
        }
    }

    /// All but the last field have a fixed length, so that no two contexts encode alike.
    fn aad(&self) -> Vec<u8> {
        let mut aad = ENVELOPE_FOR.to_vec();
        aad.extend_from_slice(self.account.uuid().as_bytes());
        aad.extend_from_slice(self.deployment.uuid().as_bytes());
        aad.extend_from_slice(&self.version.to_be_bytes());
        aad.extend_from_slice(self.file.as_bytes());
        aad
    }
}

impl DataKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn random() -> Result<Self, NoEntropy> {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut bytes[..]).map_err(|_| NoEntropy)?;
        Ok(Self(bytes))
    }

    /// The key whose bytes these are, if they are 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// The bytes, for the provider that wraps them.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(not shown)")
    }
}

/// Nonce, ciphertext, tag.
pub(crate) fn seal(key: &[u8; KEY_BYTES], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| EnvelopeError::Encrypt)?;
    let mut sealed = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(plaintext);
    let nonce = key.seal_in_place_append_tag(Aad::from(aad), &mut sealed).map_err(|_| EnvelopeError::Encrypt)?;
    Ok([&nonce.as_ref()[..], &sealed].concat())
}

/// The inverse of [`seal`].
pub(crate) fn open(key: &[u8; KEY_BYTES], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(EnvelopeError::Altered)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| EnvelopeError::Altered)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| EnvelopeError::Altered)?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let opened = key.open_in_place(nonce, Aad::from(aad), &mut buffer).map_err(|_| EnvelopeError::Altered)?;
    let length = opened.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Bytes as base64 in JSON.
mod encoded {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
