//! Where the keys come from that wrap configs and secrets in the store: a keyring file, or AWS KMS.
//!
//! `init` and `serve` open it, once. Which one is a setting of the installation ([`KeyArguments`]).

use std::path::Path;
use std::sync::Arc;

use launchpad_pki::envelope::KeyProvider;
use launchpad_pki::keyring::{KeyringError, KeyringPlace, LocalKeyring};
use launchpad_protocol::reason::Reason;

use crate::config::KeyArguments;
use crate::data_dir::DataDir;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    Keyring(KeyringPlace),
    /// In AWS KMS: an ARN, an id or an alias.
    Kms(String),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// The keyring.
    #[error("the keyring: {0}")]
    Keyring(#[from] KeyringError),
    /// KMS, in a build that does not know it.
    #[error("the settings name a key of AWS KMS, and this launchpad-coordinator was built without it")]
    NoKms,
}

impl KeySourceError {
    /// The same with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let reason = Reason::new("keyring-unusable", crate::sentence(self));
        match self {
            Self::Keyring(_) => reason.mend(
                "bring keyring and identity back from their backups: without them no stored secret can be read",
            ),
            Self::NoKms => reason.mend("use one that was built with `--features aws-kms`"),
        }
    }
}

impl KeySource {
    /// Where an installation has its keys: in its data directory, unless it was told otherwise.
    #[must_use]
    pub fn of(told: &KeyArguments, dir: &DataDir) -> Self {
        if let Some(key) = &told.kms_key {
            return Self::Kms(key.clone());
        }
        let mut place = KeyringPlace::beside(told.keyring.clone().unwrap_or_else(|| dir.keyring()));
        if let Some(identity) = &told.keyring_identity {
            place.identity.clone_from(identity);
        }
        Self::Keyring(place)
    }

    /// The file that the keys are in, if they are in one.
    #[must_use]
    pub fn keyring(&self) -> Option<&Path> {
        match self {
            Self::Keyring(place) => Some(&place.keyring),
            Self::Kms(_) => None,
        }
    }

    /// The file that opens the keyring, if the keys are in one.
    #[must_use]
    pub fn identity(&self) -> Option<&Path> {
        match self {
            Self::Keyring(place) => Some(&place.identity),
            Self::Kms(_) => None,
        }
    }

    /// Opens the keys that are there.
    ///
    /// # Errors
    /// [`KeySourceError`]; a keyring that is missing is not made anew, because it would open nothing that is
    /// stored.
    pub async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeySourceError> {
        match self {
            Self::Keyring(place) => Ok(Arc::new(LocalKeyring::load(place)?)),
            Self::Kms(key) => kms(key).await,
        }
    }

    /// Sees for a new installation that there are keys, and makes a keyring where there is none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn prepare(&self) -> Result<(), KeySourceError> {
        match self {
            Self::Keyring(place) => Ok(LocalKeyring::load_or_create(place).map(drop)?),
            Self::Kms(key) => kms(key).await.map(drop),
        }
    }
}

#[cfg(feature = "aws-kms")]
async fn kms(key: &str) -> Result<Arc<dyn KeyProvider>, KeySourceError> {
    Ok(Arc::new(launchpad_pki::kms::KmsKey::connect(key).await))
}

#[cfg(not(feature = "aws-kms"))]
async fn kms(_key: &str) -> Result<Arc<dyn KeyProvider>, KeySourceError> {
    Err(KeySourceError::NoKms)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn told(keyring: Option<&str>, keyring_identity: Option<&str>, kms_key: Option<&str>) -> KeySource {
        let told = KeyArguments {
            keyring: keyring.map(PathBuf::from),
            keyring_identity: keyring_identity.map(PathBuf::from),
            kms_key: kms_key.map(str::to_owned),
        };
        KeySource::of(&told, &DataDir::new(Path::new("/data")))
    }

    #[test]
    fn the_keyring_is_in_the_data_directory_unless_told_otherwise() {
        let place = |keyring: &str, identity: &str| {
            KeySource::Keyring(KeyringPlace { keyring: keyring.into(), identity: identity.into() })
        };
        assert_eq!(told(None, None, None), place("/data/keyring", "/data/keyring.identity"));
        assert_eq!(told(None, Some("/run/id"), None), place("/data/keyring", "/run/id"));
        assert_eq!(told(Some("/nfs/ring"), None, None), place("/nfs/ring", "/nfs/ring.identity"));
        assert_eq!(told(None, None, Some("alias/launchpad")), KeySource::Kms("alias/launchpad".to_owned()));
    }

    #[cfg(not(feature = "aws-kms"))]
    #[tokio::test]
    async fn a_build_without_kms_says_so() {
        let error = told(None, None, Some("alias/launchpad")).open().await.unwrap_err();
        assert!(error.reason().to_string().contains("--features aws-kms"), "{error}");
    }
}
