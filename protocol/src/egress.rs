//! What a bot may be allowed to reach, and what no bot ever may: the one grammar of egress rules.
//!
//! ```text
//! api.openai.com                 that name, port 443
//! *.telegram.org:443,8443        every name below it, those ports
//! 203.0.113.0/24:8443            those addresses, that port
//! ```
//! Profiles, the API and a spec hold the same text; the agent's gate turns it into rules. Anything that no rule names
//! is denied. All of it is TCP over IPv4: UDP 443 is denied so that clients fall back to TCP, and bots have no IPv6.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The port of a rule that names none: HTTPS.
pub const PORT_DEFAULT: u16 = 443;

/// Ports in one rule: a handful of services on one name. Each allowed address takes a set element per port.
pub const PORTS_PER_RULE_MAX: usize = 8;

/// Ports that no bot reaches anywhere: mail submission and relay, for which a fleet's addresses would be blocklisted, and name
/// servers, because names are asked of the host's own resolver alone (853: DNS over TLS, RFC 7858).
pub const PORTS_DENIED: [(u16, &str); 7] = [
    (25, "mail relay"),
    (465, "mail submission"),
    (587, "mail submission"),
    (2525, "mail submission"),
    (53, "other name servers"),
    (853, "other name servers"),
    (5353, "multicast name service"),
];

/// Addresses that no bot reaches, whatever a rule says or a name resolves to (IANA's special-purpose registry,
/// RFC 6890): the host's and its neighbours' networks, other tenants, and a cloud's metadata with its credentials.
pub const RANGES_DENIED: [(Cidr, &str); 15] = [
    (Cidr::of([0, 0, 0, 0], 8), "this host"),
    (Cidr::of([10, 0, 0, 0], 8), "private networks"),
    (Cidr::of([100, 64, 0, 0], 10), "carrier networks, and some clouds' metadata"),
    (Cidr::of([127, 0, 0, 0], 8), "loopback"),
    (Cidr::of([169, 254, 0, 0], 16), "link-local, and clouds' metadata"),
    (Cidr::of([172, 16, 0, 0], 12), "private networks, other tenants among them"),
    (Cidr::of([192, 0, 0, 0], 24), "protocol assignments"),
    (Cidr::of([192, 88, 99, 0], 24), "6to4 relays"),
    (Cidr::of([192, 168, 0, 0], 16), "private networks"),
    (Cidr::of([168, 63, 129, 16], 32), "a cloud's metadata"),
    (Cidr::of([198, 18, 0, 0], 15), "benchmark networks"),
    (Cidr::of([224, 0, 0, 0], 4), "multicast"),
    (Cidr::of([240, 0, 0, 0], 5), "reserved"),
    (Cidr::of([248, 0, 0, 0], 5), "reserved"),
    (Cidr::of([255, 255, 255, 255], 32), "broadcast"),
];

/// Bytes of a name without its final dot (RFC 1035 §2.3.4).
const NAME_MAX_BYTES: usize = 253;
/// Bytes of one label, likewise.
const LABEL_MAX_BYTES: usize = 63;
/// Labels of a name that a rule may end in: `*.com` would allow most of the internet.
const LABELS_MIN: usize = 2;

/// One rule: where to, and on which TCP ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressRule {
    /// Where to.
    pub to: Destination,
    /// TCP ports; never empty, none of [`PORTS_DENIED`].
    pub ports: BTreeSet<u16>,
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Whatever that name resolves to, when this bot asks for it.
    Domain(DomainPattern),
    /// Those addresses.
    Network(Cidr),
}

/// A host name, or all names below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainPattern {
    /// In lower case, without a final dot.
    name: String,
    /// Whether names below it are meant, and not itself.
    below: bool,
}

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    base: Ipv4Addr,
    bits: u8,
}

/// Why a text is no egress rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressRuleError {
    /// Neither a name nor a range.
    #[error(
        "`{0}` is neither a host name such as `api.example.com` or `*.example.com` nor a range such as `203.0.113.0/24`"
    )]
    Malformed(String),
    /// A name that matches too much.
    #[error("`{0}` allows every name of a top-level domain: name at least two labels, such as `*.example.com`")]
    TooWide(String),
    /// A range that reaches into one that is never allowed.
    #[error("{wanted} reaches into {denied} ({why}), which no bot may reach")]
    DeniedRange {
        /// What was asked for.
        wanted: Cidr,
        /// What it reaches into.
        denied: Cidr,
        /// What lies there.
        why: &'static str,
    },
    /// A port that is never allowed.
    #[error("port {port} ({why}) is one that no bot may reach")]
    DeniedPort {
        /// Which.
        port: u16,
        /// What it is for.
        why: &'static str,
    },
    /// Ports that cannot be read, none at all, or too many.
    #[error("`{0}` is no list of one to {PORTS_PER_RULE_MAX} ports from 1 to 65535, such as `443,8443`")]
    Ports(String),
}

/// What lies at an address that no bot reaches; none: a rule may allow it.
#[must_use]
pub fn denied_address(address: Ipv4Addr) -> Option<&'static str> {
    RANGES_DENIED.iter().find(|(range, _)| range.contains(address)).map(|(_, why)| *why)
}

impl DomainPattern {
    /// Whether a name is meant; the name in any case, with or without its final dot.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let Some(at) = name.len().checked_sub(self.name.len()) else { return false };
        let Some((front, tail)) = name.as_bytes().split_at_checked(at) else { return false };
        tail.eq_ignore_ascii_case(self.name.as_bytes())
            && if self.below { front.len() > 1 && front.ends_with(b".") } else { front.is_empty() }
    }
}

impl Cidr {
    const fn of(octets: [u8; 4], bits: u8) -> Self {
        Self { base: Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), bits }
    }

    /// A range; none when there are more than 32 bits, or the base has bits set beyond them.
    #[must_use]
    pub fn new(base: Ipv4Addr, bits: u8) -> Option<Self> {
        let range = Self { base, bits };
        (bits <= 32 && u32::from(base) & !range.mask() == 0).then_some(range)
    }

    /// Its first address.
    #[must_use]
    pub const fn base(self) -> Ipv4Addr {
        self.base
    }

    /// Bits that all its addresses share.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.base)
    }

    /// Whether two ranges share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits.min(32))).unwrap_or(0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = EgressRuleError;

    /// A range, or a single address.
    fn from_str(text: &str) -> Result<Self, EgressRuleError> {
        let malformed = || EgressRuleError::Malformed(text.to_owned());
        let (base, bits) = text.split_once('/').unwrap_or((text, "32"));
        let (base, bits) = (base.parse().map_err(|_| malformed())?, bits.parse().map_err(|_| malformed())?);
        Self::new(base, bits).ok_or_else(malformed)
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl FromStr for DomainPattern {
    type Err = EgressRuleError;

    fn from_str(text: &str) -> Result<Self, EgressRuleError> {
        let malformed = || EgressRuleError::Malformed(text.to_owned());
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        if !is_host_name(name) {
            return Err(malformed());
        }
        if name.split('.').count() < LABELS_MIN {
            return Err(if below { EgressRuleError::TooWide(text.to_owned()) } else { malformed() });
        }
        Ok(Self { name: name.to_ascii_lowercase(), below })
    }
}

/// Whether that is a host name (RFC 1123 §2.1) in ASCII, without a final dot, and no address: its last label has a letter.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.len() <= LABEL_MAX_BYTES
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_has_a_letter =
        name.rsplit('.').next().is_some_and(|label| label.bytes().any(|byte| byte.is_ascii_alphabetic()));
    name.len() <= NAME_MAX_BYTES && name.split('.').all(is_label) && last_has_a_letter
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(pattern) => pattern.fmt(f),
            Self::Network(range) => range.fmt(f),
        }
    }
}

/// The shortest text that reads back as the same rule.
impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if self.ports.iter().eq([&PORT_DEFAULT]) {
            return Ok(());
        }
        let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
        write!(f, ":{}", ports.join(","))
    }
}

impl FromStr for EgressRule {
    type Err = EgressRuleError;

    fn from_str(text: &str) -> Result<Self, EgressRuleError> {
        let (place, ports) = match text.split_once(':') {
            Some((place, list)) => (place, ports(list)?),
            None => (text, BTreeSet::from([PORT_DEFAULT])),
        };
        let to = match place.parse::<Cidr>() {
            Ok(range) => Destination::Network(allowed(range)?),
            Err(_) => Destination::Domain(place.parse()?),
        };
        Ok(Self { to, ports })
    }
}

fn allowed(wanted: Cidr) -> Result<Cidr, EgressRuleError> {
    match RANGES_DENIED.iter().find(|(denied, _)| denied.overlaps(wanted)) {
        Some((denied, why)) => Err(EgressRuleError::DeniedRange { wanted, denied: *denied, why }),
        None => Ok(wanted),
    }
}

fn ports(list: &str) -> Result<BTreeSet<u16>, EgressRuleError> {
    let unreadable = || EgressRuleError::Ports(list.to_owned());
    let ports: BTreeSet<u16> = list.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    if ports.contains(&0) || ports.len() > PORTS_PER_RULE_MAX {
        return Err(unreadable());
    }
    match PORTS_DENIED.iter().find(|(port, _)| ports.contains(port)) {
        Some((port, why)) => Err(EgressRuleError::DeniedPort { port: *port, why }),
        None => Ok(ports),
    }
}

impl TryFrom<String> for EgressRule {
    type Error = EgressRuleError;

    fn try_from(text: String) -> Result<Self, EgressRuleError> {
        text.parse()
    }
}

impl From<EgressRule> for String {
    fn from(rule: EgressRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<EgressRule, EgressRuleError> {
        text.parse()
    }

    #[test]
    fn a_rule_reads_back_as_it_is_written_and_names_https_by_silence() {
        for text in ["api.openai.com", "*.telegram.org:443,8443", "203.0.113.0/24:8443", "8.8.4.0/22"] {
            assert_eq!(rule(text).expect(text).to_string(), text);
        }
        assert_eq!(rule("API.OpenAI.com:443").expect("a rule").to_string(), "api.openai.com");
        assert_eq!(rule("203.0.113.7").expect("a rule").to_string(), "203.0.113.7/32");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "api",
            "a..b.example",
            "-a.example",
            "http://a.example",
            "a.example/24",
            "300.1.1.1",
            "a b.example",
        ] {
            assert!(matches!(rule(text), Err(EgressRuleError::Malformed(_) | EgressRuleError::Ports(_))), "{text:?}");
        }
        assert_eq!(rule("*.com"), Err(EgressRuleError::TooWide("*.com".to_owned())));
        assert!(matches!(rule("203.0.113.7/24"), Err(EgressRuleError::Malformed(_))), "bits beyond the mask");
        for text in ["a.example:", "a.example:0", "a.example:70000", "a.example:1,2,3,4,5,6,7,8,9"] {
            assert!(matches!(rule(text), Err(EgressRuleError::Ports(_))), "{text:?}");
        }
    }

    #[test]
    fn a_range_that_touches_a_denied_one_is_refused_from_either_side() {
        for text in ["0.0.0.0/0", "10.1.2.3", "128.0.0.0/1", "169.254.169.254", "192.168.0.0/24", "172.16.0.0/11"] {
            let refused =
                matches!(rule(text), Err(EgressRuleError::DeniedRange { .. } | EgressRuleError::Malformed(_)));
            assert!(refused, "{text}");
        }
        assert!(matches!(rule("0.0.0.0/0"), Err(EgressRuleError::DeniedRange { .. })));
        assert!(denied_address(Ipv4Addr::new(169, 254, 169, 254)).is_some());
        assert!(denied_address(Ipv4Addr::new(1, 1, 1, 1)).is_none());
    }

    #[test]
    fn mail_and_other_name_servers_are_refused_by_port() {
        for port in [25, 53, 465, 587, 853, 2525] {
            assert!(matches!(rule(&format!("a.example:{port}")), Err(EgressRuleError::DeniedPort { .. })), "{port}");
        }
    }

    #[test]
    fn a_star_means_all_below_and_not_the_name_itself() {
        let below: DomainPattern = "*.slack.com".parse().expect("a pattern");
        for name in ["a.slack.com", "A.B.SLACK.com."] {
            assert!(below.matches(name), "{name}");
        }
        for name in ["slack.com", ".slack.com", "notslack.com", "a.slack.com.evil.example", "slack.co"] {
            assert!(!below.matches(name), "{name}");
        }
        let exact: DomainPattern = "slack.com".parse().expect("a pattern");
        assert!(exact.matches("Slack.com.") && !exact.matches("a.slack.com"));
    }
}
