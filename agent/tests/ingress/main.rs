//! The way in, on a real Caddy: its configuration, the directory that it asks, and what visitors see.
//!
//! Each test runs in a network namespace of its own, with a Caddy and bots of its own ([`ground`]);
//! certificates are verified against Caddy's own authority. Without root or Caddy they say so and prove
//! nothing; `make test` has both.

mod abuse;
mod authority;
mod bots;
mod ground;
mod keeping;
mod visitor;
mod visits;
