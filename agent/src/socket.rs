//! A unix socket for root alone: how the agent and its gate are reached on their own host.
//!
//! `local.rs` and `gate/socket.rs` bind theirs here, and serve each what it has to say. Nothing is read or answered here.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Root alone may connect.
const MODE: u32 = 0o600;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers on it.
    #[error("another {who} already answers on {}: stop it first, or choose another --run-dir", path.display())]
    Taken {
        /// What it is, as its name says.
        who: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {step} {}: {source}; run as root, or choose another --run-dir", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Makes the socket of that name, in place of one that a killed process left; `who` is told apart by it.
///
/// # Errors
/// When another process answers on it, or the operating system refuses.
pub fn bind(run_dir: &Path, name: &str, who: &'static str) -> Result<(UnixListener, PathBuf), SocketError> {
    let path = run_dir.join(name);
    let failed = |step: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::Io { step, path, source }
    };
    std::fs::create_dir_all(run_dir).map_err(failed("create", run_dir))?;
    if UnixStream::connect(&path).is_ok() {
        return Err(SocketError::Taken { who, path });
    }
    // Under its own name nobody finds it before only root may connect.
    let fresh = run_dir.join(format!("{name}.new"));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &fresh)(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed("listen on", &fresh))?;
    let mode = std::fs::Permissions::from_mode(MODE);
    std::fs::set_permissions(&fresh, mode).map_err(failed("close to others", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(failed("rename into place", &path))?;
    Ok((listener, path))
}
