//! How a domain becomes its owner's, and stops being it.

use super::*;

const START: Moment = Moment::from_micros(1_800_000_000_000_000);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn name() -> PublicName {
    "www.example.com".parse().expect("a name")
}

fn claimed() -> Claim {
    Claim::new("token".to_owned(), START)
}

fn texts(texts: &[&str]) -> Proof {
    Proof::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn verified() -> Claim {
    claimed().after(&name(), texts(&["token"]), None, START)
}

#[test]
fn a_claim_is_verified_by_its_own_token_among_others() {
    let claim = claimed().after(&name(), texts(&["v=spf1 -all", " token "]), None, START);
    assert_eq!((claim.verified_at, claim.trouble), (Some(START), None));
}

#[test]
fn an_unproved_claim_says_what_is_there_and_what_has_to_be() {
    let claim = claimed().after(&name(), texts(&["other"]), None, START);
    assert!(!claim.is_verified());
    let text = claim.trouble.expect("why").to_string();
    assert!(text.contains("`other`") && text.contains("_launchpad.www.example.com to `token`"), "{text}");
}

#[test]
fn a_proof_does_not_take_a_domain_that_is_anothers() {
    let other = taken(&name(), false).reason;
    let claim = claimed().after(&name(), texts(&["token"]), Some(other.clone()), START);
    assert_eq!((claim.is_verified(), claim.trouble), (false, Some(other)));
}

#[test]
fn a_verified_domain_outlives_its_proof_by_the_grace_and_no_longer() {
    let gone = |claim: Claim, at| claim.after(&name(), texts(&[]), None, at);
    let missing = gone(verified(), START + HOUR);
    assert!(missing.is_verified() && missing.missing_since == Some(START + HOUR));
    let later = gone(missing.clone(), START + HOUR + PROOF_GRACE - Duration::from_secs(1));
    assert!(later.is_verified());
    let over = gone(later.clone(), START + HOUR + PROOF_GRACE);
    assert!(!over.is_verified() && over.missing_since.is_none());
    let back = later.after(&name(), texts(&["token"]), None, START + PROOF_GRACE);
    assert_eq!((back.verified_at, back.missing_since), (Some(START), None));
}

#[test]
fn a_name_server_that_does_not_answer_takes_nothing_away() {
    let away = || Proof::Unknown(Reason::new("no-answer", "the resolver does not answer"));
    let mut claim = verified();
    for day in 1..30 {
        claim = claim.after(&name(), away(), None, START + day * 24 * HOUR);
    }
    assert!(claim.is_verified() && claim.trouble.is_some());
}

#[test]
fn a_young_claim_is_looked_at_often_an_old_one_seldom_and_an_abandoned_one_never() {
    let due = |at: Moment, claim: Claim| Claim { checked_at: Some(at), ..claim }.due_at();
    assert_eq!(claimed().due_at(), Some(START), "at once");
    assert_eq!(due(START, claimed()), Some(START + Duration::from_secs(60)));
    assert_eq!(due(START + 2 * HOUR, claimed()), Some(START + 3 * HOUR));
    assert_eq!(due(START + CLAIM_WATCHED, claimed()), None);
    assert_eq!(verified().due_at(), Some(START + 12 * HOUR));
    let missing = verified().after(&name(), texts(&[]), None, START);
    assert_eq!(missing.due_at(), Some(START + HOUR));
}
