//! Gathers `profiles/*.toml` into the binary: a new workload is a new file there, and no line of Rust.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where profiles are kept, from this crate's folder.
const PROFILES: &str = "../profiles";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={PROFILES}");
    // Cargo runs this in the crate's folder. A path that the compiler put in here may be one that a release maps away.
    let folder = Path::new(PROFILES);
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut list = "[\n".to_owned();
    for path in files {
        let path = path.canonicalize()?;
        let name = path.file_name().unwrap_or_default();
        writeln!(list, "    ({name:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    list.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("profiles.rs"), list)
}
