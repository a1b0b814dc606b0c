//! When a host's certificate is renewed, and how one that has expired still is.
//!
//! A host in touch renews at half its certificate's life over its own connection. A host that was off for
//! longer finds the fleet listener shut to it, and proves itself on the enrolment listener with its old key,
//! for [`RENEWABLE_FOR`]. Pure: the nonce, the time and what is revoked arrive as arguments.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::time::Moment;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use crate::bundle::TrustBundle;
use crate::enroll::{Nonce, RenewRequest};
use crate::host_key::{HostKey, KeyError};
use crate::identity::{HostIdentity, IdentityError, TrustDomain};
use crate::tls;

/// How long after its expiry a certificate may still be renewed by a signature of its key.
pub const RENEWABLE_FOR: Duration = Duration::from_hours(24 * 30);

/// How long a nonce may be answered: one exchange on a slow line, many times over.
pub const NONCE_LIFE: Duration = Duration::from_secs(60);

/// What part of a certificate's life is over when it is renewed.
const RENEW_AT_SHARE: f64 = 0.5;

/// By how much of itself that moment is moved, so that a fleet that was enrolled together does not renew
/// together.
const RENEW_JITTER_SHARE: f64 = 0.1;

/// What a renewal's signature begins with, so that no other signature of that key can be taken for one.
const SIGNED_FOR: &[u8] = b"launchpad renew v1";

/// Why a renewal is refused.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// Not the challenge that was given out.
    #[error("the renewal answers another challenge than the one that was given out")]
    Nonce,
    /// Not a certificate of a host of this installation.
    #[error("the old certificate is not a host's")]
    Identity(#[from] IdentityError),
    /// Not signed by a root that is trusted.
    #[error("the old certificate was not issued here: enrol the host with a new token")]
    Untrusted(#[source] rustls::Error),
    /// The trust bundle cannot be used.
    #[error("cannot check the old certificate")]
    Tls(#[from] tls::TlsError),
    /// Too old.
    #[error("the certificate expired at {expired}, more than 30 days ago: enrol the host with a new token")]
    TooLate {
        /// When it expired.
        expired: Moment,
    },
    /// Revoked.
    #[error("the host was revoked: enrol it with a new token")]
    Revoked,
    /// Signed by another key than the certificate's.
    #[error("the renewal is not signed by the old certificate's key")]
    Signature,
    /// A new certificate wants a new key.
    #[error("the renewal asks for the old key again; make a new one")]
    SameKey,
    /// The request could not be signed.
    #[error("cannot sign the renewal")]
    Key(#[from] KeyError),
}

/// What the old key signs: for what, the challenge, and the request for the new key.
#[must_use]
pub fn signed_message(nonce: &Nonce, csr_der: &[u8]) -> Vec<u8> {
    [SIGNED_FOR, nonce.as_bytes(), csr_der].concat()
}

/// The agent's side: asks for a certificate for `new_key` with the key of the expired one.
///
/// # Errors
/// When a signature cannot be made.
pub fn request_renewal(
    certificate: &CertificateDer<'static>,
    old_key: &HostKey,
    new_key: &HostKey,
    nonce: Nonce,
) -> Result<RenewRequest, RenewalError> {
    let csr_der = new_key.csr_der()?;
    let signature = old_key.sign(&signed_message(&nonce, &csr_der))?;
    Ok(RenewRequest { certificate_der: certificate.clone(), csr_der, nonce, signature })
}

/// The coordinator's side: who asks, if they may. `issuers` are the certificates of issuing CAs, present and
/// past.
///
/// # Errors
/// When the challenge is another, the certificate is not ours, expired too long ago or revoked, or the
/// signature is not its key's.
pub fn verify_renewal(
    request: &RenewRequest,
    given_out: &Nonce,
    trust: (&TrustBundle, &[CertificateDer<'_>], &TrustDomain),
    is_revoked: impl FnOnce(&HostIdentity) -> bool,
    now: Moment,
) -> Result<HostIdentity, RenewalError> {
    let (bundle, issuers, trust_domain) = trust;
    if request.nonce != *given_out {
        return Err(RenewalError::Nonce);
    }
    let identity = HostIdentity::of_domain(&request.certificate_der, trust_domain)?;
    // It was signed while it was in force, so that is when its chain has to hold.
    let in_force = identity.not_before + identity.not_after.since(identity.not_before) / 2;
    let verifier = tls::host_verifier(bundle, None)?;
    let verified = verifier.verify_client_cert(&request.certificate_der, issuers, tls::unix_time(in_force));
    verified.map_err(RenewalError::Untrusted)?;
    if now.since(identity.not_after) > RENEWABLE_FOR {
        return Err(RenewalError::TooLate { expired: identity.not_after });
    }
    let old_key = public_key(&request.certificate_der).ok_or(IdentityError::Malformed)?;
    let message = signed_message(&request.nonce, &request.csr_der);
    let signed = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &old_key).verify(&message, &request.signature);
    signed.map_err(|_| RenewalError::Signature)?;
    if is_revoked(&identity) {
        return Err(RenewalError::Revoked);
    }
    if requested_key(&request.csr_der).is_some_and(|new_key| new_key == old_key) {
        return Err(RenewalError::SameKey);
    }
    Ok(identity)
}

/// When to renew a certificate: at half its life, somewhat earlier or later.
#[must_use]
pub fn renew_at(not_before: Moment, not_after: Moment, entropy: &Entropy) -> Moment {
    let half = not_after.since(not_before).mul_f64(RENEW_AT_SHARE);
    not_before + entropy.around(half, RENEW_JITTER_SHARE)
}

fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.public_key().subject_public_key.data.to_vec())
}

/// The key that a CSR asks for. One that cannot be read is refused where it would be issued.
fn requested_key(csr_der: &[u8]) -> Option<Vec<u8>> {
    let (_, csr) = X509CertificationRequest::from_der(csr_der).ok()?;
    Some(csr.certification_request_info.subject_pki.subject_public_key.data.to_vec())
}
