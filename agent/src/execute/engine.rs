//! The wire to dockerd: one client, made when first needed, and every failure sorted into an
//! [`ExecuteError`].
//!
//! Everything beside it that speaks to Docker asks [`Engine::client`] first and hands its errors to
//! [`Engine::failed`], or, when it asked for a change, to [`Engine::unchanged`]. A dockerd that is away is never
//! mistaken for one without containers: whatever looks like a broken connection is [`ExecuteError::EngineAway`], and
//! the client is made anew, version and all. One that is only slow is not away: it may be tried again, less often.
//!
//! bollard's requests carry no version, so that an engine answers in its own newest dialect; what is
//! negotiated here is only whether that is new enough.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use launchpad_protocol::reason::Reason;

use super::ExecuteError;

/// The oldest API that this agent speaks: that of Docker 20.10, the oldest engine of a supported Debian.
pub const API_OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// How long any answer but those named below may take. Creating a container beside a busy build took 3 s.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a start may take: runc was seen to take 8 s on a machine with a load of ten.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a stop may take beyond its grace: the kill, and Docker's own tidying.
pub const STOP_MARGIN: Duration = Duration::from_secs(15);

/// How long a pull may say nothing at all. A slow registry still shows progress several times a second.
pub const PULL_SILENCE: Duration = Duration::from_secs(120);

/// How long an engine may take to say that it is there. It does so from memory, in a millisecond.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an engine's message that a reason repeats: enough to recognise it.
const MESSAGE_MAX_CHARS: usize = 400;

/// What to do about an engine that does not answer.
const MEND_AWAY: &str = "start it (systemctl start docker); bots run on meanwhile";

/// The engine behind one socket.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    client: Mutex<Option<Docker>>,
}

impl Engine {
    /// The engine behind that socket. Nothing is asked yet.
    #[must_use]
    pub fn behind(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), client: Mutex::new(None) }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client whose answers may take [`CALL_TIMEOUT`].
    ///
    /// # Errors
    /// [`ExecuteError::EngineAway`], also when the engine is too old.
    pub async fn client(&self) -> Result<Docker, ExecuteError> {
        if let Some(client) = self.held().clone() {
            return Ok(client);
        }
        let client = self.connect().await?;
        *self.held() = Some(client.clone());
        Ok(client)
    }

    /// A client whose answers may take that long.
    ///
    /// # Errors
    /// As [`Engine::client`].
    pub async fn patient_client(&self, timeout: Duration) -> Result<Docker, ExecuteError> {
        Ok(self.client().await?.with_timeout(timeout))
    }

    /// Asks one question and waits that long at most, from the connection to the last byte of the answer. The
    /// outer error is an engine that cannot even be asked, the inner one is the answer.
    ///
    /// # Errors
    /// As [`Engine::client`].
    pub async fn ask<T, F>(
        &self,
        within: Duration,
        question: impl FnOnce(Docker) -> F,
    ) -> Result<Result<T, DockerError>, ExecuteError>
    where
        F: Future<Output = Result<T, DockerError>>,
    {
        let client = self.patient_client(within).await?;
        let answered = tokio::time::timeout(within, question(client)).await;
        Ok(answered.unwrap_or(Err(DockerError::RequestTimeoutError)))
    }

    /// Sorts a failed call: an engine that is away, or something that may pass. Callers that know a refusal
    /// when they see its status look at [`status`] first.
    pub fn failed(&self, step: &str, error: &DockerError) -> ExecuteError {
        if let DockerError::DockerResponseServerError { message, .. }
        | DockerError::DockerStreamError { error: message } = error
        {
            return ExecuteError::Passing(
                Reason::new("engine-error", format!("Docker could not {step}")).because(shortened(message)),
            );
        }
        if is_misread(error) {
            return ExecuteError::Passing(
                Reason::new("engine-answer-unreadable", format!("Docker's answer to `{step}` cannot be read"))
                    .because(shortened(&error.to_string()))
                    .mend("report this with the output of `docker version`"),
            );
        }
        self.held().take();
        ExecuteError::EngineAway(self.away(step, &error.to_string()))
    }

    /// Sorts a failed change. Beside what [`Engine::failed`] tells apart, one that took too long of an engine that is
    /// there may pass: without a pause it would only be asked for again, on top of what it is still doing.
    pub async fn unchanged(&self, step: &str, error: &DockerError) -> ExecuteError {
        let slow = matches!(error, DockerError::RequestTimeoutError);
        let there =
            slow && matches!(self.ask(PING_TIMEOUT, |docker| async move { docker.ping().await }).await, Ok(Ok(_)));
        if !there {
            return self.failed(step, error);
        }
        ExecuteError::Passing(
            Reason::new("engine-slow", format!("Docker did not {step} in time"))
                .because("it answers, so the host is overloaded or its disk is")
                .mend("see what the host is busy with; it is tried again"),
        )
    }

    async fn connect(&self) -> Result<Docker, ExecuteError> {
        let away = |error: DockerError| ExecuteError::EngineAway(self.away("answer", &error.to_string()));
        let socket = self.socket.to_string_lossy();
        let client = Docker::connect_with_unix(&socket, CALL_TIMEOUT.as_secs(), API_DEFAULT_VERSION).map_err(away)?;
        let negotiated = tokio::time::timeout(CALL_TIMEOUT, client.negotiate_version()).await;
        let client = negotiated.unwrap_or(Err(DockerError::RequestTimeoutError)).map_err(away)?;
        if client.client_version() < API_OLDEST {
            return Err(ExecuteError::EngineAway(too_old(&client.client_version())));
        }
        Ok(client)
    }

    fn away(&self, step: &str, cause: &str) -> Reason {
        Reason::new("engine-away", format!("Docker at {} did not {step}", self.socket.display()))
            .because(shortened(cause))
            .mend(MEND_AWAY)
    }

    /// The lock is never held across an await, and nothing panics under it.
    fn held(&self) -> std::sync::MutexGuard<'_, Option<Docker>> {
        self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The HTTP status of an answer that refused.
#[must_use]
pub const fn status(error: &DockerError) -> Option<u16> {
    if let DockerError::DockerResponseServerError { status_code, .. } = error { Some(*status_code) } else { None }
}

/// What the engine said, or what went wrong on the way, in at most a few lines.
#[must_use]
pub fn message(error: &DockerError) -> String {
    if let DockerError::DockerResponseServerError { message, .. }
    | DockerError::DockerStreamError { error: message } = error
    {
        return shortened(message);
    }
    shortened(&error.to_string())
}

fn shortened(text: &str) -> String {
    let trimmed = text.trim();
    let mut short: String = trimmed.chars().take(MESSAGE_MAX_CHARS).collect();
    if short.len() < trimmed.len() {
        short.push('…');
    }
    short
}

/// Whether the engine answered, and only its words are strange.
const fn is_misread(error: &DockerError) -> bool {
    matches!(
        error,
        DockerError::JsonDataError { .. }
            | DockerError::JsonSerdeError { .. }
            | DockerError::URLEncodedError { .. }
            | DockerError::URLParseError { .. }
            | DockerError::InvalidURIError { .. }
            | DockerError::StrParseError { .. }
    )
}

fn too_old(found: &ClientVersion) -> Reason {
    Reason::new(
        "engine-too-old",
        format!(
            "Docker speaks API {}.{}, this agent needs {}.{} (Docker 20.10)",
            found.major_version, found.minor_version, API_OLDEST.major_version, API_OLDEST.minor_version
        ),
    )
    .mend("upgrade Docker; with live-restore the bots run on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_is_an_engine_that_is_away_and_names_the_mend() {
        let engine = Engine::behind(Path::new("/nonexistent/docker.sock"));
        let error = engine.client().await.map(drop).unwrap_err();
        assert!(matches!(&error, ExecuteError::EngineAway(reason) if reason.mend.is_some()), "{error}");
        assert!(error.to_string().contains("/nonexistent/docker.sock"), "{error}");
    }

    #[test]
    fn an_answer_that_refuses_is_not_an_engine_that_is_away() {
        let engine = Engine::behind(Path::new("/nonexistent/docker.sock"));
        let answer = DockerError::DockerResponseServerError { status_code: 500, message: "x".repeat(5000) };
        let error = engine.failed("create the container", &answer);
        assert!(matches!(&error, ExecuteError::Passing(reason) if reason.code == "engine-error"), "{error}");
        assert!(error.to_string().len() < 3 * MESSAGE_MAX_CHARS);
        assert!(matches!(engine.failed("list", &DockerError::RequestTimeoutError), ExecuteError::EngineAway(_)));
    }

    /// An engine that answers every request whose head has one of those words with that body, and others with silence.
    fn impostor(answered: &'static [&'static str], body: &'static str) -> (tempfile::TempDir, Engine) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]);
                if !answered.iter().any(|word| head.contains(word)) {
                    silent.push(stream);
                    continue;
                }
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        (dir, Engine::behind(&socket))
    }

    #[tokio::test]
    async fn an_engine_older_than_20_10_is_refused_by_name() {
        let (_dir, engine) = impostor(&["/version"], r#"{"Version":"19.03.15","ApiVersion":"1.40"}"#);
        let error = engine.client().await.map(drop).unwrap_err();
        assert_eq!(error.reason().code, "engine-too-old");
        assert!(error.to_string().contains("1.40"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_says_nothing_is_away_after_the_named_time() {
        let (_dir, engine) = impostor(&[], "");
        let asked = tokio::time::Instant::now();
        let error = engine.client().await.map(drop).unwrap_err();
        assert!(matches!(error, ExecuteError::EngineAway(_)), "{error}");
        assert!(asked.elapsed() <= CALL_TIMEOUT + Duration::from_secs(1), "{:?}", asked.elapsed());
    }

    /// Asks for a change that is never answered.
    async fn unanswered_change(engine: &Engine) -> DockerError {
        let asked =
            engine.ask(Duration::from_millis(50), |docker| async move { docker.start_container("c", None).await });
        asked.await.unwrap().unwrap_err()
    }

    #[tokio::test]
    async fn a_change_that_takes_too_long_is_tried_again_later_if_the_engine_still_answers() {
        const VERSION: &str = r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#;
        let (_dir, busy) = impostor(&["/version", "/_ping"], VERSION);
        let error = busy.unchanged("start the container", &unanswered_change(&busy).await).await;
        assert!(matches!(&error, ExecuteError::Passing(reason) if reason.code == "engine-slow"), "{error}");
        let (_dir, hung) = impostor(&["/version"], VERSION);
        let error = unanswered_change(&hung).await;
        // From here on nothing but a timeout ends anything.
        tokio::time::pause();
        assert!(matches!(hung.unchanged("start the container", &error).await, ExecuteError::EngineAway(_)));
    }
}
