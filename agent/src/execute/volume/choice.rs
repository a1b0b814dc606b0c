//! Which way of holding data a host has: chosen once, written down, never changed under data.
//!
//! What lies on the disk decides; where nothing does, the better way that this host is able of. The note in
//! `volumes/backend` says which it was, for people and for the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use launchpad_protocol::reason::Reason;

use super::backend::{Kind, cannot};
use crate::execute::places::{Home, Places};

/// The note's name.
pub(super) const NOTE: &str = "backend";

/// Whether this host is able of a way, and why not.
pub(super) type Able = BTreeMap<Kind, Result<(), Reason>>;

/// The way for this host.
///
/// # Errors
/// When none is possible, or the one that data is held by is not.
pub(super) fn choose(on_disk: &BTreeSet<Kind>, able: &Able) -> Result<Kind, Reason> {
    let ability = |kind: Kind| {
        let unknown = || Err(Reason::new("no-volumes", format!("whether this host can do `{kind}` is unknown")));
        able.get(&kind).cloned().unwrap_or_else(unknown)
    };
    let mut there = on_disk.iter();
    match (there.next(), there.next()) {
        (Some(_), Some(_)) => Err(Reason::new("volumes-mixed", "volumes of two kinds lie in one data directory")
            .because(Kind::ALL.map(Kind::name).join(" and "))
            .mend("move those of one kind to another host")),
        (Some(kind), None) => ability(*kind).map(|()| *kind).map_err(|reason| {
            let sentence = format!("the volumes of this host are of kind `{kind}`, which it is not able of now");
            with_mend(Reason::new("volumes-unavailable", sentence).because(told(&reason)), &reason)
        }),
        (None, _) => {
            let mut refusals = Vec::new();
            for kind in Kind::ALL {
                match ability(kind) {
                    Ok(()) => return Ok(kind),
                    Err(reason) => refusals.push((kind, reason)),
                }
            }
            let causes: Vec<String> =
                refusals.iter().map(|(kind, reason)| format!("{kind}: {}", told(reason))).collect();
            let none = Reason::new("no-volumes", "this host cannot hold volumes").because(causes.join("; "));
            // The last way works on nearly every host, and asks for the least.
            Err(refusals.last().map_or(none.clone(), |(_, reason)| with_mend(none, reason)))
        }
    }
}

fn told(reason: &Reason) -> String {
    let cause = reason.cause.as_ref().map_or_else(String::new, |cause| format!(" ({cause})"));
    format!("{}{cause}", reason.sentence)
}

fn with_mend(reason: Reason, other: &Reason) -> Reason {
    match &other.mend {
        Some(mend) => reason.mend(mend.clone()),
        None => reason,
    }
}

/// The ways by which data is held now, snapshots included.
///
/// # Errors
/// What cannot be read.
pub(super) fn on_disk(places: &Places) -> Result<BTreeSet<Kind>, Reason> {
    let mut found = BTreeSet::new();
    for deployment in super::work::deployments(places)? {
        let home = places.volume(deployment);
        let homes = snapshots(&home)?.into_iter().map(|name| home.snapshot(&name));
        for home in homes.chain([home.clone()]) {
            found.extend(Kind::ALL.into_iter().filter(|kind| kind.content(&home).exists()));
        }
    }
    Ok(found)
}

/// The names of a volume's snapshots.
///
/// # Errors
/// What cannot be read.
pub(super) fn snapshots(home: &Home) -> Result<BTreeSet<String>, Reason> {
    let parent = home.snapshots();
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(cannot("list", &parent)(error)),
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able(quota: bool, image: bool) -> Able {
        let absent = |sentence: &str| Err(Reason::new("no", sentence).mend(format!("mend {sentence}")));
        BTreeMap::from([
            (Kind::XfsQuota, if quota { Ok(()) } else { absent("no XFS") }),
            (Kind::Ext4Image, if image { Ok(()) } else { absent("no loops") }),
        ])
    }

    #[test]
    fn an_empty_host_takes_the_better_way_that_it_is_able_of() {
        let nothing = BTreeSet::new();
        assert_eq!(choose(&nothing, &able(true, true)), Ok(Kind::XfsQuota));
        assert_eq!(choose(&nothing, &able(false, true)), Ok(Kind::Ext4Image));
        let reason = choose(&nothing, &able(false, false)).unwrap_err();
        assert_eq!(
            reason.to_string(),
            "this host cannot hold volumes (xfs-quota: no XFS; ext4-image: no loops); mend no loops"
        );
    }

    #[test]
    fn data_is_never_held_by_another_way_than_it_was() {
        let images = BTreeSet::from([Kind::Ext4Image]);
        assert_eq!(choose(&images, &able(true, true)), Ok(Kind::Ext4Image));
        let reason = choose(&images, &able(true, false)).unwrap_err();
        assert_eq!(reason.code, "volumes-unavailable");
        assert!(
            reason.sentence.contains("ext4-image") && reason.mend.as_deref() == Some("mend no loops"),
            "{reason}"
        );
        assert_eq!(choose(&BTreeSet::from(Kind::ALL), &able(true, true)).unwrap_err().code, "volumes-mixed");
    }
}
