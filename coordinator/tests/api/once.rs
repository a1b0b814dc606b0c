//! A request that is sent again with its Idempotency-Key takes effect once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::lab::{Answer, Lab, Who, wish};

fn post(lab: &Lab, who: Who, path: &str, body: &Value, key: &str) -> Answer {
    lab.send_with(who, "POST", path, Some(body), &[("idempotency-key", key)])
}

#[test]
fn the_same_request_is_answered_as_the_first_time() {
    let lab = Lab::start();
    let first = post(&lab, Who::Owner, "/deployments", &wish("web"), "key-1");
    let again = post(&lab, Who::Owner, "/deployments", &wish("web"), "key-1");
    assert_eq!((first.status, again.status), (201, 201), "{again:?}");
    assert_eq!(first.json(), again.json());
    assert_eq!(lab.send(Who::Owner, "GET", "/deployments", None).json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_token_that_was_lost_on_the_way_is_handed_out_again() {
    let lab = Lab::start();
    let first = post(&lab, Who::Operator, "/hosts/tokens", &json!({}), "key-1").json();
    assert_eq!(post(&lab, Who::Operator, "/hosts/tokens", &json!({}), "key-1").json(), first);
    assert_ne!(post(&lab, Who::Operator, "/hosts/tokens", &json!({}), "key-2").json()["token"], first["token"]);
}

#[test]
fn a_key_belongs_to_one_request_of_one_user() {
    let lab = Lab::start();
    let first = post(&lab, Who::Owner, "/deployments", &wish("web"), "key-1");
    let other_body = post(&lab, Who::Owner, "/deployments", &wish("other"), "key-1");
    assert_eq!((other_body.status, other_body.code().as_str()), (409, "idempotency-key-reused"));
    let other_user = post(&lab, Who::Member, "/deployments", &wish("other"), "key-1");
    assert_eq!(other_user.status, 201);
    assert_ne!(other_user.json()["id"], first.json()["id"]);
}

#[test]
fn a_refused_request_may_be_sent_again_with_its_key() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    assert_eq!(post(&lab, Who::Owner, "/deployments", &wish("web"), "key-1").code(), "name-taken");
    assert_eq!(lab.send(Who::Owner, "DELETE", "/deployments/web?purge=true", None).status, 202);
    assert_eq!(post(&lab, Who::Owner, "/deployments", &wish("web"), "key-1").status, 201);
}

#[test]
fn many_at_once_make_one() {
    let lab = Arc::new(Lab::start());
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let lab = Arc::clone(&lab);
            std::thread::spawn(move || post(&lab, Who::Owner, "/deployments", &wish("web"), "key-1").json())
        })
        .collect();
    let answers: Vec<Value> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert!(answers.iter().all(|answer| answer == &answers[0] && answer["id"].is_string()), "{answers:?}");
}

#[test]
fn a_key_that_is_none_is_refused_wherever_it_is_sent() {
    let lab = Lab::start();
    for path in ["/deployments", "/hosts/tokens", "/recovery/confirm"] {
        let answer = post(&lab, Who::Operator, path, &json!({}), "two words");
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed-idempotency-key"), "{path}");
    }
}
