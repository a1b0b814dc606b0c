//! The config file of the hostile bot: what it may have, whom it is to look for, and where it is to go.
//!
//! Written by a test, as JSON; read by the bot at start and by every attack. An unknown field is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// All that a test tells the bot. The default is a bot that attacks its container and its kernel, and nobody
/// by address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orders {
    /// Texts that belong to others (neighbours' secrets, ids, file contents), in hex, so that this file does
    /// not itself hold what is hunted for.
    pub canaries_hex: Vec<String>,
    /// What the bot is entitled to: a bomb that gets more has broken out.
    pub bounds: Bounds,
    /// Where it goes on the network, one attack each.
    pub visits: Vec<Visit>,
}

/// The bot's entitlements, by which its bombs are judged. They are also what a bomb never exceeds by much: a
/// host whose walls are missing survives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// MiB of its volume.
    pub volume_mb: u64,
    /// Milliseconds for which the filled volume stays full, so that a host has the time to notice.
    pub volume_full_for_ms: u64,
    /// MiB of memory.
    pub memory_mb: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Other places that it may write to, with their MiB.
    pub tmpfs_mb: BTreeMap<String, u64>,
}

impl Default for Bounds {
    /// Small, because a bot that is told nothing may run where nothing holds it.
    fn default() -> Self {
        Self {
            volume_mb: 16,
            volume_full_for_ms: 0,
            memory_mb: 64,
            pids: 64,
            open_files: 1024,
            cpu_millis: 500,
            tmpfs_mb: BTreeMap::new(),
        }
    }
}

/// One way into the network, and what to call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The attack's name: lower-case words joined by `-`, different from every other.
    pub name: String,
    /// How and where.
    #[serde(flatten)]
    pub how: How,
}

impl Visit {
    /// A visit of that name.
    pub fn new(name: &str, how: How) -> Self {
        Self { name: name.to_owned(), how }
    }
}

/// The ways into the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum How {
    /// A TCP connection.
    Tcp {
        /// Where to.
        to: SocketAddr,
    },
    /// A datagram that asks for an answer.
    Udp {
        /// Where to.
        to: SocketAddr,
    },
    /// The same by UDP-Lite, a protocol that filters forget.
    UdpLite {
        /// Where to.
        to: SocketAddr,
    },
    /// An ICMP echo, by the kind of socket that needs no privilege.
    Ping {
        /// Where to.
        to: IpAddr,
    },
    /// A datagram under somebody else's address.
    Spoof {
        /// The borrowed address.
        from: Ipv4Addr,
        /// Where to.
        to: SocketAddr,
    },
    /// A look-up by the resolver that the bot was given. An address in the answer counts as reached.
    Resolve {
        /// The name.
        host: String,
    },
    /// The same, then a TCP connection to every address of the answer.
    Connect {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// A question to another DNS server than the bot was given.
    Dns {
        /// The server.
        server: SocketAddr,
        /// By datagram or by connection.
        over: Transport,
        /// The name.
        host: String,
    },
    /// Data carried out in the labels of names, by the resolver that the bot was given.
    Tunnel {
        /// The domain whose server would receive it.
        below: String,
    },
}

/// What DNS travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// One connection.
    Tcp,
}

impl Orders {
    /// Reads and checks a config file's text. The error is one line for the log.
    ///
    /// # Errors
    /// When it is not JSON of this shape, two visits share a name, or a canary is not hex.
    pub fn parse(text: &str) -> Result<Self, String> {
        let orders: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut names = BTreeSet::new();
        for visit in &orders.visits {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if visit.name.is_empty() || !visit.name.chars().all(plain) {
                return Err(format!("visit `{}`: a name is lower-case letters, digits and `-`", visit.name));
            }
            if !names.insert(&visit.name) {
                return Err(format!("two visits are called `{}`", visit.name));
            }
        }
        orders.canaries()?;
        Ok(orders)
    }

    /// The canaries' bytes.
    ///
    /// # Errors
    /// When one is empty or not hex.
    pub fn canaries(&self) -> Result<Vec<Vec<u8>>, String> {
        let decode = |hex: &String| {
            let pairs = hex.as_bytes().chunks(2);
            let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
            let whole = hex.len().is_multiple_of(2) && !hex.is_empty();
            bytes.collect::<Option<Vec<u8>>>().filter(|_| whole).ok_or_else(|| format!("canary `{hex}` is not hex"))
        };
        self.canaries_hex.iter().map(decode).collect()
    }

    /// Adds a text that belongs to somebody else.
    pub fn hunt(&mut self, text: &str) {
        self.canaries_hex.push(text.bytes().map(|byte| format!("{byte:02x}")).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_as_they_were_written() {
        let mut orders = Orders::default();
        orders.hunt("red's token");
        let to = "169.254.169.254:80".parse().unwrap();
        orders.visits.push(Visit::new("metadata", How::Tcp { to }));
        let server = "8.8.8.8:53".parse().unwrap();
        let host = "other.test".to_owned();
        orders.visits.push(Visit::new("other-dns", How::Dns { server, over: Transport::Tcp, host }));
        let text = serde_json::to_string(&orders).unwrap();
        assert!(text.contains(r#"{"name":"metadata","how":"tcp","to":"169.254.169.254:80"}"#), "{text}");
        assert!(!text.contains("red's"), "{text}");
        let read = Orders::parse(&text).unwrap();
        assert_eq!(read, orders);
        assert_eq!(read.canaries().unwrap(), [b"red's token"]);
    }

    #[test]
    fn an_unknown_field_a_doubled_name_and_a_bad_canary_are_refused() {
        assert!(Orders::parse(r#"{"visit":[]}"#).unwrap_err().contains("visit"));
        let visit = r#"{"name":"a","how":"resolve","host":"b.test"}"#;
        assert!(Orders::parse(&format!(r#"{{"visits":[{visit}]}}"#)).is_ok());
        assert!(Orders::parse(r#"{"visits":[{"name":"../a","how":"resolve","host":"b.test"}]}"#).is_err());
        assert!(Orders::parse(&format!(r#"{{"visits":[{visit},{visit}]}}"#)).unwrap_err().contains("two visits"));
        for hex in ["", "0", "zz"] {
            assert!(Orders::parse(&format!(r#"{{"canaries_hex":["{hex}"]}}"#)).unwrap_err().contains("not hex"));
        }
    }

    #[test]
    fn an_empty_config_is_a_bot_with_small_bounds() {
        assert_eq!(Orders::parse("{}").unwrap(), Orders::default());
    }
}
