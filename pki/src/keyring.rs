//! The local key provider: key-encryption keys in a file that is sealed with age.
//!
//! ```text
//!            rotate                       nothing is wrapped with it any more, says the store
//!  (none) ──────────► current ──► older ───────────────────────────────────────────────────► forgotten
//!                     wraps        unwraps
//! ```
//! The default, with nothing to set up. The identity that opens the keyring lies beside it, or wherever it is
//! told to: database and keyring without it open nothing. Replicas may share one keyring file. Every change
//! is made under a lock on what the file holds then, and whoever looks for a key sees a file that was
//! replaced.

mod file;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use launchpad_protocol::digest::Digest;

use crate::envelope::{DataKey, EnvelopeError, KeyProvider, WrappedKey, open, seal};
use crate::files::FileError;
use crate::serial::NoEntropy;

pub use file::KeyringPlace;

use file::{Keys, Stamp};

/// What is hashed, before the key, to name it: the name says nothing about the key.
const NAMED_FOR: &[u8] = b"launchpad keyring v1";

/// Keys in one keyring: the current one, the one before it while its data keys are rewrapped, and a few that
/// rotations left behind which were killed halfway. More means that something keeps old keys in use.
const KEYS_MAX: usize = 16;

/// Key-encryption keys that live in a file.
pub struct LocalKeyring {
    place: KeyringPlace,
    held: ArcSwap<Held>,
}

/// The keyring as it was last read.
struct Held {
    /// The oldest first; the last one wraps. Never empty.
    keys: Keys,
    stamp: Stamp,
}

/// Why there is no keyring, or it was not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random bytes for a new key.
    #[error("cannot make a key")]
    Entropy(#[from] NoEntropy),
    /// The identity is of another keyring, or the keyring is damaged.
    #[error(
        "{} does not open with the identity in {}: restore both as they were made together",
        keyring.display(), identity.display()
    )]
    Unopened {
        /// The keyring.
        keyring: PathBuf,
        /// The identity.
        identity: PathBuf,
    },
    /// age refused to seal it.
    #[error("cannot seal {}", keyring.display())]
    Unsealed {
        /// The keyring.
        keyring: PathBuf,
    },
    /// Too many keys.
    #[error("the keyring holds {KEYS_MAX} keys: the coordinator's log says why old ones are still in use")]
    Full,
}

impl LocalKeyring {
    /// Makes a keyring with one key, and an identity unless one is there.
    ///
    /// # Errors
    /// When the keyring is there already, the operating system refuses, or there are no random bytes.
    pub fn create(place: &KeyringPlace) -> Result<Self, KeyringError> {
        let _alone = place.lock()?;
        if place.exists()? {
            return Err(FileError::Exists { path: place.keyring.clone() }.into());
        }
        place.ensure_identity()?;
        place.write(&[DataKey::random()?])?;
        Self::load(place)
    }

    /// Opens a keyring.
    ///
    /// # Errors
    /// When a file is absent, open to others or damaged, or the identity is of another keyring: each names
    /// the file.
    pub fn load(place: &KeyringPlace) -> Result<Self, KeyringError> {
        let (keys, stamp) = place.read()?;
        Ok(Self { place: place.clone(), held: ArcSwap::from_pointee(Held { keys, stamp }) })
    }

    /// Opens the keyring, or makes one where there is none.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::load`]. A keyring whose identity is missing is never made anew.
    pub fn load_or_create(place: &KeyringPlace) -> Result<Self, KeyringError> {
        if place.exists()? { Self::load(place) } else { Self::create(place) }
    }

    /// The keyring as it is now: another process may have put another file in its place.
    fn fresh(&self) -> Result<Arc<Held>, KeyringError> {
        let held = self.held.load_full();
        if self.place.stamp()? == held.stamp {
            return Ok(held);
        }
        let (keys, stamp) = self.place.read()?;
        self.held.store(Arc::new(Held { keys, stamp }));
        Ok(self.held.load_full())
    }

    /// Changes the keys under the lock, starting from what the file holds then; the answer says whether
    /// anything is to be written.
    fn change(&self, edit: impl FnOnce(&mut Keys) -> Result<bool, KeyringError>) -> Result<(), KeyringError> {
        let _alone = self.place.lock()?;
        let (mut keys, mut stamp) = self.place.read()?;
        if edit(&mut keys)? {
            stamp = self.place.write(&keys)?;
        }
        self.held.store(Arc::new(Held { keys, stamp }));
        Ok(())
    }

    fn wrap_now(&self, key: &DataKey, aad: &[u8]) -> Result<WrappedKey, EnvelopeError> {
        let held = self.fresh().map_err(failed)?;
        let current = held.current();
        Ok(WrappedKey { key_id: name(current), bytes: seal(current.expose(), aad, key.expose())? })
    }

    fn unwrap_now(&self, key_id: &str, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, EnvelopeError> {
        let known = self.held.load_full();
        let held = if known.find(key_id).is_some() { known } else { self.fresh().map_err(failed)? };
        let key = held.find(key_id).ok_or_else(|| EnvelopeError::OtherKey {
            wanted: key_id.to_owned(),
            held: held.keys.iter().map(|key| format!("`{}`", name(key))).collect::<Vec<_>>().join(", "),
        })?;
        DataKey::from_bytes(&open(key.expose(), aad, wrapped)?).ok_or(EnvelopeError::Altered)
    }

    fn rotate_now(&self) -> Result<String, KeyringError> {
        self.change(|keys| {
            if keys.len() >= KEYS_MAX {
                return Err(KeyringError::Full);
            }
            keys.push(DataKey::random()?);
            Ok(true)
        })?;
        Ok(self.key_id())
    }

    fn forget_now(&self, key_id: &str) -> Result<(), KeyringError> {
        self.change(|keys| {
            let before = keys.len();
            let current = keys.last().map(name);
            keys.retain(|key| name(key) != key_id || Some(name(key)) == current);
            Ok(keys.len() != before)
        })
    }
}

impl Held {
    fn current(&self) -> &DataKey {
        // A keyring without a key is refused when it is read, and none takes the last one away.
        &self.keys[self.keys.len() - 1]
    }

    fn find(&self, key_id: &str) -> Option<&DataKey> {
        self.keys.iter().find(|key| name(key) == key_id)
    }
}

fn name(key: &DataKey) -> String {
    format!("local:{}", Digest::of(&[NAMED_FOR, key.expose()].concat()).short())
}

fn failed(error: KeyringError) -> EnvelopeError {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    EnvelopeError::Provider(format!("{error}{source}"))
}

impl KeyProvider for LocalKeyring {
    fn key_id(&self) -> String {
        name(self.held.load().current())
    }

    fn wrap<'a>(&'a self, key: &'a DataKey, aad: &'a [u8]) -> BoxFuture<'a, Result<WrappedKey, EnvelopeError>> {
        async move { self.wrap_now(key, aad) }.boxed()
    }

    fn unwrap<'a>(
        &'a self,
        key_id: &'a str,
        wrapped: &'a [u8],
        aad: &'a [u8],
    ) -> BoxFuture<'a, Result<DataKey, EnvelopeError>> {
        async move { self.unwrap_now(key_id, wrapped, aad) }.boxed()
    }

    fn rotate(&self) -> BoxFuture<'_, Result<String, EnvelopeError>> {
        async move { self.rotate_now().map_err(failed) }.boxed()
    }

    fn older(&self) -> Vec<String> {
        let held = self.held.load();
        held.keys[..held.keys.len() - 1].iter().map(name).collect()
    }

    fn forget<'a>(&'a self, key_id: &'a str) -> BoxFuture<'a, Result<(), EnvelopeError>> {
        async move { self.forget_now(key_id).map_err(failed) }.boxed()
    }
}

impl fmt::Debug for LocalKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeyring").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
