//! The doors' own certificate, renewed while they are open, and the list of whom they do not let in.
//!
//! ```text
//!  store ── who is revoked? ──► changed ──► Admission: closes live connections ──► new list ──► the fleet listener
//!        └─ who signs? ───────► changed ──► Trust: a certificate of that CA ─────► whose hosts are let in ──┘
//!  clock ── half of our certificate's life over? ──► a new one, shown from the next handshake on
//! ```
//! One loop, woken by [`super::Fleet::revoked`] and by a timer; each round rereads the store. Open streams stay when
//! our certificate changes; a revoked host's are closed before anything else happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::admission::Admission;
use launchpad_pki::ca::{BACKDATED, CRL_LIFE, IssuingCa, ServerCertificate};
use launchpad_pki::envelope::KeyProvider;
use launchpad_pki::listener::FleetControl;
use launchpad_pki::renewal::renew_at;
use launchpad_pki::serial::Serial;
use launchpad_pki::tls::{Credentials, FleetTls, enroll_server_config};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::{Clock, Moment};

use super::server::{FleetError, Ground};
use super::trust::{Cas, Trust};
use crate::store::issuers::Standing;
use crate::store::{Commit, Store, StoreError, Tx, certificates, hosts, issuers};

/// How often the store is reread without a signal. A host that was revoked through another replica is to be cut within a
/// second: a quarter of it is waited, the rest is room for a slow read. A round reads a handful of rows.
const REVOCATION_INTERVAL: Duration = Duration::from_millis(250);

/// The certificate that both doors show, and whom the fleet's door refuses.
pub(super) struct Certificates {
    names: Vec<String>,
    credentials: Arc<Credentials>,
    admission: Arc<Admission>,
    /// When our own certificate is to be replaced.
    renew_at: Moment,
    /// What the doors know to be revoked.
    revoked: Revoked,
    /// When the list in force was made; none: it is out of date.
    listed_at: Option<Moment>,
    /// What the store said when it was last decided who signs.
    standing: Standing,
    cas: Cas,
    /// What was last told of a round that failed: the same again is no news.
    trouble: Option<String>,
}

/// What the store says, of one moment.
struct Seen {
    revoked: Revoked,
    standing: Standing,
}

/// Who may not come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Revoked {
    hosts: BTreeSet<HostId>,
    serials: BTreeMap<Serial, Moment>,
}

impl Certificates {
    /// Issues the doors' certificate, and reads what is revoked.
    pub(super) async fn issue(
        ca: IssuingCa,
        names: Vec<String>,
        (store, keys): (&Store, &Arc<dyn KeyProvider>),
        (clock, entropy): (&Clock, &Entropy),
    ) -> Result<(Self, Trust), FleetError> {
        let now = clock.wall();
        let Seen { revoked, mut standing } = Seen::read(store, now).await?;
        if standing.issuers.is_empty() {
            standing = register(store, &ca, now).await?;
        }
        let mut cas = Cas::new(ca);
        let trust = Trust::of(&standing, &mut cas, &**keys).await?;
        let own = own(&trust, &names, now)?;
        let certificates = Self {
            credentials: Credentials::new(own.chain_der.clone(), &own.key)?,
            admission: Admission::new(revoked.hosts.iter().copied(), revoked.serials.keys().copied()),
            renew_at: next_renewal(&own, now, entropy),
            names,
            revoked,
            listed_at: Some(now),
            standing,
            cas,
            trouble: None,
        };
        Ok((certificates, trust))
    }

    /// Who is in, and who may not come in.
    pub(super) fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// What the fleet listener takes, with a new list of revoked certificates for each CA whose hosts are let in. A CA
    /// without a list is one whose hosts are refused, below whichever root.
    pub(super) fn fleet_tls(&self, trust: &Trust, clock: &Clock) -> Result<FleetTls, FleetError> {
        let revoked: Vec<_> = self.revoked.serials.iter().map(|(serial, at)| (*serial, *at)).collect();
        let lists: Result<Vec<_>, _> = trust.accepted().map(|ca| ca.crl(&revoked, clock.wall())).collect();
        Ok(FleetTls::new(&self.credentials, &trust.bundle, &lists?, trust.signer.trust_domain(), clock)?)
    }

    /// What the enrolment listener takes.
    pub(super) fn enroll_tls(&self, clock: &Clock) -> Result<Arc<rustls::ServerConfig>, FleetError> {
        Ok(enroll_server_config(&self.credentials, clock)?)
    }

    /// Tends both until the coordinator stops.
    pub(super) async fn tend(mut self, ground: Arc<Ground>, control: FleetControl) {
        loop {
            let trouble = self.round(&ground, &control).await.err().map(|error| crate::sentence(&error));
            if let Some(error) = trouble.as_ref().filter(|trouble| self.trouble.as_ref() != Some(trouble)) {
                tracing::error!(error, "cannot tend the fleet's certificates; trying again");
            }
            self.trouble = trouble;
            // Cancel-safe: a signal that is not taken is found at the next wait, a lost one by the timer.
            tokio::select! {
                () = ground.fleet.revoked.notified() => {}
                () = tokio::time::sleep(REVOCATION_INTERVAL) => {}
                () = ground.stop.cancelled() => return,
            }
        }
    }

    async fn round(&mut self, ground: &Ground, control: &FleetControl) -> Result<(), FleetError> {
        let now = ground.clock.wall();
        let Seen { revoked, standing } = Seen::read(&ground.store, now).await?;
        if revoked != self.revoked {
            self.cut_off(&revoked);
            self.revoked = revoked;
            self.listed_at = None;
        }
        // Revocations wait for no keyring: they are in force before anybody asks who signs.
        self.relist(ground, control, now)?;
        if standing != self.standing {
            let trust = Trust::of(&standing, &mut self.cas, &*ground.keys).await?;
            tracing::info!(issuer = %trust.signer.digest().short(), "who signs for hosts, or who is let in, has changed");
            ground.trusted.send_replace(Arc::new(trust));
            self.standing = standing;
            (self.listed_at, self.renew_at) = (None, now);
            self.relist(ground, control, now)?;
        }
        if now >= self.renew_at {
            let own = own(&ground.trust(), &self.names, now)?;
            self.credentials.replace(own.chain_der.clone(), &own.key)?;
            self.renew_at = next_renewal(&own, now, &ground.entropy);
            tracing::info!(not_after = %own.not_after, "the coordinator's certificate was renewed");
        }
        Ok(())
    }

    fn relist(&mut self, ground: &Ground, control: &FleetControl, now: Moment) -> Result<(), FleetError> {
        if self.listed_at.is_none_or(|at| now.since(at) > CRL_LIFE / 2) {
            control.reload(&self.fleet_tls(&ground.trust(), &ground.clock)?).map_err(FleetError::Reload)?;
            self.listed_at = Some(now);
        }
        Ok(())
    }

    /// Closes the connections of hosts that were not known to be revoked before.
    fn cut_off(&self, revoked: &Revoked) {
        for serial in revoked.serials.keys().filter(|serial| !self.revoked.serials.contains_key(*serial)) {
            self.admission.deny_serial(*serial);
        }
        for host in revoked.hosts.difference(&self.revoked.hosts) {
            let closed = self.admission.revoke_host(*host);
            tracing::warn!(%host, closed, "a revoked host was cut off");
        }
    }
}

impl Seen {
    async fn read(store: &Store, now: Moment) -> Result<Self, StoreError> {
        store
            .read(async |tx| {
                let revoked =
                    Revoked { hosts: hosts::retired(tx).await?, serials: certificates::revoked(tx, now).await? };
                Ok(Self { revoked, standing: Standing::read(tx).await? })
            })
            .await
    }
}

/// Writes down the CA of the data directory in a store that knows of none: one of before there could be another.
async fn register(store: &Store, ca: &IssuingCa, now: Moment) -> Result<Standing, StoreError> {
    let register = async |tx: &mut Tx| {
        issuers::register_first(tx, ca, now).await?;
        Standing::read(tx).await
    };
    store.write(Commit::Initialise, register).await
}

/// The doors' own certificate, by whoever signs now.
fn own(trust: &Trust, names: &[String], now: Moment) -> Result<ServerCertificate, FleetError> {
    let mut own = trust.signer.issue_server(names, now)?;
    own.chain_der.extend_from_slice(trust.bridge(now));
    Ok(own)
}

fn next_renewal(own: &ServerCertificate, now: Moment, entropy: &Entropy) -> Moment {
    renew_at(now - BACKDATED, own.not_after, entropy)
}
