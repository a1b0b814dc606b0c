//! The doors' own certificate, renewed while they are open, and the list of whom they do not let in.
//!
//! ```text
//!  store ── who is revoked? ──► changed ──► Admission: closes live connections ──► new list ──► the fleet listener
//!  clock ── half of our certificate's life over? ──► a new one, shown from the next handshake on
//! ```
//! One loop, woken by [`super::Fleet::revoked`] and by a timer; each round rereads the store. Open streams stay when
//! our certificate changes; a revoked host's are closed before anything else happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::admission::Admission;
use launchpad_pki::ca::{BACKDATED, CRL_LIFE, IssuingCa, ServerCertificate};
use launchpad_pki::listener::FleetControl;
use launchpad_pki::renewal::renew_at;
use launchpad_pki::serial::Serial;
use launchpad_pki::tls::{Credentials, FleetTls, enroll_server_config};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::{Clock, Moment};

use super::server::{FleetError, Ground};
use crate::store::{Store, StoreError, certificates, hosts};

/// How often the store is reread without a signal: a host that was revoked through another replica is cut this late at
/// the most.
const REVOCATION_INTERVAL: Duration = Duration::from_secs(1);

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
        ca: &IssuingCa,
        names: Vec<String>,
        store: &Store,
        (clock, entropy): (&Clock, &Entropy),
    ) -> Result<Self, FleetError> {
        let now = clock.wall();
        let own = ca.issue_server(&names, now)?;
        let revoked = Revoked::read(store, now).await?;
        Ok(Self {
            credentials: Credentials::new(own.chain_der.clone(), &own.key)?,
            admission: Admission::new(revoked.hosts.iter().copied(), revoked.serials.keys().copied()),
            renew_at: next_renewal(&own, now, entropy),
            names,
            revoked,
            listed_at: Some(now),
        })
    }

    /// Who is in, and who may not come in.
    pub(super) fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// What the fleet listener takes, with a new list of revoked certificates.
    pub(super) fn fleet_tls(&self, ca: &IssuingCa, clock: &Clock) -> Result<FleetTls, FleetError> {
        let revoked: Vec<_> = self.revoked.serials.iter().map(|(serial, at)| (*serial, *at)).collect();
        let list = ca.crl(&revoked, clock.wall())?;
        Ok(FleetTls::new(&self.credentials, &ca.bundle()?, &[list], ca.trust_domain(), clock)?)
    }

    /// What the enrolment listener takes.
    pub(super) fn enroll_tls(&self, clock: &Clock) -> Result<Arc<rustls::ServerConfig>, FleetError> {
        Ok(enroll_server_config(&self.credentials, clock)?)
    }

    /// Tends both until the coordinator stops.
    pub(super) async fn tend(mut self, ground: Arc<Ground>, control: FleetControl) {
        loop {
            if let Err(error) = self.round(&ground, &control).await {
                tracing::error!(
                    error = crate::sentence(&error),
                    "cannot tend the fleet's certificates; trying again"
                );
            }
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
        let revoked = Revoked::read(&ground.store, now).await?;
        if revoked != self.revoked {
            self.cut_off(&revoked);
            self.revoked = revoked;
            self.listed_at = None;
        }
        if self.listed_at.is_none_or(|at| now.since(at) > CRL_LIFE / 2) {
            control.reload(&self.fleet_tls(&ground.ca, &ground.clock)?).map_err(FleetError::Reload)?;
            self.listed_at = Some(now);
        }
        if now >= self.renew_at {
            let own = ground.ca.issue_server(&self.names, now)?;
            self.credentials.replace(own.chain_der.clone(), &own.key)?;
            self.renew_at = next_renewal(&own, now, &ground.entropy);
            tracing::info!(not_after = %own.not_after, "the coordinator's certificate was renewed");
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

impl Revoked {
    async fn read(store: &Store, now: Moment) -> Result<Self, StoreError> {
        store
            .read(async |tx| {
                Ok(Self { hosts: hosts::retired(tx).await?, serials: certificates::revoked(tx, now).await? })
            })
            .await
    }
}

fn next_renewal(own: &ServerCertificate, now: Moment, entropy: &Entropy) -> Moment {
    renew_at(now - BACKDATED, own.not_after, entropy)
}
