//! The bot's state and every path that it answers.
//!
//! Called by `http` for each request. Probes are GET and change nothing; orders are POST and last until the next
//! order or the end of the process.
//!
//! | path | effect |
//! |---|---|
//! | `GET /healthz` `/startupz` `/readyz` | probes: 200 `{"ok":true}`, readiness 503 when told so |
//! | `GET /` | the config's label |
//! | `GET /secret?name=token` | SHA-256 of that secret file, never its bytes |
//! | `GET /whoami` | user id, and which places can be written to |
//! | `POST /crash?code=N` | exit at once |
//! | `POST /hang`, `/resume` | leave probes without an answer; answer again |
//! | `POST /unready`, `/ready` | fail the readiness probe; pass it |
//! | `POST /eat?mb=N` | touch and keep that much memory |
//! | `POST /log?lines=N&bytes=B` | print N numbered lines of at least B bytes |

use std::path::Component;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, process, thread, time::Duration};

use crate::config::{Config, Surroundings};
use crate::http::{Request, Response};
use crate::{sha256, whoami};

/// How long a hung probe is held: longer than any prober waits, short enough that threads do not pile up.
const HANG: Duration = Duration::from_secs(60);
/// Of one `/log` order: a few seconds of output at most.
const LOG_LIMIT_BYTES: usize = 64 * 1024 * 1024;
const BYTES_PER_MB: usize = 1024 * 1024;

/// Memory that was touched, so that the kernel counts it, and is kept.
#[derive(Debug, Default)]
pub(crate) struct Ballast(Vec<Vec<u8>>);

impl Ballast {
    /// Grow by `megabytes`, each page written to.
    pub(crate) fn eat(&mut self, megabytes: u32) {
        for _ in 0..megabytes {
            self.0.push(vec![1; BYTES_PER_MB]);
        }
    }
}

/// The running bot.
#[derive(Debug)]
pub(crate) struct Bot {
    config: Config,
    surroundings: Surroundings,
    hung: AtomicBool,
    unready: AtomicBool,
    ballast: Mutex<Ballast>,
}

impl Bot {
    /// A bot that behaves, apart from what its config ordered at start.
    pub(crate) fn new(config: Config, surroundings: Surroundings, ballast: Ballast) -> Self {
        Self {
            config,
            surroundings,
            hung: AtomicBool::new(false),
            unready: AtomicBool::new(false),
            ballast: Mutex::new(ballast),
        }
    }

    /// Do what the request orders and say how it went.
    pub(crate) fn respond(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/healthz" | "/startupz") => self.probe(true),
            ("GET", "/readyz") => self.probe(!self.unready.load(Ordering::Relaxed)),
            ("GET", "/") => ok(format!("{{\"label\":\"{}\"}}", self.config.label)),
            ("GET", "/secret") => self.secret(request.query("name").unwrap_or("token")),
            ("GET", "/whoami") => ok(whoami::report(&self.surroundings.state)),
            ("POST", "/crash") => {
                println!("echo: told to crash");
                process::exit(request.query("code").and_then(|code| code.parse().ok()).unwrap_or(1));
            }
            ("POST", "/hang") => flag(&self.hung, true),
            ("POST", "/resume") => flag(&self.hung, false),
            ("POST", "/unready") => flag(&self.unready, true),
            ("POST", "/ready") => flag(&self.unready, false),
            ("POST", "/eat") => match number(request, "mb") {
                Some(megabytes) => {
                    self.ballast.lock().unwrap_or_else(PoisonError::into_inner).eat(megabytes);
                    ok("{\"ok\":true}".into())
                }
                None => bad("mb"),
            },
            ("POST", "/log") => match (number(request, "lines"), number(request, "bytes").or(Some(0))) {
                (Some(lines), Some(bytes)) => log(lines as usize, bytes as usize),
                _ => bad("lines"),
            },
            _ => Response { status: 404, body: "{\"error\":\"no such path\"}".into() },
        }
    }

    fn probe(&self, passes: bool) -> Response {
        if self.hung.load(Ordering::Relaxed) {
            thread::sleep(HANG);
        }
        Response { status: if passes { 200 } else { 503 }, body: format!("{{\"ok\":{passes}}}") }
    }

    /// Proves that a secret arrived, without telling it.
    fn secret(&self, name: &str) -> Response {
        let path = self.surroundings.secrets.join(name);
        // One plain file name: no way out of the folder.
        if !matches!(std::path::Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
            return bad("name");
        }
        match fs::read(&path) {
            Ok(bytes) => ok(format!("{{\"name\":\"{name}\",\"sha256\":\"{}\"}}", sha256::hex(&bytes))),
            Err(error) => Response { status: 404, body: format!("{{\"error\":\"{name}: {}\"}}", error.kind()) },
        }
    }
}

fn log(lines: usize, bytes: usize) -> Response {
    if lines.saturating_mul(bytes) > LOG_LIMIT_BYTES {
        return bad("lines");
    }
    for number in 0..lines {
        println!("{:x<bytes$}", format!("echo: line {number} "));
    }
    ok("{\"ok\":true}".into())
}

fn number(request: &Request, name: &str) -> Option<u32> {
    request.query(name)?.parse().ok()
}

fn flag(which: &AtomicBool, value: bool) -> Response {
    which.store(value, Ordering::Relaxed);
    ok("{\"ok\":true}".into())
}

fn ok(body: String) -> Response {
    Response { status: 200, body }
}

fn bad(parameter: &str) -> Response {
    Response { status: 400, body: format!("{{\"error\":\"bad or missing parameter {parameter}\"}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot(secrets: &std::path::Path) -> Bot {
        let surroundings = Surroundings { secrets: secrets.into(), ..Surroundings::from_env() };
        Bot::new(Config::default(), surroundings, Ballast::default())
    }

    fn ask(bot: &Bot, method: &str, path: &str, query: &str) -> Response {
        bot.respond(&Request::new(method, path, query))
    }

    #[test]
    fn readiness_follows_orders_and_liveness_does_not() {
        let bot = bot("/nowhere".as_ref());
        assert_eq!(ask(&bot, "GET", "/readyz", "").status, 200);
        ask(&bot, "POST", "/unready", "");
        assert_eq!(ask(&bot, "GET", "/readyz", "").status, 503);
        assert_eq!(ask(&bot, "GET", "/healthz", "").status, 200);
        ask(&bot, "POST", "/ready", "");
        assert_eq!(ask(&bot, "GET", "/readyz", "").body, "{\"ok\":true}");
    }

    #[test]
    fn a_secret_is_told_only_as_its_hash() {
        let folder = std::env::temp_dir().join(format!("echo-secret-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), "abc").unwrap();
        let told = ask(&bot(&folder), "GET", "/secret", "name=token").body;
        fs::remove_dir_all(&folder).unwrap();
        assert!(told.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "{told}");
        assert!(!told.contains("abc"), "{told}");
    }

    #[test]
    fn a_secret_name_cannot_leave_the_folder() {
        let bot = bot("/etc/ssl".as_ref());
        assert_eq!(ask(&bot, "GET", "/secret", "name=../hostname").status, 400);
        assert_eq!(ask(&bot, "GET", "/secret", "name=/etc/hostname").status, 400);
    }

    #[test]
    fn probes_are_not_orders() {
        let bot = bot("/nowhere".as_ref());
        assert_eq!(ask(&bot, "GET", "/hang", "").status, 404);
        assert_eq!(ask(&bot, "POST", "/healthz", "").status, 404);
    }
}
