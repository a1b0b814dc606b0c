//! Domains that owners bring: who claims one, who has proved it, and until when that holds.
//!
//! ```text
//!            proof seen, and nobody else's
//!   claimed ───────────────────────────────► verified ──► its name leads to the bot
//!      ▲                                        │
//!      └──── proof gone for PROOF_GRACE ────────┘
//! ```
//! The proof is a TXT record beside the domain that holds the claim's token. A claim blocks nobody; a verified domain is
//! one account's until it lets go, deletes the deployment, or takes the proof away. Lookups are `app`'s: what was found
//! comes in here as a value.

use std::time::Duration;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::public_name::PublicName;
use super::refusal::Refusal;

/// How long a verified domain outlives its proof: a record that was lost in a move between name servers comes back
/// within days, and a sold domain must not stay with its former owner.
pub const PROOF_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long an unproved claim is looked after by itself; then only when somebody asks.
pub const CLAIM_WATCHED: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Between two looks at a claim that is young: name servers hand new records out within minutes.
const YOUNG_EVERY: Duration = Duration::from_secs(60);
/// How long a claim is young.
const YOUNG: Duration = Duration::from_secs(60 * 60);
/// Between two looks at an older claim, and at a verified domain whose proof is gone.
const OLDER_EVERY: Duration = Duration::from_secs(60 * 60);
/// Between two looks at a verified domain.
const VERIFIED_EVERY: Duration = Duration::from_secs(12 * 60 * 60);

/// How far a domain is its claimant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What has to stand in the TXT record.
    pub token: String,
    /// When it was claimed.
    pub claimed_at: Moment,
    /// Since when it is proved; none: it is not.
    pub verified_at: Option<Moment>,
    /// Since when a verified one's proof is not found any more.
    pub missing_since: Option<Moment>,
    /// When its proof was last looked for.
    pub checked_at: Option<Moment>,
    /// What was wrong then.
    pub trouble: Option<Reason>,
}

/// What a look at the TXT record found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// These texts, or none at all.
    Texts(Vec<String>),
    /// Nothing could be learned.
    Unknown(Reason),
}

/// Texts of a record that are repeated in an error: a domain has a handful.
const TEXTS_TOLD: usize = 3;

impl Claim {
    /// A new one.
    #[must_use]
    pub const fn new(token: String, now: Moment) -> Self {
        Self { token, claimed_at: now, verified_at: None, missing_since: None, checked_at: None, trouble: None }
    }

    /// Whether its name leads to the bot.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.verified_at.is_some()
    }

    /// The claim after a look at its record. `other` is why the domain cannot be this claimant's, if somebody else has
    /// proved it.
    #[must_use]
    pub fn after(mut self, name: &PublicName, proof: Proof, other: Option<Reason>, now: Moment) -> Self {
        self.checked_at = Some(now);
        let texts = match proof {
            Proof::Texts(texts) => texts,
            Proof::Unknown(reason) => {
                self.trouble = Some(reason);
                return self;
            }
        };
        let is_proved = texts.iter().any(|text| text.trim() == self.token);
        self.trouble = if is_proved { other } else { Some(unproved(name, &self.token, &texts)) };
        match (self.trouble.is_none(), self.verified_at) {
            (true, since) => {
                self.verified_at = since.or(Some(now));
                self.missing_since = None;
            }
            (false, Some(_)) => {
                let missing_since = *self.missing_since.get_or_insert(now);
                if now >= missing_since + PROOF_GRACE {
                    self.verified_at = None;
                    self.missing_since = None;
                    // It is looked after as a new claim is: its owner may be about to put the record back.
                    self.claimed_at = now;
                }
            }
            (false, None) => {}
        }
        self
    }

    /// When to look at its record next; none: only when somebody asks.
    #[must_use]
    pub fn due_at(&self) -> Option<Moment> {
        let Some(checked_at) = self.checked_at else { return Some(self.claimed_at) };
        let every = match (self.verified_at, self.missing_since) {
            (Some(_), None) => VERIFIED_EVERY,
            (Some(_), Some(_)) => OLDER_EVERY,
            (None, _) if checked_at < self.claimed_at + YOUNG => YOUNG_EVERY,
            (None, _) if checked_at < self.claimed_at + CLAIM_WATCHED => OLDER_EVERY,
            (None, _) => return None,
        };
        Some(checked_at + every)
    }
}

/// Why nobody else gets a domain that somebody has proved.
#[must_use]
pub fn taken(name: &PublicName, same_account: bool) -> Refusal {
    let reason = if same_account {
        Reason::new("domain-in-use", format!("{name} leads to another deployment of this account"))
            .mend("remove it there first")
    } else {
        Reason::new("domain-taken", format!("{name} belongs to another account, which has proved it"))
            .because("its proof stands in the domain's name servers, or stood there until lately")
            .mend("if the domain is yours, take its `_launchpad` TXT record away: it is free seven days later")
    };
    Refusal::conflict(reason)
}

/// Why nobody claims a name below the installation's own domain.
#[must_use]
pub fn ours(name: &PublicName) -> Refusal {
    let reason = Reason::new("domain-is-ours", format!("{name} is below this installation's own domain"));
    Refusal::impossible(
        reason.mend("claim a domain of your own; the name that a deployment has there needs no claim"),
    )
}

fn unproved(name: &PublicName, token: &str, texts: &[String]) -> Reason {
    let at = name.proof_name();
    let found = match texts {
        [] => "no TXT record is there".to_owned(),
        texts => format!(
            "there is {}",
            texts.iter().take(TEXTS_TOLD).map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    Reason::new("domain-unproved", format!("{at} does not hold the proof yet"))
        .because(found)
        .mend(format!("set a TXT record {at} to `{token}`; a new record takes minutes to be seen"))
}

#[cfg(test)]
#[path = "domains_tests.rs"]
mod tests;
