//! Where things are: our own binaries, the workspace, the caches. The one file that goes by a variable of the environment;
//! elsewhere variables are only kept from the programs that are started.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `LAUNCHPAD_BIN_DIR` | folder of the built binaries | beside the running test's executable |
//! | `CARGO_TARGET_DIR` | the build folder, with the image cache in it | `target` in the workspace |

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The workspace's root, where this crate was built.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    // This crate's folder lies directly in the workspace, so it has a parent.
    tests.parent().unwrap_or(tests)
}

/// The build folder, which cargo may have been told to keep elsewhere.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Where image builds keep their products; `packaging/images/lib.sh` computes the same path.
pub fn image_cache() -> PathBuf {
    target().join("images")
}

/// The built binary `name`, such as `launchpad-agent`.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binary_folder()?.join(name);
    ensure!(path.is_file(), "{} is not there; build it first: cargo build --workspace --bins", path.display());
    Ok(path)
}

fn binary_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("LAUNCHPAD_BIN_DIR") {
        return Ok(folder.into());
    }
    let own = env::current_exe().context("find the running executable")?;
    // target/debug/demo, or target/debug/deps/scenario-0123 for a test.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    Ok(folder.context("the running executable lies in no folder")?.to_owned())
}

/// A file of our own profiles, such as `echo.toml`.
pub fn profile(name: &str) -> PathBuf {
    workspace().join("profiles").join(format!("{name}.toml"))
}

/// The folder of profiles that only tests know, for a coordinator's `--profiles`.
pub fn test_profiles() -> PathBuf {
    workspace().join("tests/profiles")
}
