//! What the API shows: deployments by id and by name, pages, the document of itself.

use launchpad_coordinator::api::openapi;
use serde_json::{Value, json};

use super::lab::{IMAGE, Lab, Who};

#[test]
fn a_deployment_is_shown_with_what_was_asked_and_what_it_waits_for() {
    let lab = Lab::start();
    let made = lab.deploy(Who::Owner, "web");
    assert!(made["id"].as_str().unwrap().starts_with("dep_"));
    for (field, value) in
        [("name", "web"), ("profile", "echo"), ("plan", "starter"), ("image", IMAGE), ("pool", "shared")]
    {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(made["account"], lab.account.to_string());
    assert_eq!((made["state"].as_str(), made["revision"].as_u64()), (Some("requested"), Some(1)));
    let by_id = lab.send(Who::Owner, "GET", &format!("/deployments/{}", made["id"].as_str().unwrap()), None).json();
    let by_name = lab.send(Who::Owner, "GET", "/deployments/web", None).json();
    assert_eq!((&by_id["id"], &by_name["id"]), (&made["id"], &made["id"]));
    let first = &by_id["timeline"][0];
    assert_eq!(
        (first["state"].as_str(), first["at_us"].as_i64()),
        (Some("requested"), made["created_at_us"].as_i64())
    );
    assert!(first["id"].as_str().unwrap().starts_with("evt_"));
}

#[test]
fn pages_meet_without_gap_or_repeat() {
    let lab = Lab::start();
    let made: Vec<Value> = (0..5).map(|n| lab.deploy(Who::Owner, &format!("bot-{n}"))["id"].clone()).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = lab.send(Who::Owner, "GET", &format!("/deployments?limit=2{cursor}"), None).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, made);
}

#[test]
fn a_deployment_without_a_host_is_gone_as_soon_as_it_is_deleted_and_frees_its_name() {
    let lab = Lab::start();
    let first = lab.deploy(Who::Owner, "web");
    let deleted = lab.send(Who::Owner, "DELETE", "/deployments/web", None);
    assert_eq!((deleted.status, deleted.json()["state"].as_str()), (202, Some("terminated")));
    assert_ne!(lab.deploy(Who::Owner, "web")["id"], first["id"]);
}

#[test]
fn a_host_is_shown_before_it_has_said_anything() {
    let lab = Lab::start();
    let listed = lab.send(Who::OnCall, "GET", "/hosts", None).json()["items"][0].clone();
    assert_eq!(listed["id"], lab.host.to_string());
    assert_eq!((listed["state"].as_str(), listed["connected"].as_bool()), (Some("pending"), Some(false)));
    assert_eq!(listed["generation"], json!({}));
    assert_eq!(lab.send(Who::OnCall, "GET", &format!("/hosts/{}", lab.host), None).json(), listed);
}

#[test]
fn a_revoked_host_is_retired_however_often() {
    let lab = Lab::start();
    for _ in 0..2 {
        let answer = lab.send(Who::Operator, "POST", &format!("/hosts/{}/revoke", lab.host), None);
        assert_eq!((answer.status, answer.json()["state"].as_str()), (202, Some("retired")));
    }
}

#[test]
fn a_join_token_says_where_to_go_and_until_when() {
    let lab = Lab::start();
    let made = lab.send(Who::Operator, "POST", "/hosts/tokens", None).json();
    assert!(made["token"].as_str().unwrap().starts_with("lpj1."));
    assert!(made["enroll_endpoint"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(made["expires_at_us"].is_i64());
}

#[test]
fn nothing_is_frozen_in_a_new_installation() {
    let lab = Lab::start();
    let recovery = lab.send(Who::Operator, "GET", "/recovery", None).json();
    assert_eq!(recovery["frozen"], false);
    assert_eq!(lab.send(Who::Operator, "POST", "/recovery/confirm", None).json(), recovery);
}

#[test]
fn the_document_is_openapi_3_1_and_every_operation_says_how_it_refuses() {
    let lab = Lab::start();
    let served = lab.send(Who::Anonymous, "GET", "/openapi.json", None).json();
    assert_eq!(served, serde_json::from_str::<Value>(&openapi::text().unwrap()).unwrap());
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1."));
    for (path, item) in served["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            let open = operation["security"] == json!([{}]) || operation["security"] == json!([]);
            assert!(open || answers.contains_key("4XX"), "{method} {path}");
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            let takes_key = operation["parameters"].to_string().contains("idempotency-key");
            assert_eq!(takes_key, method == "post", "{method} {path}");
        }
    }
}

#[test]
fn the_document_promises_no_verb_that_is_not_there() {
    let text = openapi::text().unwrap().to_lowercase();
    for verb in ["suspend", "updat", "rollback", "drain"] {
        assert!(!text.contains(verb), "{verb}");
    }
    // An upgrade of agents resumes; no deployment does.
    let document: Value = serde_json::from_str(&text).unwrap();
    let resuming = document["paths"].as_object().unwrap().keys().filter(|path| path.contains("resume"));
    assert_eq!(resuming.filter(|path| path.contains("deployments")).count(), 0);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document: Value = serde_json::to_value(openapi::document()).unwrap();
    let (mut values, mut references) = (vec![&document], Vec::new());
    while let Some(value) = values.pop() {
        match value {
            Value::Object(fields) => {
                references.extend(fields.get("$ref").and_then(Value::as_str));
                values.extend(fields.values());
            }
            Value::Array(items) => values.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
