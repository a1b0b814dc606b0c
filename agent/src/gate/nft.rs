//! The `nft` program: its own language in, its JSON out, its complaints as a [`Reason`].
//!
//! `rules.rs` says what goes in and `listing.rs` reads what comes out; `keeper.rs` is who calls, and the doctor asks
//! whether the program is there. Nothing here knows what a tenant is. nftables has no stable interface but this program
//! and the kernel's own. What goes in is text and not JSON, because the JSON of nft 1.0.6 knows neither sets that rules
//! write to nor a counter per element of one.

use std::process::Stdio;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long `nft` may take. It takes 10 ms; a machine that swaps may take long.
const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// The program, found on the PATH.
const NFT: &str = "nft";

/// Characters of a complaint that are repeated: nft shows every line that it does not like.
const COMPLAINT_CHARS_MAX: usize = 600;

/// Whether `nft` is there and may list rules.
///
/// # Errors
/// What is missing.
pub async fn usable() -> Result<(), Reason> {
    run("list the tables", &["-j", "list", "tables"], &[], |_| {}).await.map(drop)
}

/// Applies a batch: all of it, or nothing. `begins` is told the program's process id before it does anything: the kernel
/// names it to everybody who listens for changes.
///
/// # Errors
/// When `nft` is missing or refuses: the reason repeats what it said.
pub async fn apply(batch: &str, begins: impl FnOnce(u32)) -> Result<(), Reason> {
    run("change the rules", &["-f", "-"], batch.as_bytes(), begins).await.map(drop)
}

/// A table's listing as JSON; none where there is no such table.
///
/// # Errors
/// When `nft` is missing or refuses.
pub async fn list(table: &str) -> Result<Option<Vec<u8>>, Reason> {
    match run("list the rules", &["-j", "list", "table", "inet", table], &[], |_| {}).await {
        Ok(listing) => Ok(Some(listing)),
        Err(reason) if reason.cause.as_deref().is_some_and(|cause| cause.contains("No such file")) => Ok(None),
        Err(reason) => Err(reason),
    }
}

async fn run(step: &str, arguments: &[&str], input: &[u8], begins: impl FnOnce(u32)) -> Result<Vec<u8>, Reason> {
    let io = |error: std::io::Error| failed(step, &error.to_string());
    let mut command = Command::new(NFT);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| failed(step, &format!("{NFT}: {error}")).mend("install the nftables package on the host"))?;
    begins(child.id().unwrap_or_default());
    let exchange = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).await?;
        }
        child.wait_with_output().await
    };
    let ended = tokio::time::timeout(NFT_TIMEOUT, exchange).await;
    let output = ended.map_err(|_| failed(step, "nft did not end in time"))?.map_err(io)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint: String =
        String::from_utf8_lossy(&output.stderr).trim().chars().take(COMPLAINT_CHARS_MAX).collect();
    Err(failed(step, &complaint))
}

/// The step that failed, and what was said.
#[must_use]
pub fn failed(step: &str, cause: &str) -> Reason {
    Reason::new("nftables-failed", format!("nftables could not {step}")).because(cause)
}
