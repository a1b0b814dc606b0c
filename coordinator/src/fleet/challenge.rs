//! The challenges of a renewal after expiry, without remembering any.
//!
//! A challenge is a keyed hash of the certificate that asks and of the minute. Anybody may knock on the enrolment
//! listener, so what is given out there must cost no memory; and a second coordinator on the same store, which holds
//! the same issuing key, accepts what the first has given out. Played again within its life, an answer brings nothing
//! but a certificate for the same key, which its thief does not have.

use aws_lc_rs::hmac;
use launchpad_pki::ca::IssuingCa;
use launchpad_pki::enroll::Nonce;
use launchpad_pki::renewal::NONCE_LIFE;
use launchpad_protocol::time::Moment;

/// Keeps this use of the issuing key's bytes apart from any other.
const KEY_LABEL: &[u8] = b"launchpad renewal challenge v1";

/// Gives out challenges and knows them again.
#[derive(Debug)]
pub(super) struct Challenges {
    key: hmac::Key,
}

impl Challenges {
    /// The challenges of whoever holds this CA's key.
    pub(super) fn new(ca: &IssuingCa) -> Self {
        Self::keyed(&ca.key_pkcs8())
    }

    fn keyed(secret: &[u8]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), KEY_LABEL);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// What the holder of that certificate is to sign now.
    pub(super) fn give(&self, certificate: &[u8], now: Moment) -> Nonce {
        self.of_window(certificate, window(now))
    }

    /// The challenge that this may be an answer to: the one given out in this window or the one before.
    pub(super) fn given_out(&self, certificate: &[u8], answered: &Nonce, now: Moment) -> Nonce {
        let current = self.give(certificate, now);
        if current == *answered { current } else { self.of_window(certificate, window(now) - 1) }
    }

    fn of_window(&self, certificate: &[u8], window: i64) -> Nonce {
        let message = [&window.to_be_bytes(), certificate].concat();
        let tag = hmac::sign(&self.key, &message);
        let mut bytes = [0_u8; 32];
        // HMAC-SHA256 makes 32 bytes.
        bytes.copy_from_slice(tag.as_ref());
        Nonce::from(bytes)
    }
}

/// Counts windows of [`NONCE_LIFE`]: a challenge lives for one to two of them.
fn window(now: Moment) -> i64 {
    now.micros().div_euclid(i64::try_from(NONCE_LIFE.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn is_known(challenges: &Challenges, certificate: &[u8], nonce: Nonce, now: Moment) -> bool {
        challenges.given_out(certificate, &nonce, now) == nonce
    }

    #[test]
    fn a_challenge_is_known_again_for_its_life_and_then_forgotten() {
        let challenges = Challenges::keyed(b"key");
        let nonce = challenges.give(b"certificate", NOW);
        assert!(is_known(&challenges, b"certificate", nonce, NOW));
        assert!(is_known(&challenges, b"certificate", nonce, NOW + NONCE_LIFE));
        assert!(!is_known(&challenges, b"certificate", nonce, NOW + NONCE_LIFE * 2));
    }

    #[test]
    fn a_challenge_is_for_one_certificate_and_one_installation() {
        let challenges = Challenges::keyed(b"key");
        let nonce = challenges.give(b"certificate", NOW);
        assert!(!is_known(&challenges, b"another", nonce, NOW));
        assert!(!is_known(&Challenges::keyed(b"other key"), b"certificate", nonce, NOW));
    }

    #[test]
    fn a_second_replica_knows_the_firsts_challenges() {
        let nonce = Challenges::keyed(b"key").give(b"certificate", NOW);
        assert!(is_known(&Challenges::keyed(b"key"), b"certificate", nonce, NOW));
    }
}
