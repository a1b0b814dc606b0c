//! Which bot a public name leads to: what Caddy asks, and what it is answered. Pure.
//!
//! | Caddy asks | a bot has the name | none has it |
//! |---|---|---|
//! | `GET /ask?domain=NAME`, before it fetches a certificate | 200 | 404: no certificate, so no handshake |
//! | `GET /route?domain=NAME`, for each request | 204, and the bot's address in a header | 404, and a page |
//!
//! Names that nobody told us are nobody's: no stranger makes us fetch certificates for his.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;

use launchpad_protocol::id::DeploymentId;

use super::page;
use crate::gate::policy::GatePolicy;

/// What Caddy is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A certificate may be had for this name.
    Certify,
    /// There the request goes.
    Forward(SocketAddrV4),
    /// There is no such bot; a visitor sees this.
    Unknown(String),
    /// Nothing that Caddy asks.
    Misasked,
}

/// The policy's public names, in order of the names.
#[derive(Debug, Clone)]
pub struct Directory {
    policy: Arc<GatePolicy>,
    names: BTreeMap<String, (DeploymentId, SocketAddrV4)>,
}

impl Directory {
    /// The directory of a policy. Of two instances that claim one name, it leads to the one that the policy
    /// prefers.
    #[must_use]
    pub fn of(policy: Arc<GatePolicy>) -> Self {
        let claimed = policy.instances.values().flat_map(|gate| &gate.ingress.hostnames);
        let names = claimed.filter_map(|name| {
            let (id, gate) = policy.named(name)?;
            Some((name.clone(), (id, SocketAddrV4::new(gate.address, gate.ingress.port))))
        });
        Self { names: names.collect(), policy }
    }

    /// Whether it was made of this very policy.
    #[must_use]
    pub fn is_of(&self, policy: &Arc<GatePolicy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// The policy that it was made of.
    #[must_use]
    pub fn policy(&self) -> &GatePolicy {
        &self.policy
    }

    /// Whose name it is, and where it is served; the name in any case, with or without its final dot.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(DeploymentId, SocketAddrV4)> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.names.get(&name.to_ascii_lowercase()).copied()
    }

    /// Answers one question: a path with its query.
    #[must_use]
    pub fn answer(&self, question: &str) -> Answer {
        let Some((path, query)) = question.split_once('?') else { return Answer::Misasked };
        // Our names need no escaping; one that was escaped is none of ours.
        let Some(name) = query.split('&').find_map(|pair| pair.strip_prefix("domain=")) else {
            return Answer::Misasked;
        };
        match (path, self.find(name)) {
            ("/ask", Some(_)) => Answer::Certify,
            ("/route", Some((_, address))) => Answer::Forward(address),
            ("/ask", None) => Answer::Unknown(String::new()),
            ("/route", None) => Answer::Unknown(page::unknown()),
            _ => Answer::Misasked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::ingress::tests::policy;

    fn directory() -> Directory {
        Directory::of(Arc::new(policy(&[
            (1, "172.30.0.2", 8080, &["one.bots.example", "one.example"]),
            (2, "172.30.0.3", 18789, &[]),
        ])))
    }

    #[test]
    fn a_name_leads_to_its_bot_however_it_is_spelt() {
        let to_one = Answer::Forward("172.30.0.2:8080".parse().unwrap());
        for name in ["one.bots.example", "ONE.Bots.Example", "one.bots.example.", "one.example"] {
            assert_eq!(directory().answer(&format!("/route?domain={name}")), to_one);
            assert_eq!(directory().answer(&format!("/ask?domain={name}")), Answer::Certify);
        }
    }

    #[test]
    fn a_name_that_nobody_told_us_is_nobodys() {
        for name in
            ["", "two.bots.example", "bots.example", "x.one.example", "172.30.0.3", "one%2Eexample", "*.example"]
        {
            assert_eq!(directory().answer(&format!("/ask?domain={name}")), Answer::Unknown(String::new()));
            assert_eq!(directory().answer(&format!("/route?domain={name}")), Answer::Unknown(page::unknown()));
        }
    }

    #[test]
    fn what_caddy_never_asks_is_no_question() {
        for question in ["/", "/ask", "/route?name=one.example", "/drop?domain=one.example", "ask?domain=one.example"]
        {
            assert_eq!(directory().answer(question), Answer::Misasked);
        }
    }

    #[test]
    fn of_two_bots_that_claim_one_name_one_has_it_in_every_answer() {
        let claims = [(2, "172.30.0.3", 80, &["one.example"][..]), (1, "172.30.0.2", 80, &["one.example"])];
        let policy = Arc::new(policy(&claims));
        let (owner, _) = policy.named("one.example").unwrap();
        assert_eq!(Directory::of(policy).find("one.example").map(|(id, _)| id), Some(owner));
    }
}
