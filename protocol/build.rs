//! Turns `proto/launchpad/v1/*.proto` into Rust, in Cargo's output folder.
//!
//! `src/wire.rs` includes the result as `wire::v1`. protox is a protobuf compiler in Rust, so that building needs no
//! `protoc` on the machine. Nothing is written into the source tree.

use std::error::Error;

/// The folder that `import` paths start from.
const PROTO_ROOT: &str = "proto";

/// The files with a service, or that nothing else imports; protox follows their imports.
const PROTO_FILES: [&str; 3] =
    ["proto/launchpad/v1/spec.proto", "proto/launchpad/v1/fleet.proto", "proto/launchpad/v1/enroll.proto"];

/// Messages that hold a secret: `wire.rs` writes a `Debug` for them that leaves it out.
const SECRET_MESSAGES: [&str; 1] = [".launchpad.v1.EnrollRequest"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let files = protox::compile(PROTO_FILES, [PROTO_ROOT])?;
    tonic_prost_build::configure().skip_debug(SECRET_MESSAGES).compile_fds(files)?;
    Ok(())
}
