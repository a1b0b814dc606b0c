//! Trust before the first contact: the coordinator's chain must lead to the root whose hash the join token
//! carries.
//!
//! ```text
//! server's chain:  leaf ── issuing CA ── root        token: SHA-256(root)
//!                    └──── webpki path ────┘ └──── equal? ────┘
//! ```
//!
//! The name in the certificate is not compared with the address: an operator may reach the listener by any
//! name or tunnel, and only this installation's CA issues server certificates below this root; a host's
//! certificate is for clients only and is refused here.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use launchpad_protocol::digest::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

/// Accepts servers below the roots with these hashes.
#[derive(Debug)]
pub(crate) struct RootPin {
    pins: BTreeSet<Digest>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The server did not show the root that was pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's chain does not end in the root that the token names: the token is of another coordinator, or \
     somebody stands between"
)]
pub struct UnknownRoot;

/// rustls shows a verifier's own error only as its type's name. People need the sentence.
pub(crate) fn explain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) = inner else { return error };
    match cause.downcast_ref::<UnknownRoot>() {
        Some(unknown) => io::Error::new(error.kind(), *unknown),
        None => error,
    }
}

impl RootPin {
    pub(crate) fn new(pins: BTreeSet<Digest>, provider: &CryptoProvider) -> Self {
        Self { pins, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for RootPin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut roots = RootCertStore::empty();
        for root in intermediates.iter().filter(|shown| self.pins.contains(&Digest::of(shown))) {
            roots.add(root.clone().into_owned())?;
        }
        if roots.is_empty() {
            return Err(CertificateError::Other(OtherError(Arc::new(UnknownRoot))).into());
        }
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, self.algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
