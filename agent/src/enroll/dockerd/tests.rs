//! What becomes of dockerd's file, against a dockerd that reads it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::execute::facts::tests::capable;

/// A dockerd that does what its file says when it is restarted.
struct Bench {
    dir: tempfile::TempDir,
    facts: Mutex<EngineFacts>,
    containers: AtomicUsize,
    restarts: AtomicUsize,
    users: Mutex<Vec<String>>,
    /// It refuses live-restore, as in swarm mode.
    is_swarm: bool,
}

impl Bench {
    fn new(daemon_json: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Self {
            dir,
            facts: Mutex::new(EngineFacts { live_restore: false, remapped: None, ..capable() }),
            containers: AtomicUsize::new(0),
            restarts: AtomicUsize::new(0),
            users: Mutex::default(),
            is_swarm: false,
        };
        if let Some(text) = daemon_json {
            fs::create_dir(bench.dir.path().join("docker")).unwrap();
            fs::write(bench.places().daemon_json, text).unwrap();
        }
        bench
    }

    fn places(&self) -> Places {
        let at = |name: &str| self.dir.path().join(name);
        Places { daemon_json: at("docker/daemon.json"), subuid: at("subuid"), subgid: at("subgid") }
    }

    fn daemon_json(&self) -> Option<Value> {
        read(&self.places().daemon_json).unwrap().map(|text| serde_json::from_str(&text).unwrap())
    }

    /// Every file, with what is in it.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for dir in [self.dir.path().to_owned(), self.dir.path().join("docker")] {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                found.extend(fs::read_to_string(&path).ok().map(|text| (path, text)));
            }
        }
        found.sort();
        found
    }

    async fn configure(&self) -> Result<Configured, Reason> {
        configure(&self.places(), self).await
    }
}

#[async_trait]
impl Dockerd for Bench {
    async fn facts(&self) -> Result<EngineFacts, Reason> {
        Ok(self.facts.lock().unwrap().clone())
    }

    async fn containers(&self) -> Result<usize, Reason> {
        Ok(self.containers.load(Ordering::SeqCst))
    }

    async fn add_user(&self, name: &str) -> Result<(), Reason> {
        self.users.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    async fn restart(&self) -> Result<(), Reason> {
        self.restarts.fetch_add(1, Ordering::SeqCst);
        let file = self.daemon_json().unwrap_or_default();
        if self.is_swarm && file["live-restore"] == true {
            return Err(Reason::new("dead", "docker.service failed"));
        }
        let mut facts = self.facts.lock().unwrap();
        facts.live_restore |= file["live-restore"] == true;
        if file["userns-remap"].is_string() {
            facts.remapped = Some((100_000, 100_000));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_fresh_docker_is_configured_and_done_again_nothing_changes() {
    let bench = Bench::new(None);
    assert_eq!(bench.configure().await, Ok(Configured::Changed { before: None }));
    assert_eq!(bench.daemon_json(), Some(serde_json::json!({"live-restore": true, "userns-remap": "default"})));
    assert_eq!(read(&bench.places().subuid).unwrap().as_deref(), Some("dockremap:100000:65536\n"));
    assert_eq!(*bench.users.lock().unwrap(), ["dockremap"]);
    let files = bench.files();
    // By now there are bots.
    bench.containers.store(3, Ordering::SeqCst);
    assert_eq!(bench.configure().await, Ok(Configured::AsItWas));
    assert_eq!((bench.files(), bench.restarts.load(Ordering::SeqCst)), (files, 1));
}

#[tokio::test]
async fn what_docker_was_told_before_stays_and_is_kept() {
    let old = r#"{"log-driver": "journald", "userns-remap": "bots", "live-restore": false}"#;
    let bench = Bench::new(Some(old));
    let Ok(Configured::Changed { before: Some(before) }) = bench.configure().await else { panic!("it had a file") };
    assert_eq!(fs::read_to_string(before).unwrap(), old);
    let settings = serde_json::json!({"log-driver": "journald", "userns-remap": "bots", "live-restore": true});
    assert_eq!(bench.daemon_json(), Some(settings));
}

#[tokio::test]
async fn what_dockers_command_line_says_is_not_said_twice() {
    let bench = Bench::new(None);
    bench.facts.lock().unwrap().live_restore = true;
    bench.configure().await.unwrap();
    assert_eq!(bench.daemon_json(), Some(serde_json::json!({"userns-remap": "default"})));
}

#[tokio::test]
async fn while_any_container_is_there_nothing_is_touched() {
    let bench = Bench::new(Some("{}"));
    bench.containers.store(1, Ordering::SeqCst);
    let files = bench.files();
    let refused = bench.configure().await.unwrap_err();
    assert!(refused.to_string().contains("docker ps --all"), "{refused}");
    assert_eq!((bench.files(), bench.restarts.load(Ordering::SeqCst)), (files, 0));
}

#[tokio::test]
async fn a_docker_that_does_not_start_with_it_gets_its_old_file_back() {
    for old in [None, Some(r#"{"debug": true}"#)] {
        let bench = Bench { is_swarm: true, ..Bench::new(old) };
        let refused = bench.configure().await.unwrap_err();
        assert!(refused.to_string().contains("swarm"), "{refused}");
        let expected: Option<Value> = old.map(|old| serde_json::from_str(old).unwrap());
        assert_eq!((bench.daemon_json(), bench.restarts.load(Ordering::SeqCst)), (expected, 2));
    }
}

#[tokio::test]
async fn a_file_that_is_no_json_is_left_alone() {
    let bench = Bench::new(Some("{\"debug\": true,}"));
    let files = bench.files();
    let refused = bench.configure().await.unwrap_err();
    assert!(refused.to_string().contains("daemon.json"), "{refused}");
    assert_eq!(bench.files(), files);
}

#[test]
fn ids_are_given_behind_everybody_elses() {
    assert_eq!(with_ids("").as_deref(), Some("dockremap:100000:65536\n"));
    let two = "me:100000:65536\nyou:165536:65536";
    assert_eq!(with_ids(two), Some(format!("{two}\ndockremap:231072:65536\n")));
    assert_eq!(with_ids("dockremap:5:5\n"), None);
    // Another tool's range at the end of all ids is no reason to give ids that do not exist.
    let last = "odd:4294901760:65536\n";
    assert_eq!(with_ids(last), Some(format!("{last}dockremap:100000:65536\n")));
    assert_eq!(with_ids("garbage\nme:x:y\n").as_deref(), Some("garbage\nme:x:y\ndockremap:100000:65536\n"));
}
