//! The `nft` program: its JSON in, its JSON out, its complaints as a [`Reason`].
//!
//! `border.rs` decides what the rules are and `doctor.rs` asks whether the program is there; nothing here knows what a
//! tenant is. nftables has no stable interface but this program and the kernel's own.

use std::process::Stdio;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long `nft` may take. It takes 10 ms; a machine that swaps may take long.
const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// The program, found on the agent's PATH.
const NFT: &str = "nft";

/// Whether `nft` is there and may list rules.
///
/// # Errors
/// What is missing.
pub async fn usable() -> Result<(), Reason> {
    run("list the tables", &["-j", "list", "tables"], &[]).await.map(drop)
}

/// Applies a batch of JSON: all of it, or nothing.
///
/// # Errors
/// When `nft` is missing or refuses: the reason repeats what it said.
pub async fn apply(batch: &[u8]) -> Result<(), Reason> {
    run("replace the rules", &["-j", "-f", "-"], batch).await.map(drop)
}

/// A table's listing as JSON; none where there is no such table.
///
/// # Errors
/// When `nft` is missing or refuses.
pub async fn list(table: &str) -> Result<Option<Vec<u8>>, Reason> {
    match run("list the rules", &["-j", "list", "table", "inet", table], &[]).await {
        Ok(listing) => Ok(Some(listing)),
        Err(reason) if reason.cause.as_deref().is_some_and(|cause| cause.contains("No such file")) => Ok(None),
        Err(reason) => Err(reason),
    }
}

async fn run(step: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Reason> {
    let io = |error: std::io::Error| failed(step, &error.to_string());
    let mut command = Command::new(NFT);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| failed(step, &format!("{NFT}: {error}")).mend("install the nftables package on the host"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).await.map_err(io)?;
    }
    let ended = tokio::time::timeout(NFT_TIMEOUT, child.wait_with_output()).await;
    let output = ended.map_err(|_| failed(step, "nft did not end in time"))?.map_err(io)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(step, String::from_utf8_lossy(&output.stderr).trim()))
}

/// The step that failed, and what was said.
#[must_use]
pub fn failed(step: &str, cause: &str) -> Reason {
    Reason::new("nftables-failed", format!("nftables could not {step}")).because(cause)
}
