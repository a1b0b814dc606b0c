//! Images: fetched by digest, and believed only when the engine says that it holds that very digest.
//!
//! `docker.rs` calls [`pull`] and [`holds`]. An image that is there causes no traffic. No tag is ever asked
//! for.

use bollard::errors::Error as DockerError;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt as _;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;

use super::ExecuteError;
use super::engine::{self, CALL_TIMEOUT, Engine, PULL_SILENCE};

/// Fetches an image, unless it is there.
///
/// # Errors
/// `Refused` when the registry has no such image or it is not what its digest says; `Passing` when the
/// registry does not answer.
pub async fn pull(engine: &Engine, image: &ImageRef) -> Result<(), ExecuteError> {
    if holds(engine, image).await? {
        return Ok(());
    }
    let client = engine.patient_client(PULL_SILENCE).await?;
    let options =
        CreateImageOptionsBuilder::default().from_image(&image.repository).tag(&image.digest.to_string()).build();
    let mut progress = client.create_image(Some(options), None, None);
    loop {
        match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
            Err(_) => return Err(ExecuteError::Passing(silent(image))),
            Ok(None) => break,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(pull_failed(engine, image, &error)),
        }
    }
    if holds(engine, image).await? {
        Ok(())
    } else {
        Err(ExecuteError::Refused(mismatch(image, "the engine lists no such digest for it")))
    }
}

/// Whether the engine holds an image under exactly that digest.
///
/// # Errors
/// When the engine does not answer.
pub async fn holds(engine: &Engine, image: &ImageRef) -> Result<bool, ExecuteError> {
    let name = image.to_string();
    let looked = engine.ask(CALL_TIMEOUT, |docker| async move { docker.inspect_image(&name).await });
    match looked.await? {
        Ok(found) => Ok(has_digest(found.repo_digests.as_deref().unwrap_or_default(), image)),
        Err(error) if engine::status(&error) == Some(404) => Ok(false),
        Err(error) => Err(engine.failed("look for the image", &error)),
    }
}

/// The digest under which the engine knows the image that a container names, if it names one by digest.
#[must_use]
pub fn digest_in(reference: &str) -> Option<Digest> {
    reference.split_once('@').and_then(|(_, digest)| digest.parse().ok())
}

/// Docker Hub's names lose their `docker.io/` (and `library/`) on the engine's side, so the digest decides.
fn has_digest(repo_digests: &[String], image: &ImageRef) -> bool {
    repo_digests.iter().any(|known| digest_in(known) == Some(image.digest))
}

fn pull_failed(engine: &Engine, image: &ImageRef, error: &DockerError) -> ExecuteError {
    let refused_by_registry =
        matches!(error, DockerError::DockerStreamError { .. }) || engine::status(error).is_some();
    if !refused_by_registry {
        return engine.failed("pull the image", error);
    }
    match judge(&engine::message(error)) {
        Verdict::Unknown => ExecuteError::Refused(
            Reason::new("image-unknown", format!("the registry has no image {image}"))
                .because(engine::message(error))
                .mend("push it, or deploy a digest that the registry has"),
        ),
        Verdict::Mismatch => ExecuteError::Refused(mismatch(image, &engine::message(error))),
        Verdict::Passing => ExecuteError::Passing(
            Reason::new("image-pull-failed", format!("the image {image} could not be pulled"))
                .because(engine::message(error))
                .mend("see that the host reaches the registry and has space left"),
        ),
    }
}

/// What a failed pull means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Mismatch,
    Passing,
}

/// Docker passes the registry's error on as text only; these are distribution's own words for the two that no
/// retry mends (registry/api/errcode: MANIFEST_UNKNOWN, NAME_UNKNOWN; the puller's digest verification).
fn judge(message: &str) -> Verdict {
    let message = message.to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["manifest verification failed", "digest mismatch", "does not match digest", "unexpected digest"]) {
        Verdict::Mismatch
    } else if says(&["manifest unknown", "name unknown", "repository does not exist"])
        || message.ends_with(": not found")
    {
        Verdict::Unknown
    } else {
        Verdict::Passing
    }
}

fn mismatch(image: &ImageRef, cause: &str) -> Reason {
    Reason::new("image-digest-mismatch", format!("what came for {image} does not have that digest"))
        .because(cause)
        .mend("somebody altered the image in the registry or on the way: find out before deploying it again")
}

fn silent(image: &ImageRef) -> Reason {
    Reason::new("image-pull-failed", format!("pulling {image} made no progress for {} s", PULL_SILENCE.as_secs()))
        .mend("see that the host reaches the registry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_retry_mends_is_refused() {
        let away = "Get \"http://198.18.0.1:5000/v2/\": dial tcp 198.18.0.1:5000: connect: connection refused";
        assert_eq!(judge(away), Verdict::Passing);
        assert_eq!(judge("toomanyrequests: slow down"), Verdict::Passing);
        assert_eq!(judge("error parsing HTTP 404 response body: 404 page not found"), Verdict::Passing);
        assert_eq!(judge("write /var/lib/docker/tmp/x: no space left on device"), Verdict::Passing);
        assert_eq!(
            judge("manifest for r/echo@sha256:00 not found: manifest unknown: manifest unknown"),
            Verdict::Unknown
        );
        assert_eq!(judge("manifest verification failed for digest sha256:00"), Verdict::Mismatch);
    }

    #[test]
    fn another_digest_of_the_same_repository_is_not_the_image() {
        let wanted = ImageRef { repository: "r:5000/echo".to_owned(), digest: Digest::of(b"wanted") };
        let other = format!("r:5000/echo@{}", Digest::of(b"other"));
        assert!(!has_digest(std::slice::from_ref(&other), &wanted));
        assert!(has_digest(&[other, wanted.to_string()], &wanted));
    }
}
