//! A host's TLS key: made on the host, never leaving it, replaced at every renewal.
//!
//! The agent makes one, sends its CSR, and pairs it with the chain that comes back (`tls::Credentials`). The
//! server's certificates use the same type.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use launchpad_protocol::digest::Digest;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::serial::NoEntropy;

/// An ECDSA P-256 key and what can be done with it.
pub struct HostKey {
    pair: KeyPair,
}

/// Why a key could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No random bytes.
    #[error("cannot make a key")]
    Entropy(#[from] NoEntropy),
    /// Not a key of the one kind that is used here.
    #[error("not an ECDSA P-256 key in PKCS#8")]
    Malformed,
    /// The certificate request could not be built.
    #[error("cannot make a certificate request")]
    Request(#[source] rcgen::Error),
    /// The signature could not be made.
    #[error("cannot sign with the host's key")]
    Signing,
}

impl HostKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| NoEntropy)?;
        Ok(Self { pair })
    }

    /// The key that these PKCS#8 bytes hold.
    ///
    /// # Errors
    /// When they hold none, or one of another kind.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(der);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        Ok(Self { pair: pair.map_err(|_| KeyError::Malformed)? })
    }

    /// The key in PKCS#8.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialize_der())
    }

    /// Reads the key from a file of PKCS#8.
    ///
    /// # Errors
    /// When the file is absent, open to others or damaged: each names the file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let content = files::read_private(path)?;
        Self::from_pkcs8(&content).map_err(|_| FileError::damaged(path, "an ECDSA P-256 key in PKCS#8"))
    }

    /// Writes the key to a file of PKCS#8, mode 0600.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        files::write_private(path, &self.to_pkcs8())
    }

    /// A certificate request for this key. It names nobody: who the holder is, is not the holder's to say.
    ///
    /// # Errors
    /// When the request cannot be encoded.
    pub fn csr_der(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&self.pair).map_err(KeyError::Request)?;
        Ok(request.der().to_vec())
    }

    /// An ASN.1 ECDSA signature (P-256, SHA-256) of `message`.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.to_pkcs8());
        let pair = pair.map_err(|_| KeyError::Malformed)?;
        let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Signing)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The SHA-256 of the public key (SubjectPublicKeyInfo in DER): the same as
    /// [`crate::ca::IssuedCertificate::public_key`].
    #[must_use]
    pub fn public_digest(&self) -> Digest {
        Digest::of(&self.pair.subject_public_key_info())
    }

    /// The key in the form that the CA takes.
    pub(crate) const fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The key in the form that rustls takes.
    #[must_use]
    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKey").field(&self.public_digest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_key_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.key");
        let key = HostKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(HostKey::load(&path).unwrap().public_digest(), key.public_digest());
    }

    #[test]
    fn a_truncated_key_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.key");
        HostKey::generate().unwrap().save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            files::write_private(&path, &whole[..length]).unwrap();
            let error = HostKey::load(&path).unwrap_err().to_string();
            assert!(error.contains("host.key") && error.contains("damaged"), "{error}");
        }
    }
}
