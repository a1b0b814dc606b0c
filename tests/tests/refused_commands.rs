//! Commands that cannot do what they were told: one line that says what, where and how to mend it, an exit code, and
//! nothing is changed by them.

mod terminal;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_coordinator::outside::Outside;
use launchpad_coordinator::store::join_tokens::{self, JoinTokenRow};
use launchpad_coordinator::store::{Commit, Intent, Store, StoreUrl};
use launchpad_pki::token::JoinToken;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::UserId;
use launchpad_tests::coordinator::Coordinator;
use launchpad_tests::lab::{Lab, registry_address};
use launchpad_tests::netns::FABRIC_ADDRESS;
use launchpad_tests::process::Recipe;
use launchpad_tests::programs;
use launchpad_tests::wait::wait_until;
use terminal::{Line, Told};

/// A program starts and says what is wrong well within this, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Somebody who owns nothing.
const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A directory that only root may write, which a program run as nobody can be pointed at.
fn roots_own(lab: &Lab, name: &str) -> Result<PathBuf> {
    let dir = lab.dir().join(name);
    fs::create_dir_all(&dir)?;
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// A copy of the programs where nobody may run them from, whatever the mode of the build folder.
fn for_nobody(lab: &Lab, name: &str) -> Result<String> {
    let copy = lab.dir().join(name);
    fs::copy(programs::binary(name)?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(text(&copy))
}

fn coordinator(arguments: &[&str]) -> Result<Told> {
    Line::of("launchpad-coordinator")?.args(arguments).run()
}

fn agent(arguments: &[&str]) -> Result<Told> {
    Line::of("launchpad-agent")?.args(arguments).run()
}

/// `serve` on ports that are free.
fn serve(data: &Path, changes: &[(&str, &str)]) -> Result<Told> {
    let mut ports =
        vec![("--http", "198.18.0.1:7800"), ("--fleet", "198.18.0.1:7801"), ("--enroll", "198.18.0.1:7802")];
    for (flag, value) in changes {
        ports.retain(|(other, _)| other != flag);
        ports.push((flag, value));
    }
    let ports: Vec<&str> = ports.into_iter().flat_map(|(flag, value)| [flag, value]).collect();
    coordinator(&[&["serve", "--data-dir", &text(data)][..], &ports].concat())
}

#[test]
fn a_coordinator_says_what_is_wrong_with_its_place_and_leaves_it_as_it_was() -> Result<()> {
    let mut lab = Lab::enter(&[])?;
    let file = lab.dir().join("a-file");
    fs::write(&file, "not a directory")?;
    coordinator(&["init", "--data-dir", &text(&file)])?.refused(1, &[&text(&file)]);
    assert_eq!(fs::read_to_string(&file)?, "not a directory");
    let below = file.join("deeper");
    coordinator(&["init", "--data-dir", &text(&below)])?.refused(1, &[&text(&below)]);
    let closed = roots_own(&lab, "closed")?.join("data");
    let (program, closed_text) = (for_nobody(&lab, "launchpad-coordinator")?, text(&closed));
    let as_nobody = [&AS_NOBODY[1..], &[program.as_str(), "init", "--data-dir", &closed_text]].concat();
    let told = Line::program(AS_NOBODY[0]).args(as_nobody).run()?;
    told.refused(1, &[&closed_text, "ermission denied"]);
    assert!(!closed.exists());

    lab.start_coordinator()?;
    let (data, http) = (lab.coordinator()?.place().data.clone(), lab.coordinator()?.place().http.clone());
    let database = data.join("coordinator.db");
    let copy = lab.dir().join("copy.db");
    lab.coordinator()?.process().stop()?;
    fs::copy(&database, &copy)?;
    lab.coordinator()?.restart()?;

    // One at a time on a directory.
    serve(&data, &[])?.refused(1, &["data-dir-in-use", &text(&data), "stop it first"]);
    let restore = |from: &Path| coordinator(&["restore", "--data-dir", &text(&data), "--from", &text(from)]);
    restore(&copy)?.refused(1, &["data-dir-in-use", &text(&data)]);
    // One at a time on a port, each of the three.
    let other = lab.dir().join("other");
    coordinator(&["init", "--data-dir", &text(&other)])?.done()?;
    for (flag, address) in
        [("--http", http.as_str()), ("--fleet", "198.18.0.1:7701"), ("--enroll", &Coordinator::enroll_endpoint())]
    {
        serve(&other, &[(flag, address)])?.refused(1, &[address, "in use", "choose another"]);
    }
    let settings = other.join("coordinator.toml");
    let good = fs::read_to_string(&settings)?;
    fs::write(&settings, format!("{good}colour = \"blue\"\n"))?;
    serve(&other, &[])?.refused(1, &["settings-malformed", &text(&settings), "colour"]);
    fs::write(&settings, good)?;
    let keyring = other.join("keyring");
    let aside = lab.dir().join("keyring-aside");
    fs::rename(&keyring, &aside)?;
    serve(&other, &[])?.refused(1, &["keyring-unusable", "backup"]);
    fs::rename(&aside, &keyring)?;

    // A damaged store is refused by name, kept, and mended by the copy. What is no copy is refused as well.
    lab.coordinator()?.process().stop()?;
    let damaged = b"SQLite format 3\0 and then nothing that makes sense ".repeat(300);
    fs::write(&database, &damaged)?;
    serve(&data, &[])?.refused(1, &["store-unusable", &text(&database), "launchpad-coordinator restore"]);
    let absent = lab.dir().join("absent.db");
    restore(&absent)?.refused(1, &["restore-failed", &text(&absent), "nothing was changed"]);
    restore(&file)?.refused(1, &["restore-failed", &text(&file), "nothing was changed"]);
    assert_eq!(fs::read(&database)?, damaged);
    restore(&copy)?.done()?;
    lab.coordinator()?.restart()?;
    assert_eq!(lab.api()?.get("/recovery")?.success()?["reason"]["code"], "restored");
    lab.close()
}

/// A token that the coordinator knows, and that expired a second ago.
fn expired_token(lab: &mut Lab, like: &JoinToken) -> Result<String> {
    let outside = Outside::machine();
    let now = outside.clock.wall();
    let token = JoinToken::new(outside.entropy.id(now), like.root)?;
    let row = JoinTokenRow {
        id: token.id,
        secret_hash: token.secret_hash(),
        name: None,
        pool: "shared".to_owned(),
        created_by: outside.entropy.id::<UserId>(now),
        created_at: now - Duration::from_secs(1000),
        expires_at: now - Duration::from_secs(1),
        used: None,
    };
    let url = StoreUrl::parse(None, &lab.coordinator()?.place().data.join("coordinator.db"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&url, Intent::Use, now).await?;
        store.write(Commit::CreateJoinToken, async |tx| join_tokens::create(tx, &row).await).await?;
        store.close().await;
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(token.to_text())
}

#[test]
fn a_machine_that_may_not_join_is_told_why_and_nothing_of_it_is_kept() -> Result<()> {
    let mut lab = Lab::enter(&[])?;
    lab.start_coordinator()?;
    let endpoint = Coordinator::enroll_endpoint();
    let docker = lab.dir().join("no-docker.sock");
    let (dir, mut machines) = (lab.dir().to_owned(), 0);
    let mut newcomer = || {
        machines += 1;
        dir.join(format!("machine-{machines}"))
    };
    let join = |line: Line, token: &str, endpoint: &str, data: &Path| {
        let line = line.args(["enroll", "--coordinator", endpoint, "--token", token, "--name", "newcomer"]);
        line.args(["--data-dir", &text(data), "--docker", &text(&docker)]).run()
    };
    let plain = || Line::of("launchpad-agent");
    let good = lab.coordinator()?.host_token("newcomer")?;
    let known: JoinToken = good.parse()?;

    join(plain()?, "swordfish", &endpoint, &newcomer())?.refused(1, &["lpj1.", "launchpad host token create"]);
    let cut = &good[..good.len() - 1];
    join(plain()?, cut, &endpoint, &newcomer())?.refused(1, &["copy it whole"]);
    let foreign = JoinToken::new(known.id, Digest::of(b"another root"))?.to_text();
    join(plain()?, &foreign, &endpoint, &newcomer())?
        .refused(1, &["not the coordinator that was expected", &endpoint, "make a token"]);
    let guessed = JoinToken::new(known.id, known.root)?.to_text();
    join(plain()?, &guessed, &endpoint, &newcomer())?.refused(1, &["not known here", "launchpad host token create"]);
    let expired = expired_token(&mut lab, &known)?;
    join(plain()?, &expired, &endpoint, &newcomer())?.refused(1, &["expired at", "launchpad host token create"]);
    let nobody = format!("{FABRIC_ADDRESS}:7999");
    join(plain()?, &good, &nobody, &newcomer())?.refused(1, &["no answer from", &nobody, "TCP"]);
    // Far enough apart that certificates would not be in force.
    for offset in ["+1h", "-1h", "-30d"] {
        let skewed = Line::under(&["faketime", "-m", "-f", offset], "launchpad-agent")?;
        // Timers go on at their usual pace.
        let skewed = skewed.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        join(skewed, &good, &endpoint, &newcomer())?.refused(1, &["clock", "NTP"]);
    }

    // None of that used the token up; a machine without Docker joins, and is told what it will need.
    let first = newcomer();
    let joined = join(plain()?, &good, &endpoint, &first)?;
    assert!(joined.err.contains("did not answer") && joined.err.contains("systemctl start docker"), "{}", joined.err);
    assert!(joined.done()?.contains("joined as host_"));
    join(plain()?, &good, &endpoint, &newcomer())?.refused(1, &["used already", "launchpad host token create"]);
    let again = join(plain()?, "whatever", &endpoint, &first)?.done()?;
    assert!(again.contains("joined before") && again.contains("nothing was changed"), "{again}");
    let second = lab.coordinator()?.host_token("newcomer")?;
    join(plain()?, &second, &endpoint, &newcomer())?.refused(1, &["another host is called `newcomer`", "--name"]);
    assert_eq!(lab.api()?.get("/hosts")?.success()?["items"].as_array().map(Vec::len), Some(1));
    let joined = |machine: &i32| dir.join(format!("machine-{machine}/identity/identity")).is_file();
    assert_eq!((1..=machines).filter(joined).count(), 1, "an identity without a host");
    lab.close()
}

/// A Docker of 2017: it answers everything with its version, which is API 1.30.
fn old_docker(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
    // It ends with the test's process: nothing of it is left but the socket, which lies in the laboratory.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer_as_old(stream);
        }
    });
    Ok(())
}

fn answer_as_old(stream: UnixStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    // No request of a client that only asks for a version has a body.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = r#"{"Version":"17.06.2-ce","ApiVersion":"1.30","MinAPIVersion":"1.12","Os":"linux","Arch":"amd64"}"#;
    let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.30\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(&stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn an_agent_says_what_is_wrong_with_its_place_or_its_docker() -> Result<()> {
    let mut lab = Lab::enter(&[])?;
    lab.start_coordinator()?;
    let (data, run_dir, docker) = (lab.dir().join("agent"), lab.dir().join("run"), lab.dir().join("old.sock"));
    let place = [
        "--data-dir".to_owned(),
        text(&data),
        "--run-dir".to_owned(),
        text(&run_dir),
        "--docker".to_owned(),
        text(&docker),
    ];
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    agent(&[&["run"][..], &place].concat())?.refused(1, &[&text(&data), "launchpad-agent enroll"]);
    agent(&["status", "--run-dir", &text(&run_dir)])?.refused(1, &["no agent answers", "launchpad-agent run"]);
    // Docker is not even asked: nothing is changed for a host that does not know where to join.
    agent(&["enroll", "--configure-docker", "--data-dir", &text(&data), "--docker", &text(&docker)])?
        .refused(1, &["--coordinator and --token"]);

    let token = lab.coordinator()?.host_token("h1")?;
    let endpoint = Coordinator::enroll_endpoint();
    let enroll = ["enroll", "--coordinator", &endpoint, "--token", &token];
    let file = lab.dir().join("a-file");
    fs::write(&file, "")?;
    agent(&[&enroll[..], &["--data-dir", &text(&file)]].concat())?.refused(1, &[&text(&file), "--data-dir"]);
    let closed = text(&roots_own(&lab, "closed")?.join("data"));
    let program = for_nobody(&lab, "launchpad-agent")?;
    let as_nobody = [&AS_NOBODY[1..], &[&program], &enroll[..], &["--data-dir", &closed]].concat();
    Line::program(AS_NOBODY[0]).args(as_nobody).run()?.refused(1, &[&closed, "root"]);

    old_docker(&docker)?;
    let doctor = agent(&[&["doctor"][..], &place].concat())?;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    for word in ["API 1.30", "1.41", "upgrade Docker"] {
        assert!(doctor.out.contains(word), "`{word}` is not in {}", doctor.out);
    }

    // It joins and reports all the same: a host that is not seen cannot be mended.
    agent(&[&enroll[..], &["--data-dir", &text(&data), "--docker", &text(&docker)]].concat())?.done()?;
    let recipe = Recipe::new("launchpad-agent", programs::binary("launchpad-agent")?, lab.dir().join("agent.log"));
    let mut first = recipe.args([&["run"][..], &place].concat()).spawn()?;
    let api = lab.api()?;
    wait_until("the coordinator to know what the host lacks", SOON, || {
        let host = api.get("/hosts")?.success()?["items"][0].clone();
        Ok(host["capabilities"]["engine"]["reason"]["code"] == "engine-too-old")
    })?;
    agent(&[&["run"][..], &place].concat())?
        .refused(1, &[&format!("pid {}", first.pid()), &text(&data), "--data-dir"]);
    agent(&[&enroll[..], &["--replace", "--data-dir", &text(&data)]].concat())?
        .refused(1, &[&format!("pid {}", first.pid())]);
    assert!(first.is_running()?, "the first goes on");
    assert_eq!(first.stop()?.code(), Some(0));
    lab.close()
}

#[test]
fn the_command_of_customers_says_whom_it_could_not_reach_or_satisfy() -> Result<()> {
    let mut lab = Lab::enter(&[])?;
    lab.start_coordinator()?;
    let (api, token) = (lab.api()?, lab.coordinator()?.token().to_owned());
    let bare = |arguments: &[&str]| Line::of("launchpad")?.args(arguments).run();
    let known = |arguments: &[&str]| Line::launchpad(&api, &token)?.args(arguments).run();

    bare(&["ps"])?.refused(2, &["not-logged-in", "launchpad login"]);
    let nobody = format!("http://{FABRIC_ADDRESS}:7999");
    let unreachable = bare(&["ps", "--url", &nobody, "--token", &token])?;
    unreachable.refused(3, &["unreachable", &nobody, "bots run on"]);
    let registry = format!("http://{}", registry_address());
    bare(&["ps", "--url", &registry, "--token", &token])?.refused(3, &["not-a-coordinator", "URL"]);
    bare(&["ps", "--url", api.base(), "--token", "lp_made_up"])?.refused(1, &["token"]);
    bare(&["ps", "--url", "coordinator", "--token", &token])?.refused(2, &["not-a-url", "`coordinator`"]);
    for verb in ["status", "logs", "restart", "rm"] {
        known(&[verb, "ghost"])?.refused(1, &["no-such-deployment", "`ghost`"]);
    }
    known(&["hosts", "inspect", "ghost"])?.refused(1, &["no-such-host", "`ghost`", "launchpad hosts"]);
    let absent = text(&lab.dir().join("absent.conf"));
    let deploy = ["deploy", "bot", "--profile", "echo", "--image", "r/echo"];
    known(&[&deploy[..], &["--config", &absent]].concat())?.refused(2, &["file-unreadable", &absent]);
    let secret = known(&[&deploy[..], &["--secret", "hunter2"]].concat())?;
    secret.refused(2, &["malformed-secret", "NAME=@FILE"]);
    assert!(!secret.err.contains("hunter2"));
    let usage = known(&["deploy"])?;
    assert!(usage.code == Some(2) && usage.err.contains("Usage:") && !usage.err.contains("panicked"), "{usage:?}");

    // A login that others can read is not used; the same file, closed, is.
    let login = lab.dir().join("login.toml");
    let with_login =
        |arguments: &[&str]| Line::of("launchpad")?.env("LAUNCHPAD_CONFIG", &login).args(arguments).run();
    with_login(&["login", api.base(), "--token", &token])?.done()?;
    with_login(&["ps"])?.done()?;
    fs::set_permissions(&login, fs::Permissions::from_mode(0o644))?;
    with_login(&["ps"])?.refused(2, &["login-exposed", &text(&login), "chmod 600"]);
    fs::set_permissions(&login, fs::Permissions::from_mode(0o600))?;

    // For programs the same as JSON, with the same code.
    let told = bare(&["--output", "json", "ps"])?;
    let error: serde_json::Value = serde_json::from_str(&told.err)?;
    assert_eq!((told.code, &error["error"]["code"]), (Some(2), &serde_json::json!("not-logged-in")));
    lab.coordinator()?.kill()?;
    with_login(&["ps"])?.refused(3, &["unreachable"]);
    lab.close()
}
