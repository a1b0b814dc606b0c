//! Keeps the host's certificate in force.
//!
//! ```text
//! in force, connected        at half its life ± 10 %: Renew on the fleet connection       (keep)
//! connected, now and then    Trust: these roots, this issuer? Other roots, or Renew at once  (keep)
//! expired, or refused as     Challenge, then RenewExpired on the enrolment listener       (revive)
//! out of date
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
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::wire::{self, v1};
use tokio::time::{Instant, sleep, sleep_until, timeout};
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

/// When to ask again about roots and issuer where the coordinator does not say: it is away, or older than the question.
const ASK_ANYWAY: Duration = Duration::from_secs(15 * 60);

/// The first question of a connection is asked within this: a fleet that comes back all at once does not ask at once.
const FIRST_ASK_WITHIN: Duration = Duration::from_secs(2);

/// No question comes sooner after another, whatever the coordinator says.
const ASK_NEVER_SOONER: Duration = Duration::from_millis(500);

/// How soon what was changed is told.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// By how much of itself the time between two questions varies.
const ASK_SHARE: f64 = 0.25;

/// How long one renewal may take.
const RENEW_WITHIN: Duration = Duration::from_secs(30);

/// Renews one host's certificate.
pub struct Renewal {
    enrolled: Arc<Enrolled>,
    clock: Clock,
    entropy: Entropy,
}

/// How a certificate's rest came to its end.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Whether the coordinator said so; otherwise it was due.
    ordered: bool,
    /// How many questions were asked meanwhile, the last one included.
    asked: u32,
}

/// What the coordinator says of roots and issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// They are as they should be.
    AllWell {
        /// When to ask again.
        again: Duration,
    },
    /// Other roots were named, and are on the disk.
    RootsChanged,
    /// Another CA signs: a new certificate is to be asked for at once.
    RenewNow,
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

    /// Renews whenever it is time or the coordinator says so, over this connection. May be dropped at any point: an answer
    /// that is lost is asked for again, with another key.
    pub async fn keep(&self, connection: &Dial) -> Infallible {
        let mut ask_in = self.entropy.full_jitter(FIRST_ASK_WITHIN);
        let mut rested = Instant::now();
        let mut ordered_before = false;
        loop {
            let due = match self.life() {
                Ok((not_before, not_after)) => renew_at(not_before, not_after, &self.entropy),
                Err(error) => {
                    tracing::error!(%error, "cannot tell when to renew the certificate");
                    self.clock.wall()
                }
            };
            let held = self.hold_until(due, rested, ask_in, connection).await;
            let renewed = timeout(RENEW_WITHIN, self.renew(connection)).await.unwrap_or(Err(RenewError::Silence));
            match &renewed {
                Ok(not_after) => tracing::info!(%not_after, "the host's certificate was renewed"),
                Err(error) => tracing::warn!(%error, "the host's certificate was not renewed; it is tried again"),
            }
            // After a success as well: to a clock that is half a day ahead, the new certificate is due at once; and an order
            // that comes twice without a word between may come from coordinators that do not agree yet.
            let pause = self.entropy.around(PAUSE, PAUSE_SHARE);
            rested = Instant::now() + pause;
            let again = ordered_before && held.ordered && held.asked == 1;
            ask_in = if renewed.is_ok() && !again { TOLD_AFTER } else { pause };
            ordered_before = held.ordered;
        }
    }

    /// Asks now and then whether roots and issuer are as they should be, until the certificate is due or is to be replaced
    /// at once. A question that fails is asked again.
    async fn hold_until(&self, due: Moment, rested: Instant, first: Duration, connection: &Dial) -> Held {
        let mut ask_in = first;
        let mut asked = 0;
        loop {
            let by_itself = async {
                sleep_until(rested).await;
                self.wait_until(due).await;
            };
            tokio::select! {
                () = by_itself => return Held { ordered: false, asked },
                () = sleep(ask_in) => {}
            }
            asked += 1;
            let told = timeout(RENEW_WITHIN, self.ask(connection)).await.unwrap_or(Err(RenewError::Silence));
            ask_in = match told {
                Ok(Told::RenewNow) => return Held { ordered: true, asked },
                Ok(Told::RootsChanged) => TOLD_AFTER,
                Ok(Told::AllWell { again }) => self.entropy.around(again, ASK_SHARE),
                Err(error) => {
                    tracing::debug!(%error, "cannot ask which roots to trust");
                    self.entropy.around(ASK_ANYWAY, ASK_SHARE)
                }
            };
        }
    }

    /// Tells what is on the disk, and hears whether that is as it should be.
    async fn ask(&self, connection: &Dial) -> Result<Told, RenewError> {
        let identity = self.enrolled.identity();
        let channel = dial::channel(Arc::clone(connection), Lane::Renew).await;
        let channel = channel.map_err(|error| RenewError::Refused(not_spoken_to("the coordinator", &error)))?;
        let issuer = identity.chain.get(1).map(|issuer| Digest::of(issuer).as_bytes().to_vec());
        let request = v1::TrustRequest {
            bundle_digest: identity.bundle.digest().as_bytes().to_vec(),
            issuer_digest: issuer.unwrap_or_default(),
        };
        let reply = wire::fleet_client(channel).trust(request).await;
        let reply = reply.map_err(|status| RenewError::Refused(not_carried_out("the coordinator", &status)))?;
        let v1::TrustReply { trust_bundle_pem, renew, ask_again_ms } = reply.into_inner();
        if !trust_bundle_pem.is_empty() {
            let bundle = TrustBundle::from_pem(&trust_bundle_pem)?;
            tracing::info!(roots = bundle.roots().len(), "the coordinator names other roots to trust");
            self.enrolled.replace(Identity { bundle, ..(*identity).clone() })?;
            return Ok(Told::RootsChanged);
        }
        let again = Duration::from_millis(ask_again_ms).clamp(ASK_NEVER_SOONER, ASK_ANYWAY);
        Ok(if renew { Told::RenewNow } else { Told::AllWell { again } })
    }

    /// Renews a certificate that has expired, or that the coordinator refuses as `out_of_date`, on the enrolment listener.
    /// Any other is left alone. This host's own clock may be wrong about either.
    ///
    /// # Errors
    /// Why the host cannot come back by itself, or not yet.
    pub async fn revive(&self, out_of_date: bool) -> Result<(), Reason> {
        let (_, not_after) = self.life().map_err(|error| not_renewed(&error))?;
        let now = self.clock.wall();
        if now < not_after && !out_of_date {
            return Ok(());
        }
        if now.since(not_after) > RENEWABLE_FOR {
            return Err(Reason::new("certificate-too-old", format!("the host's certificate expired at {not_after}"))
                .because(format!("after 30 days it can no longer be renewed, and this host's clock says {now}"))
                .mend(
                    "run `launchpad-agent enroll --replace` with a new token (`launchpad host token create`), after a look at \
                     this host's clock; the bots run on meanwhile",
                ));
        }
        let renewed = timeout(RENEW_WITHIN, self.renew_expired()).await.unwrap_or(Err(RenewError::Silence));
        let not_after = renewed.map_err(|error| not_renewed(&error))?;
        tracing::info!(%not_after, "the host's certificate was out of date, and was renewed");
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
