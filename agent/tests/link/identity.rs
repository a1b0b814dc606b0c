//! The identity's files: whole, or told.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use launchpad_agent::identity::{Enrolled, Identity, IdentityFileError, IdentityFiles};
use launchpad_pki::host_key::HostKey;

use crate::world::World;

fn identity(world: &World) -> Identity {
    let somewhere = "127.0.0.1:7443".parse().unwrap();
    world.identity(Duration::ZERO, &[somewhere], somewhere)
}

fn unusable(identity: &Identity) -> String {
    let dir = tempfile::tempdir().unwrap();
    let error = IdentityFiles::open(dir.path()).unwrap().store(identity).unwrap_err();
    assert!(matches!(error, IdentityFileError::Unusable { .. }), "{error}");
    error.to_string()
}

#[test]
fn an_identity_reads_back_as_itself() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let files = IdentityFiles::open(dir.path()).unwrap();
    let identity = identity(&world);
    files.store(&identity).unwrap();
    let read = files.load().unwrap();
    assert_eq!((read.host, &read.name, &read.chain), (identity.host, &identity.name, &identity.chain));
    assert_eq!(read.key.public_digest(), identity.key.public_digest());
    assert_eq!((read.bundle, read.fleet_endpoints), (identity.bundle, identity.fleet_endpoints));
}

#[test]
fn a_host_that_has_not_joined_is_told_how_to() {
    let dir = tempfile::tempdir().unwrap();
    let error = Enrolled::load(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityFileError::Absent(_)), "{error}");
    assert!(error.to_string().contains("launchpad-agent enroll"), "{error}");
}

#[test]
fn a_torn_identity_is_set_aside_and_named_never_believed() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    IdentityFiles::open(dir.path()).unwrap().store(&identity(&world)).unwrap();
    let file = dir.path().join("identity/identity");
    let whole = fs::read(&file).unwrap();
    for length in [0, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = Enrolled::load(dir.path()).unwrap_err();
        let IdentityFileError::Damaged(aside) = &error else { panic!("{error}") };
        assert_eq!(fs::read(aside).unwrap(), &whole[..length]);
    }
}

#[test]
fn a_certificate_of_another_key_or_another_host_makes_no_identity() {
    let (world, other) = (World::new(), World::new());
    let whole = identity(&world);
    let key = Arc::new(HostKey::generate().unwrap());
    assert!(unusable(&Identity { key, ..whole.clone() }).contains("cannot be used together"));
    assert!(unusable(&Identity { host: other.host, ..whole.clone() }).contains("its certificate names"));
    assert!(unusable(&Identity { chain: Vec::new(), ..whole.clone() }).contains("no certificate"));
    assert!(unusable(&Identity { fleet_endpoints: Vec::new(), ..whole }).contains("no fleet endpoint"));
}

#[test]
fn an_identity_that_cannot_be_used_replaces_nothing() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let files = IdentityFiles::open(dir.path()).unwrap();
    let whole = identity(&world);
    files.store(&whole).unwrap();
    let enrolled = Enrolled::load(dir.path()).unwrap();
    let shown = enrolled.credentials().leaf();
    assert!(enrolled.replace(Identity { chain: Vec::new(), ..whole.clone() }).is_err());
    assert_eq!(enrolled.identity().chain, whole.chain);
    assert_eq!(enrolled.credentials().leaf(), shown);
    assert_eq!(files.load().unwrap().chain, whole.chain);
}

#[test]
fn the_keys_of_an_enrolment_under_way_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let files = IdentityFiles::open(dir.path()).unwrap();
    let (pending, sealing) = (files.pending_key().unwrap(), files.sealing_key_or_new().unwrap());
    let again = IdentityFiles::open(dir.path()).unwrap();
    assert_eq!(again.pending_key().unwrap().public_digest(), pending.public_digest());
    assert_eq!(again.sealing_key_or_new().unwrap().public(), sealing.public());
    again.forget_pending().unwrap();
    assert_ne!(again.pending_key().unwrap().public_digest(), pending.public_digest());
}
