//! Secrets over the API: what is shown, what is refused and how, and that a value never comes back.

use serde_json::{Value, json};

use super::lab::{Answer, Lab, Who};

const VALUE: &str = "hunter2-hunter2";

fn put(lab: &Lab, who: Who, path: &str, body: &Value) -> Answer {
    lab.send(who, "PUT", path, Some(body))
}

fn set(lab: &Lab, name: &str, value: &str) -> Answer {
    put(lab, Who::Member, &format!("/deployments/web/secrets/{name}"), &json!({ "value": value }))
}

#[test]
fn a_secret_is_set_listed_by_name_and_version_and_taken_away() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let answer = set(&lab, "KEY", VALUE);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json(), json!({ "name": "KEY", "version": 2, "revision": 2, "effect": "at-start" }));
    let listed = lab.send(Who::Viewer, "GET", "/deployments/web/secrets", None).json();
    let told: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|one| (&one["name"], &one["version"])).collect();
    assert_eq!(told, [(&json!("KEY"), &json!(2)), (&json!("token"), &json!(1))]);
    assert!(listed["items"][0]["set_at_us"].is_i64() && listed["next"].is_null(), "{listed}");
    let gone = lab.send(Who::Member, "DELETE", "/deployments/web/secrets/KEY", None);
    assert_eq!((gone.status, gone.json()["revision"].as_u64()), (202, Some(3)));
    assert_eq!(lab.send(Who::Member, "DELETE", "/deployments/web/secrets/KEY", None).code(), "no-such-secret");
    assert_eq!(lab.send(Who::Owner, "GET", "/deployments/web", None).json()["revision"], 3);
}

#[test]
fn no_answer_holds_a_value() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let misplaced = put(&lab, Who::Member, "/deployments/web/secrets/KEY", &json!(VALUE));
    assert_eq!(misplaced.code(), "malformed-body");
    let unknown = put(&lab, Who::Member, "/deployments/web/secrets/KEY", &json!({ "value": [VALUE] }));
    for answer in [
        misplaced,
        unknown,
        set(&lab, "KEY", VALUE),
        set(&lab, "KEY", VALUE),
        set(&lab, "bad%20name", VALUE),
        lab.send(Who::Member, "GET", "/deployments/web/secrets", None),
        lab.send(Who::Member, "GET", "/deployments/web", None),
        lab.send(Who::Member, "DELETE", "/deployments/web/secrets/KEY", None),
    ] {
        assert!(!answer.text.contains(VALUE), "{answer:?}");
    }
}

#[test]
fn the_same_request_again_changes_nothing() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    set(&lab, "KEY", VALUE);
    let again = set(&lab, "KEY", VALUE).json();
    assert_eq!(again, json!({ "name": "KEY", "version": 2, "revision": 2, "effect": "unchanged" }));
    let done: Vec<_> = lab.audit().into_iter().map(|(action, _, _)| action).collect();
    assert_eq!(done.iter().filter(|action| *action == "secret.set").count(), 1);
}

#[test]
fn what_cannot_be_a_secret_is_refused_with_the_reason() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    for (name, value, field, told) in [
        ("KEY", "x".repeat(65_537), "value", "65537 bytes"),
        ("KEY", String::new(), "value", "empty"),
        ("bad%20name", VALUE.to_owned(), "name", "letters"),
    ] {
        let refused = set(&lab, name, &value);
        assert_eq!((refused.status, refused.code().as_str()), (422, "invalid-fields"), "{refused:?}");
        assert_eq!(refused.json()["errors"][0]["field"], field);
        assert!(refused.text.contains(told) && !refused.text.contains("xxx"), "{}", refused.text);
    }
    assert_eq!(set(&lab, "echo.conf", VALUE).code(), "secret-named-as-config");
    let needed = lab.send(Who::Member, "DELETE", "/deployments/web/secrets/token", None);
    assert_eq!((needed.status, needed.code().as_str()), (422, "secret-needed"));
    for number in 0..4 {
        set(&lab, &format!("large{number}"), &"x".repeat(65_536 - 64));
    }
    let full = set(&lab, "one-more", &"x".repeat(1_000));
    assert_eq!((full.status, full.code().as_str()), (422, "secrets-too-large"), "{full:?}");
    let gone = lab.send(Who::Owner, "DELETE", "/deployments/web?purge=true", None);
    assert_eq!(gone.status, 202);
    assert_eq!(set(&lab, "KEY", VALUE).code(), "wrong-state");
}

#[test]
fn keys_are_shown_by_name_and_rotated_once_for_one_request() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let before = lab.send(Who::OnCall, "GET", "/keys", None).json();
    let current = before["current"].as_str().unwrap();
    assert!(current.starts_with("local:"), "{before}");
    assert_eq!(before["wraps"][current], 2);
    let rotate = || lab.send_with(Who::Operator, "POST", "/keys/rotate", None, &[("idempotency-key", "one")]);
    let (first, again) = (rotate(), rotate());
    assert_eq!((first.status, &first.json()["rotation"]["id"]), (202, &again.json()["rotation"]["id"]));
    let done = lab.until("/keys", |keys| keys["rotation"]["done_at_us"].is_i64());
    let new = done["current"].as_str().unwrap();
    assert!(new != current && done["wraps"] == json!({ new: 2 }), "{done}");
    let another = lab.send(Who::Operator, "POST", "/keys/rotate", None);
    assert_eq!(another.status, 202);
    assert_ne!(another.json()["rotation"]["id"], first.json()["rotation"]["id"]);
}
