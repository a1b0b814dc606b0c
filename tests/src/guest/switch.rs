//! The bridges that guests hang on, in the run's own namespace: they go with it.
//!
//! Two of them, so that a guest that a fault has cut off from the fleet can still be looked into.

use std::process::Command;

use anyhow::Result;

use crate::netns::{FABRIC_ADDRESS, ip};
use crate::process::run;

/// The bridge on which coordinator and registry answer.
const FLEET: &str = "lpfleet";
/// The bridge by which the run reaches its guests.
const CONTROL: &str = "lpcontrol";
/// Our own end of the latter.
const CONTROL_ADDRESS: &str = "198.18.200.1";
/// The table in which a guest's UDP is dropped.
const TABLE: &str = "guests";

/// Both bridges.
#[derive(Debug)]
pub struct Switch {
    _made: (),
}

impl Switch {
    /// Makes them in the calling thread's namespace.
    ///
    /// # Errors
    /// When `ip` or `nft` refuses, as without /dev/net/tun.
    pub fn create() -> Result<Self> {
        for (bridge, address) in [(FLEET, FABRIC_ADDRESS), (CONTROL, CONTROL_ADDRESS)] {
            ip(&["link", "add", bridge, "type", "bridge"])?;
            ip(&["address", "add", &format!("{address}/24"), "dev", bridge])?;
            ip(&["link", "set", bridge, "up"])?;
        }
        let rules = format!(
            "table ip {TABLE} {{ set without_udp {{ type ipv4_addr; }}; chain input {{ type filter hook input priority 0; \
             ip saddr @without_udp meta l4proto udp drop; }}; }}"
        );
        run(Command::new("nft").arg(rules))?;
        Ok(Self { _made: () })
    }

    /// Makes the two ports of guest `index`, from 1.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn plug(&self, index: u8) -> Result<Ports> {
        let ports = Ports { index };
        for (tap, bridge) in [(ports.fleet_tap(), FLEET), (ports.control_tap(), CONTROL)] {
            ip(&["tuntap", "add", "dev", &tap, "mode", "tap"])?;
            ip(&["link", "set", &tap, "master", bridge])?;
            ip(&["link", "set", &tap, "up"])?;
        }
        Ok(ports)
    }
}

/// Where one guest is plugged in.
#[derive(Debug)]
pub struct Ports {
    index: u8,
}

impl Ports {
    /// The interface by which it meets the fleet.
    pub fn fleet_tap(&self) -> String {
        format!("lpf{}", self.index)
    }

    /// The interface by which it is controlled.
    pub fn control_tap(&self) -> String {
        format!("lpc{}", self.index)
    }

    /// Its address in the fleet.
    pub fn address(&self) -> String {
        format!("198.18.0.{}", 10 + u16::from(self.index))
    }

    /// Its address for control.
    pub fn control_address(&self) -> String {
        format!("198.18.200.{}", 10 + u16::from(self.index))
    }

    /// Cuts it off from the fleet, or joins it again.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_connected(&self, connected: bool) -> Result<()> {
        ip(&["link", "set", &self.fleet_tap(), if connected { "up" } else { "down" }])
    }

    /// Lets its UDP through, or drops it.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn set_udp(&self, through: bool) -> Result<()> {
        let verb = if through { "delete" } else { "add" };
        let element = format!("{{ {} }}", self.address());
        run(Command::new("nft").args([verb, "element", "ip", TABLE, "without_udp", &element])).map(drop)
    }
}
