//! How the API says no: the shape, the codes and the mends that clients and people rely on.

use serde_json::json;

use super::lab::{Answer, IMAGE, Lab, Who, wish};

fn pretty(answer: &Answer) -> String {
    assert_eq!(answer.kind, "application/problem+json", "{answer:?}");
    serde_json::to_string_pretty(&answer.json()).unwrap()
}

#[test]
fn every_bad_field_is_listed_with_its_mend() {
    let lab = Lab::start();
    let wish = json!({
        "name": "Web 1", "profile": "none", "image": "echo:latest", "config": "x", "secrets": {"a b": "1"},
    });
    let answer = lab.send(Who::Owner, "POST", "/deployments", Some(&wish));
    insta::assert_snapshot!(pretty(&answer), @r#"
    {
      "detail": "5 fields are not right",
      "errors": [
        {
          "field": "name",
          "mend": "1 to 63 lower-case letters, digits and hyphens, no hyphen at either end",
          "problem": "`Web 1` is not a DNS label"
        },
        {
          "field": "profile",
          "mend": "choose one of: echo, openclaw, strict",
          "problem": "there is no `none`"
        },
        {
          "field": "plan",
          "mend": "choose one of: pro, starter, team",
          "problem": "is missing"
        },
        {
          "field": "image",
          "mend": "REPOSITORY@sha256:DIGEST, as `docker inspect` shows it under RepoDigests",
          "problem": "`echo:latest` names no digest: write REPOSITORY@sha256:…, because a tag can change under a running bot"
        },
        {
          "field": "secrets.a b",
          "mend": "letters, digits and . _ - only",
          "problem": "the name is not 1 to 64 letters, digits and . _ -"
        }
      ],
      "mend": "correct what `errors` lists and send it again",
      "status": 422,
      "title": "invalid fields",
      "type": "urn:launchpad:invalid-fields"
    }
    "#);
}

#[test]
fn a_taken_name_says_what_to_do() {
    let lab = Lab::start();
    lab.deploy(Who::Owner, "web");
    let answer = lab.send(Who::Owner, "POST", "/deployments", Some(&wish("web")));
    insta::assert_snapshot!(pretty(&answer), @r#"
    {
      "cause": "a deleted deployment keeps its name until its data is gone",
      "detail": "the name `web` is taken in this account",
      "mend": "choose another name, or delete the other one with `--purge`",
      "status": 409,
      "title": "name taken",
      "type": "urn:launchpad:name-taken"
    }
    "#);
}

#[test]
fn nobody_is_told_to_sign_in() {
    let lab = Lab::start();
    let answer = lab.send(Who::Anonymous, "GET", "/deployments", None);
    assert_eq!(answer.challenge.as_deref(), Some("Bearer realm=\"launchpad\""));
    insta::assert_snapshot!(pretty(&answer), @r#"
    {
      "detail": "the request carries no API token",
      "mend": "send the header `Authorization: Bearer lp_…`; `launchpad login` keeps one",
      "status": 401,
      "title": "not signed in",
      "type": "urn:launchpad:not-signed-in"
    }
    "#);
}

#[test]
fn a_token_that_opens_nothing_is_not_explained() {
    let lab = Lab::start();
    let unknown = format!("lp_{}_{}", "0".repeat(32), "0".repeat(64));
    let codes = [unknown.as_str(), "lp_1_2", "nonsense"].map(|token| {
        let header = format!("Bearer {token}");
        let answer = lab.send_with(Who::Anonymous, "GET", "/deployments", None, &[("authorization", &header)]);
        (answer.status, answer.text)
    });
    assert_eq!(codes[0].0, 401);
    assert!(codes.iter().all(|code| code == &codes[0]), "{codes:?}");
}

#[test]
fn a_body_that_does_not_fit_names_the_place() {
    let lab = Lab::start();
    let answer = lab.send(Who::Owner, "POST", "/deployments", Some(&json!({"name": "web", "colour": "red"})));
    assert_eq!((answer.status, answer.code().as_str()), (400, "malformed-body"));
    assert!(answer.text.contains("colour"), "{answer:?}");
}

#[test]
fn a_body_without_end_is_cut_off() {
    let lab = Lab::start();
    let answer = lab.send_too_much(Who::Owner, "/deployments", 5 * 1024 * 1024);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
}

#[test]
fn paths_and_methods_that_are_not_there_are_problems_too() {
    let lab = Lab::start();
    for (method, path, status, code) in [
        ("GET", "/none", 404, "no-such-path"),
        ("PUT", "/hosts", 405, "no-such-method"),
        ("GET", "/deployments?limit=many", 400, "malformed-query"),
        ("GET", "/deployments?limit=0", 422, "invalid-fields"),
        ("GET", "/deployments/web?account=host_1", 422, "invalid-fields"),
        ("GET", "/deployments/Not%20A%20Name", 422, "invalid-fields"),
        ("GET", "/hosts/dep_1", 422, "invalid-fields"),
        ("GET", "/deployments/web/logs?tail=10001", 422, "invalid-fields"),
    ] {
        let answer = lab.send(Who::Operator, method, path, None);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}: {answer:?}");
    }
}

#[test]
fn a_config_that_the_profile_cannot_read_is_refused_before_anything_happens() {
    let lab = Lab::start();
    let wish = json!({
        "name": "claw", "profile": "strict", "plan": "starter", "image": IMAGE, "config": "{ not json",
    });
    let answer = lab.send(Who::Owner, "POST", "/deployments", Some(&wish));
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.json()["errors"][0]["field"], "config");
    assert_eq!(lab.send(Who::Owner, "GET", "/deployments", None).json()["items"], json!([]));
}

#[test]
fn a_secret_is_never_repeated() {
    let lab = Lab::start();
    let wish = json!({
        "name": "web", "profile": "echo", "plan": "starter", "image": IMAGE, "secrets": {"token": "hunter2-hunter2"},
    });
    let made = lab.send(Who::Owner, "POST", "/deployments", Some(&wish));
    let shown = lab.send(Who::Owner, "GET", "/deployments/web", None);
    for answer in [made, shown] {
        assert!(!answer.text.contains("hunter2"), "{answer:?}");
    }
}
