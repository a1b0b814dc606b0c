//! The domain name system, as far as the coordinator has to do with it: it looks for proofs of ownership, and it would
//! set records where somebody lets it.
//!
//! ```text
//!   app::domains ── texts of `_launchpad.www.example.com` ──► DnsLookup  (resolver.rs; a list, in tests)
//!                └─ records of a public name ───────────────► DnsProvider (by hand: the API tells the owner)
//! ```
//! Nothing here decides whose a domain is: that is `domain::domains`.

mod by_hand;
#[cfg(test)]
pub(crate) mod fake;
mod resolver;

use std::fmt;

use futures::future::BoxFuture;
use launchpad_protocol::reason::Reason;

use crate::domain::dns_record::DnsRecord;

pub use by_hand::ByHand;
pub use resolver::Resolver;

/// Answers what stands in the domain name system.
pub trait DnsLookup: fmt::Debug + Send + Sync {
    /// The texts of a name's TXT records, the parts of each joined; none: there is no such name, or no such record.
    ///
    /// # Errors
    /// Why nothing could be learned: that says nothing about what stands there.
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, Reason>>;
}

/// What became of records that were to be set or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// They are as they should be.
    Done,
    /// Somebody has to do it: the API shows them.
    ByHand,
}

/// Sets records in the domain name system.
pub trait DnsProvider: fmt::Debug + Send + Sync {
    /// Sets records, each in place of those of its name and kind.
    ///
    /// # Errors
    /// Why they were not set.
    fn set<'a>(&'a self, records: &'a [DnsRecord]) -> BoxFuture<'a, Result<Handled, Reason>>;

    /// Removes records. Those that are not there are no error.
    ///
    /// # Errors
    /// Why they were not removed.
    fn remove<'a>(&'a self, records: &'a [DnsRecord]) -> BoxFuture<'a, Result<Handled, Reason>>;
}
