//! A reference to an image by digest: the only kind that desired state holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::limits::IMAGE_REPOSITORY_MAX_BYTES;

/// `repository@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Registry and path: `registry.example:5000/bots/openclaw`.
    pub repository: String,
    /// The manifest's digest.
    pub digest: Digest,
}

/// Why a text is not a reference by digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// There is a tag, or nothing, where the digest belongs.
    #[error("`{0}` names no digest: write REPOSITORY@sha256:…, because a tag can change under a running bot")]
    NoDigest(String),
    /// What follows the `@` is not a SHA-256 digest.
    #[error("`{0}` has a malformed digest: expected sha256: and 64 lower-case hex digits after the @")]
    BadDigest(String),
    /// What stands before the `@` is not a repository name.
    #[error("`{0}` is not a repository: lower-case letters, digits and . _ - / : only, and no tag before the @")]
    BadRepository(String),
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let (repository, digest) = text.split_once('@').ok_or_else(|| ImageRefError::NoDigest(text.to_owned()))?;
        let digest = digest.parse().map_err(|_| ImageRefError::BadDigest(text.to_owned()))?;
        if !is_repository(repository) {
            return Err(ImageRefError::BadRepository(repository.to_owned()));
        }
        Ok(Self { repository: repository.to_owned(), digest })
    }
}

/// A host with an optional port, then path parts (the grammar of distribution/reference, without tags).
fn is_repository(text: &str) -> bool {
    let (path, port_is_fine) = match text.split_once('/') {
        Some((host, path)) if host.contains(':') => {
            let port = host.split_once(':').map_or("", |(_, port)| port);
            (format!("{}/{path}", host.split(':').next().unwrap_or("")), port.parse::<u16>().is_ok())
        }
        _ => (text.to_owned(), true),
    };
    let part_is_fine = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && part.as_bytes()[0].is_ascii_alphanumeric()
            && part.as_bytes()[part.len() - 1].is_ascii_alphanumeric()
    };
    port_is_fine && text.len() <= IMAGE_REPOSITORY_MAX_BYTES && path.split('/').all(part_is_fine)
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_by_digest_reads_back_as_itself() {
        for repository in ["127.0.0.1:5000/echo", "registry.example/bots/openclaw", "echo"] {
            let text = format!("{repository}@{DIGEST}");
            assert_eq!(text.parse::<ImageRef>().map(|image| image.to_string()), Ok(text));
        }
    }

    #[test]
    fn a_tag_is_refused_because_it_can_change() {
        let error = "registry.example/echo:latest".parse::<ImageRef>().expect_err("a tag");
        assert!(error.to_string().contains("a tag can change"), "{error}");
        assert!(format!("registry.example/echo:latest@{DIGEST}").parse::<ImageRef>().is_err());
    }

    #[test]
    fn a_repository_that_is_no_path_is_refused() {
        for bad in ["", "-x", "Upper", "a//b", "a b", "../etc", "host:notaport/x"] {
            assert!(format!("{bad}@{DIGEST}").parse::<ImageRef>().is_err(), "{bad}");
        }
    }
}
