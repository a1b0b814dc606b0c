//! Two coordinators on one Postgres: one host's generations never fork, and what one publishes reaches hosts of the other.

use launchpad_coordinator::store::{Commit, StoreError, Tx, meta, specs};
use launchpad_pki::dial::Route;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::time::Clock;

use super::agent::{Agent, Machine, hello, report};
use super::coordinator::{Coordinator, Home, offer};
use crate::postgres::Schema;

#[tokio::test]
async fn what_one_publishes_reaches_a_host_of_the_other_and_generations_do_not_fork() {
    let case = "what_one_publishes_reaches_a_host_of_the_other_and_generations_do_not_fork";
    let Some(schema) = Schema::new(case).await else { return };
    let home = Home::at(schema.url(), Clock::machine()).await;
    let (one, other) = (home.clone().start(None).await, home.start(None).await);
    // It joins at one, and opens its session with the other.
    let (machine, token) = (Machine::new("web-1", &one.home.clock), one.token().await);
    let mut reply = machine.ask(&one.enroll_endpoint(), &token).await.unwrap();
    reply.fleet_endpoints = vec![other.fleet_addr.to_string()];
    let agent = Agent::new(machine.key, &reply, &one.home.clock);
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    assert!(one.fleet.connected(agent.host).is_none() && other.fleet.connected(agent.host).is_some());
    let first = one.publish(agent.host, 1).await;
    assert_eq!(session.spec().await.0, first);
    session.accept(&first).await;

    // Both compile the next one from the same state of the store, and disagree.
    let compile = async |at: &Coordinator| {
        let next = offer(agent.host, at.id(), 2);
        let publish = async |tx: &mut Tx| specs::publish(tx, agent.host, Some(Generation(1)), &next, at.now()).await;
        let won = at.store.write::<_, StoreError>(Commit::Publish, publish).await.unwrap();
        won.then_some(next)
    };
    let (mine, theirs) = tokio::join!(compile(&one), compile(&other));
    let made: Vec<_> = [mine, theirs].into_iter().flatten().collect();
    let [made] = made.as_slice() else { panic!("exactly one of them makes generation 2, not {}", made.len()) };
    assert_eq!(&session.spec().await.0, made);
    session.accept(made).await;
    session.stored(report(Some(made.accepted()), one.id())).await;
    assert_eq!(one.read(meta::frozen).await, None, "nobody holds what the store has not made");

    one.stop().await;
    other.stop().await;
    schema.remove().await;
}
