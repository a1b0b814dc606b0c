//! From a wish to a host's spec, round by round, on a real store.

mod compiling;
mod deleting;
mod lab;
mod placing;
mod recovering;
mod restarting;
