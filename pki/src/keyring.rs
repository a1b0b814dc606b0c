//! The local key provider: one key-encryption key in a file of mode 0600 beside the coordinator's data.
//!
//! The default, with nothing to set up. Whoever has both the database and this file can read all secrets:
//! back them up apart from each other.

use std::fmt;
use std::path::Path;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use launchpad_protocol::digest::Digest;
use zeroize::Zeroizing;

use crate::envelope::{DataKey, EnvelopeError, KEY_BYTES, KeyProvider, open, seal};
use crate::files::{self, FileError};
use crate::serial::NoEntropy;

/// What is hashed, before the key, to name it: the name says nothing about the key.
const NAMED_FOR: &[u8] = b"launchpad keyring v1";

/// A key-encryption key that lives in a file.
pub struct LocalKeyring {
    key: Zeroizing<[u8; KEY_BYTES]>,
    key_id: String,
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random bytes for a new one.
    #[error("cannot make a key")]
    Entropy(#[from] NoEntropy),
}

impl LocalKeyring {
    /// Makes a new key and writes it to a file that must not be there yet.
    ///
    /// # Errors
    /// When the file is there, the operating system refuses, or there are no random bytes.
    pub fn create(path: &Path) -> Result<Self, KeyringError> {
        let key = DataKey::random()?;
        files::write_new_private(path, key.expose())?;
        Ok(Self::of(&key))
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// When the file is absent, open to others or damaged: each names the file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let content = files::read_private(path)?;
        let key = DataKey::from_bytes(&content).ok_or_else(|| FileError::damaged(path, "a 32-byte key"))?;
        Ok(Self::of(&key))
    }

    fn of(key: &DataKey) -> Self {
        let name = Digest::of(&[NAMED_FOR, key.expose()].concat()).short();
        Self { key: Zeroizing::new(*key.expose()), key_id: format!("local:{name}") }
    }

    fn unwrap_now(&self, key_id: &str, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, EnvelopeError> {
        if key_id != self.key_id {
            return Err(EnvelopeError::OtherKey { wanted: key_id.to_owned(), held: self.key_id.clone() });
        }
        let key = open(&self.key, aad, wrapped)?;
        DataKey::from_bytes(&key).ok_or(EnvelopeError::Altered)
    }
}

impl KeyProvider for LocalKeyring {
    fn key_id(&self) -> String {
        self.key_id.clone()
    }

    fn wrap<'a>(&'a self, key: &'a DataKey, aad: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, EnvelopeError>> {
        async move { seal(&self.key, aad, key.expose()) }.boxed()
    }

    fn unwrap<'a>(
        &'a self,
        key_id: &'a str,
        wrapped: &'a [u8],
        aad: &'a [u8],
    ) -> BoxFuture<'a, Result<DataKey, EnvelopeError>> {
        async move { self.unwrap_now(key_id, wrapped, aad) }.boxed()
    }
}

impl fmt::Debug for LocalKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeyring").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, EnvelopeContext};
    use launchpad_protocol::id::{AccountId, DeploymentId};
    use uuid::Uuid;

    fn context() -> EnvelopeContext {
        EnvelopeContext {
            account: AccountId::from(Uuid::from_u128(1)),
            deployment: DeploymentId::from(Uuid::from_u128(2)),
            file: "OPENAI_API_KEY".to_owned(),
            version: 1,
        }
    }

    /// A local key is at hand: nothing waits.
    fn at_once<T>(answer: impl Future<Output = T>) -> T {
        answer.now_or_never().expect("the local keyring waits for nobody")
    }

    fn keyring() -> LocalKeyring {
        LocalKeyring::of(&DataKey::random().unwrap())
    }

    #[test]
    fn a_value_survives_the_store_and_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.key");
        let ring = LocalKeyring::create(&path).unwrap();
        let envelope = at_once(Envelope::encrypt(&ring, &context(), b"sk-canary")).unwrap();
        let column = serde_json::to_string(&envelope).unwrap();
        assert!(!column.contains("canary"), "{column}");
        let again = LocalKeyring::load(&path).unwrap();
        let read: Envelope = serde_json::from_str(&column).unwrap();
        assert_eq!(&at_once(read.decrypt(&again, &context())).unwrap()[..], b"sk-canary");
    }

    #[test]
    fn a_row_moved_to_another_tenant_does_not_decrypt() {
        let ring = keyring();
        let envelope = at_once(Envelope::encrypt(&ring, &context(), b"sk-canary")).unwrap();
        let elsewhere = [
            EnvelopeContext { account: AccountId::from(Uuid::from_u128(9)), ..context() },
            EnvelopeContext { deployment: DeploymentId::from(Uuid::from_u128(9)), ..context() },
            EnvelopeContext { file: "OTHER".to_owned(), ..context() },
            EnvelopeContext { version: 2, ..context() },
        ];
        for other in elsewhere {
            let refused = at_once(envelope.decrypt(&ring, &other));
            assert!(matches!(refused, Err(EnvelopeError::Altered)), "{other:?}");
        }
    }

    #[test]
    fn an_altered_ciphertext_or_a_swapped_data_key_does_not_decrypt() {
        let ring = keyring();
        let one = at_once(Envelope::encrypt(&ring, &context(), b"one")).unwrap();
        let two = at_once(Envelope::encrypt(&ring, &context(), b"two")).unwrap();
        let swapped = Envelope { wrapped_key: two.wrapped_key, ..one.clone() };
        assert!(matches!(at_once(swapped.decrypt(&ring, &context())), Err(EnvelopeError::Altered)));
        for at in 0..one.ciphertext.len() {
            let mut altered = one.clone();
            altered.ciphertext[at] ^= 1;
            assert!(at_once(altered.decrypt(&ring, &context())).is_err(), "byte {at}");
            altered.ciphertext.truncate(at);
            assert!(at_once(altered.decrypt(&ring, &context())).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_wrong_keyring_is_told_by_name() {
        let (ring, other) = (keyring(), keyring());
        let envelope = at_once(Envelope::encrypt(&ring, &context(), b"one")).unwrap();
        let error = at_once(envelope.decrypt(&other, &context())).unwrap_err().to_string();
        assert!(error.contains(&ring.key_id()) && error.contains(&other.key_id()), "{error}");
    }

    #[test]
    fn a_truncated_keyring_is_named_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.key");
        files::write_private(&path, &[1; KEY_BYTES - 1]).unwrap();
        let error = LocalKeyring::load(&path).unwrap_err().to_string();
        assert!(error.contains("keyring.key") && error.contains("damaged"), "{error}");
        assert!(LocalKeyring::create(&path).is_err());
    }
}
