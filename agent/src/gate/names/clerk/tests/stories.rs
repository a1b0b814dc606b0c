//! One thing after the other.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, TXT};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance};

use super::super::super::grants::ELEMENTS_PER_BOT_MAX;
use super::super::{Heard, WAITING_PER_BOT_MAX};
use super::world::{World, deployment, policy, read, told};

const SECOND: Duration = Duration::from_secs(1);

fn to(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, last)
}

#[tokio::test(start_paused = true)]
async fn an_allowed_name_is_told_once_the_kernel_lets_the_bot_through_on_every_port() {
    let world = World::new(policy(&[(2, &["*.example.com:443", "a.example.com:8443"])]));
    world.leads("a.example.com", 300, &[1, 2]);
    let reply = world.ask(2, "A.example.com", A).await;
    assert_eq!(told(&reply), (vec![to(1), to(2)], 300 * SECOND));
    let admissions = world.kernel.admissions.lock().unwrap().clone();
    assert_eq!(admissions.len(), 1);
    assert_eq!((admissions[0].name.as_str(), &admissions[0].ports[..]), ("a.example.com", &[443, 8443][..]));
    assert!(world.kernel.holds(2, to(2), 8443, Instant::now() + 300 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_name_costs_neither_the_servers_nor_the_kernel_anything_until_it_ends() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.ask(2, "a.example.com", A).await;
    for passed in [0, 100, 150, 49] {
        advance(passed * SECOND).await;
        let Heard::Reply(bytes) = world.hear(2, "a.example.com", A) else { panic!("not remembered") };
        assert_eq!(told(&read(&bytes)).0, [to(1)]);
    }
    assert_eq!((world.internet.asked.lock().unwrap().len(), world.kernel.asked()), (1, 1));
    advance(SECOND).await;
    world.ask(2, "a.example.com", A).await;
    assert_eq!((world.internet.asked.lock().unwrap().len(), world.kernel.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_denied_name_is_refused_at_once_witnessed_and_never_handed_on() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    for (name, wanted) in [("stolen.evil.example", A), ("stolen.evil.example", TXT), ("b.example.com", AAAA)] {
        let Heard::Reply(bytes) = world.hear(2, name, wanted) else { panic!("it waits") };
        assert_eq!(read(&bytes).metadata.response_code, ResponseCode::NXDomain);
    }
    assert!(world.internet.asked.lock().unwrap().is_empty());
    let seen = world.witness.0.lock().unwrap().clone();
    assert_eq!((seen.len(), seen[0].clone()), (3, (deployment(2), "stolen.evil.example".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn of_an_allowed_name_nothing_but_addresses_is_asked_for() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    for wanted in [AAAA, TXT] {
        let reply = world.ask(2, "a.example.com", wanted).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
    }
    assert!(world.internet.asked.lock().unwrap().is_empty() && world.witness.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_leads_inside_counts_as_refused() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    world.internet.zone.lock().unwrap().insert("a.example.com".to_owned(), (60, vec![metadata]));
    for times in 1..=2 {
        let reply = world.ask(2, "a.example.com", A).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NXDomain, 0));
        assert_eq!(world.witness.0.lock().unwrap().len(), times);
    }
    assert_eq!((world.kernel.asked(), world.internet.asked.lock().unwrap().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_the_policy_comes_to_forbid_is_not_told_from_memory() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.ask(2, "a.example.com", A).await;
    let mut stricter = policy(&[(2, &["a.example.com"])]);
    stricter.never.insert(to(1));
    world.policy.send_replace(Arc::new(stricter));
    assert_eq!(world.ask(2, "a.example.com", A).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test(start_paused = true)]
async fn without_the_kernel_nothing_is_told() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.kernel.refuses.store(true, Ordering::SeqCst);
    assert_eq!(world.ask(2, "a.example.com", A).await.metadata.response_code, ResponseCode::ServFail);
    world.kernel.refuses.store(false, Ordering::SeqCst);
    world.kernel.hangs.store(true, Ordering::SeqCst);
    assert_eq!(world.ask(2, "a.example.com", A).await.metadata.response_code, ResponseCode::ServFail);
    let failure = world.clerk.tally().0.last_failure.expect("shown");
    assert_eq!((failure.name.as_str(), failure.reason.code.as_str()), ("a.example.com", "names-kernel-silent"));
    world.kernel.hangs.store(false, Ordering::SeqCst);
    assert_eq!(told(&world.ask(2, "a.example.com", A).await).0, [to(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_lost_is_asked_of_it_again() {
    let world = World::new(policy(&[(2, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.ask(2, "a.example.com", A).await;
    world.kernel.flush();
    world.ask(2, "a.example.com", A).await;
    assert!(world.kernel.holds(2, to(1), 443, Instant::now()));
    assert_eq!(world.internet.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bot_whose_rules_changed_is_let_through_anew_and_its_neighbour_is_left_alone() {
    let world = World::new(policy(&[(2, &["a.example.com"]), (3, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    for bot in [2, 3] {
        world.ask(bot, "a.example.com", A).await;
    }
    world.policy.send_replace(Arc::new(policy(&[(2, &["a.example.com", "b.example.com"]), (3, &["a.example.com"])])));
    for bot in [2, 3] {
        world.ask(bot, "a.example.com", A).await;
    }
    let asked: Vec<_> =
        world.kernel.admissions.lock().unwrap().iter().map(|admission| admission.deployment).collect();
    assert_eq!(asked, [deployment(2), deployment(3), deployment(2)]);
}

#[tokio::test(start_paused = true)]
async fn each_bot_is_let_through_by_itself() {
    let world = World::new(policy(&[(2, &["a.example.com"]), (3, &["*.example.com"]), (4, &["b.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.ask(2, "a.example.com", A).await;
    assert!(!world.kernel.holds(3, to(1), 443, Instant::now()));
    world.ask(3, "a.example.com", A).await;
    assert!(world.kernel.holds(3, to(1), 443, Instant::now()));
    let other = world.ask(4, "a.example.com", A).await;
    assert_eq!(other.metadata.response_code, ResponseCode::NXDomain, "remembered, but not for this one");
    assert_eq!(world.internet.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_no_longer_allowed_is_told_neither_from_memory_nor_to_who_waits() {
    let world = World::new(policy(&[(2, &["a.example.com", "b.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.leads("b.example.com", 300, &[2]);
    world.ask(2, "a.example.com", A).await;
    world.internet.answers.forget_permits(usize::MAX);
    let (clerk, pending) = (Arc::clone(&world.clerk), world.pending(2, "b.example.com"));
    let waiting = tokio::spawn(async move { clerk.finish(pending).await });
    while world.internet.waiting.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }
    world.policy.send_replace(Arc::new(policy(&[(2, &["c.example.com"])])));
    assert_eq!(world.ask(2, "a.example.com", A).await.metadata.response_code, ResponseCode::NXDomain);
    world.internet.answers.add_permits(1);
    assert_eq!(read(&waiting.await.unwrap()).metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(world.kernel.asked(), 1, "the one from before");
}

#[tokio::test(start_paused = true)]
async fn many_who_want_one_name_ask_for_it_once() {
    let world = World::new(policy(&[(2, &["a.example.com"]), (3, &["a.example.com"])]));
    world.leads("a.example.com", 0, &[1]);
    world.internet.answers.forget_permits(usize::MAX);
    let mut waiting = JoinSet::new();
    for n in 0..20 {
        let (clerk, pending) = (Arc::clone(&world.clerk), world.pending(2 + n % 2, "a.example.com"));
        waiting.spawn(async move { clerk.finish(pending).await });
    }
    while world.internet.waiting.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }
    world.internet.answers.add_permits(1);
    for reply in waiting.join_all().await {
        assert_eq!(told(&read(&reply)).0, [to(1)]);
    }
    assert_eq!(world.internet.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_takes_over_from_one_who_was_dropped() {
    let world = World::new(policy(&[(2, &["a.example.com"]), (3, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.internet.answers.forget_permits(usize::MAX);
    let [first, second] = [2, 3].map(|bot| {
        let (clerk, pending) = (Arc::clone(&world.clerk), world.pending(bot, "a.example.com"));
        tokio::spawn(async move { clerk.finish(pending).await })
    });
    while world.internet.waiting.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }
    first.abort();
    world.internet.answers.add_permits(2);
    assert_eq!(told(&read(&second.await.unwrap())).0, [to(1)]);
    assert_eq!(world.clerk.tally().2, 0, "both places are free again");
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_asks_for_much_is_told_so_and_its_neighbour_is_answered() {
    let world = World::new(policy(&[(2, &["*.example.com"]), (3, &["a.example.com"])]));
    world.leads("a.example.com", 300, &[1]);
    world.internet.answers.forget_permits(usize::MAX);
    let mut held = Vec::new();
    while let Heard::Pending(pending) = world.hear(2, &format!("{}.example.com", held.len()), A) {
        held.push(pending);
    }
    assert_eq!(held.len(), WAITING_PER_BOT_MAX);
    world.internet.answers.add_permits(1);
    assert_eq!(told(&world.ask(3, "a.example.com", A).await).0, [to(1)]);
}

#[tokio::test(start_paused = true)]
async fn new_names_are_handed_on_at_a_bounded_pace_per_bot() {
    let world = World::new(policy(&[(2, &["*.example.com"]), (3, &["*.example.com"])]));
    let mut failed = 0;
    for n in 0..1000 {
        let reply = world.ask(2, &format!("{n}.example.com"), A).await;
        failed += usize::from(reply.metadata.response_code == ResponseCode::ServFail);
    }
    assert_eq!(failed, 1000, "nobody knows them");
    assert_eq!(world.internet.asked.lock().unwrap().len(), 200);
    world.leads("a.example.com", 300, &[1]);
    assert_eq!(told(&world.ask(3, "a.example.com", A).await).0, [to(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_bot_opens_so_many_ways_and_no_more_until_some_have_ended() {
    let world = World::new(policy(&[(2, &["*.example.com:1,2,3,4,5,6,7,8"])]));
    let per_name = 4 * 8;
    let names = ELEMENTS_PER_BOT_MAX / per_name;
    for n in 0..=names {
        let to = (0..4).map(|k| Ipv4Addr::new(203, 0, 112, u8::try_from(n * 4 + k).unwrap())).collect();
        world.internet.zone.lock().unwrap().insert(format!("{n}.example.com"), (60, to));
    }
    for n in 0..names {
        assert_eq!(world.ask(2, &format!("{n}.example.com"), A).await.answers.len(), 4);
    }
    let last = format!("{names}.example.com");
    assert_eq!(world.ask(2, &last, A).await.metadata.response_code, ResponseCode::ServFail);
    advance(300 * SECOND).await;
    assert_eq!(world.ask(2, &last, A).await.answers.len(), 4);
}
