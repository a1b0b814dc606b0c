//! What a running bot sees of its files while they are written, taken away, or fail to open.

use launchpad_protocol::generation::Revision;
use launchpad_protocol::spec::FileKind;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::*;

const CONFIG: &str = "/etc/launchpad/config";
const SECRETS: &str = "/run/launchpad/secrets";

struct Bench {
    store: FileStore,
    places: Places,
    spec: InstanceSpec,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// On a plain directory: that it becomes a tmpfs is for the tests on a real engine, which run as root.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::under(dir.path(), dir.path());
        let key = Arc::new(SealingKey::generate().unwrap());
        let host = "host_00000000000000000000000000000001".parse().unwrap();
        let drawn = launchpad_protocol::arbitrary::host_spec(4);
        let drawn = drawn.prop_filter_map("one instance", |spec| spec.instances.into_values().next());
        let spec = drawn.new_tree(&mut TestRunner::deterministic()).unwrap().current();
        Self { store: FileStore::new(places.clone(), host, key), places, spec, _dir: dir }
    }

    fn seal(&self, dir: &str, name: &str, content: &[u8]) -> SealedFile {
        let context = SealContext {
            host: self.store.host,
            deployment: self.spec.deployment,
            file: name.to_owned(),
            version: 7,
        };
        SealedFile {
            name: name.to_owned(),
            dir: dir.to_owned(),
            kind: FileKind::Secret,
            version: Revision(7),
            ciphertext: self.store.key.public().seal(&context, content).unwrap(),
        }
    }

    fn write(&mut self, files: Vec<SealedFile>) -> Result<(), ExecuteError> {
        self.spec.files = files;
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        self.store.write(&self.spec, uid, gid)
    }

    fn seen(&self, dir: &str) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.places.files_at(self.spec.deployment, dir)) else {
            return BTreeMap::new();
        };
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        entries.map(entry).collect()
    }
}

#[test]
fn a_set_is_written_whole_private_and_by_directory() {
    let mut bench = Bench::new();
    bench.write(vec![bench.seal(CONFIG, "bot.toml", b"a = 1"), bench.seal(SECRETS, "token", b"hush")]).unwrap();
    assert_eq!(bench.seen(CONFIG), BTreeMap::from([("bot.toml".to_owned(), b"a = 1".to_vec())]));
    assert_eq!(bench.seen(SECRETS), BTreeMap::from([("token".to_owned(), b"hush".to_vec())]));
    let dir = bench.places.files_at(bench.spec.deployment, SECRETS);
    assert_eq!(fs::metadata(dir.join("token")).unwrap().mode() & 0o7777, FILE_MODE);
    assert_eq!(fs::metadata(dir).unwrap().mode() & 0o7777, DIR_MODE);
    let digest = files_digest(&bench.spec.files);
    assert_eq!(bench.store.all().unwrap(), BTreeMap::from([(bench.spec.deployment, digest)]));
}

#[test]
fn a_new_version_takes_the_old_ones_place_and_leaves_an_open_file_whole() {
    let mut bench = Bench::new();
    bench.write(vec![bench.seal(CONFIG, "bot.toml", b"old"), bench.seal(SECRETS, "token", b"hush")]).unwrap();
    let held = fs::File::open(bench.places.files_at(bench.spec.deployment, CONFIG).join("bot.toml")).unwrap();
    bench.write(vec![bench.seal(CONFIG, "bot.toml", b"new and longer")]).unwrap();
    assert_eq!(io::read_to_string(held).unwrap(), "old");
    assert_eq!(bench.seen(CONFIG), BTreeMap::from([("bot.toml".to_owned(), b"new and longer".to_vec())]));
    assert_eq!(bench.seen(SECRETS), BTreeMap::new(), "no longer in the set");
    bench.store.remove(bench.spec.deployment).unwrap();
    bench.store.remove(bench.spec.deployment).unwrap();
    assert_eq!(bench.store.all().unwrap(), BTreeMap::new());
}

#[test]
fn a_file_that_did_not_change_is_not_touched_and_one_that_was_tampered_with_is() {
    let mut bench = Bench::new();
    let set = |bench: &Bench, token: &[u8]| {
        vec![bench.seal(CONFIG, "bot.toml", b"a = 1"), bench.seal(SECRETS, "token", token)]
    };
    bench.write(set(&bench, b"hush")).unwrap();
    let at = |bench: &Bench, dir: &str, name: &str| bench.places.files_at(bench.spec.deployment, dir).join(name);
    let inodes = |bench: &Bench| {
        let inode = |dir, name| fs::metadata(at(bench, dir, name)).unwrap().ino();
        (inode(CONFIG, "bot.toml"), inode(SECRETS, "token"))
    };
    let before = inodes(&bench);
    bench.write(set(&bench, b"hush again")).unwrap();
    let after = inodes(&bench);
    assert!(after.0 == before.0 && after.1 != before.1, "{before:?} {after:?}");
    assert_eq!(bench.seen(SECRETS)["token"], b"hush again");
    fs::set_permissions(at(&bench, CONFIG, "bot.toml"), fs::Permissions::from_mode(0o444)).unwrap();
    bench.write(set(&bench, b"hush again")).unwrap();
    assert_eq!(fs::metadata(at(&bench, CONFIG, "bot.toml")).unwrap().mode() & 0o7777, FILE_MODE);
}

#[test]
fn one_seal_that_does_not_open_changes_no_file_and_its_content_is_not_told() {
    let mut bench = Bench::new();
    bench.write(vec![bench.seal(CONFIG, "bot.toml", b"old")]).unwrap();
    let before = bench.store.all().unwrap();
    let mut broken = bench.seal(SECRETS, "token", b"hush");
    broken.version = Revision(8);
    let error = bench.write(vec![bench.seal(CONFIG, "bot.toml", b"new"), broken]).unwrap_err();
    assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "seal-broken"), "{error}");
    assert!(!error.to_string().contains("hush"));
    assert_eq!(bench.seen(CONFIG)["bot.toml"], b"old");
    assert_eq!(bench.store.all().unwrap(), before);
}

#[test]
fn a_set_that_was_half_written_by_a_dead_agent_is_not_taken_for_whole() {
    let mut bench = Bench::new();
    bench.write(vec![bench.seal(CONFIG, "bot.toml", b"whole")]).unwrap();
    fs::remove_file(bench.places.files_marker(bench.spec.deployment)).unwrap();
    fs::write(bench.places.files_of(bench.spec.deployment).join(FRESH), b"ha").unwrap();
    assert_eq!(bench.store.all().unwrap(), BTreeMap::new());
    bench.write(bench.spec.files.clone()).unwrap();
    assert_eq!(bench.seen(CONFIG)["bot.toml"], b"whole");
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let mut bench = Bench::new();
    for name in ["../token", "/etc/passwd", "..", ""] {
        let error = bench.write(vec![bench.seal(CONFIG, name, b"x")]).unwrap_err();
        assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "file-name"), "{error}");
    }
}

#[test]
fn a_secret_for_the_environment_is_a_text_of_the_spec() {
    let mut bench = Bench::new();
    bench.spec.secret_environment = BTreeMap::from([("TOKEN".to_owned(), "token".to_owned())]);
    bench.spec.files = vec![bench.seal(SECRETS, "token", b"hush")];
    assert_eq!(bench.store.secret_environment(&bench.spec).unwrap()["TOKEN"].as_str(), "hush");
    for files in [vec![], vec![bench.seal(SECRETS, "token", b"\xff")], vec![bench.seal(SECRETS, "token", b"a\0b")]] {
        bench.spec.files = files;
        let error = bench.store.secret_environment(&bench.spec).unwrap_err();
        assert!(matches!(&error, ExecuteError::Refused(reason) if reason.code == "secret-environment"), "{error}");
    }
}
