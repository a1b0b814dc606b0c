//! The next certificate of a host: in touch, over its own connection, or after expiry, by a signature of its old key.
//!
//! A host that was revoked gets none. In touch that is decided by the host's state alone, because its connection has
//! been cut or is about to be; after expiry the old certificate's own revocation counts as well.

use std::net::IpAddr;

use launchpad_pki::bundle::TrustBundle;
use launchpad_pki::ca::IssuedCertificate;
use launchpad_pki::enroll::RenewRequest;
use launchpad_pki::identity::HostIdentity;
use launchpad_pki::renewal::{RenewalError, verify_renewal};
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::v1;

use super::issue::{IssueError, issue};
use super::server::Ground;
use super::trust::Renewable;
use crate::domain::host::HostState;
use crate::store::{Commit, Tx, certificates, hosts};

/// A host in touch asks over its own connection.
pub(super) async fn in_touch(ground: &Ground, host: HostId, csr_der: &[u8]) -> Result<IssuedCertificate, IssueError> {
    let now = ground.clock.wall();
    ground.store.write(Commit::RenewCertificate, async |tx| next(ground, tx, host, csr_der, now).await).await
}

/// A host whose certificate has expired answers a challenge.
pub(super) async fn after_expiry(ground: &Ground, request: &RenewRequest) -> Result<IssuedCertificate, IssueError> {
    let now = ground.clock.wall();
    let Proved { identity, of_ended } = proved(ground, request, now)?;
    let renew = async |tx: &mut Tx| {
        if of_ended && !certificates::is_known(tx, identity.serial).await? {
            return Err(IssueError::Refused(unknown_of_ended()));
        }
        if certificates::is_revoked(tx, identity.serial).await? {
            return Err(IssueError::Refused(revoked_or_unknown(identity.host)));
        }
        next(ground, tx, identity.host, &request.csr_der, now).await
    };
    ground.store.write(Commit::RenewCertificate, renew).await
}

/// Who asks, and whether the CA that vouches for them has ended.
struct Proved {
    identity: HostIdentity,
    of_ended: bool,
}

/// Who asks, by the old key's signature of our challenge. A host that was away while one CA took over from another shows
/// a certificate of the old one.
fn proved(ground: &Ground, request: &RenewRequest, now: Moment) -> Result<Proved, IssueError> {
    let given_out = ground.challenges.given_out(&request.certificate_der, &request.nonce, now);
    let trust = ground.trust();
    let mut refused = None;
    for Renewable { certificate, root, has_ended } in trust.renewable(now) {
        let issuers = [certificate.clone()];
        let bundle = TrustBundle::new(vec![root.clone()]).map_err(|error| IssueError::Ca(error.into()))?;
        // Revocation is the store's to know, and is asked in the transaction that issues.
        match verify_renewal(request, &given_out, (&bundle, &issuers[..], &ground.trust_domain), |_| false, now) {
            Ok(identity) => return Ok(Proved { identity, of_ended: has_ended }),
            Err(error @ RenewalError::Untrusted(_)) => refused = refused.or(Some(error)),
            Err(error) => refused = Some(error),
        }
    }
    let reason = refused.map_or_else(unknown_of_ended, |error| not_proved(&error));
    Err(IssueError::Refused(reason))
}

/// Of a CA whose key is out of our hands, only what is remembered here counts.
fn unknown_of_ended() -> Reason {
    Reason::new("renewal-refused", "the old certificate is of a CA that has ended, and is not remembered here")
        .because("the store was restored from a copy that is older than the certificate, or somebody forged it")
        .mend(ENROL_ANEW)
}

fn not_proved(error: &RenewalError) -> Reason {
    let sentence = crate::sentence(error);
    match error {
        RenewalError::Nonce => Reason::new("challenge-stale", sentence).mend("ask for a new challenge"),
        RenewalError::TooLate { .. } => Reason::new("certificate-too-old", sentence).mend(ENROL_ANEW),
        RenewalError::SameKey => Reason::new("key-not-new", sentence),
        RenewalError::Identity(_)
        | RenewalError::Untrusted(_)
        | RenewalError::Tls(_)
        | RenewalError::Revoked
        | RenewalError::Signature
        | RenewalError::Key(_) => Reason::new("renewal-refused", sentence).mend(ENROL_ANEW),
    }
}

async fn next(
    ground: &Ground,
    tx: &mut Tx,
    host: HostId,
    csr_der: &[u8],
    now: Moment,
) -> Result<IssuedCertificate, IssueError> {
    let row = hosts::get(tx, host).await?;
    if row.is_none_or(|row| row.state == HostState::Retired) {
        return Err(IssueError::Refused(revoked_or_unknown(host)));
    }
    issue(ground, tx, host, csr_der, now).await
}

/// The answer on either listener. `reached` is the address of ours that the host used, where that is known.
pub(super) fn reply(ground: &Ground, issued: &IssuedCertificate, reached: Option<IpAddr>) -> v1::RenewReply {
    v1::RenewReply {
        chain_der: issued.chain_der.iter().map(|der| der.to_vec()).collect(),
        trust_bundle_pem: ground.trust().bundle.to_pem(),
        fleet_endpoints: ground.address.endpoints(reached),
    }
}

const ENROL_ANEW: &str = "enrol the host anew: `launchpad host token create`, then `launchpad-agent enroll --replace`; what \
                          it runs meanwhile runs on and is never taken over, remove there what is not wanted";

/// The host may not come back under this id.
pub(super) fn revoked_or_unknown(host: HostId) -> Reason {
    Reason::new("host-revoked", format!("{host} was revoked, or is not in the coordinator's store"))
        .because("an operator revoked it, or the store was restored from a copy that is older than the host")
        .mend(ENROL_ANEW)
}
