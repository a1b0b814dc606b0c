//! What a host and the coordinator say to each other on the enrolment listener.
//!
//! ```text
//! join:   agent ── EnrollRequest{token, CSR, sealing key} ──► consume the token and issue, in one transaction
//!         agent ◄── EnrollReply{certificate, bundle, where} ──
//!
//! renew after expiry (the fleet listener refuses an expired certificate):
//!         agent ── challenge me ──►
//!         agent ◄── ChallengeReply{nonce} ──
//!         agent ── RenewRequest{old certificate, new CSR, signature} ──► `renewal::verify_renewal`
//!         agent ◄── EnrollReply ──
//! ```
//!
//! Plain values: the protocol crate's conversions turn wire messages into these at once. Nothing here sends
//! anything.

use std::fmt;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{HostId, IncarnationId, JoinTokenId};
use launchpad_protocol::time::Moment;
use rustls::pki_types::CertificateDer;

use crate::identity::TrustDomain;
use crate::serial::NoEntropy;
use crate::token::TokenSecret;

/// How far the two clocks may be apart at enrolment. Certificates are backdated by as much: further apart,
/// the host would be refused at its first connection, with a worse message.
pub const CLOCKS_APART: std::time::Duration = crate::ca::BACKDATED;

/// Bytes of a challenge: 256 random bits never repeat.
const NONCE_BYTES: usize = 32;

/// A host asks to join.
#[derive(Debug, Clone)]
pub struct EnrollRequest {
    /// The token that the operator made.
    pub token_id: JoinTokenId,
    /// Its secret.
    pub token_secret: TokenSecret,
    /// A certificate request for the host's new TLS key; only the key counts.
    pub csr_der: Vec<u8>,
    /// The public half of the host's sealing key ([`crate::sealing::SealingKey::public`]).
    pub sealing_public_key: Vec<u8>,
    /// What the host would like to be called.
    pub host_name: String,
    /// The version of the agent.
    pub agent_version: String,
    /// The host's wall clock: a clock that is far off would make every certificate look expired.
    pub wall: Moment,
}

/// The coordinator lets it in, or renews it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollReply {
    /// Who the host is from now on.
    pub host: HostId,
    /// The host's certificate, then the issuing CA's.
    pub chain_der: Vec<CertificateDer<'static>>,
    /// The roots to trust, in PEM ([`crate::bundle::TrustBundle`]).
    pub trust_bundle_pem: String,
    /// Where the fleet listener is, as `HOST:PORT`, in the order in which to try.
    pub fleet_endpoints: Vec<String>,
    /// The name that the fleet listener's certificate carries, whatever the endpoint is called.
    pub server_name: String,
    /// The installation that the host belongs to.
    pub trust_domain: TrustDomain,
    /// The life of the coordinator's store in which this was said.
    pub incarnation: Option<IncarnationId>,
}

/// Random bytes that were never used before: what a renewal signs, so that an old one cannot be played again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; NONCE_BYTES]);

/// The coordinator's challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChallengeReply {
    /// What to sign.
    pub nonce: Nonce,
}

/// A host whose certificate has expired asks for a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewRequest {
    /// The certificate that has expired.
    pub certificate_der: CertificateDer<'static>,
    /// A certificate request for the host's new TLS key.
    pub csr_der: Vec<u8>,
    /// The challenge.
    pub nonce: Nonce,
    /// The old key's signature of [`crate::renewal::signed_message`].
    pub signature: Vec<u8>,
}

/// Why the two clocks forbid an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host's clock says {host}, the coordinator's {coordinator}: set the host's clock (NTP), then enrol again"
)]
pub struct ClocksApart {
    /// What the host said.
    pub host: Moment,
    /// What the coordinator read.
    pub coordinator: Moment,
}

impl EnrollRequest {
    /// Whether the clocks agree well enough for a certificate to be of use.
    ///
    /// # Errors
    /// When they are more than [`CLOCKS_APART`] apart.
    pub fn check_clock(&self, now: Moment) -> Result<(), ClocksApart> {
        if self.wall.apart(now) > CLOCKS_APART {
            return Err(ClocksApart { host: self.wall, coordinator: now });
        }
        Ok(())
    }
}

impl Nonce {
    /// A new nonce.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn random() -> Result<Self, NoEntropy> {
        let mut bytes = [0_u8; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
        Ok(Self(bytes))
    }

    /// The nonce whose bytes these are, if they are 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; NONCE_BYTES] {
        &self.0
    }
}

impl From<[u8; NONCE_BYTES]> for Nonce {
    fn from(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Digest::of(&self.0).short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn clocks_apart_are_told_before_a_certificate_is_wasted() {
        let now = Moment::from_micros(1_800_000_000_000_000);
        let at = |wall| EnrollRequest {
            token_id: JoinTokenId::from(Uuid::from_u128(1)),
            token_secret: TokenSecret::random().unwrap(),
            csr_der: Vec::new(),
            sealing_public_key: Vec::new(),
            host_name: "web-1".to_owned(),
            agent_version: "0.1.0".to_owned(),
            wall,
        };
        assert_eq!(at(now + CLOCKS_APART).check_clock(now), Ok(()));
        assert_eq!(at(now - CLOCKS_APART).check_clock(now), Ok(()));
        let late = now - CLOCKS_APART - Duration::from_secs(1);
        let error = at(late).check_clock(now).unwrap_err().to_string();
        assert!(error.contains("NTP"), "{error}");
    }
}
