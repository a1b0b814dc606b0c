//! What our certificates say, and the files that they live in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use launchpad_pki::ca::{BACKDATED, CaError, HOST_LIFE};
use launchpad_pki::ca_files::CaFiles;
use launchpad_pki::host_key::HostKey;
use launchpad_pki::identity::{HostIdentity, IdentityError};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::world::{START, World, domain, host_id};

#[test]
fn what_a_csr_says_about_its_holder_is_let_go() {
    let world = World::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wishes = CertificateParams::new(vec!["fleet.launchpad.internal".to_owned()]).unwrap();
    let other = domain().spiffe_id(host_id(1));
    wishes.subject_alt_names.push(SanType::URI(other.as_str().try_into().unwrap()));
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wishes.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = wishes.serialize_request(&key).unwrap();

    let issued = world.ca.issue_host(csr.der(), host_id(7), START, HOST_LIFE).unwrap();

    let identity = HostIdentity::from_certificate(&issued.chain_der[0]).unwrap();
    assert_eq!((identity.host, identity.trust_domain), (host_id(7), domain()));
    let (_, leaf) = X509Certificate::from_der(&issued.chain_der[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 1);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
}

#[test]
fn what_is_stored_about_a_certificate_is_what_it_says() {
    let world = World::new();
    let key = HostKey::generate().unwrap();
    let now = START + Duration::from_micros(123_456);
    let issued = world.ca.issue_host(&key.csr_der().unwrap(), host_id(7), now, HOST_LIFE).unwrap();
    let identity = HostIdentity::from_certificate(&issued.chain_der[0]).unwrap();
    assert_eq!(identity.serial, issued.serial);
    assert_eq!((identity.not_before, identity.not_after), (issued.not_before, issued.not_after));
    assert_eq!((issued.not_before, issued.not_after), (START - BACKDATED, START + HOST_LIFE));
    assert_eq!(issued.public_key, key.public_digest());
}

#[test]
fn a_csr_signed_by_another_key_is_refused() {
    let world = World::new();
    let mut csr = HostKey::generate().unwrap().csr_der().unwrap();
    let other = HostKey::generate().unwrap().csr_der().unwrap();
    // The last bytes are the signature.
    let at = csr.len() - 8;
    csr[at..].copy_from_slice(&other[other.len() - 8..]);
    let error = world.ca.issue_host(&csr, host_id(7), START, HOST_LIFE).unwrap_err();
    assert!(matches!(error, CaError::Request(_)), "{error}");
}

#[test]
fn a_csr_with_another_kind_of_key_or_none_is_refused() {
    let world = World::new();
    let params = CertificateParams::default();
    for kind in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let csr = params.serialize_request(&KeyPair::generate_for(kind).unwrap()).unwrap();
        assert!(world.ca.issue_host(csr.der(), host_id(7), START, HOST_LIFE).is_err());
    }
    for noise in [&b""[..], b"0", &[0x30; 100], &[0; 5_000]] {
        assert!(world.ca.issue_host(noise, host_id(7), START, HOST_LIFE).is_err());
    }
}

#[test]
fn a_server_certificate_is_no_hosts() {
    let world = World::new();
    let names = ["fleet.launchpad.internal".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let server = world.ca.issue_server(&names, START).unwrap();
    let refused = HostIdentity::from_certificate(&server.chain_der[0]);
    assert_eq!(refused, Err(IdentityError::Names(3)));
    let one = world.ca.issue_server(&names[..1], START).unwrap();
    assert_eq!(HostIdentity::from_certificate(&one.chain_der[0]), Err(IdentityError::NotUri));
    assert!(matches!(world.ca.issue_server(&[], START), Err(CaError::NoNames)));
    let bad = world.ca.issue_server(&["not a name".to_owned()], START);
    assert!(matches!(bad, Err(CaError::Name(name)) if name == "not a name"));
}

#[test]
fn the_ca_survives_its_files_and_runs_without_the_root_key() {
    let dir = tempfile::tempdir().unwrap();
    let files = CaFiles::at(dir.path().join("ca"));
    let made = files.create(&domain(), START).unwrap();
    fs::remove_file(files.root_key()).unwrap();
    let loaded = files.load().unwrap();
    assert_eq!(loaded.root_digest(), made.root_digest());
    assert_eq!(loaded.certificate(), made.certificate());
    assert_eq!(loaded.trust_domain(), &domain());
    assert_eq!(loaded.not_after(), made.not_after());
    assert!(files.load_root().is_err());
}

#[test]
fn every_file_of_the_ca_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let files = CaFiles::at(dir.path().join("ca"));
    files.create(&domain(), START).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(dir.path().join("ca")), 0o700);
    for entry in fs::read_dir(dir.path().join("ca")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_ca_is_not_made_over_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let files = CaFiles::at(dir.path());
    let first = files.create(&domain(), START).unwrap();
    assert!(files.create(&domain(), START).unwrap_err().to_string().contains("there already"));
    assert_eq!(files.load().unwrap().root_digest(), first.root_digest());
}

#[test]
fn a_truncated_file_of_the_ca_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = CaFiles::at(dir.path());
    files.create(&domain(), START).unwrap();
    for name in ["root.crt", "issuing.crt", "issuing.key"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for length in [0, whole.len() / 2, whole.len() - 40] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = files.load().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("damaged"), "{length}: {error}");
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(files.load().is_ok());
}

#[test]
fn a_key_that_belongs_to_another_ca_is_told() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    CaFiles::at(one.path()).create(&domain(), START).unwrap();
    CaFiles::at(other.path()).create(&domain(), START).unwrap();
    fs::copy(other.path().join("issuing.key"), one.path().join("issuing.key")).unwrap();
    let error = crate::world::whole(&CaFiles::at(one.path()).load().unwrap_err());
    assert!(error.contains("does not belong to its certificate"), "{error}");
}

#[test]
fn the_root_signs_a_successor_when_its_key_is_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let files = CaFiles::at(dir.path());
    let first = files.create(&domain(), START).unwrap();
    let next = files.load_root().unwrap().sign_issuing(&domain(), START).unwrap();
    assert_eq!(next.root_digest(), first.root_digest());
    assert_ne!(next.certificate(), first.certificate());
}
