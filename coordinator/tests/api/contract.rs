//! What a bot may reach and where it is reached, as the API takes and refuses it; and its snapshots.

use launchpad_protocol::report::Capacity;
use serde_json::{Value, json};

use super::lab::{Answer, Lab, Who, wish};

fn errors(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-fields"), "{answer:?}");
    let text = |error: &Value, field: &str| error[field].as_str().unwrap().to_owned();
    answer.json()["errors"].as_array().unwrap().iter().map(|e| (text(e, "field"), text(e, "problem"))).collect()
}

fn egress(lab: &Lab, rules: &[&str]) -> Answer {
    lab.send(Who::Owner, "PUT", "/deployments/web/egress", Some(&json!({ "allow": rules })))
}

#[test]
fn an_owner_adds_to_what_the_profile_allows() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let before = lab.send(Who::Viewer, "GET", "/deployments/web/egress", None).json();
    assert_eq!((before["allow"].clone(), before["granted"].as_u64()), (json!([]), Some(8)));
    let set = egress(&lab, &["*.x.example:8443", "API.example.com", "203.0.113.0/24", "api.example.com:443"]);
    assert_eq!(set.status, 200, "{set:?}");
    let rules = json!(["*.x.example:8443", "203.0.113.0/24", "api.example.com"]);
    let mut shown: Vec<_> = set.json()["allow"].as_array().unwrap().clone();
    shown.sort_by_key(ToString::to_string);
    assert_eq!(json!(shown), rules);
    assert_eq!(lab.send(Who::Viewer, "GET", "/deployments/web/egress", None).json(), set.json());
    assert_eq!(lab.send(Who::Owner, "GET", "/deployments/web", None).json()["revision"], 2);
    assert!(lab.audit().iter().any(|(action, _, _)| action == "egress.set"));
}

#[test]
fn every_egress_rule_that_cannot_be_is_refused_by_its_place_and_reason() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let bad = [
        "ok.example.com",
        "http//x",
        "0.0.0.0/0",
        "169.254.169.254",
        "a.example.com:25",
        "a.example.com:53",
        "*.com",
    ];
    let told = errors(&egress(&lab, &bad));
    let expected = [
        ("allow[1]", "neither a host name"),
        ("allow[2]", "which no bot may reach"),
        ("allow[3]", "metadata"),
        ("allow[4]", "mail relay"),
        ("allow[5]", "other name servers"),
        ("allow[6]", "top-level domain"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((field, problem), (place, words)) in told.iter().zip(expected) {
        assert!(field == place && problem.contains(words), "{field}: {problem}");
    }
    let many: Vec<_> = (0..9).map(|n| format!("a{n}.example.com")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let over = egress(&lab, &many);
    assert_eq!((over.status, over.code().as_str()), (422, "egress-over-plan"), "{over:?}");
    assert!(over.text.contains("plan `starter` grants 8"), "{over:?}");
    assert_eq!(lab.send(Who::Owner, "GET", "/deployments/web/egress", None).json()["allow"], json!([]));
}

#[test]
fn a_new_bot_may_bring_its_egress_and_is_refused_for_it() {
    let lab = Lab::start();
    let mut good = wish("web");
    good["egress"] = json!(["api.example.com"]);
    assert_eq!(lab.send(Who::Owner, "POST", "/deployments", Some(&good)).status, 201);
    assert_eq!(lab.send(Who::Owner, "GET", "/deployments/web/egress", None).json()["allow"], good["egress"]);
    let mut bad = wish("other");
    bad["egress"] = json!(["10.0.0.0/8"]);
    assert_eq!(errors(&lab.send(Who::Owner, "POST", "/deployments", Some(&bad)))[0].0, "egress[0]");
}

#[test]
fn a_bot_has_a_url_and_its_owners_domain_leads_there_once_it_is_proved() {
    let lab = Lab::start();
    let url = lab.deploy(Who::Owner, "web")["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://web-") && url.ends_with(".bots.example.com"), "{url}");
    let own = url.strip_prefix("https://").unwrap();
    let claim =
        lab.send(Who::Owner, "POST", "/deployments/web/domains", Some(&json!({ "name": "WWW.example.org." })));
    assert_eq!(claim.status, 201, "{claim:?}");
    let claim = claim.json();
    assert_eq!((claim["name"].as_str(), claim["state"].as_str()), (Some("www.example.org"), Some("claimed")));
    assert_eq!(claim["records"][0], json!({ "name": "www.example.org", "type": "CNAME", "value": own }));
    assert_eq!(claim["by_hand"], true);
    let verify = || lab.send(Who::Owner, "POST", "/deployments/web/domains/www.example.org/verify", None);
    let unproved = verify();
    assert_eq!((unproved.status, unproved.json()["state"].as_str()), (200, Some("claimed")), "{unproved:?}");
    assert_eq!(unproved.json()["reason"]["code"], "domain-unproved");
    let proof = &claim["proof"];
    assert_eq!((proof["name"].as_str(), proof["type"].as_str()), (Some("_launchpad.www.example.org"), Some("TXT")));
    // Beside a text that is longer than one string of a record.
    lab.names.set("_launchpad.www.example.org", &[&"v=spf1 ".repeat(40), proof["value"].as_str().unwrap()]);
    let proved = verify().json();
    assert_eq!((proved["state"].as_str(), proved["reason"].is_null()), (Some("verified"), true), "{proved}");
    let listed = lab.send(Who::Viewer, "GET", "/deployments/web/domains", None).json();
    let states: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["state"].clone()).collect();
    assert_eq!(states, ["own", "verified"]);
    let left = lab.send(Who::Owner, "DELETE", "/deployments/web/domains/www.example.org", None);
    assert_eq!((left.status, left.json()["items"].as_array().unwrap().len()), (200, 1));
    let deeds: Vec<_> = lab.audit().into_iter().map(|(action, _, _)| action).collect();
    for deed in ["domain.claim", "domain.verify", "domain.remove"] {
        assert!(deeds.iter().any(|done| done == deed), "{deed}: {deeds:?}");
    }
}

#[test]
fn a_domain_of_another_account_is_refused_with_the_reason() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    lab.deploy(Who::Stranger, "theirs");
    let name = json!({ "name": "www.example.org" });
    let claim = lab.send(Who::Stranger, "POST", "/deployments/theirs/domains", Some(&name)).json();
    // A mere claim blocks nobody.
    assert_eq!(lab.send(Who::Owner, "POST", "/deployments/web/domains", Some(&name)).status, 201);
    lab.names.set("_launchpad.www.example.org", &[claim["proof"]["value"].as_str().unwrap()]);
    let proved = lab.send(Who::Stranger, "POST", "/deployments/theirs/domains/www.example.org/verify", None).json();
    assert_eq!(proved["state"], "verified");
    lab.send(Who::Owner, "DELETE", "/deployments/web/domains/www.example.org", None);
    let refused = lab.send(Who::Owner, "POST", "/deployments/web/domains", Some(&name));
    assert_eq!((refused.status, refused.code().as_str()), (409, "domain-taken"), "{refused:?}");
    assert!(refused.text.contains("belongs to another account"), "{refused:?}");
    assert!(!refused.text.contains("dep_") && !refused.text.contains("acct_"), "nobody learns whose: {refused:?}");
}

#[test]
fn what_is_no_domain_of_an_owner_is_refused_by_field_or_reason() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let claim = |name: &str| lab.send(Who::Owner, "POST", "/deployments/web/domains", Some(&json!({ "name": name })));
    for bad in ["", "localhost", "*.example.org", "a_b.example.org", "203.0.113.7", "https://example.org"] {
        assert_eq!(errors(&claim(bad))[0].0, "name", "{bad}");
    }
    let ours = claim("other-01234567.bots.example.com");
    assert_eq!((ours.status, ours.code().as_str()), (422, "domain-is-ours"), "{ours:?}");
    let unknown = lab.send(Who::Owner, "POST", "/deployments/web/domains/www.example.org/verify", None);
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "no-such-domain"));
}

#[test]
fn a_claim_that_is_sent_twice_is_made_once() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let name = json!({ "name": "www.example.org" });
    let send = || {
        let key = [("idempotency-key", "one")];
        lab.send_with(Who::Owner, "POST", "/deployments/web/domains", Some(&name), &key)
    };
    let (first, again) = (send(), send());
    assert_eq!((first.status, first.json()), (201, again.json()));
    let anew = lab.send(Who::Owner, "POST", "/deployments/web/domains", Some(&name));
    assert_eq!((anew.status, anew.code().as_str()), (409, "domain-claimed"));
}

#[test]
fn a_snapshot_needs_a_host_and_a_name_that_stays_in_its_folder() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let take = |body: Value| lab.send(Who::Owner, "POST", "/deployments/web/snapshots", Some(&body));
    for bad in ["", "../etc", "A", "a b"] {
        assert_eq!(errors(&take(json!({ "name": bad })))[0].0, "name", "{bad:?}");
    }
    let waiting = take(json!({}));
    assert_eq!((waiting.status, waiting.code().as_str()), (409, "wrong-state"), "{waiting:?}");
    let shown = lab.send(Who::Viewer, "GET", "/deployments/web/snapshots", None).json();
    assert_eq!(shown, json!({ "items": [], "operations": [] }));
    let none = lab.send(Who::Owner, "POST", "/deployments/web/snapshots/none/restore", None);
    assert_eq!((none.status, none.code().as_str()), (404, "no-such-snapshot"));
}

#[test]
fn a_quota_that_no_disk_has_is_refused_in_numbers() {
    let lab = Lab::start();
    lab.host_reports(Capacity { cpu_millis: 8_000, memory_bytes: 64 << 30, storage_bytes: 20_000_000_000 });
    let wish = |name: &str, plan: &str| {
        let mut wish = wish(name);
        (wish["pool"], wish["plan"]) = ("empty".into(), plan.into());
        wish
    };
    assert_eq!(lab.send(Who::Owner, "POST", "/deployments", Some(&wish("small", "starter"))).status, 201);
    let mut large = wish("large", "team");
    let refused = lab.send(Who::Owner, "POST", "/deployments", Some(&large));
    assert_eq!((refused.status, refused.code().as_str()), (422, "plan-larger-than-any-host"), "{refused:?}");
    assert!(refused.text.contains("50 GB of storage"), "{refused:?}");
    // A customer chooses a plan, and no size beside it.
    large["storage_gb"] = 500.into();
    assert_eq!(lab.send(Who::Owner, "POST", "/deployments", Some(&large)).code(), "malformed-body");
}

#[test]
fn a_plan_is_chosen_by_its_name_and_a_smaller_one_is_refused_with_the_reason() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let choose = |plan: &str| lab.send(Who::Member, "PUT", "/deployments/web/plan", Some(&json!({ "plan": plan })));
    let unknown = choose("enormous");
    assert_eq!(errors(&unknown)[0].0, "plan");
    assert!(unknown.text.contains("choose one of: pro, starter, team"), "{unknown:?}");
    let larger = choose("pro");
    assert_eq!(larger.status, 200, "{larger:?}");
    let shown = larger.json();
    assert_eq!((&shown["plan"], &shown["revision"]), (&json!("pro"), &json!(2)));
    assert_eq!((&shown["memory_bytes"], &shown["storage_bytes"]), (&json!(2_u64 << 30), &json!(25_000_000_000_u64)));
    let bot = lab.send(Who::Viewer, "GET", "/deployments/web", None).json();
    assert_eq!((&bot["plan"], &bot["revision"]), (&json!("pro"), &json!(2)));
    // Told once, and last but for one line at most: the placer's, which finds no host whenever it comes round.
    let timeline = bot["timeline"].as_array().unwrap();
    let is_told = |line: &Value| line["cause"] == "another plan was chosen";
    assert_eq!(timeline.iter().filter(|line| is_told(line)).count(), 1, "{timeline:?}");
    assert!(timeline.iter().rev().take(2).any(is_told), "{timeline:?}");
    let smaller = choose("starter");
    assert_eq!((smaller.status, smaller.code().as_str()), (422, "plan-shrinks-volume"), "{smaller:?}");
    assert!(smaller.text.contains("never made smaller") && smaller.json()["mend"].is_string(), "{smaller:?}");
    assert!(lab.audit().iter().any(|(action, _, _)| action == "plan.set"));
}

#[test]
fn a_bot_that_has_not_run_was_kept_from_nothing() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let shown = lab.send(Who::Viewer, "GET", "/deployments/web/denials", None).json();
    assert_eq!(shown, json!({ "count": 0, "items": [] }));
}
