//! What a test orders of the hostile bot, and what the bot reports: the two halves of one conversation.
//!
//! The bot itself (`main.rs`) reads [`Orders`] from its config file and answers with [`Entry`] and
//! [`Report`]; the harness writes the one and reads the others. Nothing here attacks anything.

pub mod orders;
pub mod report;

pub use orders::{Bounds, How, Orders, Transport, Visit};
pub use report::{Entry, Outcome, Report, Room, Try};
