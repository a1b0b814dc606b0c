//! What the contract is judged by: the reports of a hostile bot, the records of the world outside, and how
//! its neighbours fared. Pure.
//!
//! Called by the scenario (`tests/contract.rs`) and by the program behind `make check-contract`, which gather
//! the [`Evidence`] and ask for the [`Evidence::breaches`].
//!
//! ```text
//!  reports of the bot ──┐  says what it reached
//!  record of stand-ins ─┼─► breaches: none, or one line for each thing that should not have been
//!  wire ────────────────┤  says who came, and for what, whatever the bot believes
//!  neighbours, host ────┘  as they were
//! ```
//!
//! What never happens here: a benefit of the doubt. What could not be tried, a control that failed, a record
//! that nobody expected: each is a breach, because each would let a wall that is missing pass unseen.

mod aftermath;
pub mod backend;
pub mod site;
pub mod summary;
pub mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;

use launchpad_hostile::{Outcome, Report};

use crate::stand_in::cast::{
    self, ALIAS_ADDRESS, ALLOWED_ADDRESS, ALLOWED_PORT, DEAD_ADDRESS, RANGE_ADDRESS, RANGE_PORT, UPSTREAM,
};
use crate::stand_in::record::{Arrival, By};
use crate::stand_in::wire::Flow;

/// Where the bots' resolver asks.
const DNS_PORT: u16 = 53;

/// All that was seen of one run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What came of every attack.
    pub attacks: Vec<Report>,
    /// What came of the visits that are allowed.
    pub controls: Vec<Report>,
    /// Who came to which stand-in.
    pub arrivals: Vec<Arrival>,
    /// What came over the wire.
    pub flows: BTreeSet<Flow>,
    /// What is not as it was before: a neighbour, the host. One line each.
    pub harm: Vec<String>,
}

impl Evidence {
    /// How many things were tried.
    pub fn attempts(&self) -> usize {
        self.attacks.iter().map(|report| report.tries.len()).sum()
    }

    /// How many of them were refused, or stayed within their bounds.
    pub fn refused(&self) -> usize {
        let held = |outcome| matches!(outcome, Outcome::Refused | Outcome::Contained);
        self.attacks.iter().flat_map(|report| &report.tries).filter(|tried| held(tried.outcome)).count()
    }

    /// One line for each thing that should not have been; none when the contract holds.
    pub fn breaches(&self) -> Vec<String> {
        let tried = self.attacks.iter().flat_map(not_held);
        let controls = self.controls.iter().filter_map(not_working);
        let arrived =
            self.arrivals.iter().filter(|arrival| !expected(arrival)).map(|arrival| format!("came to {arrival}"));
        let flowed = self.flows.iter().filter(|flow| !let_through(flow));
        let flowed = flowed.map(|Flow { to, protocol, port }| match port {
            Some(port) => format!("left the host: {protocol} to {to} port {port}"),
            None => format!("left the host: {protocol} to {to}"),
        });
        let nothing = self.attacks.is_empty().then(|| "nothing was tried".to_owned());
        let unproved = self.controls.is_empty().then(|| "nothing allowed was tried".to_owned());
        let harm = self.harm.iter().cloned();
        tried.chain(controls).chain(arrived).chain(flowed).chain(harm).chain(nothing).chain(unproved).collect()
    }
}

/// The tries of an attack that got through or could not be made.
fn not_held(report: &Report) -> Vec<String> {
    let name = &report.attack.name;
    let line = |how: &str, what: &str, told: &str| format!("{name} {how}: {what}: {told}");
    let lines = report.tries.iter().filter_map(|tried| match tried.outcome {
        Outcome::Refused | Outcome::Contained => None,
        Outcome::Untried => Some(line("could not be tried", &tried.what, &tried.told)),
        Outcome::Reached => Some(line("got through", &tried.what, &tried.told)),
    });
    let none = report.tries.is_empty().then(|| format!("{name} could not be tried"));
    lines.chain(none).collect()
}

/// A control that did not reach what it may reach.
fn not_working(report: &Report) -> Option<String> {
    let told = || report.tries.iter().map(|tried| tried.told.as_str()).collect::<Vec<_>>().join("; ");
    (report.outcome != Outcome::Reached).then(|| format!("{} is allowed and failed: {}", report.attack.name, told()))
}

/// Arrivals that the controls and the bots' resolver make.
fn expected(arrival: &Arrival) -> bool {
    match &arrival.by {
        By::Connection if arrival.stand_in == "upstream" => true,
        By::Connection => {
            let at = (arrival.stand_in.as_str(), arrival.to.port());
            [("allowed", ALLOWED_PORT), ("alias", ALLOWED_PORT), ("range", RANGE_PORT)].contains(&at)
        }
        By::Datagram => false,
        By::Question { name, .. } => arrival.stand_in == "upstream" && cast::may_be_asked(name),
    }
}

/// Packets that they send.
fn let_through(flow: &Flow) -> bool {
    let to = |address: &str| address.parse::<IpAddr>() == Ok(flow.to);
    let tcp = flow.protocol == "tcp";
    let named = [ALLOWED_ADDRESS, ALIAS_ADDRESS, DEAD_ADDRESS].into_iter().any(to);
    let web = named && tcp && flow.port == Some(ALLOWED_PORT);
    let range = flow.to == IpAddr::V4(RANGE_ADDRESS) && tcp && flow.port == Some(RANGE_PORT);
    web || range || (to(UPSTREAM) && (tcp || flow.protocol == "udp") && flow.port == Some(DNS_PORT))
}

#[cfg(test)]
mod tests {
    use launchpad_hostile::{Entry, Room, Try};

    use super::*;

    fn report(name: &str, tried: Try) -> Report {
        let attack = Entry { name: name.to_owned(), room: Room::Network, aim: "visits".to_owned() };
        Report::new(attack, vec![tried])
    }

    fn arrival(stand_in: &str, to: &str, by: By) -> Arrival {
        let from = "198.18.1.2:40000".parse().unwrap();
        Arrival { stand_in: stand_in.to_owned(), to: to.parse().unwrap(), from, by }
    }

    fn question(name: &str) -> By {
        By::Question { name: name.to_owned(), kind: "A".to_owned() }
    }

    fn flow(protocol: &str, to: &str, port: Option<u16>) -> Flow {
        Flow { to: to.parse().unwrap(), protocol: protocol.to_owned(), port }
    }

    /// A run in which everything held.
    fn held() -> Evidence {
        Evidence {
            attacks: vec![report("metadata", Try::refused("connects", "timed out"))],
            controls: vec![report("control-allowed", Try::reached("connects", "connected"))],
            arrivals: vec![
                arrival("allowed", "203.0.113.10:443", By::Connection),
                arrival("upstream", "198.51.100.53:53", question("api.allowed.test")),
                arrival("upstream", "198.51.100.53:53", question("private.rebind.test")),
                arrival("upstream", "198.51.100.53:53", question("cdn.elsewhere.test")),
            ],
            flows: [flow("tcp", ALLOWED_ADDRESS, Some(443)), flow("udp", UPSTREAM, Some(53))].into(),
            harm: Vec::new(),
        }
    }

    #[test]
    fn a_run_in_which_only_the_controls_came_through_has_no_breach() {
        assert_eq!(held().breaches(), Vec::<String>::new());
        assert_eq!((held().attempts(), held().refused()), (1, 1));
    }

    #[test]
    fn whatever_gets_through_is_a_breach_whoever_saw_it() {
        let by_report = |tried| Evidence { attacks: vec![report("metadata", tried)], ..held() };
        let by_record = |arrival| Evidence { arrivals: vec![arrival], ..held() };
        let by_wire = |flow| Evidence { flows: [flow].into(), ..held() };
        for broken in [
            by_report(Try::reached("connects", "connected")),
            by_report(Try::untried("connects", "no socket")),
            by_record(arrival("metadata", "169.254.169.254:80", By::Connection)),
            by_record(arrival("allowed", "203.0.113.10:8443", By::Connection)),
            by_record(arrival("allowed", "203.0.113.10:443", By::Datagram)),
            by_record(arrival("upstream", "198.51.100.53:53", question("evil.test"))),
            by_record(arrival("upstream", "198.51.100.53:53", question("x.api.allowed.test"))),
            by_record(arrival("upstream", "198.51.100.53:53", question("direct.test"))),
            by_record(arrival("other-dns", "8.8.8.8:53", question("api.allowed.test"))),
            by_wire(flow("icmp", ALLOWED_ADDRESS, None)),
            by_wire(flow("udp", ALLOWED_ADDRESS, Some(443))),
            by_wire(flow("tcp", "10.1.2.3", Some(443))),
            Evidence { harm: vec!["the neighbour restarted".to_owned()], ..held() },
        ] {
            assert_eq!(broken.breaches().len(), 1, "{broken:?}");
        }
    }

    #[test]
    fn a_run_that_could_prove_nothing_is_a_breach() {
        assert_eq!(Evidence { attacks: Vec::new(), ..held() }.breaches(), ["nothing was tried"]);
        assert_eq!(Evidence { controls: Vec::new(), ..held() }.breaches(), ["nothing allowed was tried"]);
        let failed = vec![report("control-allowed", Try::refused("connects", "timed out"))];
        assert_eq!(Evidence { controls: failed, ..held() }.breaches().len(), 1);
    }
}
