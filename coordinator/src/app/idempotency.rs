//! Requests that may be sent twice and take effect once.
//!
//! ```text
//!  one transaction:  claim the key ─► (taken: answer as before) ─► the effect ─► keep the answer ─► COMMIT
//! ```
//! The key is claimed, the effect made and its answer kept in *one* commit, so that a coordinator that dies at any
//! moment has done all of it or nothing. Keys belong to a user. The store sees neither the key, only its hash, nor the
//! answer in clear: an answer may hold a new token, and is encrypted under a key that only the caller's key yields.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::UserId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::domain::refusal::Refusal;
use crate::store::{Tx, idempotency};

use super::AppError;

/// Characters of a key: a UUID has 36, and nobody needs a longer name for one request.
pub const KEY_MAX_CHARS: usize = 255;
/// The status under which answers are kept: only successes are.
const KEPT_STATUS: u16 = 200;
/// What is hashed before the caller's key, to find an answer and to encrypt it: neither tells the other.
const FOUND_BY: &[u8] = b"launchpad idempotency v1 found by ";
const SEALED_BY: &[u8] = b"launchpad idempotency v1 sealed by ";

/// A request's claim to take effect once. Without a key it takes effect each time that it is sent.
#[derive(Debug, Clone)]
pub struct Once(Option<Claim>);

#[derive(Clone)]
struct Claim {
    key: Zeroizing<String>,
    request: Digest,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({})", self.request.short())
    }
}

impl Once {
    /// A request without a key.
    #[must_use]
    pub const fn unclaimed() -> Self {
        Self(None)
    }

    /// A request with a key; `request` is the digest of all that makes it what it is: method, path, body.
    ///
    /// # Errors
    /// When the key is empty, too long, or not printable ASCII.
    pub fn claimed(key: &str, request: Digest) -> Result<Self, Reason> {
        if key.is_empty() || key.len() > KEY_MAX_CHARS || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Reason::new("malformed-idempotency-key", "the Idempotency-Key is not a usable key").mend(
                format!("send 1 to {KEY_MAX_CHARS} printable characters without spaces, a new UUID for example"),
            ));
        }
        Ok(Self(Some(Claim { key: Zeroizing::new(key.to_owned()), request })))
    }

    /// The answer to the same request when it was made before; otherwise the key is claimed by this transaction.
    ///
    /// # Errors
    /// When the key was used for another request, or SQL fails.
    pub async fn earlier<T: DeserializeOwned>(
        &self,
        tx: &mut Tx,
        user: UserId,
        now: Moment,
    ) -> Result<Option<T>, AppError> {
        let Some(claim) = &self.0 else { return Ok(None) };
        let Some(earlier) = idempotency::claim(tx, user, &claim.found_by(), claim.request, now).await? else {
            return Ok(None);
        };
        if earlier.digest != claim.request {
            return Err(another_request().into());
        }
        let sealed = earlier.answer.map(|(_, sealed)| sealed).ok_or_else(unreadable)?;
        let plain = claim.open(&sealed).ok_or_else(unreadable)?;
        serde_json::from_slice(&plain).map(Some).map_err(|_| unreadable().into())
    }

    /// Keeps the answer, in the transaction of the effect.
    ///
    /// # Errors
    /// When it cannot be encrypted, or SQL fails.
    pub async fn remember<T: Serialize>(
        &self,
        tx: &mut Tx,
        user: UserId,
        now: Moment,
        answer: &T,
    ) -> Result<(), AppError> {
        let Some(claim) = &self.0 else { return Ok(()) };
        let plain = Zeroizing::new(serde_json::to_vec(answer).map_err(|_| unreadable())?);
        let sealed = claim.seal(&plain).ok_or_else(unreadable)?;
        idempotency::complete(tx, user, &claim.found_by(), KEPT_STATUS, &sealed, now).await?;
        Ok(())
    }
}

impl Claim {
    fn found_by(&self) -> String {
        Digest::of(&[FOUND_BY, self.key.as_bytes()].concat()).to_string()
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        let key = Digest::of(&[SEALED_BY, self.key.as_bytes()].concat());
        RandomizedNonceKey::new(&AES_256_GCM, key.as_bytes()).ok()
    }

    fn seal(&self, plain: &[u8]) -> Option<String> {
        let mut text = plain.to_vec();
        let aad = Aad::from(self.request.as_bytes());
        let nonce = self.cipher()?.seal_in_place_append_tag(aad, &mut text).ok()?;
        Some(STANDARD.encode([&nonce.as_ref()[..], &text].concat()))
    }

    fn open(&self, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = Zeroizing::new(STANDARD.decode(sealed).ok()?);
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self.cipher()?.open_in_place(nonce, Aad::from(self.request.as_bytes()), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

fn another_request() -> Refusal {
    let sentence = "this Idempotency-Key was used for another request";
    Refusal::conflict(Reason::new("idempotency-key-reused", sentence).mend("send a new key with each new request"))
}

fn unreadable() -> Refusal {
    let sentence = "the first answer to this Idempotency-Key cannot be read any more";
    let mend = "look whether the request took effect, and send it with a new key if not";
    Refusal::conflict(Reason::new("answer-unreadable", sentence).mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(key: &str, request: &[u8]) -> Claim {
        Once::claimed(key, Digest::of(request)).unwrap().0.unwrap()
    }

    #[test]
    fn an_answer_opens_only_for_the_same_key_and_request() {
        let sealed = claim("key", b"request").seal(b"lpj1.secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(claim("key", b"request").open(&sealed).as_deref().map(Vec::as_slice), Some(&b"lpj1.secret"[..]));
        assert!(claim("other", b"request").open(&sealed).is_none());
        assert!(claim("key", b"other").open(&sealed).is_none());
        assert!(claim("key", b"request").open("AAAA").is_none());
    }

    #[test]
    fn a_key_that_nobody_can_type_twice_is_refused() {
        for bad in ["", "a b", "ü", &"x".repeat(KEY_MAX_CHARS + 1)] {
            assert!(Once::claimed(bad, Digest::of(b"")).is_err(), "{bad}");
        }
    }
}
