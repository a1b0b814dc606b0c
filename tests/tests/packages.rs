//! Our packages on a Debian: what each step of their life does to a host, and above all what it leaves alone.
//!
//! The stories run in a throw-away root ([`root`]) with real dpkg and rpm, on packages made by the script that makes those
//! that are shipped ([`made`]). What only the shipped files can show (`shipped.rs`) is looked at by `make packages`.

#[path = "packages/files.rs"]
mod files;
#[path = "packages/host.rs"]
mod host;
#[path = "packages/made.rs"]
mod made;
#[path = "packages/others.rs"]
mod others;
#[path = "packages/root.rs"]
mod root;
#[path = "packages/shipped.rs"]
mod shipped;
