//! What the bot is told: its surroundings by environment, its behaviour by a file of `key = value` lines.
//!
//! Called once by `main`. The format is deliberately plainer than JSON: one key a line, `#` starts a comment, an
//! unknown key or a bad value is refused by name and line. Nothing is read again while the bot runs.
//!
//! | key | meaning |
//! |---|---|
//! | `label` | a word that `GET /` repeats, so that a test sees which config arrived |
//! | `start_delay_ms` | wait this long before listening |
//! | `exit_code_at_start` | exit at once with this code |
//! | `last_line` | the line printed just before that exit |
//! | `memory_mb` | touch this much memory before listening |
//! | `log_lines_per_second` | write this many lines to stdout, for ever |
//! | `lease_ms` | hold a lease file in the state folder; a start on a volume whose lease is fresh exits 1 |
//! | `ignore_sigterm` | `true`: only SIGKILL ends the bot |

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

/// Where the bot finds what it is given. Every field has an environment variable and a default.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// `ECHO_CONFIG`; a missing file means: behave.
    pub(crate) config: PathBuf,
    /// `ECHO_SECRETS`: a folder with one file per secret.
    pub(crate) secrets: PathBuf,
    /// `ECHO_STATE`: the volume.
    pub(crate) state: PathBuf,
    /// `PORT`.
    pub(crate) port: u16,
}

impl Surroundings {
    /// Read the environment; an unreadable value counts as unset.
    pub(crate) fn from_env() -> Self {
        let path = |name: &str, default: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| default.into()));
        Self {
            config: path("ECHO_CONFIG", "/etc/launchpad/config/echo.conf"),
            secrets: path("ECHO_SECRETS", "/run/launchpad/secrets"),
            state: path("ECHO_STATE", "/state"),
            port: env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080),
        }
    }
}

/// How to behave; the default is a good bot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) label: String,
    pub(crate) start_delay_ms: u64,
    pub(crate) exit_code_at_start: Option<i32>,
    pub(crate) last_line: Option<String>,
    pub(crate) memory_mb: u32,
    pub(crate) log_lines_per_second: u32,
    pub(crate) lease_ms: u64,
    pub(crate) ignore_sigterm: bool,
}

/// Why a config was refused; its text is the last line that the bot prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unreadable { path: PathBuf, error: String },
    NotAPair { line: usize },
    UnknownKey { line: usize, key: String },
    BadValue { line: usize, key: String, value: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "config {} cannot be read: {error}", path.display()),
            Self::NotAPair { line } => write!(f, "config line {line}: expected `key = value`"),
            Self::UnknownKey { line, key } => write!(f, "config line {line}: unknown key `{key}`"),
            Self::BadValue { line, key, value } => {
                write!(f, "config line {line}: `{value}` is no value for `{key}`")
            }
        }
    }
}

impl Config {
    /// Read and parse the file at `path`; no file is the default config.
    pub(crate) fn load(path: &Path) -> Result<Self, Refusal> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Refusal::Unreadable { path: path.to_owned(), error: error.to_string() }),
        }
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut config = Self::default();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let content = raw.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let (key, value) = content.split_once('=').ok_or(Refusal::NotAPair { line })?;
            config.set(key.trim(), value.trim(), line)?;
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &str, line: usize) -> Result<(), Refusal> {
        fn parsed<T: std::str::FromStr>(key: &str, value: &str, line: usize) -> Result<T, Refusal> {
            value.parse().map_err(|_| Refusal::BadValue { line, key: key.into(), value: value.into() })
        }
        match key {
            "label" => self.label = value.into(),
            "start_delay_ms" => self.start_delay_ms = parsed(key, value, line)?,
            "exit_code_at_start" => self.exit_code_at_start = Some(parsed(key, value, line)?),
            "last_line" => self.last_line = Some(value.into()),
            "memory_mb" => self.memory_mb = parsed(key, value, line)?,
            "log_lines_per_second" => self.log_lines_per_second = parsed(key, value, line)?,
            "lease_ms" => self.lease_ms = parsed(key, value, line)?,
            "ignore_sigterm" => self.ignore_sigterm = parsed(key, value, line)?,
            unknown => return Err(Refusal::UnknownKey { line, key: unknown.into() }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_good_bot() {
        assert_eq!(Config::parse("\n# nothing here\n"), Ok(Config::default()));
    }

    #[test]
    fn every_key_reaches_its_field() {
        let text = "label = blue\nstart_delay_ms=5\nexit_code_at_start=1\nlast_line = the lease is held\n\
                    memory_mb=3\nlog_lines_per_second=7 # chatty\nlease_ms=9\nignore_sigterm=true\n";
        let expected = Config {
            label: "blue".into(),
            start_delay_ms: 5,
            exit_code_at_start: Some(1),
            last_line: Some("the lease is held".into()),
            memory_mb: 3,
            log_lines_per_second: 7,
            lease_ms: 9,
            ignore_sigterm: true,
        };
        assert_eq!(Config::parse(text), Ok(expected));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_line() {
        let refusal = Config::parse("label=a\nlabell=b").unwrap_err();
        assert_eq!(refusal.to_string(), "config line 2: unknown key `labell`");
    }

    #[test]
    fn a_word_where_a_number_belongs_is_refused() {
        let refusal = Config::parse("memory_mb = lots").unwrap_err();
        assert_eq!(refusal.to_string(), "config line 1: `lots` is no value for `memory_mb`");
    }
}
