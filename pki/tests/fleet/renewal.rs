//! A host that was off for longer than its certificate lasts proves itself with its old key.

use std::time::Duration;

use launchpad_pki::enroll::{Nonce, RenewRequest};
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::HostIdentity;
use launchpad_pki::renewal::{
    RENEWABLE_FOR, RenewalError, renew_at, request_renewal, signed_message, verify_renewal,
};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::time::Moment;

use crate::world::{Host, START, World, domain, host_id};

struct Asked {
    world: World,
    host: Host,
    nonce: Nonce,
    request: RenewRequest,
}

fn asked() -> Asked {
    let world = World::new();
    let host = world.host(7);
    let nonce = Nonce::random().unwrap();
    let new_key = HostKey::generate().unwrap();
    let request = request_renewal(&host.issued.chain_der[0], &host.key, &new_key, nonce).unwrap();
    Asked { world, host, nonce, request }
}

impl Asked {
    fn judged(&self, now: Moment) -> Result<HostIdentity, RenewalError> {
        let issuers = [self.world.ca.certificate().clone()];
        let trust = (&self.world.bundle, &issuers[..], &domain());
        verify_renewal(&self.request, &self.nonce, trust, |_| false, now)
    }

    fn expired(&self) -> Moment {
        self.host.issued.not_after
    }
}

#[test]
fn a_host_that_expired_a_week_ago_is_recognised() {
    let asked = asked();
    let identity = asked.judged(asked.expired() + Duration::from_hours(24 * 7)).unwrap();
    assert_eq!((identity.host, identity.serial), (host_id(7), asked.host.issued.serial));
    let reissued = asked.world.ca.issue_host(&asked.request.csr_der, identity.host, START, Duration::from_hours(24));
    assert_ne!(reissued.unwrap().serial, asked.host.issued.serial);
}

#[test]
fn one_that_expired_more_than_thirty_days_ago_is_refused() {
    let asked = asked();
    let last = asked.expired() + RENEWABLE_FOR;
    assert!(asked.judged(last).is_ok());
    let error = asked.judged(last + Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, RenewalError::TooLate { .. }), "{error}");
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let mut asked = asked();
    let thief = HostKey::generate().unwrap();
    asked.request.signature = thief.sign(&signed_message(&asked.nonce, &asked.request.csr_der)).unwrap();
    assert!(matches!(asked.judged(asked.expired()), Err(RenewalError::Signature)));
}

#[test]
fn a_request_that_was_overheard_cannot_be_changed_or_played_again() {
    let mut asked = asked();
    let own = HostKey::generate().unwrap().csr_der().unwrap();
    let theirs = std::mem::replace(&mut asked.request.csr_der, own);
    assert!(matches!(asked.judged(asked.expired()), Err(RenewalError::Signature)));
    asked.request.csr_der = theirs;
    assert!(asked.judged(asked.expired()).is_ok());
    asked.nonce = Nonce::random().unwrap();
    assert!(matches!(asked.judged(asked.expired()), Err(RenewalError::Nonce)));
    asked.request.nonce = asked.nonce;
    assert!(matches!(asked.judged(asked.expired()), Err(RenewalError::Signature)));
}

#[test]
fn a_revoked_host_does_not_renew() {
    let asked = asked();
    let issuers = [asked.world.ca.certificate().clone()];
    let trust = (&asked.world.bundle, &issuers[..], &domain());
    let revoked = |identity: &HostIdentity| identity.host == host_id(7);
    let judged = verify_renewal(&asked.request, &asked.nonce, trust, revoked, asked.expired());
    assert!(matches!(judged, Err(RenewalError::Revoked)));
}

#[test]
fn a_certificate_of_another_ca_does_not_renew() {
    let (asked, other) = (asked(), World::new());
    let issuers = [other.ca.certificate().clone()];
    let trust = (&other.bundle, &issuers[..], &domain());
    let judged = verify_renewal(&asked.request, &asked.nonce, trust, |_| false, asked.expired());
    assert!(matches!(judged, Err(RenewalError::Untrusted(_))));
}

#[test]
fn a_renewal_wants_a_new_key() {
    let mut asked = asked();
    asked.request =
        request_renewal(&asked.host.issued.chain_der[0], &asked.host.key, &asked.host.key, asked.nonce).unwrap();
    assert!(matches!(asked.judged(asked.expired()), Err(RenewalError::SameKey)));
}

#[test]
fn a_host_whose_issuing_ca_was_replaced_still_renews() {
    let asked = asked();
    let successor = World::new();
    let issuers = [successor.ca.certificate().clone(), asked.world.ca.certificate().clone()];
    let trust = (&asked.world.bundle, &issuers[..], &domain());
    verify_renewal(&asked.request, &asked.nonce, trust, |_| false, asked.expired()).unwrap();
}

#[test]
fn a_fleet_that_joined_together_renews_apart_around_half_life() {
    let entropy = Entropy::seeded(1);
    let life = Duration::from_hours(24);
    let at: Vec<_> = (0..1_000).map(|_| renew_at(START, START + life, &entropy).since(START)).collect();
    let (first, last) = (at.iter().min().unwrap(), at.iter().max().unwrap());
    assert!(*first >= life.mul_f64(0.45) && *last <= life.mul_f64(0.55), "{first:?} {last:?}");
    assert!(*last - *first > Duration::from_hours(2), "they are spread");
}
