//! The language of the fleet.
pub mod digest;
pub mod entropy;
pub mod feature;
pub mod frame;
pub mod generation;
pub mod id;
pub mod image;
pub mod limits;
pub mod profile;
pub mod reason;
pub mod report;
pub mod session;
pub mod spec;
pub mod time;
pub mod wire;
