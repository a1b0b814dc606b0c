//! Hosts, and what is told to them and by them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launchpad_coordinator::domain::host::HostState;
use launchpad_coordinator::store::hosts::Seen;
use launchpad_coordinator::store::join_tokens::{self, JoinTokenRow, TokenUse};
use launchpad_coordinator::store::{Store, Tx, certificates, hosts, outbox, reports, specs};
use launchpad_pki::ca::IssuedCertificate;
use launchpad_pki::serial::Serial;
use launchpad_protocol::capability;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::{Accepted, Fence, Generation};
use launchpad_protocol::report::{Capacity, EventBatch, HostReport};
use launchpad_protocol::spec::SpecOffer;

use super::rows::{NOW, host, id, read, some_host, user, write};

pub(crate) async fn a_host_reads_back_as_itself(store: Store) {
    let mut row = some_host();
    write(&store, async |tx| hosts::create(tx, &row).await).await;
    assert_eq!(read(&store, async |tx| hosts::get(tx, row.id).await).await.as_ref(), Some(&row));
    row.agent_version = "1.2.3".to_owned();
    row.features = Feature::all();
    row.state = HostState::Active;
    row.capabilities = capability::complete();
    row.capacity = Capacity { cpu_millis: 2_000, memory_bytes: 1 << 40, storage_bytes: 7 };
    row.last_seen_at = Some(NOW);
    let tell = async |tx: &mut Tx| {
        hosts::introduce(tx, row.id, &row.agent_version, &row.features).await?;
        let seen = Seen { state: row.state, capacity: row.capacity, capabilities: &row.capabilities };
        hosts::seen(tx, row.id, seen, NOW).await
    };
    write(&store, tell).await;
    assert_eq!(read(&store, async |tx| hosts::all(tx).await).await, [row]);
}

pub(crate) async fn each_session_has_a_higher_number_and_a_retired_host_none(store: Store) {
    let host = host(&store).await;
    let next = async |tx: &mut Tx| hosts::next_fence(tx, host).await;
    assert_eq!(write(&store, next).await, Some(Fence(1)));
    assert_eq!(write(&store, next).await, Some(Fence(2)));
    assert_eq!(write(&store, async |tx| hosts::next_fence(tx, id()).await).await, None);
    write(&store, async |tx| hosts::set_state(tx, host, HostState::Retired).await).await;
    assert_eq!(write(&store, next).await, None);
    assert_eq!(read(&store, async |tx| hosts::retired(tx).await).await, BTreeSet::from([host]));
}

pub(crate) async fn a_join_token_is_used_once(store: Store) {
    let mut row = JoinTokenRow {
        id: id(),
        secret_hash: Digest::of(b"secret"),
        name: Some("web-1".to_owned()),
        pool: "shared".to_owned(),
        created_by: user(&store).await,
        created_at: NOW,
        expires_at: NOW + Duration::from_secs(900),
        used: None,
    };
    write(&store, async |tx| join_tokens::create(tx, &row).await).await;
    assert_eq!(read(&store, async |tx| join_tokens::get(tx, row.id).await).await.as_ref(), Some(&row));
    let by = |host| TokenUse { at: NOW, host, key: Digest::of(b"key") };
    let (first, second) = (host(&store).await, host(&store).await);
    assert!(write(&store, async |tx| join_tokens::consume(tx, row.id, by(first)).await).await);
    assert!(!write(&store, async |tx| join_tokens::consume(tx, row.id, by(second)).await).await);
    row.used = Some(by(first));
    assert_eq!(read(&store, async |tx| join_tokens::get(tx, row.id).await).await, Some(row));
}

pub(crate) async fn revoked_certificates_are_listed_until_they_end(store: Store) {
    let (one, other) = (host(&store).await, host(&store).await);
    let day = Duration::from_secs(24 * 60 * 60);
    let issued = || IssuedCertificate {
        chain_der: Vec::new(),
        serial: Serial::random().expect("random bytes"),
        not_before: NOW,
        not_after: NOW + day,
        public_key: Digest::of(b"key"),
    };
    let (first, second) = (issued(), issued());
    let issue = async |tx: &mut Tx| {
        certificates::insert(tx, one, &first, NOW).await?;
        certificates::insert(tx, other, &second, NOW).await
    };
    write(&store, issue).await;
    assert_eq!(write(&store, async |tx| certificates::revoke_all(tx, one, NOW).await).await, 1);
    assert_eq!(write(&store, async |tx| certificates::revoke_all(tx, one, NOW).await).await, 0);
    let is_revoked = async |serial| read(&store, async |tx| certificates::is_revoked(tx, serial).await).await;
    assert_eq!((is_revoked(first.serial).await, is_revoked(second.serial).await), (true, false));
    let list = async |at| read(&store, async |tx| certificates::revoked(tx, at).await).await;
    assert_eq!(list(NOW).await, BTreeMap::from([(first.serial, NOW)]));
    assert_eq!(list(NOW + day).await, BTreeMap::new());
    assert_eq!(write(&store, async |tx| certificates::sweep(tx, NOW + day + day).await).await, 2);
}

fn offer(generation: u64, content: &[u8]) -> SpecOffer {
    SpecOffer { generation: Generation(generation), digest: Digest::of(content), bytes: content.to_vec() }
}

pub(crate) async fn of_two_compilers_one_publishes(store: Store) {
    let host = host(&store).await;
    let publish = async |read: Option<u64>, next: SpecOffer| {
        write(&store, async |tx| specs::publish(tx, host, read.map(Generation), &next, NOW).await).await
    };
    let latest = async || read(&store, async |tx| specs::latest(tx, host).await).await;
    assert_eq!(latest().await, None);
    assert!(publish(None, offer(1, b"one")).await);
    assert!(!publish(None, offer(1, b"another")).await);
    assert!(publish(Some(1), offer(2, b"two")).await);
    assert!(!publish(Some(1), offer(2, b"another")).await);
    assert_eq!(latest().await, Some(offer(2, b"two")));
    let all = read(&store, async |tx| specs::latest_of_all(tx).await).await;
    assert_eq!(all, [(host, offer(2, b"two").accepted())]);
}

pub(crate) async fn a_mark_made_meanwhile_is_not_taken_away(store: Store) {
    let host = host(&store).await;
    let mark = async |tx: &mut Tx| outbox::mark(tx, host).await;
    let marked = async || read(&store, async |tx| outbox::marked(tx).await).await;
    write(&store, mark).await;
    let seen = marked().await;
    write(&store, mark).await;
    write(&store, async |tx| outbox::clear(tx, seen[0]).await).await;
    let again = marked().await;
    assert_eq!(again.len(), 1);
    write(&store, async |tx| outbox::clear(tx, again[0]).await).await;
    assert_eq!(marked().await, []);
    write(&store, async |tx| outbox::mark_all(tx).await).await;
    assert_eq!(marked().await.len(), 1);
}

pub(crate) async fn a_floor_only_rises(store: Store) {
    let host = host(&store).await;
    let floor = async || read(&store, async |tx| specs::floor(tx, host).await).await;
    assert_eq!(floor().await, None);
    let held = |generation| Accepted { generation: Generation(generation), digest: Digest::of(b"spec") };
    for generation in [5, 3, 7, 6] {
        write(&store, async |tx| specs::raise_floor(tx, host, held(generation), NOW).await).await;
    }
    assert_eq!(floor().await, Some(held(7)));
}

pub(crate) async fn a_floor_is_confirmed_up_to_itself_in_one_life_and_until_it_rises(store: Store) {
    let host = host(&store).await;
    let (this, other) = (id(), id());
    let raise = async |generation| {
        let held = Accepted { generation: Generation(generation), digest: Digest::of(b"spec") };
        write(&store, async |tx| specs::raise_floor(tx, host, held, NOW).await).await;
    };
    let is_confirmed = async |generation, life| {
        read(&store, async |tx| specs::is_confirmed(tx, host, Generation(generation), life).await).await
    };
    raise(7).await;
    assert!(!is_confirmed(7, this).await);
    write(&store, async |tx| specs::confirm_floor(tx, host, this).await).await;
    assert!(is_confirmed(7, this).await && is_confirmed(2, this).await);
    assert!(!is_confirmed(8, this).await && !is_confirmed(7, other).await);
    raise(8).await;
    assert!(!is_confirmed(7, this).await);
}

pub(super) fn report(version: &str) -> HostReport {
    HostReport {
        boot_id: "boot".to_owned(),
        agent_version: version.to_owned(),
        wall: NOW,
        accepted: None,
        applied: Generation(0),
        capacity: Capacity::default(),
        capabilities: BTreeMap::new(),
        instances: BTreeMap::new(),
        orphans: Vec::new(),
        buried: BTreeSet::new(),
        outcomes: BTreeMap::new(),
        troubles: Vec::new(),
        events: EventBatch { journal: id(), dropped: 0, events: Vec::new() },
        denials: BTreeMap::new(),
        gate: None,
    }
}

pub(crate) async fn a_report_of_an_older_session_is_not_kept(store: Store) {
    let host = host(&store).await;
    let keep = async |fence, report: &HostReport| {
        write(&store, async |tx| reports::keep(tx, host, Fence(fence), report, NOW).await).await
    };
    let (one, two, three) = (report("one"), report("two"), report("three"));
    assert!(keep(2, &one).await);
    assert!(keep(2, &two).await);
    assert!(!keep(1, &three).await);
    let latest = read(&store, async |tx| reports::latest(tx, host).await).await.expect("a report");
    assert_eq!((latest.fence, latest.received_at, latest.report), (Fence(2), NOW, two));
}

pub(crate) async fn a_journal_is_folded_only_forwards(store: Store) {
    let host = host(&store).await;
    let (one, other) = (id(), id());
    let folded = async |journal| read(&store, async |tx| reports::folded(tx, host, journal).await).await;
    assert_eq!(folded(one).await, 0);
    for seq in [3, 9, 4] {
        write(&store, async |tx| reports::fold(tx, host, one, seq).await).await;
    }
    assert_eq!((folded(one).await, folded(other).await), (9, 0));
}
