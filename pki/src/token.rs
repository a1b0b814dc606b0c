//! The join token: what an operator copies from the coordinator to a new host.
//!
//! ```text
//! lpj1.<32 hex digits: id>.<43 characters: secret>.<64 hex digits: SHA-256 of the root certificate>
//! ```
//!
//! It authorises one host to join, once, within [`TOKEN_LIFE`], and tells the host which root to trust before
//! it has met the coordinator. The coordinator stores the id and [`JoinToken::secret_hash`], never the
//! secret; whether a token was used is its store's to know, not ours.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{JoinTokenId, TypedId as _};
use zeroize::Zeroize;

use crate::serial::NoEntropy;

/// How long a token may be used. Long enough to copy it into another terminal, short enough that one in a
/// shell's history is worthless.
pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// How long the same token may be used again with the same CSR key, so that an agent whose answer was lost
/// can ask again.
pub const TOKEN_RETRY: Duration = Duration::from_secs(10 * 60);

/// Bytes of a token's secret. With 256 random bits a plain hash is enough to store: there is nothing to
/// guess.
const SECRET_BYTES: usize = 32;

/// The version of the text form, first in it.
const VERSION: &str = "lpj1";

/// A single-use permission to join.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Which token.
    pub id: JoinTokenId,
    /// What proves that its bearer was given it.
    pub secret: TokenSecret,
    /// The SHA-256 of the root certificate (DER) that the coordinator's own certificate must lead to.
    pub root: Digest,
}

/// The secret of a join token: never shown, compared in constant time, wiped when dropped.
#[derive(Clone)]
pub struct TokenSecret([u8; SECRET_BYTES]);

/// Why a text is not a join token. The text is not repeated: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected lpj1.ID.SECRET.ROOT, as `launchpad host token create` prints it; copy it whole")]
pub struct TokenError;

impl TokenSecret {
    /// A new random secret.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn random() -> Result<Self, NoEntropy> {
        let mut bytes = [0_u8; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
        Ok(Self(bytes))
    }

    /// The secret whose bytes these are, as a message carried them.
    ///
    /// # Errors
    /// When they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        bytes.try_into().map(Self).map_err(|_| TokenError)
    }

    /// The bytes, for the message that presents them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// What the coordinator stores instead of the secret.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Whether this is the secret whose hash was stored, in time that does not depend on the answer.
    #[must_use]
    pub fn matches(&self, stored: &Digest) -> bool {
        same(self.hash().as_bytes(), stored.as_bytes())
    }
}

impl JoinToken {
    /// A new token with a random secret.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn new(id: JoinTokenId, root: Digest) -> Result<Self, NoEntropy> {
        Ok(Self { id, secret: TokenSecret::random()?, root })
    }

    /// What the coordinator stores instead of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> Digest {
        self.secret.hash()
    }

    /// The text that the operator copies. It holds the secret: print it, never log it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let secret = URL_SAFE_NO_PAD.encode(self.secret.0);
        format!("{VERSION}.{}.{secret}.{}", self.id.uuid().simple(), hex::encode(self.root.as_bytes()))
    }
}

fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        let (Some(VERSION), Some(id), Some(secret), Some(root), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError);
        };
        let id = format!("{}{id}", JoinTokenId::PREFIX).parse().map_err(|_| TokenError)?;
        let mut bytes = URL_SAFE_NO_PAD.decode(secret).map_err(|_| TokenError)?;
        let secret = TokenSecret::from_bytes(&bytes);
        bytes.zeroize();
        let root = format!("sha256:{root}").parse().map_err(|_| TokenError)?;
        Ok(Self { id, secret: secret?, root })
    }
}

impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for TokenSecret {}

impl Drop for TokenSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(not shown)")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).field("root", &self.root).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn token() -> JoinToken {
        JoinToken::new(JoinTokenId::from(Uuid::from_u128(7)), Digest::of(b"root")).unwrap()
    }

    #[test]
    fn a_token_reads_back_as_itself() {
        let token = token();
        assert_eq!(token.to_text().parse(), Ok(token.clone()));
        assert_eq!(format!("  {}\n", token.to_text()).parse(), Ok(token));
    }

    #[test]
    fn a_token_that_was_not_copied_whole_is_refused() {
        let text = token().to_text();
        let (short, longer) = (&text[..text.len() - 1], format!("{text}.x"));
        for bad in [short, &longer, "", "lpj1...", &text.replace("lpj1", "lpj2")] {
            assert_eq!(bad.parse::<JoinToken>(), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn only_the_right_secret_matches_the_stored_hash() {
        let (one, other) = (token(), token());
        assert!(one.secret.matches(&one.secret_hash()));
        assert!(!other.secret.matches(&one.secret_hash()));
    }

    #[test]
    fn debug_never_prints_the_secret() {
        let token = token();
        let secret = URL_SAFE_NO_PAD.encode(token.secret.expose());
        let shown = format!("{token:?} {:?}", token.secret);
        assert!(!shown.contains(&secret) && !shown.contains(&hex::encode(token.secret.expose())), "{shown}");
    }
}
