//! Where the store is.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server, as a `postgres://` URL.
    Postgres(String),
}

/// A text that names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database URL names neither SQLite nor Postgres: write sqlite:/PATH or postgres://USER@HOST/DATABASE")]
pub struct StoreUrlError;

impl StoreUrl {
    /// Reads a database URL; without one the store is that file.
    ///
    /// # Errors
    /// When the URL names neither kind of store.
    pub fn parse(url: Option<&str>, default_file: &Path) -> Result<Self, StoreUrlError> {
        let Some(url) = url else { return Ok(Self::Sqlite(default_file.to_owned())) };
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        Err(StoreUrlError)
    }
}

/// Without a password: this goes into logs and errors.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
                let place = rest.split_once('@').map_or(rest, |(_, place)| place);
                write!(f, "{scheme}://{}", place.split('?').next().unwrap_or(place))
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Option<StoreUrl> {
        StoreUrl::parse(Some(url), Path::new("/data/coordinator.db")).ok()
    }

    #[test]
    fn a_url_names_a_file_or_a_server() {
        assert_eq!(parse("sqlite:/var/lib/x.db"), Some(StoreUrl::Sqlite("/var/lib/x.db".into())));
        assert_eq!(parse("sqlite:///var/lib/x.db"), Some(StoreUrl::Sqlite("/var/lib/x.db".into())));
        assert!(matches!(parse("postgres://me@db/launchpad"), Some(StoreUrl::Postgres(_))));
        assert_eq!(parse("mysql://me@db/launchpad"), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = parse("postgres://me:geheim@db:5432/launchpad?password=geheim").expect("a server");
        assert_eq!(format!("{url}"), "postgres://db:5432/launchpad");
        assert!(!format!("{url:?}").contains("geheim"));
    }
}
