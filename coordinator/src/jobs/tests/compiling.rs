//! What is wished on a host becomes its next spec, once.

use launchpad_protocol::generation::Generation;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::Power;

use super::STARTED;
use crate::app::lab::{GIB, Lab, START, named};
use crate::domain::actor::Role;
use crate::domain::deployment::Event;
use crate::domain::plan_table::PlanTable;
use crate::jobs::{compiler, placer};
use crate::store::{meta, outbox};

#[tokio::test]
async fn a_wish_becomes_a_spec_whose_secrets_only_its_host_can_open() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    let spec = lab.spec(&host).await;
    assert_eq!((spec.host, spec.generation, spec.instances.len()), (host.id, Generation(1), 1));
    let instance = &spec.instances[&id];
    assert_eq!((instance.epoch.0, instance.revision.0, instance.power), (1, 1, Power::On));
    let opened = host.opened(instance);
    assert_eq!(opened["echo.conf"], "label = mine");
    assert_eq!(opened["key"], "geheim");
    // The profile wants a token made when nobody gives one.
    assert_eq!(opened["token"].len(), 64);
}

#[tokio::test]
async fn no_secret_is_in_the_store_in_clear() {
    let lab = Lab::new().await;
    lab.host(4 * GIB).await;
    lab.create("web").await;
    lab.settle().await;
    for file in lab.files() {
        let content = std::fs::read(&file).unwrap();
        let leaked = content.windows(b"geheim".len()).any(|window| window == b"geheim");
        assert!(!leaked, "{}", file.display());
    }
}

#[tokio::test]
async fn unchanged_wishes_publish_nothing() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.create("web").await;
    lab.settle().await;
    let before = lab.offer(&host).await;
    lab.write(async |tx| outbox::mark_all(tx).await).await;
    assert_eq!(compiler::round(&lab.app).await.unwrap(), 0);
    assert_eq!(lab.offer(&host).await, before);
    assert_eq!(lab.read(async |tx| outbox::marked(tx).await).await, []);
}

#[tokio::test]
async fn a_killed_coordinator_goes_on_where_it_was() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    let lab = lab.killed().await;
    placer::round(&lab.app, STARTED).await.unwrap();
    let lab = lab.killed().await;
    compiler::round(&lab.app).await.unwrap();
    let lab = lab.killed().await;
    assert!(lab.spec(&host).await.instances.contains_key(&id));
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, Some(1));
}

#[tokio::test]
async fn while_publishing_is_frozen_nothing_is_published_and_nothing_forgotten() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.create("web").await;
    let why = Reason::new("restored", "the store was restored");
    lab.write(async |tx| meta::freeze(tx, &why, START).await).await;
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, None);
    lab.write(async |tx| meta::thaw(tx).await).await;
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, Some(1));
}

#[tokio::test]
async fn neither_edited_profiles_nor_plans_change_a_bot_that_runs() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.create("web").await;
    lab.settle().await;
    let before = lab.offer(&host).await;
    let mut profiles = (*lab.app.profiles).clone();
    profiles.get_mut("echo").unwrap().port += 1;
    let plans = PlanTable::parse("[starter]\ncpu_millis = 1\nmemory_mb = 1\nstorage_mb = 1\nretention_days = 1");
    let lab = lab.with_catalogue(profiles, plans.unwrap());
    lab.write(async |tx| outbox::mark_all(tx).await).await;
    lab.settle().await;
    assert_eq!(lab.offer(&host).await, before);
}

#[tokio::test]
async fn a_suspended_bot_is_told_to_be_off_and_keeps_its_place() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Suspend).await;
    lab.write(async |tx| outbox::mark(tx, host.id).await).await;
    lab.settle().await;
    assert_eq!(lab.spec(&host).await.instances[&id].power, Power::Off);
}

#[tokio::test]
async fn one_hosts_trouble_does_not_keep_the_others_waiting() {
    let lab = Lab::new().await;
    let (one, other) = (lab.host(GIB).await, lab.host(GIB).await);
    let id = lab.create("one").await;
    placer::round(&lab.app, STARTED).await.unwrap();
    let bad = if lab.row(id).await.host == Some(one.id) { &one } else { &other };
    let good = if bad.id == one.id { &other } else { &one };
    lab.spoil_files(id).await;
    lab.create("two").await;
    lab.settle().await;
    assert_eq!((lab.generation(bad).await, lab.generation(good).await), (None, Some(1)));
    // Whoever looks at the host, or at the bot, is told; what the tenant is told names nobody else's files.
    let operator = lab.actor(Role::Operator).await;
    let trouble = lab.app.host(&operator, bad.id).await.unwrap().trouble.expect("a trouble");
    assert!(trouble.code == "spec-not-made" && trouble.sentence.contains(&id.to_string()), "{trouble}");
    assert_eq!(lab.app.host(&operator, good.id).await.unwrap().trouble, None);
    let member = lab.actor(Role::Member).await;
    let told = lab.app.deployment(&member, &named(id)).await.unwrap().reason.expect("a reason");
    assert!(told.code == "spec-not-made" && !told.to_string().contains("file"), "{told}");
    // It stays marked, and is tried again.
    assert_eq!(lab.read(async |tx| outbox::marked(tx).await).await.len(), 1);
}
