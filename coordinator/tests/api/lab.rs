//! A coordinator in this process, with an account, somebody of every role in it, and a stranger of another account.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use launchpad_coordinator::app::init::init;
use launchpad_coordinator::app::sign_in::ApiToken;
use launchpad_coordinator::config::{Arguments, Command, Config};
use launchpad_coordinator::domain::actor::Role;
use launchpad_coordinator::domain::audit::first_break;
use launchpad_coordinator::domain::host::HostState;
use launchpad_coordinator::outside::{Addresses, Outside};
use launchpad_coordinator::store::accounts::{Account, User};
use launchpad_coordinator::store::api_tokens::ApiTokenRow;
use launchpad_coordinator::store::hosts::Seen;
use launchpad_coordinator::store::{
    Commit, Intent, Store, StoreError, StoreUrl, Tx, accounts, api_tokens, audit, hosts,
};
use launchpad_pki::sealing::SealingKey;
use launchpad_protocol::capability;
use launchpad_protocol::id::{AccountId, HostId, TypedId};
use launchpad_protocol::report::Capacity;
use launchpad_protocol::time::{Clock, Moment};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use super::name_server::NameServer;

/// An image reference that nothing ever pulls.
pub(crate) const IMAGE: &str =
    "registry.example/echo@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// For what a job does at once, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Below which its bots have public names.
const DOMAIN: &str = "bots.example.com";

/// Somebody who calls the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Nobody: no token.
    Anonymous,
    /// The owner of another account.
    Stranger,
    Viewer,
    Member,
    Owner,
    OnCall,
    Operator,
}

impl Who {
    pub(crate) const ALL: [Self; 7] =
        [Self::Anonymous, Self::Stranger, Self::Viewer, Self::Member, Self::Owner, Self::OnCall, Self::Operator];
}

/// A running coordinator.
pub(crate) struct Lab {
    pub(crate) account: AccountId,
    pub(crate) host: HostId,
    /// Whom it asks for names.
    pub(crate) names: NameServer,
    tokens: BTreeMap<Who, String>,
    addresses: Addresses,
    agent: Agent,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
    dir: TempDir,
}

/// An answer: its status, headers and body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) challenge: Option<String>,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A problem's code.
    pub(crate) fn code(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.strip_prefix("urn:launchpad:").unwrap_or_default().to_owned()
    }
}

impl Lab {
    /// Initialises a data directory, fills it with people, and starts a coordinator on it.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let outside = Outside::machine();
        let mut people = runtime.block_on(people(&dir, &outside));
        let names = NameServer::start();
        let config = Config::of(serve_arguments(&dir, &names)).unwrap();
        let stop = CancellationToken::new();
        let mut listening = outside.listening.subscribe();
        let running = {
            let stop = stop.clone();
            thread::spawn(move || {
                runtime.block_on(launchpad_coordinator::run(config, outside, stop)).unwrap();
            })
        };
        let waiting = Runtime::new().unwrap();
        let addresses = waiting.block_on(async { listening.wait_for(Option::is_some).await.map(|bound| *bound) });
        let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        people.tokens.insert(Who::Anonymous, String::new());
        Self {
            account: people.account,
            host: people.host,
            names,
            tokens: people.tokens,
            addresses: addresses.unwrap().unwrap(),
            agent,
            stop,
            running: Some(running),
            dir,
        }
    }

    /// Sends a request; the body's absence sends none.
    pub(crate) fn send(&self, who: Who, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send_with(who, method, path, body, &[])
    }

    /// Sends a request with more headers.
    pub(crate) fn send_with(
        &self,
        who: Who,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let url = format!("http://{}{path}", self.addresses.http);
        let mut request = Request::builder().method(method).uri(url);
        let token = &self.tokens[&who];
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = self.agent.configure_request(request.body(bytes).unwrap()).allow_non_standard_methods(true);
        answer(self.agent.run(request.build()).unwrap())
    }

    /// The first words of the answer to a body that goes on after the server has heard enough: it answers and hangs up, so
    /// that whoever still sends meets a broken pipe.
    pub(crate) fn send_too_much(&self, who: Who, path: &str, bytes: usize) -> String {
        let mut answers = TcpStream::connect(self.addresses.http).unwrap();
        let mut sends = answers.try_clone().unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: lab\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {bytes}\r\n\r\n",
            self.tokens[&who]
        );
        thread::scope(|scope| {
            scope.spawn(move || sends.write_all(head.as_bytes()).and_then(|()| sends.write_all(&vec![b'x'; bytes])));
            let mut text = vec![0; 4096];
            let length = answers.read(&mut text).unwrap();
            String::from_utf8_lossy(&text[..length]).into_owned()
        })
    }

    /// What the audit log says was done, oldest first: action, target, and whether beyond the actor's own account.
    pub(crate) fn audit(&self) -> Vec<(String, String, bool)> {
        let url = StoreUrl::Sqlite(self.dir.path().join("coordinator.db"));
        let read = async {
            let store = Store::open(&url, Intent::Use, Moment::default()).await.unwrap();
            let entries = store.read::<_, StoreError>(async |tx| audit::all(tx).await).await.unwrap();
            store.close().await;
            entries
        };
        let entries = Runtime::new().unwrap().block_on(read);
        assert_eq!(first_break(entries.iter().map(|(entry, hash)| (entry, *hash))), None);
        entries.into_iter().map(|(entry, _)| (entry.action, entry.target, entry.cross_account)).collect()
    }

    /// The host is active, and that large; as an agent would have it known.
    pub(crate) fn host_reports(&self, capacity: Capacity) {
        let url = StoreUrl::Sqlite(self.dir.path().join("coordinator.db"));
        let capabilities = capability::complete();
        let report = async {
            let store = Store::open(&url, Intent::Use, Moment::default()).await.unwrap();
            let seen = Seen { state: HostState::Active, capacity, capabilities: &capabilities };
            let now = Clock::machine().wall();
            let keep = async |tx: &mut Tx| hosts::seen(tx, self.host, seen, now).await;
            store.write::<_, StoreError>(Commit::StoreReport, keep).await.unwrap();
            store.close().await;
        };
        Runtime::new().unwrap().block_on(report);
    }

    /// What a path shows to an operator once `holds`.
    #[allow(clippy::disallowed_methods, reason = "how long a person who runs the test waits, in no simulation")]
    pub(crate) fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let shown = self.send(Who::Operator, "GET", path, None).json();
            if holds(&shown) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{path} still shows {shown}");
            thread::sleep(POLL);
        }
    }

    /// Asks for a bot of that name.
    pub(crate) fn deploy(&self, who: Who, name: &str) -> Value {
        let answer = self.send(who, "POST", "/deployments", Some(&wish(name)));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.running.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the coordinator did not stop in order");
        }
    }
}

/// A valid wish for a bot.
pub(crate) fn wish(name: &str) -> Value {
    serde_json::json!({ "name": name, "profile": "echo", "plan": "starter", "image": IMAGE })
}

fn answer(mut response: Response<Body>) -> Answer {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        kind: header("content-type").unwrap_or_default(),
        challenge: header("www-authenticate"),
        text: response.body_mut().read_to_string().unwrap(),
    }
}

struct People {
    account: AccountId,
    host: HostId,
    tokens: BTreeMap<Who, String>,
}

async fn people(dir: &TempDir, outside: &Outside) -> People {
    let data_dir = dir.path().to_str().unwrap();
    let Command::Init(arguments) = parse(&["init", "--data-dir", data_dir]) else { panic!("not init") };
    let installation = init(&arguments, outside).await.unwrap();
    let url = StoreUrl::Sqlite(dir.path().join("coordinator.db"));
    let store = Store::open(&url, Intent::Use, outside.clock.wall()).await.unwrap();
    let (account, stranger_account, host) = (id(outside), id::<AccountId>(outside), id(outside));
    let mut tokens = BTreeMap::from([(Who::Operator, installation.token.to_string())]);
    let fill = async |tx: &mut Tx| {
        let now = outside.clock.wall();
        for (name, id) in [("ours", account), ("theirs", stranger_account)] {
            accounts::create(tx, &Account { id, name: name.to_owned(), created_at: now }).await?;
        }
        for (who, role, account) in [
            (Who::Stranger, Role::Owner, Some(stranger_account)),
            (Who::Viewer, Role::Viewer, Some(account)),
            (Who::Member, Role::Member, Some(account)),
            (Who::Owner, Role::Owner, Some(account)),
            (Who::OnCall, Role::OnCall, None),
        ] {
            tokens.insert(who, person(tx, outside, role, account).await?);
        }
        let key = SealingKey::generate().unwrap();
        hosts::create(tx, &hosts::newcomer(host, "web-1".to_owned(), "empty".to_owned(), &key.public(), now)).await
    };
    store.write::<_, StoreError>(Commit::Initialise, fill).await.unwrap();
    store.close().await;
    People { account, host, tokens }
}

async fn person(
    tx: &mut Tx,
    outside: &Outside,
    role: Role,
    account: Option<AccountId>,
) -> Result<String, StoreError> {
    let now = outside.clock.wall();
    let user = User {
        id: id(outside),
        email: format!("{role}-{}@example", id::<HostId>(outside)),
        staff: role.is_staff().then_some(role),
        created_at: now,
    };
    accounts::create_user(tx, &user).await?;
    if let Some(account) = account {
        accounts::join(tx, account, user.id, role).await?;
    }
    let token = ApiToken::new(id(outside)).unwrap();
    let row = ApiTokenRow {
        id: token.id,
        user: user.id,
        account,
        role,
        name: "test".to_owned(),
        secret_hash: token.secret_hash(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    api_tokens::create(tx, &row).await?;
    Ok(token.to_text().to_string())
}

fn id<I: TypedId>(outside: &Outside) -> I {
    outside.entropy.id(outside.clock.wall())
}

fn parse(words: &[&str]) -> Command {
    use clap::Parser as _;
    Arguments::parse_from(["launchpad-coordinator"].iter().chain(words)).command
}

fn serve_arguments(dir: &TempDir, names: &NameServer) -> launchpad_coordinator::config::ServeArguments {
    let data_dir = dir.path().to_str().unwrap();
    let any = "127.0.0.1:0";
    let profiles = dir.path().join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    std::fs::write(profiles.join("strict.toml"), strict_profile()).unwrap();
    let profiles = profiles.to_str().unwrap();
    let resolver = names.address.to_string();
    let words = ["serve", "--data-dir", data_dir, "--http", any, "--fleet", any, "--enroll", any];
    let words = [&words[..], &["--profiles", profiles, "--ingress-domain", DOMAIN, "--resolver", &resolver]].concat();
    let Command::Serve(arguments) = parse(&words) else { panic!("not serve") };
    arguments
}

/// The echo profile with a config that has to be JSON.
fn strict_profile() -> String {
    let echo = include_str!("../../../profiles/echo.toml");
    let (head, tail) = echo.split_once("default = \"\"\"").unwrap();
    let (_, tail) = tail.split_once("\"\"\"").unwrap();
    format!("{head}default = \"{{}}\"{tail}")
        .replace("name = \"echo\"", "name = \"strict\"")
        .replace("format = \"text\"", "format = \"json\"")
}
