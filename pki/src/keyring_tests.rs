//! What the local keyring promises: values survive it, belong where they were, and rotation loses none.

use std::fs;
use std::path::Path;

use launchpad_protocol::id::{AccountId, DeploymentId};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::envelope::{Envelope, EnvelopeContext, KEY_BYTES};

/// A directory with a keyring, which ends with the test.
struct Bench {
    dir: TempDir,
    ring: LocalKeyring,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ring = LocalKeyring::create(&place(dir.path())).unwrap();
        Self { dir, ring }
    }

    fn place(&self) -> KeyringPlace {
        place(self.dir.path())
    }

    /// Another process on the same keyring.
    fn again(&self) -> LocalKeyring {
        LocalKeyring::load(&self.place()).unwrap()
    }
}

fn place(dir: &Path) -> KeyringPlace {
    KeyringPlace::beside(dir.join("keyring"))
}

fn context() -> EnvelopeContext {
    EnvelopeContext {
        account: AccountId::from(Uuid::from_u128(1)),
        deployment: DeploymentId::from(Uuid::from_u128(2)),
        file: "OPENAI_API_KEY".to_owned(),
        version: 1,
    }
}

/// A local key is at hand: nothing waits.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the local keyring waits for nobody")
}

fn encrypt(ring: &LocalKeyring, value: &[u8]) -> Envelope {
    at_once(Envelope::encrypt(ring, &context(), value)).unwrap()
}

fn decrypt(ring: &LocalKeyring, envelope: &Envelope) -> Result<Vec<u8>, EnvelopeError> {
    at_once(envelope.decrypt(ring, &context())).map(|value| value.to_vec())
}

#[test]
fn a_value_survives_the_store_and_a_restart() {
    let bench = Bench::new();
    let column = serde_json::to_string(&encrypt(&bench.ring, b"sk-canary")).unwrap();
    assert!(!column.contains("canary"), "{column}");
    let read: Envelope = serde_json::from_str(&column).unwrap();
    assert_eq!(decrypt(&bench.again(), &read).unwrap(), b"sk-canary");
}

#[test]
fn a_row_moved_to_another_tenant_does_not_decrypt() {
    let bench = Bench::new();
    let envelope = encrypt(&bench.ring, b"sk-canary");
    let elsewhere = [
        EnvelopeContext { account: AccountId::from(Uuid::from_u128(9)), ..context() },
        EnvelopeContext { deployment: DeploymentId::from(Uuid::from_u128(9)), ..context() },
        EnvelopeContext { file: "OTHER".to_owned(), ..context() },
        EnvelopeContext { version: 2, ..context() },
    ];
    for other in elsewhere {
        let refused = at_once(envelope.decrypt(&bench.ring, &other));
        assert!(matches!(refused, Err(EnvelopeError::Altered)), "{other:?}");
        let refused = at_once(envelope.rewrap(&bench.ring, &other));
        assert!(matches!(refused, Err(EnvelopeError::Altered)), "{other:?}");
    }
}

#[test]
fn an_altered_ciphertext_or_a_swapped_data_key_does_not_decrypt() {
    let Bench { ring, .. } = &Bench::new();
    let (one, two) = (encrypt(ring, b"one"), encrypt(ring, b"two"));
    let swapped = Envelope { wrapped_key: two.wrapped_key, ..one.clone() };
    assert!(matches!(decrypt(ring, &swapped), Err(EnvelopeError::Altered)));
    for at in 0..one.ciphertext.len() {
        let mut altered = one.clone();
        altered.ciphertext[at] ^= 1;
        assert!(decrypt(ring, &altered).is_err(), "byte {at}");
        altered.ciphertext.truncate(at);
        assert!(decrypt(ring, &altered).is_err(), "cut at {at}");
    }
}

#[test]
fn the_wrong_keyring_is_told_by_name() {
    let (bench, other) = (Bench::new(), Bench::new());
    let error = decrypt(&other.ring, &encrypt(&bench.ring, b"one")).unwrap_err().to_string();
    assert!(error.contains(&bench.ring.key_id()) && error.contains(&other.ring.key_id()), "{error}");
}

#[test]
fn the_keyring_opens_nothing_without_its_identity_and_shows_no_key() {
    let bench = Bench::new();
    let held = bench.ring.held.load();
    let file = fs::read(bench.place().keyring).unwrap();
    assert!(file.starts_with(b"age-encryption.org/v1\n"), "the `age` command reads it");
    let key = held.current().expose();
    let hex = hex::encode(key);
    assert!(!file.windows(KEY_BYTES).any(|part| part == key) && !String::from_utf8_lossy(&file).contains(&hex));
    fs::remove_file(bench.place().identity).unwrap();
    let error = LocalKeyring::load(&bench.place()).unwrap_err().to_string();
    assert!(error.contains("keyring.identity"), "{error}");
    // A new identity would make a keyring that opens nothing that is stored.
    assert!(LocalKeyring::load_or_create(&bench.place()).is_err());
    assert!(LocalKeyring::create(&bench.place()).is_err());
}

#[test]
fn anothers_identity_is_told_from_a_missing_one() {
    let (bench, other) = (Bench::new(), Bench::new());
    fs::copy(other.place().identity, bench.place().identity).unwrap();
    let error = LocalKeyring::load(&bench.place()).unwrap_err();
    assert!(matches!(error, KeyringError::Unopened { .. }), "{error}");
}

#[test]
fn an_identity_that_was_put_elsewhere_is_used_and_not_overwritten() {
    let (bench, elsewhere) = (Bench::new(), tempfile::tempdir().unwrap());
    let apart = KeyringPlace { keyring: elsewhere.path().join("keyring"), identity: bench.place().identity };
    let before = fs::read(&apart.identity).unwrap();
    LocalKeyring::create(&apart).unwrap();
    assert_eq!(fs::read(&apart.identity).unwrap(), before);
    assert!(!elsewhere.path().join("keyring.identity").exists());
    assert!(LocalKeyring::load(&apart).is_ok());
}

#[test]
fn a_damaged_keyring_is_named_and_never_overwritten() {
    let bench = Bench::new();
    let place = bench.place();
    let mut content = fs::read(&place.keyring).unwrap();
    for at in [0, content.len() / 2, content.len() - 1] {
        content[at] ^= 1;
        crate::files::write_private(&place.keyring, &content).unwrap();
        let error = LocalKeyring::load_or_create(&place).unwrap_err().to_string();
        assert!(error.contains("keyring"), "{error}");
        content[at] ^= 1;
    }
}

#[test]
fn after_a_rotation_the_new_key_wraps_and_the_old_one_still_opens() {
    let bench = Bench::new();
    let (old, before) = (bench.ring.key_id(), encrypt(&bench.ring, b"before"));
    let new = at_once(bench.ring.rotate()).unwrap();
    assert_ne!(new, old);
    assert_eq!((bench.ring.key_id(), bench.ring.older()), (new.clone(), vec![old.clone()]));
    assert_eq!(encrypt(&bench.ring, b"after").key_id, new);
    assert_eq!(decrypt(&bench.ring, &before).unwrap(), b"before");

    let rewrapped = at_once(before.rewrap(&bench.ring, &context())).unwrap();
    assert_eq!((&rewrapped.key_id, &rewrapped.ciphertext), (&new, &before.ciphertext));
    at_once(bench.ring.forget(&old)).unwrap();
    assert_eq!(bench.again().older(), Vec::<String>::new());
    assert_eq!(decrypt(&bench.again(), &rewrapped).unwrap(), b"before");
    assert!(matches!(decrypt(&bench.ring, &before), Err(EnvelopeError::OtherKey { .. })));
}

#[test]
fn the_key_that_wraps_is_never_forgotten() {
    let bench = Bench::new();
    for name in [bench.ring.key_id(), "local:none".to_owned()] {
        at_once(bench.ring.forget(&name)).unwrap();
    }
    assert_eq!(bench.again().key_id(), bench.ring.key_id());
}

#[test]
fn a_replica_on_the_same_keyring_sees_what_another_changed() {
    let bench = Bench::new();
    let replica = bench.again();
    let old = replica.key_id();
    let new = at_once(bench.ring.rotate()).unwrap();
    assert_eq!(decrypt(&replica, &encrypt(&bench.ring, b"one")).unwrap(), b"one");
    assert_eq!(encrypt(&replica, b"two").key_id, new);
    // Both rotate from what the file holds, so that no key of the other's is lost.
    let newest = at_once(replica.rotate()).unwrap();
    assert_eq!(bench.again().older(), [old, new]);
    assert_eq!(encrypt(&bench.ring, b"three").key_id, newest);
}

#[test]
fn a_keyring_that_only_grows_says_so() {
    let bench = Bench::new();
    for _ in 1..KEYS_MAX {
        at_once(bench.ring.rotate()).unwrap();
    }
    let error = at_once(bench.ring.rotate()).unwrap_err().to_string();
    assert!(error.contains("16 keys"), "{error}");
    assert_eq!(bench.again().older().len(), KEYS_MAX - 1);
}
