//! Keeps the host's certificate in force.
//!
//! ```text
//! in force, connected        at half its life ± 10 %: Renew on the fleet connection       (keep)
//! expired, not connected     Challenge, then RenewExpired on the enrolment listener       (revive)
//! expired for 30 days        a new token: nothing here helps any more
//! ```
//! Each renewal makes a new key. The new identity is on disk before TLS shows it, and open streams stay as they are:
//! what was authenticated stays so. `link.rs` calls both; neither ever touches a bot.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::CertificateDer;
use launchpad_pki::bundle::{BundleError, TrustBundle};
use launchpad_pki::dial;
use launchpad_pki::enroll::Nonce;
use launchpad_pki::host_key::{HostKey, KeyError};
use launchpad_pki::identity::{HostIdentity, IdentityError};
use launchpad_pki::pipe::{Dial, Lane};
use launchpad_pki::renewal::{RENEWABLE_FOR, RenewalError, renew_at, request_renewal};
use launchpad_pki::tls::{self, TlsError};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::wire::{self, v1};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::config::{HostPort, HostPortError};
use crate::identity::{Enrolled, Identity, IdentityFileError};
use crate::link::cause::{not_carried_out, not_spoken_to};

/// The longest sleep: a host that was suspended, or whose clock was set, is late by no more than this.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);

/// Between two renewals, give or take half, whether the first failed or not: of the twelve hours that are left, little is
/// lost.
const PAUSE: Duration = Duration::from_secs(120);

/// By how much of itself [`PAUSE`] varies.
const PAUSE_SHARE: f64 = 0.5;

/// How long one renewal may take.
const RENEW_WITHIN: Duration = Duration::from_secs(30);

/// Renews one host's certificate.
pub struct Renewal {
    enrolled: Arc<Enrolled>,
    clock: Clock,
    entropy: Entropy,
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The coordinator refused, or did not answer.
    #[error("{0}")]
    Refused(Reason),
    /// Nobody answered in time.
    #[error("the coordinator took longer than {} s to renew the certificate", RENEW_WITHIN.as_secs())]
    Silence,
    /// No new key.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The own certificate does not say what it should.
    #[error("the host's own certificate cannot be read: {0}")]
    Own(#[from] IdentityError),
    /// The request could not be made.
    #[error("{0}")]
    Request(#[from] RenewalError),
    /// The TLS settings.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The answer makes no identity.
    #[error("the coordinator's answer cannot be used: {0}")]
    Answer(String),
    /// It cannot be kept.
    #[error("{0}")]
    Files(#[from] IdentityFileError),
}

impl From<BundleError> for RenewError {
    fn from(error: BundleError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl From<HostPortError> for RenewError {
    fn from(error: HostPortError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl Renewal {
    /// Renews what `enrolled` holds.
    #[must_use]
    pub fn new(enrolled: &Arc<Enrolled>, clock: &Clock, entropy: &Entropy) -> Self {
        Self { enrolled: Arc::clone(enrolled), clock: clock.clone(), entropy: entropy.clone() }
    }

    /// Renews whenever it is time, over this connection. May be dropped at any point: an answer that is lost is asked
    /// for again, with another key.
    pub async fn keep(&self, connection: &Dial) -> Infallible {
        loop {
            match self.life() {
                Ok((not_before, not_after)) => self.wait_until(renew_at(not_before, not_after, &self.entropy)).await,
                Err(error) => tracing::error!(%error, "cannot tell when to renew the certificate"),
            }
            let renewed = timeout(RENEW_WITHIN, self.renew(connection)).await.unwrap_or(Err(RenewError::Silence));
            match renewed {
                Ok(not_after) => tracing::info!(%not_after, "the host's certificate was renewed"),
                Err(error) => tracing::warn!(%error, "the host's certificate was not renewed; it is tried again"),
            }
            // After a success as well: to a clock that is half a day ahead, the new certificate is due at once.
            sleep(self.entropy.around(PAUSE, PAUSE_SHARE)).await;
        }
    }

    /// Renews a certificate that has expired, on the enrolment listener; one in force is left alone.
    ///
    /// # Errors
    /// Why the host cannot come back by itself, or not yet.
    pub async fn revive(&self) -> Result<(), Reason> {
        let (_, not_after) = self.life().map_err(|error| not_renewed(&error))?;
        let now = self.clock.wall();
        if now < not_after {
            return Ok(());
        }
        if now.since(not_after) > RENEWABLE_FOR {
            return Err(Reason::new("certificate-too-old", format!("the host's certificate expired at {not_after}"))
                .because("after 30 days it can no longer be renewed")
                .mend("run `launchpad-agent enroll --replace` with a new token; the bots run on meanwhile"));
        }
        let renewed = timeout(RENEW_WITHIN, self.renew_expired()).await.unwrap_or(Err(RenewError::Silence));
        let not_after = renewed.map_err(|error| not_renewed(&error))?;
        tracing::info!(%not_after, "the host's certificate had expired, and was renewed");
        Ok(())
    }

    fn life(&self) -> Result<(Moment, Moment), RenewError> {
        let identity = self.enrolled.identity();
        let leaf = identity.chain.first().ok_or_else(|| RenewError::Answer("there is no certificate".to_owned()))?;
        let named = HostIdentity::of_domain(leaf, &identity.trust_domain)?;
        Ok((named.not_before, named.not_after))
    }

    /// Sleeps by the wall clock, in which certificates are dated.
    async fn wait_until(&self, due: Moment) {
        loop {
            let left = due.since(self.clock.wall());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK_EVERY)).await;
        }
    }

    async fn renew(&self, connection: &Dial) -> Result<Moment, RenewError> {
        let key = HostKey::generate()?;
        let channel = dial::channel(Arc::clone(connection), Lane::Renew).await;
        let channel = channel.map_err(|error| RenewError::Refused(not_spoken_to("the coordinator", &error)))?;
        let request = v1::RenewRequest { csr_der: key.csr_der()? };
        let reply = wire::fleet_client(channel).renew(request).await;
        let reply = reply.map_err(|status| RenewError::Refused(not_carried_out("the coordinator", &status)))?;
        self.take(key, reply.into_inner())
    }

    async fn renew_expired(&self) -> Result<Moment, RenewError> {
        let identity = self.enrolled.identity();
        let leaf = identity.chain.first().ok_or_else(|| RenewError::Answer("there is no certificate".to_owned()))?;
        let endpoint = identity.enroll_endpoint.as_str();
        let refused = |status: tonic::Status| RenewError::Refused(not_carried_out(endpoint, &status));
        let tls = tls::enroll_client_config(identity.bundle.digests(), &self.clock)?;
        let channel = enrolment_channel(&identity.enroll_endpoint, tls).await;
        let mut client = wire::enrollment_client(channel.map_err(RenewError::Refused)?);
        let challenge = v1::ChallengeRequest { certificate_der: leaf.to_vec() };
        let nonce = client.challenge(challenge).await.map_err(refused)?.into_inner().nonce;
        let nonce =
            Nonce::from_bytes(&nonce).ok_or_else(|| RenewError::Answer("its nonce is too short".to_owned()))?;
        let key = HostKey::generate()?;
        let request = request_renewal(leaf, &identity.key, &key, nonce)?;
        let message = v1::RenewExpiredRequest {
            certificate_der: request.certificate_der.to_vec(),
            csr_der: request.csr_der,
            nonce: request.nonce.as_bytes().to_vec(),
            signature: request.signature,
        };
        let reply = client.renew_expired(message).await.map_err(refused)?;
        self.take(key, reply.into_inner())
    }

    /// Keeps what came; returns until when the new certificate is in force.
    fn take(&self, key: HostKey, reply: v1::RenewReply) -> Result<Moment, RenewError> {
        let endpoints: Result<Vec<HostPort>, _> = reply.fleet_endpoints.iter().map(|text| text.parse()).collect();
        let before = (*self.enrolled.identity()).clone();
        let endpoints = Some(endpoints?).filter(|named| !named.is_empty());
        let identity = Identity {
            key: Arc::new(key),
            chain: reply.chain_der.iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            bundle: TrustBundle::from_pem(&reply.trust_bundle_pem)?,
            // None named: as before.
            fleet_endpoints: endpoints.unwrap_or_else(|| before.fleet_endpoints.clone()),
            ..before
        };
        self.enrolled.replace(identity)?;
        self.life().map(|(_, not_after)| not_after)
    }
}

/// A gRPC channel to an enrolment listener whose chain ends in a pinned root.
///
/// # Errors
/// Why it cannot be spoken to, and what mends that.
pub(crate) async fn enrolment_channel(
    endpoint: &HostPort,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Channel, Reason> {
    let dial = dial::enroll_dial(endpoint.to_string(), tls);
    dial::channel(dial, Lane::Renew).await.map_err(|error| not_spoken_to(endpoint.as_str(), &error))
}

fn not_renewed(error: &RenewError) -> Reason {
    match error {
        RenewError::Refused(reason) => reason.clone(),
        RenewError::Silence
        | RenewError::Key(_)
        | RenewError::Own(_)
        | RenewError::Request(_)
        | RenewError::Tls(_)
        | RenewError::Answer(_)
        | RenewError::Files(_) => {
            Reason::new("certificate-not-renewed", "the host's certificate has expired and could not be renewed")
                .because(error.to_string())
        }
    }
}
