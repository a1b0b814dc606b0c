//! The login: which coordinator, and the token, in a file that only its owner reads.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use launchpad_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::arguments::Access;
use crate::failure::Failure;

/// Mode bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// What `login` remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// The coordinator's URL.
    pub(crate) url: String,
    /// The API token.
    pub(crate) token: String,
}

impl Login {
    /// The login that the arguments, the environment and the file name, in that order.
    pub(crate) fn find(access: &Access) -> Result<Self, Failure> {
        if let (Some(url), Some(token)) = (&access.url, &access.token) {
            return Ok(Self { url: normal_url(url)?, token: token.clone() });
        }
        let path = path(access)?;
        let stored = match Self::load(&path)? {
            Some(stored) => stored,
            None => return Err(nobody(&path)),
        };
        Ok(Self {
            url: access.url.as_deref().map_or(Ok(stored.url), normal_url)?,
            token: access.token.clone().unwrap_or(stored.token),
        })
    }

    /// Reads the file; nothing if it is not there.
    fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let unreadable = |problem: String| {
            Failure::usage(
                Reason::new("login-unreadable", format!("cannot read the login in {}: {problem}", path.display()))
                    .mend("run `launchpad login URL --token TOKEN` again"),
            )
        };
        let mode = match fs::metadata(path) {
            Ok(found) => found.mode(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        if mode & OTHERS != 0 {
            let sentence = format!("others may read the token in {} (mode {:o})", path.display(), mode & 0o777);
            let mend = format!("chmod 600 {}, and ask for a new token if the machine is shared", path.display());
            return Err(Failure::usage(Reason::new("login-exposed", sentence).mend(mend)));
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        toml::from_str(&text).map(Some).map_err(|error| unreadable(error.message().to_owned()))
    }

    /// Writes the file, mode 0600: the old one or the new one, never half of it.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let failed = |step: &str, error: &dyn std::fmt::Display| {
            let sentence = format!("cannot {step} {}: {error}", path.display());
            let mend = "set LAUNCHPAD_CONFIG to a file that you may write";
            Failure::usage(Reason::new("login-not-saved", sentence).mend(mend))
        };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| failed("make the directory of", &error))?;
        let text = toml::to_string(self).map_err(|error| failed("write", &error))?;
        let new = path.with_extension("new");
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let mut file = opened.map_err(|error| failed("write", &error))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&new, path)).map_err(|error| failed("write", &error))
    }
}

/// Where the login is kept.
pub(crate) fn path(access: &Access) -> Result<PathBuf, Failure> {
    if let Some(path) = &access.file {
        return Ok(path.clone());
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    dir.map(|dir| dir.join("launchpad").join("login.toml")).ok_or_else(|| {
        let sentence = "neither XDG_CONFIG_HOME nor HOME says where the login is kept";
        Failure::usage(Reason::new("no-home", sentence).mend("set LAUNCHPAD_CONFIG to a file"))
    })
}

/// The URL with a scheme and without a slash at its end.
pub(crate) fn normal_url(text: &str) -> Result<String, Failure> {
    let url = text.trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if rest.is_none_or(str::is_empty) {
        let reason = Reason::new("not-a-url", format!("`{text}` is not the URL of a coordinator"));
        return Err(Failure::usage(reason.mend("write it as https://launchpad.example or http://127.0.0.1:7700")));
    }
    Ok(url.to_owned())
}

fn nobody(path: &Path) -> Failure {
    let sentence = format!("nobody is logged in: there is no login in {}", path.display());
    let mend = "run `launchpad login URL --token TOKEN`, or set LAUNCHPAD_URL and LAUNCHPAD_TOKEN";
    Failure::usage(Reason::new("not-logged-in", sentence).mend(mend))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn access(file: PathBuf) -> Access {
        Access { url: None, token: None, file: Some(file), account: None }
    }

    fn login() -> Login {
        Login { url: "http://127.0.0.1:7700".to_owned(), token: "lp_1_2".to_owned() }
    }

    #[test]
    fn a_login_is_kept_in_a_file_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/login.toml");
        login().save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Login::find(&access(path)).unwrap(), login());
    }

    #[test]
    fn a_login_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.toml");
        login().save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Login::find(&access(path)).unwrap_err().reason.code, "login-exposed");
    }

    #[test]
    fn arguments_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.toml");
        login().save(&path).unwrap();
        let access = Access { url: Some("https://other/".to_owned()), ..access(path) };
        let found = Login::find(&access).unwrap();
        assert_eq!((found.url.as_str(), found.token.as_str()), ("https://other", "lp_1_2"));
    }

    #[test]
    fn nobody_is_told_how_to_log_in() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Login::find(&access(dir.path().join("login.toml"))).unwrap_err();
        assert!(failure.reason.to_string().contains("launchpad login"), "{failure:?}");
    }

    #[test]
    fn a_url_has_a_scheme() {
        assert_eq!(normal_url("http://a:1/").unwrap(), "http://a:1");
        for bad in ["", "a:1", "https://", "ftp://a"] {
            assert!(normal_url(bad).is_err(), "{bad}");
        }
    }
}
