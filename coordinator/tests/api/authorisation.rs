//! Who may do what, over every route of the OpenAPI document: a route that is not in the table fails the test.

use std::collections::BTreeSet;

use launchpad_coordinator::api::openapi;
use serde_json::{Value, json};

use super::lab::{Lab, Who, wish};

/// What each caller is answered, in the order of [`Who::ALL`]: anonymous, stranger, viewer, member, owner, on-call,
/// operator. 409 and 422 are answers of somebody who may: the bot has no host, so it has no log and no process.
const TABLE: [(&str, &str, [u16; 7]); 42] = [
    ("GET", "/deployments", [401, 200, 200, 200, 200, 200, 200]),
    ("POST", "/deployments", [401, 404, 403, 201, 201, 403, 201]),
    ("GET", "/deployments/{id}", [401, 404, 200, 200, 200, 200, 200]),
    ("DELETE", "/deployments/{id}", [401, 404, 403, 202, 202, 403, 202]),
    ("POST", "/deployments/{id}/restart", [401, 404, 403, 409, 409, 403, 409]),
    ("PUT", "/deployments/{id}/plan", [401, 404, 403, 200, 200, 403, 200]),
    ("GET", "/deployments/{id}/logs", [401, 404, 409, 409, 409, 409, 409]),
    ("GET", "/deployments/{id}/secrets", [401, 404, 200, 200, 200, 200, 200]),
    ("PUT", "/deployments/{id}/secrets/{name}", [401, 404, 403, 202, 202, 403, 202]),
    ("DELETE", "/deployments/{id}/secrets/{name}", [401, 404, 403, 202, 202, 403, 202]),
    ("GET", "/deployments/{id}/egress", [401, 404, 200, 200, 200, 200, 200]),
    ("PUT", "/deployments/{id}/egress", [401, 404, 403, 200, 200, 403, 200]),
    ("GET", "/deployments/{id}/denials", [401, 404, 200, 200, 200, 200, 200]),
    ("GET", "/deployments/{id}/domains", [401, 404, 200, 200, 200, 200, 200]),
    ("POST", "/deployments/{id}/domains", [401, 404, 403, 201, 201, 403, 201]),
    ("DELETE", "/deployments/{id}/domains/{name}", [401, 404, 403, 200, 200, 403, 200]),
    ("POST", "/deployments/{id}/domains/{name}/verify", [401, 404, 403, 200, 200, 403, 200]),
    ("GET", "/deployments/{id}/snapshots", [401, 404, 200, 200, 200, 200, 200]),
    ("POST", "/deployments/{id}/snapshots", [401, 404, 403, 409, 409, 403, 409]),
    // There is none: whoever may ask for it is told.
    ("DELETE", "/deployments/{id}/snapshots/{name}", [401, 404, 403, 404, 404, 403, 404]),
    ("POST", "/deployments/{id}/snapshots/{name}/restore", [401, 404, 403, 404, 404, 403, 404]),
    ("GET", "/hosts", [401, 403, 403, 403, 403, 200, 200]),
    ("GET", "/hosts/{id}", [401, 403, 403, 403, 403, 200, 200]),
    ("POST", "/hosts/tokens", [401, 403, 403, 403, 403, 403, 201]),
    ("POST", "/hosts/{id}/cordon", [401, 403, 403, 403, 403, 403, 200]),
    ("POST", "/hosts/{id}/uncordon", [401, 403, 403, 403, 403, 403, 200]),
    ("GET", "/failover", [401, 403, 403, 403, 403, 200, 200]),
    ("POST", "/failover/thaw", [401, 403, 403, 403, 403, 403, 200]),
    ("POST", "/hosts/{id}/retire", [401, 403, 403, 403, 403, 403, 200]),
    ("POST", "/hosts/{id}/revoke", [401, 403, 403, 403, 403, 403, 202]),
    ("PUT", "/hosts/{id}/ring", [401, 403, 403, 403, 403, 403, 200]),
    ("GET", "/upgrades", [401, 403, 403, 403, 403, 200, 200]),
    // Nobody is in that ring, and there is no such upgrade: whoever may is told.
    ("POST", "/upgrades", [401, 403, 403, 403, 403, 403, 409]),
    ("POST", "/upgrades/{id}/pause", [401, 403, 403, 403, 403, 403, 404]),
    ("POST", "/upgrades/{id}/resume", [401, 403, 403, 403, 403, 403, 404]),
    ("POST", "/upgrades/{id}/abort", [401, 403, 403, 403, 403, 403, 404]),
    ("GET", "/keys", [401, 403, 403, 403, 403, 200, 200]),
    ("POST", "/keys/rotate", [401, 403, 403, 403, 403, 403, 202]),
    ("GET", "/pki", [401, 403, 403, 403, 403, 200, 200]),
    // None has begun: whoever may take a step is told.
    ("POST", "/pki/rotate", [401, 403, 403, 403, 403, 403, 409]),
    ("GET", "/recovery", [401, 403, 403, 403, 403, 200, 200]),
    ("POST", "/recovery/confirm", [401, 403, 403, 403, 403, 403, 200]),
];

/// A secret of its owner's.
const SECRET: &str = "KEY";

/// An upgrade that nobody began.
const UPGRADE: &str = "upg_00000000000000000000000000000001";

/// A snapshot that nobody took.
const SNAPSHOT: &str = "none";

/// Open to all.
const OPEN: [(&str, &str); 2] = [("GET", "/healthz"), ("GET", "/openapi.json")];

#[test]
fn every_route_is_in_the_table() {
    let document: Value = serde_json::to_value(openapi::document()).unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let routes: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| methods(item).into_iter().map(|method| (method.to_uppercase(), path.clone())))
        .collect();
    let told = TABLE.iter().map(|(method, path, _)| (*method, *path)).chain(OPEN);
    let told: BTreeSet<_> = told.map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(routes, told);
}

#[test]
fn every_role_is_answered_as_the_table_says() {
    let lab = Lab::start();
    for (row, (method, path, expected)) in TABLE.into_iter().enumerate() {
        for (who, expected) in Who::ALL.into_iter().zip(expected) {
            let name = format!("bot-{row}-{}", format!("{who:?}").to_lowercase());
            let answer = lab.send(who, method, &address(&lab, path, &name), body(method, path, &name).as_ref());
            assert_eq!(answer.status, expected, "{who:?} {method} {path}: {answer:?}");
            if expected >= 400 {
                assert_eq!(answer.kind, "application/problem+json", "{who:?} {method} {path}");
            }
        }
    }
}

#[test]
fn the_open_routes_ask_for_no_token() {
    let lab = Lab::start();
    for (method, path) in OPEN {
        assert_eq!(lab.send(Who::Anonymous, method, path, None).status, 200, "{method} {path}");
    }
}

#[test]
fn another_tenants_deployment_looks_like_none() {
    let lab = Lab::start();
    let ours = lab.deploy(Who::Owner, "web");
    let id = ours["id"].as_str().unwrap();
    let account = lab.account;
    for path in [format!("/deployments/{id}"), "/deployments/web".to_owned()] {
        let theirs = lab.send(Who::Stranger, "GET", &path, None);
        let none = lab.send(Who::Stranger, "GET", "/deployments/none", None);
        assert_eq!((theirs.status, theirs.code()), (none.status, none.code()), "{path}");
    }
    let named = lab.send(Who::Stranger, "GET", &format!("/deployments/web?account={account}"), None);
    assert_eq!(named.status, 404, "{named:?}");
    assert_eq!(lab.send(Who::Stranger, "GET", "/deployments", None).json()["items"], json!([]));
}

#[test]
fn staff_reach_an_account_by_naming_it_and_not_by_a_name_alone() {
    let lab = Lab::start();
    let ours = lab.deploy(Who::Owner, "web");
    let account = lab.account;
    // The operator's own account has no `web`.
    assert_eq!(lab.send(Who::Operator, "GET", "/deployments/web", None).status, 404);
    let named = lab.send(Who::Operator, "GET", &format!("/deployments/web?account={account}"), None);
    assert_eq!(named.json()["id"], ours["id"]);
    let listed = lab.send(Who::Operator, "GET", &format!("/deployments?account={account}"), None).json();
    assert_eq!(listed["items"][0]["id"], ours["id"]);
    assert_eq!(lab.send(Who::Operator, "GET", "/deployments", None).json()["items"], json!([]));
}

#[test]
fn a_look_beyond_ones_account_is_written_down_once() {
    let lab = Lab::start();
    let id = lab.deploy(Who::Owner, "web")["id"].as_str().unwrap().to_owned();
    for who in [Who::Viewer, Who::Owner, Who::OnCall, Who::OnCall] {
        assert_eq!(lab.send(who, "GET", &format!("/deployments/{id}"), None).status, 200);
        assert_eq!(lab.send(who, "GET", &format!("/deployments/{id}/logs"), None).status, 409);
        assert_eq!(lab.send(who, "GET", "/deployments", None).status, 200);
    }
    let looks: Vec<_> = lab.audit().into_iter().filter(|(_, _, beyond)| *beyond).collect();
    let look = |action: &str| (action.to_owned(), id.clone(), true);
    assert_eq!(looks, [look("deployment.view"), look("deployment.logs")]);
    assert!(lab.audit().iter().any(|(action, target, _)| action == "deployment.list" && target == "every account"));
}

#[test]
fn every_change_is_in_the_audit_log() {
    let lab = Lab::start();
    let id = lab.deploy(Who::Owner, "web")["id"].as_str().unwrap().to_owned();
    lab.send(Who::Owner, "DELETE", "/deployments/web", None);
    lab.send(Who::Operator, "POST", "/hosts/tokens", None);
    lab.send(Who::Operator, "POST", &format!("/hosts/{}/revoke", lab.host), None);
    let done: Vec<_> = lab.audit().into_iter().map(|(action, _, _)| action).collect();
    let all = ["installation.init", "deployment.create", "deployment.delete", "join-token.create", "host.revoke"];
    assert_eq!(done, all);
    assert_eq!(lab.audit()[1].1, id);
}

/// The path of a request, about the account's own things; a deployment is made where one is needed.
fn address(lab: &Lab, path: &str, name: &str) -> String {
    let account = lab.account;
    if path == "/deployments" {
        return format!("{path}?account={account}");
    }
    if !path.starts_with("/deployments/") {
        let id = if path.starts_with("/upgrades") { UPGRADE.to_owned() } else { lab.host.to_string() };
        return path.replace("{id}", &id);
    }
    let made = lab.deploy(Who::Owner, name);
    let path = path.replace("{id}", made["id"].as_str().unwrap());
    // Through the doors that are under test, so that there is one to take away.
    let (path, set) = if path.contains("/secrets/") {
        let path = path.replace("{name}", SECRET);
        let set = lab.send(Who::Owner, "PUT", &path, Some(&json!({ "value": "first" })));
        (path, Some((set, 202)))
    } else if let Some((list, _)) = path.split_once("/{name}").filter(|_| path.contains("/domains/")) {
        let domain = format!("{name}.example.org");
        let claim = lab.send(Who::Owner, "POST", list, Some(&json!({ "name": domain })));
        (path.replace("{name}", &domain), Some((claim, 201)))
    } else {
        (path.replace("{name}", SNAPSHOT), None)
    };
    if let Some((answer, expected)) = set {
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    format!("{path}?account={account}")
}

fn body(method: &str, path: &str, name: &str) -> Option<Value> {
    match (method, path) {
        ("POST", "/deployments") => Some(wish(name)),
        ("POST", "/deployments/{id}/domains") => Some(json!({ "name": format!("{name}.example.org") })),
        ("POST", "/upgrades") => Some(json!({ "to": "0.2.0", "rings": ["canary"] })),
        ("PUT", "/hosts/{id}/ring") => Some(json!({ "ring": "main" })),
        ("POST", "/pki/rotate") => Some(json!({ "from": "distribute" })),
        ("POST", _) => Some(json!({})),
        ("PUT", "/deployments/{id}/egress") => Some(json!({ "allow": ["api.example.com"] })),
        ("PUT", "/deployments/{id}/plan") => Some(json!({ "plan": "pro" })),
        ("PUT", _) => Some(json!({ "value": "second" })),
        _ => None,
    }
}
