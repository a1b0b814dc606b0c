//! What a customer may ask that a bot may reach.

use std::collections::BTreeSet;

use launchpad_protocol::egress::{EgressRule, EgressRuleError};
use launchpad_protocol::limits::EGRESS_RULES_MAX;

use super::deployment::echo;
use super::{DeploymentRef, FieldProblems};

/// Let a bot reach this beyond its profile, and nothing that was let before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetEgress {
    /// Whose.
    pub deployment: DeploymentRef,
    /// The rules, each once.
    pub allow: BTreeSet<EgressRule>,
}

impl SetEgress {
    /// Checks the fields.
    ///
    /// # Errors
    /// Every bad rule.
    pub fn new(deployment: DeploymentRef, allow: &[String]) -> Result<Self, FieldProblems> {
        let mut problems = FieldProblems::default();
        let allow = egress_rules(&mut problems, "allow", allow);
        if problems.is_empty() { Ok(Self { deployment, allow }) } else { Err(problems) }
    }
}

/// The rules that can be read; each other is a noted problem, under its place in the list.
pub(super) fn egress_rules(problems: &mut FieldProblems, field: &str, texts: &[String]) -> BTreeSet<EgressRule> {
    if texts.len() > EGRESS_RULES_MAX {
        problems.add(field, format!("{} rules are too many", texts.len()), format!("at most {EGRESS_RULES_MAX}"));
        return BTreeSet::new();
    }
    let mut rules = BTreeSet::new();
    for (at, text) in texts.iter().enumerate() {
        match text.parse::<EgressRule>() {
            Ok(rule) => drop(rules.insert(rule)),
            Err(error) => problems.add(format!("{field}[{at}]"), problem(text, &error), mend(&error)),
        }
    }
    rules
}

fn problem(text: &str, error: &EgressRuleError) -> String {
    // What a caller sent is repeated as far as it helps, whatever it is.
    if text.len() > ECHO_MAX_BYTES {
        format!("`{}…` is too long for a rule", echo(text))
    } else {
        error.to_string()
    }
}

/// Bytes of a rule that is repeated in an error: a name of full length, and its ports.
const ECHO_MAX_BYTES: usize = 300;

fn mend(error: &EgressRuleError) -> &'static str {
    match error {
        EgressRuleError::Malformed(_) | EgressRuleError::TooWide(_) => {
            "`api.example.com`, `*.example.com:8443` or `203.0.113.0/24`, with ports from 1 to 65535"
        }
        EgressRuleError::DeniedRange { .. } => "name public addresses only",
        EgressRuleError::DeniedPort { .. } => "leave that port out",
        EgressRuleError::Ports(_) => "one to eight ports, such as `443,8443`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(texts: &[&str]) -> Vec<(String, String)> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        let refused = SetEgress::new("web".parse().unwrap(), &texts);
        refused.err().unwrap_or_default().0.into_iter().map(|one| (one.field, one.problem)).collect()
    }

    #[test]
    fn rules_are_read_and_each_stands_once() {
        let texts = ["api.example.com", "API.example.com:443", "203.0.113.0/24"].map(str::to_owned);
        let command = SetEgress::new("web".parse().unwrap(), &texts).unwrap();
        assert_eq!(command.allow.len(), 2);
    }

    #[test]
    fn every_bad_rule_is_named_by_its_place_with_its_reason() {
        let bad =
            fields(&["api.example.com", "http//x", "10.0.0.0/8", "mail.example.com:25", "*.com", "a.example:0"]);
        let (places, reasons): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
        assert_eq!(places, ["allow[1]", "allow[2]", "allow[3]", "allow[4]", "allow[5]"]);
        for (reason, word) in reasons.iter().zip(["neither", "private", "mail", "top-level", "ports"]) {
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn too_many_rules_and_endless_ones_are_refused_in_short() {
        let many: Vec<_> = (0..=EGRESS_RULES_MAX).map(|n| format!("a{n}.example.com")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(fields(&many)[0].0, "allow");
        let endless = fields(&[&"x".repeat(10_000)]);
        assert!(endless[0].1.len() < 200, "{}", endless[0].1);
    }
}
