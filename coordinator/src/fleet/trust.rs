//! Who signs for hosts, whose hosts are let in, and which roots all are told: what the doors go by at this moment.
//!
//! ```text
//!   store: issuers, latest rotation ─┐
//!   keyring: their keys ─────────────┴─► Trust ──► issue (who signs) ──► renew (whose old certificates count)
//!   data directory: the first CA ────┘       └───► certificates (what the doors show, and whom they let in)
//!   a host ── "these roots, this issuer" ──► noted ──► other roots, or "renew now"
//! ```
//! [`super::certificates`] makes a new one whenever the store says something else; whoever needs it takes the newest.
//! A host that knows only the root before is shown a bridge: the same CA's certificate by that root.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::CertificateDer;
use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::{CaError, HOST_LIFE, IssuingCa};
use launchpad_pki::envelope::{EnvelopeContext, EnvelopeError, KeyProvider};
use launchpad_pki::renewal::RENEWABLE_FOR;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::v1;

use super::server::{FleetError, Ground};
use crate::store::issuers::{Held, Issuer, Standing};
use crate::store::{Commit, StoreError, Tx, hosts, issuers};

/// How long a CA that has ended is of use to hosts that were away: their last certificate ends, and renews for a while.
const REMEMBERED_FOR: Duration = RENEWABLE_FOR.saturating_add(HOST_LIFE);

/// How many times as often hosts ask while a CA takes over from another.
const OFTENER: u32 = 6;

/// What the doors go by.
#[derive(Debug)]
pub(super) struct Trust {
    /// Signs what is signed from now on.
    pub(super) signer: Arc<IssuingCa>,
    /// The other CA whose hosts are let in, while one takes over from the other.
    other: Option<Arc<IssuingCa>>,
    /// The roots that hosts are told to trust.
    pub(super) bundle: TrustBundle,
    /// What leads from the signer to the root before: shown to whoever knows no other, until then.
    bridge: Option<Bridge>,
    /// CAs that have ended, with their roots and when.
    ended: Vec<(CertificateDer<'static>, CertificateDer<'static>, Moment)>,
}

#[derive(Debug)]
struct Bridge {
    chain: [CertificateDer<'static>; 2],
    shown_until: Option<Moment>,
}

/// A CA whose hosts may renew, and whether the store has to remember each certificate of theirs.
pub(super) struct Renewable<'a> {
    pub(super) certificate: &'a CertificateDer<'static>,
    pub(super) root: &'a CertificateDer<'static>,
    /// Its key is out of our hands: a certificate that we do not remember may be anybody's.
    pub(super) has_ended: bool,
}

/// Keys that were decrypted, so that a keyring that is far away is asked once for each.
#[derive(Debug)]
pub(super) struct Cas {
    first: Arc<IssuingCa>,
    known: BTreeMap<Digest, Arc<IssuingCa>>,
}

/// Why it is not known who signs.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA in the data directory is not the one that the store begins with.
    #[error(
        "the CA in this data directory is not this installation's: copy ca/ from a coordinator of it, or from its backup"
    )]
    Foreign,
    /// The store speaks of a CA that it does not have.
    #[error("the store does not hold the issuing CA {0}: restore it from a backup")]
    Missing(Digest),
    /// A CA's key does not open.
    #[error("the key of an issuing CA does not open: {0}")]
    Key(#[from] EnvelopeError),
    /// A CA's key and certificate do not belong together.
    #[error("an issuing CA of the store cannot be used")]
    Ca(#[from] CaError),
}

impl Cas {
    /// With the CA of the data directory.
    pub(super) fn new(first: IssuingCa) -> Self {
        Self { first: Arc::new(first), known: BTreeMap::new() }
    }

    async fn load(&mut self, issuer: &Issuer, keys: &dyn KeyProvider) -> Result<Arc<IssuingCa>, TrustError> {
        if issuer.id == self.first.digest() {
            return Ok(Arc::clone(&self.first));
        }
        if let Some(known) = self.known.get(&issuer.id) {
            return Ok(Arc::clone(known));
        }
        let envelope = issuer.key.as_ref().ok_or(TrustError::Missing(issuer.id))?;
        let key = envelope.decrypt(keys, &EnvelopeContext::of_issuer(issuer.id)).await?;
        let ca = Arc::new(IssuingCa::load(issuer.root.clone(), issuer.certificate.clone(), &key)?);
        self.known.insert(issuer.id, Arc::clone(&ca));
        Ok(ca)
    }
}

impl Trust {
    /// What the store says, with the keys that it takes.
    pub(super) async fn of(standing: &Standing, cas: &mut Cas, keys: &dyn KeyProvider) -> Result<Self, TrustError> {
        if standing.issuers.first().is_some_and(|first| first.id != cas.first.digest()) {
            return Err(TrustError::Foreign);
        }
        if let Some(rotation) = &standing.rotation {
            let signer = rotation.issuer(rotation.phase.signer());
            standing.issuer(signer).ok_or(TrustError::Missing(signer))?;
        }
        let mut accepted = Vec::new();
        for issuer in standing.accepted() {
            accepted.push(cas.load(issuer, keys).await?);
        }
        let mut accepted = accepted.into_iter();
        let signer = accepted.next().unwrap_or_else(|| Arc::clone(&cas.first));
        let other = accepted.next();
        let ended = standing
            .issuers
            .iter()
            .filter_map(|issuer| issuer.ended_at.map(|at| (issuer.certificate.clone(), issuer.root.clone(), at)));
        Ok(Self {
            bundle: TrustBundle::new(standing.roots()).map_err(CaError::from)?,
            bridge: bridge(standing, &signer),
            ended: ended.collect(),
            signer,
            other,
        })
    }

    /// The CAs whose hosts are let in.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Arc<IssuingCa>> {
        std::iter::once(&self.signer).chain(&self.other)
    }

    /// What the doors show beside their own certificate, for hosts that know only the root before.
    pub(super) fn bridge(&self, now: Moment) -> &[CertificateDer<'static>] {
        match &self.bridge {
            Some(bridge) if bridge.shown_until.is_none_or(|until| now < until) => &bridge.chain,
            Some(_) | None => &[],
        }
    }

    /// The CAs whose hosts may renew a certificate that has expired.
    pub(super) fn renewable(&self, now: Moment) -> impl Iterator<Item = Renewable<'_>> {
        let accepted =
            self.accepted().map(|ca| Renewable { certificate: ca.certificate(), root: ca.root(), has_ended: false });
        let ended = self.ended.iter().filter(move |(_, _, at)| now.since(*at) < REMEMBERED_FOR);
        accepted.chain(ended.map(|(certificate, root, _)| Renewable { certificate, root, has_ended: true }))
    }
}

fn bridge(standing: &Standing, signer: &IssuingCa) -> Option<Bridge> {
    let rotation = standing.rotation.as_ref()?;
    let issuer = standing.issuer(signer.digest())?;
    let before = standing.issuer(rotation.old)?;
    let shown_until = rotation.phase.is_over().then(|| rotation.phase_at + REMEMBERED_FOR);
    Some(Bridge { chain: [issuer.bridge.clone()?, before.root.clone()], shown_until })
}

/// A host says what it holds, and hears what it is to hold.
///
/// # Errors
/// When the message makes no sense, or the store does not answer.
pub(super) async fn asked(
    ground: &Ground,
    host: HostId,
    request: &v1::TrustRequest,
) -> Result<v1::TrustReply, Reason> {
    let digest = |field: &str, bytes: &[u8]| {
        Digest::from_bytes(bytes).ok_or_else(|| {
            Reason::new("message-malformed", format!("{field}: it is not 32 bytes"))
                .mend("compare the versions of agent and coordinator")
        })
    };
    let held = Held {
        bundle: digest("bundle_digest", &request.bundle_digest)?,
        issuer: digest("issuer_digest", &request.issuer_digest)?,
        told_at: ground.clock.wall(),
    };
    note(ground, host, held).await.map_err(|error| {
        tracing::error!(%host, %error, "cannot note what a host trusts");
        Reason::new("coordinator-in-trouble", "the coordinator's store is away")
            .mend("the agent asks again by itself")
    })?;
    let trust = ground.trust();
    let knows = trust.bundle.digest() == held.bundle;
    Ok(v1::TrustReply {
        trust_bundle_pem: if knows { String::new() } else { trust.bundle.to_pem() },
        renew: trust.signer.digest() != held.issuer,
        ask_again_ms: u64::try_from(ask_again(ground, &trust).as_millis()).unwrap_or(u64::MAX),
    })
}

fn ask_again(ground: &Ground, trust: &Trust) -> Duration {
    let usual = ground.lives.trust_asked;
    if trust.other.is_some() { usual / OFTENER } else { usual }
}

/// Writes only what is news: a host asks for as long as it lives.
async fn note(ground: &Ground, host: HostId, held: Held) -> Result<(), StoreError> {
    let same = |known: Held| (known.bundle, known.issuer) == (held.bundle, held.issuer);
    if ground.store.read(async |tx| issuers::held_by(tx, host).await).await?.is_some_and(same) {
        return Ok(());
    }
    let keep = async |tx: &mut Tx| match hosts::get(tx, host).await? {
        Some(_) => issuers::note_held(tx, host, held).await,
        // A restored store does not know it; its session says so.
        None => Ok(()),
    };
    ground.store.write(Commit::NoteTrust, keep).await
}

impl From<TrustError> for FleetError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}
