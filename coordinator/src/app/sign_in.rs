//! Signing in: a bearer token in, an [`Actor`] out.
//!
//! ```text
//! lp_<32 hex digits: the token's id>_<64 hex digits: its secret>
//! ```
//! The store has the id and SHA-256 of the secret. A plain hash is enough for 256 random bits; slow hashes are for
//! passwords. Nobody learns which part of a wrong token was wrong.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use launchpad_pki::serial::NoEntropy;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::ApiTokenId;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::actor::Actor;
use crate::store::api_tokens;

use super::{App, AppError};

/// Random bytes of a token's secret.
const SECRET_BYTES: usize = 32;

/// An API token with its secret: shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// What the store knows it by.
    pub id: ApiTokenId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// A text that is no API token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an API token: expected lp_, 32 hex digits, _ and 64 hex digits")]
pub struct ApiTokenError;

impl ApiToken {
    /// A new token of that id.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn new(id: ApiTokenId) -> Result<Self, NoEntropy> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| NoEntropy)?;
        Ok(Self { id, secret })
    }

    /// What the store keeps of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> Digest {
        Digest::of(&*self.secret)
    }

    /// The token as its owner keeps it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("lp_{}_{}", self.id.uuid().simple(), hex::encode(self.secret.as_slice())))
    }

    /// Whether the stored hash is this secret's, in constant time.
    #[must_use]
    pub fn matches(&self, stored: &Digest) -> bool {
        verify_slices_are_equal(self.secret_hash().as_bytes(), stored.as_bytes()).is_ok()
    }
}

impl FromStr for ApiToken {
    type Err = ApiTokenError;

    fn from_str(text: &str) -> Result<Self, ApiTokenError> {
        let (id, secret_hex) = text.strip_prefix("lp_").and_then(|rest| rest.split_once('_')).ok_or(ApiTokenError)?;
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        hex::decode_to_slice(secret_hex, &mut *secret).map_err(|_| ApiTokenError)?;
        let id = ApiTokenId::from(Uuid::try_parse(id).map_err(|_| ApiTokenError)?);
        Ok(Self { id, secret })
    }
}

impl App {
    /// Who the bearer of that token is; nobody if it is malformed, unknown, expired or revoked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_in(&self, token: &str) -> Result<Option<Actor>, AppError> {
        let Ok(token) = token.parse::<ApiToken>() else { return Ok(None) };
        let now = self.clock.wall();
        let row = self.store.read(async |tx| api_tokens::get(tx, token.id).await).await?;
        let row = row.filter(|row| token.matches(&row.secret_hash) && row.works_at(now));
        Ok(row.map(|row| row.actor()))
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({}, …)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ApiToken {
        ApiToken::new(ApiTokenId::from(Uuid::from_u128(7))).unwrap()
    }

    #[test]
    fn a_token_reads_back_as_itself() {
        let token = token();
        assert_eq!(token.to_text().parse(), Ok(token));
    }

    #[test]
    fn a_token_never_prints_its_secret() {
        let token = token();
        let text = token.to_text();
        let secret = text.rsplit('_').next().unwrap();
        assert!(!format!("{token:?}").contains(secret));
    }

    #[test]
    fn only_its_own_hash_matches() {
        let (one, other) = (token(), token());
        assert!(one.matches(&one.secret_hash()));
        assert!(!one.matches(&other.secret_hash()));
    }

    #[test]
    fn a_text_that_is_no_token_is_refused() {
        for bad in ["", "lp_", "lp_00_00", "tok_7", "lp_00000000000000000000000000000007_", "Bearer lp_1_2"] {
            assert!(bad.parse::<ApiToken>().is_err(), "{bad}");
        }
    }
}
