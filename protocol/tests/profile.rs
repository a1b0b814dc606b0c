//! What a profile may not say: one that is fine, spoiled in one place at a time, and what is said about it.

use launchpad_protocol::profile::Profile;

/// A profile that is fine, for the tests to spoil in one place.
const FINE: &str = r#"
name = "tiny"
description = "a bot"
port = 8080
state_path = "/state"
stop_grace_s = 3
process = { uid = 1000, gid = 1000, env = { PORT = "8080" } }
config = { dir = "/etc/bot", file = "bot.toml", format = "toml", default = "" }
secrets = { dir = "/run/secrets", generated = ["token"] }
needs = { memory_floor_mb = 16, pids_max = 64 }
tmpfs = [{ path = "/tmp", size_mb = 16, mode = "1777" }]

[probes]
startup = { path = "/startupz", period_ms = 50, timeout_ms = 1000, failures = 600 }
readiness = { path = "/readyz", period_ms = 5000, timeout_ms = 1000, failures = 2 }
liveness = { path = "/healthz", period_ms = 5000, timeout_ms = 1000, failures = 2 }

[exits]
terminal = [78]
transient = [{ code = 1, for_s = 20, retry_ms = 1000 }]
backoff_initial_ms = 200
backoff_cap_ms = 10000
forgiven_after_s = 10
"#;

/// What is said about [`FINE`] after `part` of it became `spoiled`.
fn refusal(part: &str, spoiled: &str) -> String {
    assert!(FINE.contains(part), "`{part}` is not in the profile");
    let error = Profile::parse("tiny.toml", &FINE.replacen(part, spoiled, 1)).expect_err(spoiled);
    error.to_string()
}

#[test]
fn a_profile_that_makes_sense_is_taken() {
    let profile = Profile::parse("tiny.toml", FINE).expect("nothing is wrong with it");
    assert_eq!(profile.probes.startup.failures, 600);
    assert!(profile.egress.allow.is_empty(), "what is not allowed is denied");
}

#[test]
fn a_key_that_nobody_knows_is_named_with_file_and_line() {
    let said = refusal("size_mb = 16", "size_mib = 16");
    assert!(said.starts_with("profile tiny.toml: "), "{said}");
    assert!(said.contains("size_mib") && said.contains("line 11"), "{said}");
}

#[test]
fn a_bot_that_would_run_as_root_is_refused() {
    for (part, spoiled) in [("uid = 1000", "uid = 0"), ("gid = 1000", "gid = 0")] {
        let said = refusal(part, spoiled);
        assert!(said.contains("bots never run as root"), "{said}");
    }
}

#[test]
fn a_path_that_leads_elsewhere_is_refused_by_name() {
    let paths = [
        ("\"/state\"", "\"state\"", "state_path: `state`"),
        ("\"/etc/bot\"", "\"/etc/../root\"", "config.dir: `/etc/../root`"),
        ("\"/run/secrets\"", "\"/run/..\"", "secrets.dir: `/run/..`"),
        ("\"bot.toml\"", "\"../bot.toml\"", "config.file: `../bot.toml`"),
        ("[\"token\"]", "[\"..\"]", "secrets.generated: `..`"),
        ("\"/tmp\"", "\"tmp\"", "tmpfs `tmp`"),
        ("\"/run/secrets\"", "\"/etc/bot\"", "config.dir and secrets.dir must differ"),
    ];
    for (part, spoiled, expected) in paths {
        let said = refusal(part, spoiled);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_would_never_pause_or_never_be_asked_is_refused() {
    let zeros = [
        ("period_ms = 50", "period_ms = 0", "probes.startup"),
        ("failures = 2", "failures = 0", "probes.readiness"),
        ("\"/healthz\"", "\"healthz\"", "probes.liveness"),
        ("backoff_initial_ms = 200", "backoff_initial_ms = 0", "backoff_initial_ms"),
        ("backoff_cap_ms = 10000", "backoff_cap_ms = 100", "backoff_cap_ms"),
        ("retry_ms = 1000", "retry_ms = 0", "exits.transient code 1"),
        ("port = 8080", "port = 0", "port must not be 0"),
    ];
    for (part, spoiled, expected) in zeros {
        let said = refusal(part, spoiled);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_mode_that_is_not_octal_and_a_variable_that_is_two_are_refused() {
    assert!(refusal("\"1777\"", "\"1999\"").contains("tmpfs `/tmp`"));
    assert!(refusal("\"1777\"", "\"17777\"").contains("tmpfs `/tmp`"));
    assert!(refusal("PORT = \"8080\"", "\"A=B\" = \"1\"").contains("`A=B` is no name of a variable"));
}

#[test]
fn a_system_call_that_nobody_knows_or_no_bot_gets_is_refused_by_name() {
    let calls = [
        ("shmgett", "`shmgett` is no system call"),
        ("ptrace", "`ptrace` is never allowed to a bot"),
        ("socket", "`socket` is allowed to every bot, within bounds"),
    ];
    for (call, expected) in calls {
        let said = refusal("[probes]", &format!("[seccomp]\nallow = [\"mbind\", \"{call}\"]\n\n[probes]"));
        assert!(said.contains("seccomp.allow: ") && said.contains(expected), "{said}");
    }
}
