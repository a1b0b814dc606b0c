//! A machine becomes a host: its join token is used up and its certificate issued, in one transaction.
//!
//! ```text
//!  token known, secret right? ── no ──► refused, and the same words for both
//!      │ used?   no  ── still good? ──► a new host
//!      └──────── yes ── same CSR key, within 10 min? ──► the same host again: its first answer was lost
//! ```
//! The token's pool is the host's, and so is its name, if it has one. Nobody can join twice with one token, because the
//! row is read and marked in one transaction, and writers wait for each other.

use launchpad_pki::ca::IssuedCertificate;
use launchpad_pki::enroll::EnrollRequest;
use launchpad_pki::sealing::SealingPublicKey;
use launchpad_pki::token::{TOKEN_RETRY, TokenSecret};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::HostId;
use launchpad_protocol::limits::NAME_MAX_CHARS;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

use super::issue::{IssueError, issue};
use super::server::Ground;
use crate::domain::audit::AuditEntry;
use crate::domain::host::HostState;
use crate::store::join_tokens::{self, JoinTokenRow, TokenUse};
use crate::store::{Commit, StoreError, Tx, audit, hosts};

/// A machine that is a host now.
pub(super) struct Joined {
    pub(super) host: HostId,
    pub(super) certificate: IssuedCertificate,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// A new host.
    First,
    /// That host's certificate anew, for the same key.
    Again { host: HostId, key: Digest },
}

/// Lets a machine in.
///
/// # Errors
/// Why not, in words for the machine's owner; or a trouble of ours.
pub(super) async fn join(ground: &Ground, request: &EnrollRequest) -> Result<Joined, IssueError> {
    let now = ground.clock.wall();
    request.check_clock(now).map_err(|apart| refused(Reason::new("clocks-apart", apart.to_string())))?;
    let sealing_key = SealingPublicKey::from_bytes(&request.sealing_public_key)
        .map_err(|error| refused(Reason::new("sealing-key-malformed", error.to_string())))?;
    let newcomer = ground.entropy.id(now);
    let join = async |tx: &mut Tx| {
        let token = join_tokens::get(tx, request.token_id).await?.ok_or_else(|| refused(unknown_token()))?;
        match allowed(&token, &request.token_secret, now).map_err(refused)? {
            Allowed::First => admit_newcomer(ground, tx, request, &token, (newcomer, &sealing_key), now).await,
            Allowed::Again { host, key } => {
                let certificate = issue(ground, tx, host, &request.csr_der, now).await?;
                if certificate.public_key != key {
                    return Err(refused(used_token()));
                }
                Ok(Joined { host, certificate })
            }
        }
    };
    let joined = ground.store.write(Commit::Enroll, join).await?;
    tracing::info!(host = %joined.host, token = %request.token_id, "a host has joined");
    Ok(joined)
}

async fn admit_newcomer(
    ground: &Ground,
    tx: &mut Tx,
    request: &EnrollRequest,
    token: &JoinTokenRow,
    (host, sealing_key): (HostId, &SealingPublicKey),
    now: Moment,
) -> Result<Joined, IssueError> {
    let name = token.name.clone().unwrap_or_else(|| name_of_machine(&request.host_name));
    if hosts::all(tx).await?.iter().any(|other| other.name == name && other.state != HostState::Retired) {
        return Err(refused(name_taken(&name)));
    }
    let mut row = hosts::newcomer(host, name, token.pool.clone(), sealing_key, now);
    row.agent_version.clone_from(&request.agent_version);
    hosts::create(tx, &row).await?;
    let certificate = issue(ground, tx, host, &request.csr_der, now).await?;
    let by = TokenUse { at: now, host, key: certificate.public_key };
    if !join_tokens::consume(tx, token.id, by).await? {
        return Err(refused(used_token()));
    }
    record(tx, &row, token, now).await?;
    Ok(Joined { host, certificate })
}

/// The operator who made the token let the host in.
async fn record(tx: &mut Tx, host: &hosts::Host, token: &JoinTokenRow, now: Moment) -> Result<(), StoreError> {
    let entry = AuditEntry {
        at: now,
        user: Some(token.created_by),
        role: "join-token".to_owned(),
        account: None,
        cross_account: false,
        action: "host.join".to_owned(),
        target: host.id.to_string(),
        detail: format!("{} joined pool {} with {}", host.name, host.pool, token.id),
    };
    audit::append(tx, &entry).await
}

/// What a token of that id allows whoever shows that secret.
fn allowed(token: &JoinTokenRow, secret: &TokenSecret, now: Moment) -> Result<Allowed, Reason> {
    if !secret.matches(&token.secret_hash) {
        return Err(unknown_token());
    }
    match token.used {
        Some(used) if now.since(used.at) <= TOKEN_RETRY => Ok(Allowed::Again { host: used.host, key: used.key }),
        Some(_) => Err(used_token()),
        None if now > token.expires_at => Err(expired_token(token.expires_at)),
        None => Ok(Allowed::First),
    }
}

/// A machine's own name as a host's: the first label of it, in lower case, with a dash for whatever else it holds.
fn name_of_machine(name: &str) -> String {
    let label = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let dashed = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(NAME_MAX_CHARS);
    let name: String = dashed.collect();
    match name.trim_matches('-') {
        "" => "host".to_owned(),
        name => name.to_owned(),
    }
}

fn refused(reason: Reason) -> IssueError {
    IssueError::Refused(reason)
}

const NEW_TOKEN: &str = "make a new token with `launchpad host token create`";

fn unknown_token() -> Reason {
    Reason::new("token-unknown", "this join token is not known here").mend(NEW_TOKEN)
}

fn used_token() -> Reason {
    Reason::new("token-used", "this join token was used already").because("a token lets one host in").mend(NEW_TOKEN)
}

fn expired_token(at: Moment) -> Reason {
    Reason::new("token-expired", format!("this join token expired at {at}")).mend(NEW_TOKEN)
}

fn name_taken(name: &str) -> Reason {
    Reason::new("host-name-taken", format!("another host is called `{name}`"))
        .mend("enrol with `--name`, or make a token with `--name`; this token is still good")
}

#[cfg(test)]
mod tests {
    use super::*;
    use launchpad_pki::token::TOKEN_LIFE;
    use launchpad_protocol::id::{JoinTokenId, UserId};
    use std::time::Duration;
    use uuid::Uuid;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn token(secret: &TokenSecret, used: Option<Moment>) -> JoinTokenRow {
        JoinTokenRow {
            id: JoinTokenId::from(Uuid::from_u128(1)),
            secret_hash: secret.hash(),
            name: None,
            pool: "shared".to_owned(),
            created_by: UserId::from(Uuid::from_u128(2)),
            created_at: NOW,
            expires_at: NOW + TOKEN_LIFE,
            used: used.map(|at| TokenUse { at, host: host(), key: Digest::of(b"key") }),
        }
    }

    fn host() -> HostId {
        HostId::from(Uuid::from_u128(3))
    }

    fn code(answer: Result<Allowed, Reason>) -> String {
        answer.unwrap_err().code
    }

    #[test]
    fn a_fresh_token_lets_one_host_in() {
        let secret = TokenSecret::random().unwrap();
        assert_eq!(allowed(&token(&secret, None), &secret, NOW + TOKEN_LIFE), Ok(Allowed::First));
    }

    #[test]
    fn an_expired_token_is_refused() {
        let secret = TokenSecret::random().unwrap();
        let late = NOW + TOKEN_LIFE + Duration::from_micros(1);
        assert_eq!(code(allowed(&token(&secret, None), &secret, late)), "token-expired");
    }

    #[test]
    fn a_used_token_allows_its_own_host_to_ask_again_for_a_while() {
        let secret = TokenSecret::random().unwrap();
        let used = token(&secret, Some(NOW));
        let again = Allowed::Again { host: host(), key: Digest::of(b"key") };
        assert_eq!(allowed(&used, &secret, NOW + TOKEN_RETRY), Ok(again));
        assert_eq!(code(allowed(&used, &secret, NOW + TOKEN_RETRY + Duration::from_micros(1))), "token-used");
    }

    #[test]
    fn a_wrong_secret_learns_nothing_about_the_token() {
        let (secret, other) = (TokenSecret::random().unwrap(), TokenSecret::random().unwrap());
        for row in [token(&secret, None), token(&secret, Some(NOW))] {
            assert_eq!(allowed(&row, &other, NOW), Err(unknown_token()));
        }
    }

    #[test]
    fn a_machines_name_becomes_a_label() {
        for (machine, name) in [
            ("web-1.example.com", "web-1"),
            ("WEB_1", "web-1"),
            ("--", "host"),
            ("", "host"),
            (&"x".repeat(80), &"x".repeat(NAME_MAX_CHARS)),
        ] {
            assert_eq!(name_of_machine(machine), name);
        }
    }
}
