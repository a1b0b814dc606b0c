//! The verbs about what a bot may use and reach, where it is reached, its snapshots, and how its contract holds.

use serde_json::{Value, json};

use super::script::{Reply, Script};
use super::{deployment, refusal, text};

fn asked_lines(script: &Script) -> Vec<String> {
    script.asked().into_iter().map(|asked| asked.line.trim_end_matches(" HTTP/1.1").to_owned()).collect()
}

#[test]
fn rules_are_added_to_and_taken_from_those_that_are_there() {
    let egress = json!({"profile": ["a.example.com"], "allow": ["b.example.com"], "granted": 8, "revision": 2});
    let script = Script::of([Reply::Json(200, egress)]);
    let shown = text(&script.run(&["egress", "show", "web"]).stdout);
    assert!(shown.contains("a.example.com  its profile") && shown.contains("b.example.com  you"), "{shown}");
    assert!(shown.contains("room for 7 more of 8"), "{shown}");
    assert!(script.run(&["egress", "add", "web", "C.example.com:443"]).status.success());
    assert!(script.run(&["egress", "rm", "web", "b.example.com"]).status.success());
    assert!(script.run(&["egress", "set", "web"]).status.success());
    let bodies: Vec<_> =
        script.asked().into_iter().filter(|asked| asked.line.starts_with("PUT")).map(|asked| asked.body).collect();
    assert_eq!(bodies, [r#"{"allow":["b.example.com","c.example.com"]}"#, r#"{"allow":[]}"#, r#"{"allow":[]}"#]);
    let line = refusal(&script.run(&["egress", "rm", "web", "a.example.com"]), 1);
    assert!(line.contains("no-such-rule") && line.contains("what the profile allows stays"), "{line}");
}

#[test]
fn a_plan_is_asked_for_by_its_name_and_told_with_all_that_it_grants() {
    let granted = json!({
        "plan": "pro", "cpu_millis": 1000, "memory_bytes": 2_147_483_648_u64, "storage_bytes": 25_000_000_000_u64,
        "retention_days": 30, "egress_rules": 16, "revision": 2,
    });
    let script = Script::of([Reply::Json(200, granted)]);
    let told = text(&script.run(&["plan", "web", "pro"]).stdout);
    for part in ["pro", "1.000 cores", "2.0 GiB", "23.3 GiB", "16", "30 days", "launchpad status web"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(asked_lines(&script), ["PUT /deployments/web/plan"]);
    assert_eq!(script.asked()[0].body, r#"{"plan":"pro"}"#);
    assert_eq!(script.run(&["plan", "web"]).status.code(), Some(2));
}

#[test]
fn a_plan_that_is_refused_ends_with_one_and_says_why_and_how_to_go_on() {
    let why = json!({
        "type": "urn:launchpad:plan-shrinks-volume", "title": "plan shrinks volume", "status": 422,
        "detail": "its volume has 25000 MB", "mend": "choose a plan with as much storage",
    });
    let script = Script::of([Reply::Json(422, why)]);
    let line = refusal(&script.run(&["plan", "web", "starter"]), 1);
    assert!(line.contains("plan-shrinks-volume") && line.contains("as much storage"), "{line}");
}

#[test]
fn a_rule_that_cannot_be_is_refused_before_anything_is_asked() {
    let script = Script::of([Reply::HangUp]);
    for rule in ["10.0.0.0/8", "mail.example.com:25", "*.com"] {
        assert!(refusal(&script.run(&["egress", "set", "web", rule]), 2).contains("malformed-rule"), "{rule}");
    }
    assert_eq!(script.run(&["egress", "add", "web"]).status.code(), Some(2));
    assert!(script.asked().is_empty());
}

#[test]
fn what_a_bot_was_kept_from_is_told_with_the_way_to_allow_it() {
    let denials = json!({"count": 9, "items": [
        {"at_us": 0, "target": "evil.example", "count": 3, "certain": true},
        {"at_us": 0, "target": "tcp 203.0.113.5:25", "count": 1, "certain": false},
    ]});
    let shown = text(&Script::of([Reply::Json(200, denials)]).run(&["denials", "web"]).stdout);
    assert!(shown.contains("evil.example") && shown.contains("it, or another bot of yours"), "{shown}");
    assert!(shown.contains("9 in all") && shown.contains("launchpad egress add"), "{shown}");
    let none = Script::of([Reply::Json(200, json!({"count": 0, "items": []}))]);
    assert!(text(&none.run(&["denials", "web"]).stdout).contains("kept from nothing"));
}

fn domain(state: &str, reason: Value) -> Value {
    json!({
        "name": "www.example.org", "state": state, "reason": reason,
        "proof": {"name": "_launchpad.www.example.org", "type": "TXT", "value": "launchpad-proof-1"},
        "records": [
            {"name": "www.example.org", "type": "CNAME", "value": "web-1.bots.example.com"},
            {"name": "www.example.org", "type": "A", "value": "203.0.113.7"},
        ],
    })
}

#[test]
fn a_claimed_domain_is_told_with_the_records_to_set() {
    let script = Script::of([Reply::Json(201, domain("claimed", Value::Null))]);
    let told = text(&script.run(&["domain", "add", "web", "www.example.org"]).stdout);
    for part in ["TXT", "launchpad-proof-1", "CNAME", "web-1.bots.example.com", "203.0.113.7", "instead of the CNAME"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(script.asked()[0].key.is_some());
    let listed = Script::of([Reply::Json(200, json!({"items": [domain("verified", Value::Null)], "next": null}))]);
    assert!(text(&listed.run(&["domain", "ls", "web"]).stdout).contains("www.example.org: verified"));
}

#[test]
fn a_proof_that_is_not_there_ends_with_one_and_says_what_is() {
    let why = json!({"code": "domain-unproved", "sentence": "no proof", "cause": "no TXT record is there", "mend": "set it"});
    let script = Script::of([Reply::Json(200, domain("claimed", why.clone()))]);
    let line = refusal(&script.run(&["domain", "verify", "web", "www.example.org"]), 1);
    assert_eq!(line, "launchpad: domain-unproved: no proof (no TXT record is there); set it");
    assert_eq!(asked_lines(&script), ["POST /deployments/web/domains/www.example.org/verify"]);
    // A verified domain whose record was lost leads there for a while yet: that is no failure.
    let lost = Script::of([Reply::Json(200, domain("verified", why))]);
    let output = lost.run(&["domain", "verify", "web", "www.example.org"]);
    assert!(output.status.success() && text(&output.stdout).contains("no TXT record is there"), "{output:?}");
}

fn snapshots(outcome: &str, reason: Value) -> Reply {
    let asked = json!({"operation": "op_1", "action": "create", "name": "s", "asked_at_us": 0, "outcome": outcome, "reason": reason});
    let kept = json!({"name": "old", "bytes": 1_048_576, "taken_at_us": 0, "digest": "sha256:0"});
    Reply::Json(200, json!({"items": [kept], "operations": [asked]}))
}

#[test]
fn a_snapshot_is_waited_for_until_its_host_has_answered() {
    let accepted = || Reply::Json(202, json!({"operation": "op_1", "name": "s"}));
    let script = Script::of([accepted(), snapshots("waiting", Value::Null), snapshots("done", Value::Null)]);
    let output = script.run(&["snapshot", "create", "web", "--name", "s"]);
    assert!(output.status.success() && text(&output.stdout).contains("snapshot s is taken"), "{output:?}");
    assert!(script.asked()[0].body.contains(r#"{"name":"s"}"#));
    let full = json!({"code": "disk-full", "sentence": "no room"});
    let script = Script::of([accepted(), snapshots("refused", full)]);
    assert_eq!(refusal(&script.run(&["snapshot", "restore", "web", "s"]), 4), "launchpad: disk-full: no room");
    let script = Script::of([accepted()]);
    let output = script.run(&["snapshot", "rm", "web", "s", "--no-wait"]);
    assert!(text(&output.stdout).contains("will be deleted (op_1)"), "{output:?}");
    let lines = asked_lines(&script);
    assert_eq!(lines, ["DELETE /deployments/web/snapshots/s"]);
}

#[test]
fn snapshots_are_listed_with_what_is_still_open() {
    let script = Script::of([snapshots("waiting", Value::Null)]);
    let listed = text(&script.run(&["snapshot", "ls", "web"]).stdout);
    assert!(listed.contains("old   1.0 MiB") && listed.contains("create    s         waiting"), "{listed}");
}

#[test]
fn a_status_shows_what_fails_before_what_is_degraded_before_what_holds() {
    let mut running = deployment("running", &[]);
    running["url"] = json!("https://web-1.bots.example.com");
    let why = |sentence: &str| json!({"code": "why", "sentence": sentence});
    running["instance"] = json!({
        "phase": "ready", "restarts": 0, "oom_kills": 2,
        "volume": {"backend": "loop-ext4", "bytes": 10_737_418_240_u64, "used_bytes": 1_048_576, "snapshots": {}},
        "enforcement": {
            "memory": {"verdict": "enforced", "seen": "memory.max 1073741824"},
            "apparmor": {"verdict": "degraded", "seen": "none", "reason": why("the kernel has no AppArmor")},
            "pids": {"verdict": "failed", "seen": "pids.max max", "reason": why("somebody took the limit away")},
        },
    });
    let shown = text(&Script::of([Reply::Json(200, running)]).run(&["status", "web"]).stdout);
    let at = |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part}: {shown}"));
    assert!(at("pids") < at("apparmor") && at("apparmor") < at("memory.max"), "{shown}");
    for part in
        ["https://web-1.bots.example.com", "1.0 MiB of 10.0 GiB, loop-ext4", "2 times in this start", "somebody took"]
    {
        at(part);
    }
}

#[test]
fn a_host_is_inspected_with_what_its_bots_contracts_lack() {
    let why = json!({"code": "why", "sentence": "none here", "mend": "install it"});
    let host = json!({
        "id": "host_1", "name": "web", "pool": "shared", "state": "active", "connected": true, "generation": {},
        "capabilities": {"apparmor": {"is": "absent", "reason": why}, "seccomp": {"is": "present"}},
        "gate": {"flushes": 2, "longest_exposure_us": 12_000, "ingress_addresses": ["203.0.113.7"]},
        "instances": [{
            "deployment": "dep_1", "phase": "ready", "revision": 1, "restarts": 0,
            "enforcement": {"enforced": 23, "degraded": {"apparmor": why}, "failed": {"pids": why}},
            "volume": {"backend": "xfs-quota", "bytes": 1_073_741_824, "used_bytes": 0, "snapshots": {}},
        }],
    });
    let script = Script::of([Reply::Json(200, host)]);
    let shown = text(&script.run(&["hosts", "inspect", "host_1"]).stdout);
    for part in [
        "taken away 2 times, for 12 ms",
        "203.0.113.7",
        "apparmor: no",
        "install it",
        "failed: pids; degraded: apparmor",
        "0 B of 1.0 GiB, xfs-quota",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(asked_lines(&script), ["GET /hosts/host_1"]);
}
