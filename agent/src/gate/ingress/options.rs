//! What the gate is told about ingress: where Caddy is, where it listens, and who signs its certificates.
//!
//! `gate` flattens [`IngressArgs`] into its own command line; [`super::config`] makes Caddy's whole
//! configuration of it. Nothing here touches the machine.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Caddy's admin socket, in the run directory of its unit.
pub const CADDY_ADMIN: &str = "/run/launchpad-caddy/admin.sock";
/// The configuration that Caddy's unit starts with. It outlives a boot, so that Caddy needs nobody to come
/// back.
pub const CADDY_CONFIG: &str = "/var/lib/launchpad-caddy/caddy.json";
/// Where Caddy asks the gate. On loopback, where no bot's packets arrive; below 1024, so that while the gate
/// is away no ordinary user of the host can answer in its place. 770 is free on every Debian host that we
/// know of.
pub const DIRECTORY: &str = "127.0.0.1:770";
/// Let's Encrypt.
pub const ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How bots are reached from outside.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct IngressArgs {
    /// Caddy's admin socket
    #[arg(long, env = "LAUNCHPAD_GATE_CADDY_ADMIN", value_name = "SOCKET", default_value = CADDY_ADMIN)]
    pub caddy_admin: PathBuf,
    /// Where Caddy's configuration is written, for `caddy run --config`
    #[arg(long, env = "LAUNCHPAD_GATE_CADDY_CONFIG", value_name = "FILE", default_value = CADDY_CONFIG)]
    pub caddy_config: PathBuf,
    /// Where Caddy asks which bot a name leads to: a loopback address
    #[arg(long, env = "LAUNCHPAD_GATE_INGRESS_DIRECTORY", value_name = "IPV4:PORT", default_value = DIRECTORY,
          value_parser = loopback)]
    pub ingress_directory: SocketAddrV4,
    /// Where Caddy listens for plain HTTP, which it sends on to HTTPS
    #[arg(long, env = "LAUNCHPAD_GATE_INGRESS_HTTP", value_name = "[ADDRESS:]PORT", default_value = "80")]
    pub ingress_http: Listen,
    /// Where Caddy listens for HTTPS
    #[arg(long, env = "LAUNCHPAD_GATE_INGRESS_HTTPS", value_name = "[ADDRESS:]PORT", default_value = "443")]
    pub ingress_https: Listen,
    /// Who signs the certificates
    #[arg(long, env = "LAUNCHPAD_GATE_INGRESS_TLS", value_enum, default_value_t)]
    pub ingress_tls: Signer,
    /// The ACME directory; Let's Encrypt's staging one while you try things out
    #[arg(long, env = "LAUNCHPAD_GATE_ACME_DIRECTORY", value_name = "URL", default_value = ACME_DIRECTORY)]
    pub acme_directory: String,
    /// Whom the ACME authority writes to about your certificates
    #[arg(long, env = "LAUNCHPAD_GATE_ACME_EMAIL", value_name = "MAIL")]
    pub acme_email: Option<String>,
    /// The root certificate (PEM) of an ACME authority of your own
    #[arg(long, env = "LAUNCHPAD_GATE_ACME_ROOT", value_name = "FILE")]
    pub acme_root: Option<PathBuf>,
}

/// Who signs the certificates of bots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Signer {
    /// Caddy's own authority, which only your own machines can be told to trust: for trying out, and for
    /// tests.
    Internal,
    /// A public authority, or another one that speaks ACME.
    #[default]
    Acme,
}

/// Where Caddy listens: a port on every address, or one address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On every address.
    Port(u16),
    /// On this one.
    Address(SocketAddr),
}

/// Why a text is no place to listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a port nor an address with one, such as 443, 192.0.2.7:443 or [2001:db8::7]:443")]
pub struct ListenError(String);

impl Listen {
    /// The port.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Port(port) => port,
            Self::Address(address) => address.port(),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let port = text.parse().map(Self::Port);
        let listen = port.or_else(|_| text.parse().map(Self::Address)).ok();
        listen.filter(|listen| listen.port() != 0).ok_or_else(|| ListenError(text.to_owned()))
    }
}

/// As Caddy takes it.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, ":{port}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Anywhere else, bots and strangers could ask which addresses names lead to, and answer in the gate's place.
fn loopback(text: &str) -> Result<SocketAddrV4, String> {
    let address: SocketAddrV4 =
        text.parse().map_err(|_| format!("`{text}` is not IPV4:PORT, such as {DIRECTORY}"))?;
    if address.ip().is_loopback() && address.port() != 0 {
        return Ok(address);
    }
    Err(format!("{address} is not on this host's loopback; take one such as {DIRECTORY}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ingress: IngressArgs,
    }

    #[test]
    fn a_production_host_needs_no_option() {
        let line = Line::try_parse_from(["gate"]).unwrap().ingress;
        assert_eq!((line.ingress_http, line.ingress_https), (Listen::Port(80), Listen::Port(443)));
        assert_eq!(line.ingress_tls, Signer::Acme);
        assert_eq!(line.ingress_directory.to_string(), DIRECTORY);
    }

    #[test]
    fn caddys_unit_starts_with_the_gates_file_and_makes_its_sockets_directory() {
        let unit = include_str!("../../../../systemd/launchpad-caddy.service");
        assert!(unit.contains(&format!("ExecStart=/usr/bin/caddy run --config {CADDY_CONFIG}\n")), "{unit}");
        let run_dir =
            PathBuf::from(CADDY_ADMIN).parent().and_then(|dir| dir.strip_prefix("/run").ok()).unwrap().to_owned();
        assert!(unit.contains(&format!("RuntimeDirectory={}\n", run_dir.display())), "{unit}");
    }

    #[test]
    fn a_place_to_listen_reads_as_people_and_as_caddy_write_it() {
        for (text, caddys) in [("443", ":443"), ("192.0.2.7:8443", "192.0.2.7:8443"), ("[::1]:80", "[::1]:80")] {
            assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()), Ok(caddys.to_owned()));
        }
        for bad in ["", "0", "https", "192.0.2.7", "192.0.2.7:0", "99999", "localhost:443"] {
            assert_eq!(bad.parse::<Listen>(), Err(ListenError(bad.to_owned())));
        }
    }

    #[test]
    fn the_directory_is_for_this_host_alone() {
        for bad in ["0.0.0.0:770", "192.0.2.7:770", "127.0.0.1:0", "[::1]:770", "770"] {
            let refused = Line::try_parse_from(["gate", "--ingress-directory", bad]).unwrap_err().to_string();
            assert!(refused.contains(DIRECTORY), "{refused}");
        }
    }
}
