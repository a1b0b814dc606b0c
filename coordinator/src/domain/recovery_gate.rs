//! Who must have spoken before a recovery is confirmed.
//!
//! A store that may be older than its fleet has wishes without a host; each may run somewhere already. To place them
//! before every host has said what it runs is to start a bot twice. So each host speaks first, or is left out by
//! name: by an operator who knows that it is dead, or switched off, or runs nothing.

use std::collections::BTreeSet;

use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;

use super::refusal::Refusal;

/// A host, as a recovery asks after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Which.
    pub id: HostId,
    /// What people call it; none: this store does not know it.
    pub name: Option<String>,
    /// Whether it has reported since publishing was frozen. A host that the store does not know cannot.
    pub spoken: bool,
}

impl Witness {
    /// What people write to mean it.
    #[must_use]
    pub fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }

    fn is_among(&self, without: &BTreeSet<String>) -> bool {
        without.contains(&self.id.to_string()) || self.name.as_ref().is_some_and(|name| without.contains(name))
    }
}

/// Whether a recovery may be confirmed. `without` holds the names or ids of those that are left out.
///
/// # Errors
/// A refusal when somebody is left out who is no host, or when a host that is not left out has not spoken.
pub fn may_confirm(witnesses: &[Witness], without: &BTreeSet<String>) -> Result<(), Refusal> {
    let meant = |text: &&String| witnesses.iter().any(|host| host.is_among(&BTreeSet::from([(*text).clone()])));
    if let Some(nobody) = without.iter().find(|text| !meant(text)) {
        return Err(Refusal::not_found("host", nobody));
    }
    let unheard: Vec<_> = witnesses.iter().filter(|host| !host.spoken && !host.is_among(without)).collect();
    if unheard.is_empty() { Ok(()) } else { Err(Refusal::conflict(not_heard(&unheard))) }
}

fn not_heard(unheard: &[&Witness]) -> Reason {
    let names: Vec<_> = unheard.iter().map(|host| host.called()).collect();
    let options: Vec<_> = names.iter().map(|name| format!(" --without {name}")).collect();
    let sentence = match unheard.iter().any(|host| host.name.is_none()) {
        false => format!("not heard of since publishing was frozen: {}", names.join(", ")),
        true => format!("not heard of since publishing was frozen, or not in this store: {}", names.join(", ")),
    };
    Reason::new("hosts-unheard", sentence)
        .because("a bot that runs there and waits for a host here would be started a second time")
        .mend(format!(
            "wait until they report (`launchpad recover status`); or make sure that nothing runs there, then \
             `launchpad recover confirm{}`",
            options.concat()
        ))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn host(number: u128, name: Option<&str>, spoken: bool) -> Witness {
        Witness { id: HostId::from(Uuid::from_u128(number)), name: name.map(str::to_owned), spoken }
    }

    fn without(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_host_speaks_first() {
        let (h1, h2) = (host(1, Some("h1"), true), host(2, Some("h2"), false));
        assert_eq!(may_confirm(&[], &without(&[])), Ok(()));
        assert_eq!(may_confirm(std::slice::from_ref(&h1), &without(&[])), Ok(()));
        let refused = may_confirm(&[h1, h2], &without(&[])).unwrap_err();
        assert_eq!(refused.reason.code, "hosts-unheard");
        assert!(refused.reason.sentence.contains("h2") && !refused.reason.sentence.contains("h1"), "{refused}");
        assert!(refused.reason.mend.is_some_and(|mend| mend.contains("recover confirm --without h2`")));
    }

    #[test]
    fn a_host_is_left_out_by_name_or_by_id_and_each_by_itself() {
        let silent = [host(2, Some("h2"), false), host(3, Some("h3"), false)];
        assert_eq!(may_confirm(&silent, &without(&["h2", "h3"])), Ok(()));
        assert_eq!(may_confirm(&silent, &without(&["h2", &silent[1].id.to_string()])), Ok(()));
        assert!(may_confirm(&silent, &without(&["h2"])).unwrap_err().reason.sentence.contains("h3"));
    }

    #[test]
    fn whoever_is_left_out_must_be_a_host() {
        let refused = may_confirm(&[host(1, Some("h1"), true)], &without(&["h7"])).unwrap_err();
        assert_eq!(refused.reason.code, "no-such-host");
    }

    #[test]
    fn a_host_that_the_store_does_not_know_is_asked_after_too() {
        let stranger = host(9, None, false);
        let refused = may_confirm(std::slice::from_ref(&stranger), &without(&[])).unwrap_err();
        assert!(refused.reason.sentence.contains(&stranger.id.to_string()), "{refused}");
        let id = stranger.id.to_string();
        assert_eq!(may_confirm(&[stranger], &without(&[&id])), Ok(()));
    }
}
