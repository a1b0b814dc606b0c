//! Lookups by way of a name server that is asked over UDP, and over TCP where an answer is too long for it.
//!
//! Nothing is remembered: somebody who has just set a record and asks again is answered with what stands there now.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use launchpad_protocol::reason::Reason;

use super::DnsLookup;

/// To an answer of a name server, before it is asked again or another is.
const TRY: Duration = Duration::from_secs(2);
/// Tries after the first.
const MORE_TRIES: usize = 1;
/// To an answer of any: well below the time that an API request may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Texts of one name that are looked at: a busy domain has a dozen.
const TEXTS_MAX: usize = 64;
/// Bytes of one that are looked at: one string of a record has 255, and a proof needs a fifth of that.
const TEXT_MAX_BYTES: usize = 1024;

/// Asks name servers; or says why it knows none, which keeps no coordinator from starting.
#[derive(Debug)]
pub struct Resolver(Result<TokioResolver, Reason>);

impl Resolver {
    /// One that asks these servers, or those of the machine where none is named.
    #[must_use]
    pub fn of(servers: &[SocketAddr]) -> Self {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let config = ResolverConfig::from_name_servers(servers.iter().copied().map(name_server).collect());
            Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        };
        let built = builder.and_then(|mut builder| {
            let options = builder.options_mut();
            options.cache_size = 0;
            options.timeout = TRY;
            options.attempts = MORE_TRIES;
            builder.build()
        });
        Self(built.map_err(|error| no_resolver(&error)))
    }

    async fn ask(&self, name: &str) -> Result<Vec<String>, Reason> {
        // With a final dot: the machine's search list must not turn it into another name.
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        let asked = tokio::time::timeout(ANSWER, resolver.txt_lookup(format!("{name}.")));
        let found = match asked.await {
            Err(_) => return Err(silent(name, &format!("nobody answered within {} s", ANSWER.as_secs()))),
            Ok(Err(error)) if error.is_no_records_found() => return Ok(Vec::new()),
            Ok(Err(error)) => return Err(silent(name, &error.to_string())),
            Ok(Ok(found)) => found,
        };
        // Other records are aliases on the way there.
        let texts = found
            .answers()
            .iter()
            .filter_map(|record| if let RData::TXT(txt) = &record.data { Some(txt.txt_data.concat()) } else { None });
        Ok(texts.take(TEXTS_MAX).map(|text| readable(&text)).collect())
    }
}

impl DnsLookup for Resolver {
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, Reason>> {
        self.ask(name).boxed()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut config.connections {
        let told: &mut ConnectionConfig = connection;
        told.port = address.port();
    }
    config
}

fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX_BYTES)]).into_owned()
}

fn no_resolver(error: &NetError) -> Reason {
    Reason::new("no-resolver", "the coordinator knows no name server")
        .because(error.to_string())
        .mend("name one with --resolver ADDR, or correct /etc/resolv.conf, and start the coordinator again")
}

fn silent(name: &str, why: &str) -> Reason {
    Reason::new("name-server-away", format!("what stands at {name} could not be looked up"))
        .because(why)
        .mend("it is tried again; see whether the domain's name servers answer, and the coordinator's --resolver")
}
