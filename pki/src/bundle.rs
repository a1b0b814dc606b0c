//! The roots that a host trusts: usually one, two while the CA rotates.
//!
//! The coordinator hands it out at enrolment and with renewals; both sides check the other's chain against
//! it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use launchpad_protocol::digest::Digest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The most roots of a bundle: the old one, the new one, and one spare for a rotation that was rolled back.
const ROOTS_MAX: usize = 3;

/// A list of root certificates, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
}

/// Why a text or a list is not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not PEM, or PEM of something else.
    #[error("the trust bundle is not a list of certificates in PEM")]
    Malformed,
    /// None, or more than a rotation needs.
    #[error("the trust bundle has {0} roots; one to three are possible")]
    Count(usize),
    /// A certificate that cannot be a root.
    #[error("certificate {0} of the trust bundle cannot serve as a root")]
    NotRoot(usize),
}

impl TrustBundle {
    /// A bundle of these roots.
    ///
    /// # Errors
    /// When there are none, too many, or one does not parse.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        if roots.is_empty() || roots.len() > ROOTS_MAX {
            return Err(BundleError::Count(roots.len()));
        }
        let bundle = Self { roots };
        for (at, root) in bundle.roots.iter().enumerate() {
            RootCertStore::empty().add(root.clone()).map_err(|_| BundleError::NotRoot(at + 1))?;
        }
        Ok(bundle)
    }

    /// Reads the roots from PEM.
    ///
    /// # Errors
    /// When it is not PEM, or not a list of one to three roots.
    pub fn from_pem(text: &str) -> Result<Self, BundleError> {
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        Self::new(roots.map_err(|_| BundleError::Malformed)?)
    }

    /// The roots in PEM, in order.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(|root| pem("CERTIFICATE", root)).collect()
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The SHA-256 of each root's DER: what a join token carries and [`crate::tls::enroll_client_config`]
    /// pins.
    #[must_use]
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.roots.iter().map(|root| Digest::of(root)).collect()
    }

    /// What tells this bundle from another: SHA-256 over its roots' hashes, in ascending order.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let hashes = self.digests();
        Digest::of(&hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>())
    }

    /// The roots in the form that rustls takes.
    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        // Each was added to a store when the bundle was made: it cannot fail here.
        store.add_parsable_certificates(self.roots.iter().cloned());
        Arc::new(store)
    }
}

/// Columns of base64 in a line of PEM: RFC 7468 §2.
const PEM_COLUMNS: usize = 64;

/// One PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(PEM_COLUMNS) {
        // Base64 is ASCII: no character is lost.
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
