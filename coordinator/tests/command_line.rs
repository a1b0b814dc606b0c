//! The binary as people and systemd run it: what it makes, and how it says no. Every failure is one line on stderr that
//! names its mend, and an exit code.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use launchpad_protocol::digest::Digest;
use serde_json::Value;
use tempfile::TempDir;

/// A data directory and the binary.
struct Installation {
    dir: TempDir,
}

/// A coordinator that serves, killed when it goes out of scope.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Installation {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn new() -> (Self, Value) {
        let installation = Self::empty();
        let output = installation.run("init", &["--output", "json"]);
        assert!(output.status.success(), "{output:?}");
        let made = serde_json::from_slice(&output.stdout).unwrap();
        (installation, made)
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launchpad-coordinator"));
        command.arg(verb).arg("--data-dir").arg(self.data_dir()).args(more);
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.command(verb, more).output().unwrap()
    }

    /// Starts it, waits until it listens, and answers its HTTP address.
    fn serve(&self) -> (Serving, String) {
        let any = "127.0.0.1:0";
        let words = ["--http", any, "--fleet", any, "--enroll", any, "--log", "json"];
        let mut child = self.command("serve", &words).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = Serving(child);
        for line in lines {
            let line = line.unwrap();
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if let Some(http) = event["fields"]["http"].as_str() {
                return (serving, format!("http://{http}"));
            }
        }
        panic!("it ended before it listened");
    }

    /// Every file with its digest, the lock apart.
    fn files(&self) -> BTreeMap<PathBuf, Digest> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![self.data_dir()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    found.insert(path.clone(), Digest::of(&std::fs::read(path).unwrap()));
                }
            }
        }
        found
    }
}

/// The one line of a refusal.
fn refusal(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn get(url: &str, path: &str, token: &str) -> Value {
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let request = agent.get(format!("{url}{path}")).header("authorization", format!("Bearer {token}"));
    request.call().unwrap().body_mut().read_json().unwrap()
}

fn stop(mut serving: Serving) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(serving.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    serving.0.wait().unwrap().code()
}

#[test]
fn init_serve_and_stop_go_in_order() {
    let (installation, made) = Installation::new();
    let token = made["token"].as_str().unwrap();
    assert!(made["login"].as_str().unwrap().ends_with(token));
    assert_eq!(made["root_sha256"].as_str().unwrap().len(), 64);
    // What is to be moved, kept with backups, and kept out of them.
    for (told, file) in
        [("root_key", "ca/root.key"), ("keyring", "keyring"), ("keyring_identity", "keyring.identity")]
    {
        assert_eq!(made[told].as_str(), installation.data_dir().join(file).to_str(), "{told}");
        assert!(installation.data_dir().join(file).is_file(), "{file}");
    }
    let (serving, url) = installation.serve();
    assert_eq!(get(&url, "/healthz", "")["status"], "ok");
    assert_eq!(get(&url, "/recovery", token)["frozen"], false);
    assert_eq!(stop(serving), Some(0));
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let (installation, _) = Installation::new();
    let before = installation.files();
    let line = refusal(&installation.run("init", &["--trust-domain", "other.example"]));
    assert!(line.contains("already-initialised"), "{line}");
    assert_eq!(installation.files(), before);
}

#[test]
fn an_init_that_died_halfway_can_be_run_again() {
    let (installation, _) = Installation::new();
    // As if it had died before its commit: all files are there, and no store.
    std::fs::remove_file(installation.data_dir().join("coordinator.db")).unwrap();
    let authority = Digest::of(&std::fs::read(installation.data_dir().join("ca/root.crt")).unwrap());
    assert!(installation.run("init", &[]).status.success());
    assert_eq!(Digest::of(&std::fs::read(installation.data_dir().join("ca/root.crt")).unwrap()), authority);
    installation.serve();
}

#[test]
fn what_is_secret_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (installation, _) = Installation::new();
    for file in ["coordinator.db", "coordinator.toml", "keyring", "ca/root.key", "ca/issuing.key"] {
        let mode = std::fs::metadata(installation.data_dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
}

#[test]
fn serve_without_an_installation_asks_for_init() {
    let line = refusal(&Installation::empty().run("serve", &[]));
    assert!(line.contains("not-initialised") && line.contains("launchpad-coordinator init"), "{line}");
}

#[test]
fn a_taken_port_is_named() {
    let (installation, _) = Installation::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let any = "127.0.0.1:0";
    for (flag, words) in [
        ("--http", [address.as_str(), any, any]),
        ("--fleet", [any, address.as_str(), any]),
        ("--enroll", [any, any, address.as_str()]),
    ] {
        let words = ["--http", words[0], "--fleet", words[1], "--enroll", words[2], "--log", "json"];
        let output = installation.command("serve", &words).env("LAUNCHPAD_LOG", "off").output().unwrap();
        let line = refusal(&output);
        assert!(line.contains(&address), "{flag}: {line}");
    }
}

#[test]
fn a_log_filter_that_makes_no_sense_is_named() {
    let (installation, _) = Installation::new();
    let output = installation.command("serve", &["--http", "127.0.0.1:0"]).env("LAUNCHPAD_LOG", "a=b=c").output();
    let line = refusal(&output.unwrap());
    assert!(line.contains("LAUNCHPAD_LOG") && line.contains("a=b=c"), "{line}");
}

#[test]
fn a_directory_that_another_coordinator_uses_is_left_alone() {
    let (installation, _) = Installation::new();
    let (_serving, _) = installation.serve();
    let line = refusal(&installation.run("serve", &["--http", "127.0.0.1:0"]));
    assert!(line.contains("data-dir-in-use"), "{line}");
    let copy = installation.data_dir().join("coordinator.db");
    let line = refusal(&installation.run("restore", &["--from", copy.to_str().unwrap()]));
    assert!(line.contains("data-dir-in-use"), "{line}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let installation = Installation::empty();
    // Even root makes no directory below a file.
    std::fs::write(installation.data_dir(), "a file").unwrap();
    let line = refusal(&installation.run("init", &[]));
    assert!(line.contains(installation.data_dir().to_str().unwrap()), "{line}");
}

#[test]
fn a_corrupt_database_is_named_with_its_mend() {
    let (installation, _) = Installation::new();
    let database = installation.data_dir().join("coordinator.db");
    std::fs::write(&database, "this is no database, whatever its name says".repeat(100)).unwrap();
    let line = refusal(&installation.run("serve", &["--log", "json"]));
    assert!(line.contains("coordinator.db") && line.contains("restore"), "{line}");
}

#[test]
fn a_missing_key_is_named() {
    for file in ["keyring", "ca/issuing.key"] {
        let (installation, _) = Installation::new();
        std::fs::remove_file(installation.data_dir().join(file)).unwrap();
        let line = refusal(&installation.run("serve", &["--http", "127.0.0.1:0"]));
        assert!(line.contains(file) && line.contains("backup"), "{line}");
    }
}

#[test]
fn a_postgres_that_is_away_is_named_without_its_password() {
    let line = refusal(&Installation::empty().run("init", &["--database-url", "postgres://me:geheim@127.0.0.1:1/x"]));
    assert!(line.contains("127.0.0.1:1") && !line.contains("geheim"), "{line}");
}

#[test]
fn a_restored_store_is_another_incarnation_and_publishes_nothing() {
    let (installation, made) = Installation::new();
    let token = made["token"].as_str().unwrap();
    let copy = installation.dir.path().join("copy.db");
    std::fs::copy(installation.data_dir().join("coordinator.db"), &copy).unwrap();
    let (serving, url) = installation.serve();
    let before = get(&url, "/recovery", token);
    assert_eq!(stop(serving), Some(0));

    let output = installation.run("restore", &["--from", copy.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let (_serving, url) = installation.serve();
    let after = get(&url, "/recovery", token);
    assert_ne!(after["incarnation"], before["incarnation"]);
    assert_eq!((after["frozen"].as_bool(), after["reason"]["code"].as_str()), (Some(true), Some("restored")));
    assert!(copy.exists());
    assert!(installation.files().keys().any(|file| is_set_aside(file)), "the store before it is kept");
}

#[test]
fn what_is_no_copy_is_not_restored() {
    let (installation, _) = Installation::new();
    let garbage = installation.dir.path().join("garbage");
    std::fs::write(&garbage, "not a database ".repeat(1000)).unwrap();
    let foreign = installation.dir.path().join("empty");
    std::fs::write(&foreign, "").unwrap();
    let store = installation.data_dir().join("coordinator.db");
    let before = Digest::of(&std::fs::read(&store).unwrap());
    for from in [garbage, foreign, installation.dir.path().join("absent")] {
        let line = refusal(&installation.run("restore", &["--from", from.to_str().unwrap()]));
        assert!(line.contains(from.to_str().unwrap()) && line.contains("nothing was changed"), "{line}");
        assert_eq!(Digest::of(&std::fs::read(&store).unwrap()), before);
    }
    let line = refusal(&installation.run("restore", &[]));
    assert!(line.contains("--from"), "{line}");
    installation.serve();
}

#[test]
fn a_misused_command_line_exits_with_two() {
    let installation = Installation::empty();
    for words in [&["--http", "nowhere"][..], &["--colour"], &["--fleet", "host:name"]] {
        assert_eq!(installation.run("serve", words).status.code(), Some(2), "{words:?}");
    }
    assert_eq!(installation.run("init", &["--advertise-fleet", "no-port"]).status.code(), Some(2));
    assert_eq!(installation.run("init", &["--trust-domain", "Not A Domain"]).status.code(), Some(2));
}

#[test]
fn the_document_is_printed_without_an_installation() {
    let printed = Command::new(env!("CARGO_BIN_EXE_launchpad-coordinator")).arg("openapi").output().unwrap();
    let document: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["paths"]["/deployments"]["post"].is_object());
}

#[test]
fn systemd_hears_when_it_is_ready_that_it_works_and_that_it_ends() {
    let (installation, _) = Installation::new();
    let path = installation.dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let bytes = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("`{what}` did not come: {error}"));
            let said = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if said.lines().any(|line| line == what) {
                return said;
            }
        }
    };
    let any = "127.0.0.1:0";
    let mut command = installation.command("serve", &["--http", any, "--fleet", any, "--enroll", any]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000").stderr(Stdio::null());
    let serving = Serving(command.spawn().unwrap());
    let ready = hear("READY=1");
    let http = ready.split("STATUS=API ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert_eq!(get(&format!("http://{http}"), "/healthz", "")["status"], "ok");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    let code = stop(serving);
    hear("STOPPING=1");
    assert_eq!(code, Some(0));
}

#[test]
fn the_file_is_read_and_what_is_wrong_in_it_is_told_with_its_line() {
    let (installation, _) = Installation::new();
    let file = installation.dir.path().join("coordinator.toml");
    let serve = |text: &str| {
        std::fs::write(&file, text).unwrap();
        refusal(&installation.run("serve", &["--config", file.to_str().unwrap()]))
    };
    // Read, and taken: nobody may listen at that address.
    let line = serve("http = \"192.0.2.1:7700\"\nlog_filter = \"off\"\n");
    assert!(line.contains("192.0.2.1:7700"), "{line}");
    let line = serve("http = 7700\n");
    assert!(line.contains("line 1: `http` is a number, where a string is expected"), "{line}");
    assert!(line.contains("http = \"127.0.0.1:7700\""), "{line}");
    let line = serve("# mine\nenrol = \"0.0.0.0:1\"\n");
    assert!(line.contains("line 2") && line.contains("did you mean `enroll`?"), "{line}");
    let line = serve("trust_domain = \"example.org\"\n");
    assert!(line.contains("it is the installation's"), "{line}");
}

#[test]
fn the_keyring_opens_with_the_credential_that_systemd_hands_over() {
    let (installation, _) = Installation::new();
    let credentials = installation.dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let (here, there) = (installation.data_dir().join("keyring.identity"), credentials.join("keyring.identity"));
    let serves = || {
        let any = "127.0.0.1:0";
        let mut command = installation.command("serve", &["--http", any, "--fleet", any, "--enroll", any]);
        command.env("CREDENTIALS_DIRECTORY", &credentials).env("LAUNCHPAD_LOG", "launchpad_coordinator=info");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let _serving = Serving(child);
        lines.any(|line| line.unwrap().contains("listening"))
    };
    std::fs::write(&there, "none").unwrap();
    assert!(serves(), "with the stand-in, the identity is where `init` put it");
    std::fs::rename(&here, &there).unwrap();
    assert!(serves(), "root keeps it elsewhere");
    std::fs::remove_file(&there).unwrap();
    assert!(!serves(), "nobody has it");
}

fn is_set_aside(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("coordinator.db.before-"))
}
