//! The catalogue: every attack by name, and how one is run in the process that was made for it.
//!
//! `http` lists it, `main` runs one of it. Attacks of four rooms are fixed; those on the network are mostly
//! orders.

use launchpad_hostile::{Entry, Report, Room, Try};

use crate::place::Place;
use crate::{bombs, files, kernel, looks, network};

/// One attack that every hostile bot knows.
#[derive(Debug)]
pub(crate) struct Attack {
    /// Its name, lower-case words joined by `-`.
    pub(crate) name: &'static str,
    /// What it tries.
    pub(crate) aim: &'static str,
    /// Tries it, and cleans up after itself.
    pub(crate) run: fn(&Place) -> Vec<Try>,
}

const ROOMS: [(Room, &[Attack]); 5] = [
    (Room::Looks, looks::ATTACKS),
    (Room::Kernel, kernel::ATTACKS),
    (Room::Files, files::ATTACKS),
    (Room::Bombs, bombs::ATTACKS),
    (Room::Network, network::ATTACKS),
];

/// All that this bot can be ordered to try.
pub(crate) fn catalogue(place: &Place) -> Vec<Entry> {
    let fixed = known().map(|(room, attack)| entry(room, attack.name, attack.aim.to_owned()));
    let visits = place.orders.visits.iter();
    let visits = visits.map(|visit| entry(Room::Network, &visit.name, network::aim(&visit.how)));
    fixed.chain(visits).collect()
}

/// Tries the attack of that name, here and now. `None`: there is none.
pub(crate) fn run(place: &Place, name: &str) -> Option<Report> {
    let attack = catalogue(place).into_iter().find(|entry| entry.name == name)?;
    let fixed = known().find(|(_, attack)| attack.name == name);
    let visit = place.orders.visits.iter().find(|visit| visit.name == name);
    let tries = match (fixed, visit) {
        (Some((_, attack)), _) => (attack.run)(place),
        (None, Some(visit)) => network::visit(&visit.how),
        (None, None) => return None,
    };
    Some(Report::new(attack, tries))
}

fn known() -> impl Iterator<Item = (Room, &'static Attack)> {
    ROOMS.into_iter().flat_map(|(room, attacks)| attacks.iter().map(move |attack| (room, attack)))
}

fn entry(room: Room, name: &str, aim: String) -> Entry {
    Entry { name: name.to_owned(), room, aim }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_attacks_share_a_name() {
        let names: Vec<_> = known().map(|(_, attack)| attack.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
