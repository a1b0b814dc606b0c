//! Who came: every connection, datagram and question that a stand-in got, in the order of their coming.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How somebody came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A connection was accepted.
    Connection,
    /// A datagram arrived.
    Datagram,
    /// A DNS server was asked.
    Question {
        /// For which name, in lower case, without the last dot.
        name: String,
        /// For which kind of record, such as `A`.
        kind: String,
    },
}

/// One arrival.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// The stand-in's name.
    pub stand_in: String,
    /// Where it was met: a neighbour may have several addresses.
    pub to: SocketAddr,
    /// Who came, as the network showed them.
    pub from: SocketAddr,
    /// And how.
    pub by: By,
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stand_in, to, from, by } = self;
        match by {
            By::Connection => write!(f, "{stand_in}: a connection to {to} from {from}"),
            By::Datagram => write!(f, "{stand_in}: a datagram to {to} from {from}"),
            By::Question { name, kind } => write!(f, "{stand_in}: {from} asked {to} for {name} ({kind})"),
        }
    }
}

/// All arrivals, shared by those who write and those who read.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Arrival>>>);

impl Record {
    pub(super) fn write(&self, arrival: Arrival) {
        self.lock().push(arrival);
    }

    /// Every arrival so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.lock().clone()
    }

    /// Those at the stand-in of that name.
    pub fn at(&self, stand_in: &str) -> Vec<Arrival> {
        self.lock().iter().filter(|arrival| arrival.stand_in == stand_in).cloned().collect()
    }

    /// The names that DNS servers were asked for, those at or below `domain`.
    pub fn asked_below(&self, domain: &str) -> Vec<Arrival> {
        let suffix = format!(".{domain}");
        let below = |name: &str| name == domain || name.ends_with(&suffix);
        let asked = |arrival: &&Arrival| matches!(&arrival.by, By::Question { name, .. } if below(name));
        self.lock().iter().filter(asked).cloned().collect()
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
