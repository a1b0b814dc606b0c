//! The coordinator's HTTP API, as the verbs call it.
//!
//! A refusal comes back as its own reason, an unreachable coordinator as one that names the URL. A POST carries an
//! idempotency key, so that it may be sent again when its answer was lost: it takes effect once. A PUT needs none.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::OperationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::answers::{LogPiece, Page};
use crate::failure::Failure;
use crate::login::Login;
use crate::progress;

/// To a TCP and TLS connection.
const CONNECT: Duration = Duration::from_secs(5);
/// To a full answer: longer than the coordinator itself allows one (30 s).
const ANSWER: Duration = Duration::from_secs(35);
/// Between two pieces of a followed log: the coordinator sends an empty line at least every 15 s.
const LOG_SILENCE: Duration = Duration::from_secs(45);
/// How often a request is sent when its answers get lost.
const TRIES: u32 = 3;
/// Pause before it is sent again.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Bytes of an answer: a page of 200 deployments is below a megabyte.
const ANSWER_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Items to a page.
const PAGE_ITEMS: &str = "200";
/// Where Linux distributions keep the certificates that they trust; `SSL_CERT_FILE` wins.
const TRUST_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A connection to one coordinator, as one user.
pub(crate) struct Client {
    agent: Agent,
    login: Login,
    account: Option<String>,
}

/// A refusal as it travels (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    #[serde(default)]
    cause: Option<String>,
    #[serde(default)]
    mend: Option<String>,
    #[serde(default)]
    errors: Vec<FieldProblem>,
}

/// One bad field.
#[derive(Deserialize)]
struct FieldProblem {
    field: String,
    problem: String,
    mend: String,
}

impl Client {
    /// A client of that login, acting for that account if one is named.
    pub(crate) fn new(login: Login, account: Option<String>) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("launchpad/", env!("CARGO_PKG_VERSION")));
        if login.url.starts_with("https://") {
            config = config.tls_config(tls());
        }
        if is_local(&login.url) {
            // A proxy would look for the coordinator on its own machine.
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), login, account }
    }

    /// Reads something.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(&Method::GET, path, &[], None)
    }

    /// Reads all pages of a list.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit", PAGE_ITEMS)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page = read(&self.answer(&Method::GET, path, &query, None)?)?;
            items.extend(page.items);
            match page.next {
                // A cursor that does not move would go round for ever.
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// Does something once, however often it has to be sent.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let key: OperationId = Entropy::system().id(Clock::machine().wall());
        let key = key.to_string();
        again_if_lost(|| self.answer(&Method::POST, path, &[], Some((Some(&key), body))))
    }

    /// Makes something what the body says, which is the same however often it is sent.
    pub(crate) fn put(&self, path: &str, query: &[(&str, &str)], body: &Value) -> Result<Value, Failure> {
        again_if_lost(|| self.answer(&Method::PUT, path, query, Some((None, body))))
    }

    /// Removes something.
    pub(crate) fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.answer(&Method::DELETE, path, query, None)
    }

    /// Reads a log, piece by piece as it comes.
    pub(crate) fn log(
        &self,
        path: &str,
        query: &[(&str, &str)],
        each: &mut dyn FnMut(LogPiece) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = self.request(&Method::GET, path, query)?;
        let request = request.header("accept", "application/x-ndjson").body(()).map_err(|error| self.lost(&error))?;
        let request = self.agent.configure_request(request).timeout_per_read(Some(LOG_SILENCE)).build();
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(refusal(&mut response));
        }
        let lines = BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader()).lines();
        for line in lines {
            let line = line.map_err(|error| self.lost(&error))?;
            // An empty line only shows that the coordinator is still there.
            if !line.is_empty() {
                let piece: Value = serde_json::from_str(&line).map_err(|error| unexpected(&error))?;
                each(read(&piece)?)?;
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<(Option<&str>, &Value)>,
    ) -> Result<Value, Failure> {
        let request = self.request(method, path, query)?.header("accept", "application/json");
        let _waiting = progress::Waiting::on(format!("waiting for {}", self.login.url));
        let run = |request| {
            let configured = self.agent.configure_request(request).timeout_global(Some(ANSWER)).build();
            self.agent.run(configured)
        };
        let sent = match body {
            None => run(request.body(Vec::new()).map_err(|error| self.lost(&error))?),
            Some((key, body)) => {
                let request = match key {
                    Some(key) => request.header("idempotency-key", key),
                    None => request,
                };
                let request = request.header("content-type", "application/json");
                run(request.body(body.to_string().into_bytes()).map_err(|error| self.lost(&error))?)
            }
        };
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(refusal(&mut response));
        }
        let text = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_string();
        let text = text.map_err(|error| self.lost(&error))?;
        if text.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_str(&text).map_err(|error| unexpected(&error))
        }
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<ureq::http::request::Builder, Failure> {
        let mut url = format!("{}{path}", self.login.url);
        let account = self.account.as_deref().map(|account| ("account", account));
        for (at, (name, value)) in query.iter().copied().chain(account).enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={}", encoded(value)));
        }
        let bearer = ureq::http::HeaderValue::try_from(format!("Bearer {}", self.login.token)).map_err(|_| {
            let reason = Reason::new("malformed-token", "the API token holds characters that no token has");
            Failure::usage(reason.mend("run `launchpad login URL --token TOKEN` with the token as it was printed"))
        })?;
        Ok(Request::builder().method(method.clone()).uri(url).header("authorization", bearer))
    }

    /// No connection: nothing has been asked.
    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let refused = |io: &std::io::Error| {
            use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
            matches!(io.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
        };
        let never_sent = matches!(
            error,
            ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::BadUri(_)
                | ureq::Error::Tls(_)
                | ureq::Error::Rustls(_)
                | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
        ) || matches!(error, ureq::Error::Io(io) if refused(io));
        if !never_sent {
            return self.lost(error);
        }
        let reason = Reason::new("unreachable", format!("no coordinator answers at {}", self.login.url));
        Failure::unreachable(reason.because(error.to_string()).mend(format!("{MEND}; bots run on without it")))
    }

    /// It was asked, and its answer did not arrive.
    fn lost(&self, error: &dyn std::fmt::Display) -> Failure {
        let reason = Reason::new("answer-lost", format!("the answer of {} did not arrive", self.login.url));
        Failure::unreachable(reason.because(error.to_string()).mend(MEND))
    }
}

/// What mends most silence.
const MEND: &str = "check that the coordinator runs, and the URL that `launchpad login` was given";

/// Sends a request that may be repeated until its answer arrives.
fn again_if_lost(send: impl Fn() -> Result<Value, Failure>) -> Result<Value, Failure> {
    let mut tries = 1;
    loop {
        match send() {
            Err(failure) if failure.reason.code == "answer-lost" && tries < TRIES => {
                tries += 1;
                std::thread::sleep(TRY_AGAIN);
            }
            answer => return answer,
        }
    }
}

/// Reads a value of the wanted shape.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| unexpected(&error))
}

/// A path of the API: every part may hold any character.
pub(crate) fn path(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", encoded(part))).collect()
}

fn refusal(response: &mut Response<Body>) -> Failure {
    let status = response.status();
    let text = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_string().unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => {
            let code = problem.kind.rsplit(':').next().unwrap_or("refused").to_owned();
            let reason = Reason { code, sentence: problem.detail, cause: problem.cause, mend: problem.mend };
            let fields =
                problem.errors.into_iter().map(|field| Reason::new(&field.field, field.problem).mend(field.mend));
            Failure { fields: fields.collect(), ..Failure::refused(reason) }
        }
        Err(_) => {
            let reason =
                Reason::new("not-a-coordinator", format!("the answer was {status}, and not a coordinator's"));
            Failure::unreachable(reason.mend("check the URL: something else listens there, or a proxy is in between"))
        }
    }
}

fn unexpected(error: &dyn std::fmt::Display) -> Failure {
    let reason = Reason::new("unexpected-answer", "the coordinator's answer is not what this command expects");
    Failure::refused(reason.because(error.to_string()).mend("use a `launchpad` of the coordinator's version"))
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn is_local(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or(url);
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}

/// The certificates that this machine trusts, and the provider that the rest of the fleet uses.
fn tls() -> TlsConfig {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let files = named.iter().map(String::as_str).chain(TRUST_FILES);
    let pem = files.into_iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates.collect())))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_whatever_a_person_types_in_its_part() {
        assert_eq!(path(&["deployments", "a/../b c?x=1"]), "/deployments/a%2F..%2Fb%20c%3Fx%3D1");
    }

    #[test]
    fn nobody_listening_is_unreachable() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let login = Login { url: format!("http://{closed}"), token: "lp_1_2".to_owned() };
        let failure = Client::new(login, None).get("/healthz").unwrap_err();
        assert_eq!(failure.reason.code, "unreachable", "{failure:?}");
        assert_eq!(failure.kind, crate::failure::Kind::Unreachable);
    }
}
