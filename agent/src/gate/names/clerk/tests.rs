//! The clerk against a fake kernel, a fake network and a witness, with time that the tests move.

mod properties;
mod stories;
mod world;
