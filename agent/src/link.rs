//! The link to the coordinator (being written: its ports stand).

pub mod ports;
