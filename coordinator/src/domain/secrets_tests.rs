//! What a changed secret makes of the next revision, and when its bot goes by it.

use std::collections::BTreeMap;

use launchpad_protocol::digest::Digest;

use super::*;
use crate::domain::refusal::RefusalKind;
use crate::domain::revision::tests::{profile, starter};

/// The blueprint of the tests' profile has the secrets `key`, which goes into a variable, and `token`, which
/// is needed.
fn apply(change: Change, name: &str) -> Result<InstanceSpec, Refusal> {
    change.apply(name, &profile(), &starter())
}

fn refused(change: Change, name: &str) -> (RefusalKind, String) {
    let refusal = apply(change, name).expect_err("refused");
    (refusal.kind, refusal.reason.code)
}

fn versions(spec: &InstanceSpec) -> BTreeMap<&str, u64> {
    spec.files.iter().map(|file| (file.name.as_str(), file.version.0)).collect()
}

fn effect(change: Change, name: &str) -> Effect {
    Effect::of(State::Running, &profile(), &starter(), &apply(change, name).expect("a blueprint"))
}

#[test]
fn only_the_file_that_changed_gets_a_new_version() {
    let next = apply(Change::Set, "token").unwrap();
    assert_eq!(next.revision, Revision(2));
    assert_eq!(versions(&next), BTreeMap::from([("echo.conf", 1), ("key", 1), ("token", 2)]));
}

#[test]
fn a_new_secret_stands_among_the_others_as_in_a_first_revision() {
    let next = apply(Change::Set, "lock").unwrap();
    let files: Vec<_> = next.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(files, ["echo.conf", "key", "lock", "token"]);
    assert_eq!(next.files[2].dir, profile().secrets.dir);
}

#[test]
fn a_changed_file_needs_no_new_container_and_the_profile_says_whether_a_restart() {
    let (mut profile, next) = (profile(), apply(Change::Set, "token").unwrap());
    assert_eq!(next.recreate_hash, starter().recreate_hash);
    for (reread, effect) in [(false, Effect::AfterRestart), (true, Effect::AtOnce)] {
        profile.secrets.reread = reread;
        assert_eq!(Effect::of(State::Running, &profile, &starter(), &next), effect);
    }
}

#[test]
fn a_secret_in_the_environment_needs_a_new_container_whenever_it_changes() {
    let mut hashes = vec![starter().recreate_hash];
    for (change, variables) in [(Change::Set, 1), (Change::Remove, 0)] {
        let next = apply(change, "key").unwrap();
        assert_eq!(next.secret_environment.len(), variables);
        assert_eq!(next.requires.contains(&Feature::sealed_environment()), variables == 1);
        assert_eq!(effect(change, "key"), Effect::NewContainer);
        assert!(!hashes.contains(&next.recreate_hash));
        hashes.push(next.recreate_hash);
    }
}

#[test]
fn the_first_secret_of_a_bot_that_had_none_mounts_a_directory() {
    let mut bare = starter();
    bare.files.truncate(1);
    bare.secret_environment.clear();
    bare.recreate_hash = recreate_hash(&bare);
    let next = Change::Set.apply("lock", &profile(), &bare).unwrap();
    assert_eq!(Effect::of(State::Running, &profile(), &bare, &next), Effect::NewContainer);
}

#[test]
fn a_hash_that_another_version_made_outlives_a_change_in_place() {
    let mut older = starter();
    older.recreate_hash = Digest::of(b"made by an older version");
    let next = Change::Set.apply("token", &profile(), &older).unwrap();
    assert_eq!(next.recreate_hash, older.recreate_hash);
}

#[test]
fn what_does_not_run_yet_starts_with_it() {
    let next = apply(Change::Set, "key").unwrap();
    for state in [State::Requested, State::Configuring, State::Suspended] {
        assert_eq!(Effect::of(state, &profile(), &starter(), &next), Effect::AtStart);
    }
}

#[test]
fn what_the_workload_needs_can_be_set_and_not_taken_away() {
    assert_eq!(refused(Change::Remove, "token"), (RefusalKind::Impossible, "secret-needed".to_owned()));
    assert!(apply(Change::Set, "token").is_ok());
}

#[test]
fn what_is_not_there_cannot_be_taken_away() {
    assert_eq!(refused(Change::Remove, "lock"), (RefusalKind::NotFound, "no-such-secret".to_owned()));
}

#[test]
fn the_config_is_no_secret() {
    for change in [Change::Set, Change::Remove] {
        assert_eq!(refused(change, "echo.conf"), (RefusalKind::Impossible, "secret-named-as-config".to_owned()));
    }
}

#[test]
fn there_is_a_most_of_secrets_and_a_full_set_can_still_be_changed() {
    let mut full = starter();
    for number in full.files.len()..SEALED_FILES_MAX {
        full = Change::Set.apply(&format!("s{number}"), &profile(), &full).unwrap();
    }
    assert_eq!(full.files.len(), SEALED_FILES_MAX);
    let refusal = Change::Set.apply("one-more", &profile(), &full).expect_err("too many");
    assert_eq!(refusal.reason.code, "too-many-secrets");
    assert!(Change::Set.apply("s5", &profile(), &full).is_ok());
}

#[test]
fn nobody_fills_a_deployment_or_a_host_with_secrets() {
    let (deployment, host) = (SEALED_BYTES_PER_DEPLOYMENT_MAX as u64, SEALED_BYTES_PER_HOST_MAX as u64);
    assert_eq!(have_room(deployment, host), Ok(()));
    assert_eq!(have_room(deployment + 1, host).expect_err("too much").reason.code, "secrets-too-large");
    assert_eq!(have_room(deployment, host + 1).expect_err("too much").reason.code, "host-full");
}
