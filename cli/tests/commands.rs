//! The command as people and scripts run it, against a coordinator that answers by a script: exit codes, what is on
//! stdout and what on stderr, and what happens when answers get lost.

#[path = "commands/contract.rs"]
mod contract;
#[path = "commands/script.rs"]
mod script;

use std::process::Output;

use script::{Reply, Script};
use serde_json::{Value, json};

const REQUESTED: (&str, &str) = ("requested", "deployment requested");
const PLACED: (&str, &str) = ("provisioning", "placed on a host");
const READY: (&str, &str) = ("running", "the bot is ready");
const DEPLOY: [&str; 6] = ["deploy", "web", "--profile", "echo", "--image", "echo@sha256:0"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A refusal's last line, its exit code checked.
fn refusal(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

fn deployment(state: &str, lines: &[(&str, &str)]) -> Value {
    let entry = |(at, (state, cause)): (usize, &(&str, &str))| json!({"id": format!("evt_{at}"), "at_us": at * 100_000, "state": state, "cause": cause});
    let timeline: Vec<_> = lines.iter().enumerate().map(entry).collect();
    json!({
        "id": "dep_1", "name": "web", "account": "acct_1", "profile": "echo", "plan": "starter",
        "image": "echo@sha256:0", "pool": "shared", "state": state, "revision": 1, "created_at_us": 0,
        "timeline": timeline, "from_the_future": 1,
    })
}

#[test]
fn deploy_shows_each_step_once_and_ends_when_the_bot_runs() {
    let script = Script::of([
        Reply::Json(201, deployment("requested", &[REQUESTED])),
        Reply::Json(200, deployment("requested", &[REQUESTED])),
        Reply::Json(200, deployment("provisioning", &[REQUESTED, PLACED])),
        Reply::Json(200, deployment("running", &[REQUESTED, PLACED, READY])),
    ]);
    let output = script.run(&DEPLOY);
    assert!(output.status.success(), "{output:?}");
    let steps: Vec<_> = text(&output.stderr).lines().map(|line| line.trim().to_owned()).collect();
    let expected = [
        "0.0 s  requested     deployment requested",
        "0.1 s  provisioning  placed on a host",
        "0.2 s  running       the bot is ready",
    ];
    assert_eq!(steps, expected);
    assert!(text(&output.stdout).contains("dep_1"));
}

#[test]
fn a_deployment_that_fails_ends_with_four_and_its_reason() {
    let mut failed = deployment("failed", &[REQUESTED]);
    failed["reason"] =
        json!({"code": "exit-terminal", "sentence": "it exited with 78", "mend": "correct its config"});
    let script = Script::of([Reply::Json(201, deployment("requested", &[])), Reply::Json(200, failed)]);
    let line = refusal(&script.run(&DEPLOY), 4);
    assert_eq!(line, "launchpad: exit-terminal: it exited with 78; correct its config");
}

#[test]
fn patience_that_ends_ends_with_four_and_says_what_it_waited_for() {
    let mut waiting = deployment("requested", &[]);
    waiting["reason"] = json!({"code": "no-hosts", "sentence": "there is no host"});
    let script = Script::of([Reply::Json(201, waiting)]);
    let line = refusal(&script.run(&[&DEPLOY[..], &["--wait", "0"]].concat()), 4);
    assert!(line.contains("waited-too-long") && line.contains("there is no host"), "{line}");
}

#[test]
fn a_refusal_ends_with_one_and_every_bad_field_on_its_line() {
    let problem = json!({
        "type": "urn:launchpad:invalid-fields", "title": "invalid fields", "status": 422,
        "detail": "2 fields are not right",
        "errors": [
            {"field": "name", "problem": "is missing", "mend": "give one"},
            {"field": "plan", "problem": "there is no `x`", "mend": "choose one of: starter"},
        ],
    });
    let output = Script::of([Reply::Json(422, problem)]).run(&DEPLOY);
    assert_eq!(
        refusal(&output, 1),
        "launchpad: invalid-fields: 2 fields are not right | name: is missing; give one | plan: there is no `x`; \
         choose one of: starter"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_program_gets_the_reason_as_json() {
    let problem =
        json!({"type": "urn:launchpad:no-such-deployment", "status": 404, "detail": "none", "mend": "look"});
    let script = Script::of([Reply::Json(404, problem)]);
    let said: Value = serde_json::from_str(&refusal(&script.run(&["--output", "json", "status", "x"]), 1)).unwrap();
    assert_eq!(said["error"], json!({"code": "no-such-deployment", "sentence": "none", "mend": "look"}));
}

#[test]
fn a_program_gets_the_answer_itself_with_what_this_version_does_not_know() {
    let script = Script::of([Reply::Json(200, deployment("running", &[]))]);
    let output = script.run(&["status", "web", "--output", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), deployment("running", &[]));
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let script = Script::of([Reply::HangUp, Reply::Json(201, deployment("requested", &[]))]);
    let output = script.run(&[&DEPLOY[..], &["--no-wait"]].concat());
    assert!(output.status.success(), "{output:?}");
    let asked = script.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].key.is_some() && asked[0].key == asked[1].key && asked[0].body == asked[1].body, "{asked:?}");
}

#[test]
fn a_coordinator_that_is_away_for_a_moment_does_not_end_the_wait() {
    let script = Script::of([
        Reply::Json(201, deployment("requested", &[])),
        Reply::HangUp,
        Reply::HangUp,
        Reply::Json(200, deployment("running", &[REQUESTED, READY])),
    ]);
    assert!(script.run(&DEPLOY).status.success());
}

#[test]
fn nobody_there_ends_with_three() {
    let mut script = Script::of([Reply::HangUp]);
    script.url = "http://127.0.0.1:1".to_owned();
    let line = refusal(&script.run(&["ps"]), 3);
    assert!(line.contains("unreachable") && line.contains("127.0.0.1:1"), "{line}");
}

#[test]
fn something_else_on_that_port_ends_with_three() {
    let script = Script::of([Reply::Json(404, json!("a web server"))]);
    assert!(refusal(&script.run(&["ps"]), 3).contains("not-a-coordinator"));
}

#[test]
fn a_misused_command_line_ends_with_two() {
    let script = Script::of([Reply::HangUp]);
    for words in [&["deploy"][..], &["fly"], &["logs", "web", "--tail", "many"], &["login", "nonsense"]] {
        assert_eq!(script.run(words).status.code(), Some(2), "{words:?}");
    }
    let line = refusal(&script.run(&[&DEPLOY[..], &["--secret", "hunter2"]].concat()), 2);
    assert!(line.contains("malformed-secret") && !line.contains("hunter2"), "{line}");
    assert!(script.asked().is_empty(), "nothing is asked before the command line is right");
}

fn changed(effect: &str, operation: Value) -> Value {
    json!({"name": "KEY", "version": 2, "revision": 2, "effect": effect, "operation": operation})
}

#[test]
fn a_secret_is_read_from_stdin_and_shown_nowhere() {
    let script = Script::of([Reply::HangUp, Reply::Json(202, changed("after-restart", Value::Null))]);
    let output = script.run_with(&["secret", "set", "web", "KEY"], "hunter2\n");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("revision 2") && said.contains("launchpad restart web"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    // The answer was lost the first time: it is the same request, which is the same however often it is sent.
    let asked = script.asked();
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert!(asked.line.starts_with("PUT /deployments/web/secrets/KEY "), "{asked:?}");
        assert_eq!((asked.body.as_str(), asked.key), ("{\"value\":\"hunter2\"}", None));
    }
}

#[test]
fn a_restart_is_asked_for_with_the_change_and_told() {
    let script = Script::of([Reply::Json(202, changed("after-restart", json!("op_1")))]);
    for verb in ["set", "rm"] {
        let output = script.run_with(&["secret", verb, "web", "KEY", "--restart"], "x");
        assert!(text(&output.stdout).contains("restarted to read it (op_1)"), "{output:?}");
    }
    let lines: Vec<_> = script.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "PUT /deployments/web/secrets/KEY?restart=true HTTP/1.1",
            "DELETE /deployments/web/secrets/KEY?restart=true HTTP/1.1"
        ]
    );
}

#[test]
fn secrets_are_listed_by_name_with_what_the_environment_shows() {
    let secret = json!({"name": "KEY", "version": 2, "set_at_us": 0, "needed": false, "variables": ["BOT_KEY"]});
    let script = Script::of([Reply::Json(200, json!({"items": [secret], "next": null}))]);
    let listed = text(&script.run(&["secret", "ls", "web"]).stdout);
    let words: Vec<_> = listed.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((words[0], words[1], words[words.len() - 2], words[words.len() - 1]), ("KEY", "2", "no", "BOT_KEY"));
    let json = script.run(&["secret", "ls", "web", "--output", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&json.stdout).unwrap()["items"][0]["name"], "KEY");
}

#[test]
fn a_rotation_shows_which_key_wraps_what() {
    let keys = json!({
        "current": "local:2", "wraps": {"local:1": 3, "local:2": 4}, "rotation": {"id": "rot_1", "asked_at_us": 0},
    });
    let script = Script::of([Reply::Json(202, keys)]);
    let said = text(&script.run(&["key", "rotate"]).stdout);
    assert!(said.contains("local:1") && said.contains("4 files") && said.contains("rot_1 is under way"), "{said}");
    assert!(script.asked()[0].key.is_some());
}

#[test]
fn a_log_keeps_the_bots_streams_apart_and_ends_with_its_end() {
    let lines = concat!(
        "{\"at_us\":1,\"stream\":\"stdout\",\"line\":\"out\"}\n",
        "\n",
        "{\"at_us\":2,\"stream\":\"stderr\",\"line\":\"err\"}\n",
        "{\"end\":{}}\n",
    );
    let script = Script::of([Reply::Text("application/x-ndjson", lines)]);
    let output = script.run(&["logs", "web"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("out\n", "err\n"));
    assert!(script.asked()[0].line.starts_with("GET /deployments/web/logs?tail=100&follow=false "));
}

#[test]
fn a_log_that_ends_early_says_why_and_one_that_breaks_off_is_not_an_end() {
    let short = "{\"end\":{\"reason\":{\"code\":\"host-offline\",\"sentence\":\"the host is not connected\"}}}\n";
    let script = Script::of([Reply::Text("application/x-ndjson", short)]);
    assert!(refusal(&script.run(&["logs", "web"]), 1).contains("host-offline"));
    let broken = "{\"at_us\":1,\"stream\":\"stdout\",\"line\":\"out\"}\n";
    let script = Script::of([Reply::Text("application/x-ndjson", broken)]);
    assert!(refusal(&script.run(&["logs", "web"]), 3).contains("log-broken-off"));
}

#[test]
fn a_login_is_tried_before_it_is_kept() {
    let refused = json!({"type": "urn:launchpad:unknown-token", "status": 401, "detail": "no such API token"});
    let script = Script::of([Reply::Json(401, refused), Reply::Json(200, json!({"items": [], "next": null}))]);
    let file = script.dir.path().join("login.toml");
    assert!(refusal(&script.run(&["login", &script.url]), 1).contains("unknown-token"));
    assert!(!file.exists());
    assert!(script.run(&["login", &script.url]).status.success());
    assert!(std::fs::read_to_string(file).unwrap().contains("lp_1_2"));
}

#[test]
fn a_list_is_read_to_its_last_page() {
    let page = |name: &str, next: Value| {
        let mut item = deployment("running", &[]);
        item["name"] = name.into();
        Reply::Json(200, json!({"items": [item], "next": next}))
    };
    let script = Script::of([page("one", json!("dep_1")), page("two", Value::Null)]);
    let listed = text(&script.run(&["ps"]).stdout);
    assert!(listed.contains("one") && listed.contains("two"), "{listed}");
    assert!(script.asked()[1].line.contains("cursor=dep_1"), "{:?}", script.asked());
}

#[test]
fn a_frozen_fleet_is_shown_with_what_each_host_holds() {
    let frozen = json!({
        "frozen": true, "incarnation": "inc_1", "reason": {"code": "restored", "sentence": "it was restored"},
        "hosts": [{"id": "host_1", "name": "web-1", "connected": true, "spoken": true, "published": 3, "floor": 7}],
        "strangers": [{"id": "host_9", "last_seen_us": 1}],
    });
    let shown = text(&Script::of([Reply::Json(200, frozen)]).run(&["recover", "status"]).stdout);
    assert!(shown.contains("frozen") && shown.contains("restored: it was restored"), "{shown}");
    assert!(
        shown.contains(
            "HOST   CONNECTED  HAS SPOKEN  MADE FOR IT  IT HOLDS\nweb-1  yes        yes         3            7\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("host_9 came, and is not in this store"), "{shown}");
}

#[test]
fn a_host_that_is_not_waited_for_is_named_to_the_coordinator() {
    let thawed = json!({"frozen": false, "incarnation": "inc_1", "hosts": []});
    let script = Script::of([Reply::Json(200, thawed)]);
    let told = text(&script.run(&["recover", "confirm", "--without", "h2", "--without", "h3"]).stdout);
    assert_eq!(told, "Publishing goes on.\n");
    assert!(script.asked()[0].body.contains(r#"{"without":["h2","h3"]}"#), "{:?}", script.asked());
}
