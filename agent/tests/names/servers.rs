//! Servers that are slow, silent, cut short, lie or talk nonsense.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Record, RecordType};

use crate::bot::{Bot, addresses, question};
use crate::ground::{Ground, soon};
use crate::server::{Says, Server, leads};

const NAME: &str = "api.example.com";
const TO: [u8; 4] = [203, 0, 113, 7];

fn there() -> Vec<Record> {
    leads(NAME, 300, &[TO])
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_fetched_on_a_connection() {
    let server = Server::new().await;
    let many: Vec<_> = (1..=40).map(|last| [203, 0, 113, last]).collect();
    server.says(NAME, Says::CutShort(leads(NAME, 300, &many)));
    let ground = Ground::new(&[server.address], &[&[NAME]]).await;
    let reply = Bot::new(&ground, 2).await.ask(NAME).await;
    assert_eq!(reply.answers.len(), 16, "as many as a name may have");
    let ways: Vec<_> = server.came().into_iter().map(|came| came.by_connection).collect();
    assert_eq!(ways, [false, true]);
}

#[tokio::test]
async fn noise_before_the_answer_is_passed_over() {
    let server = Server::new().await;
    server.says(NAME, Says::AfterNoise(there()));
    let ground = Ground::new(&[server.address], &[&[NAME]]).await;
    assert_eq!(addresses(&Bot::new(&ground, 2).await.ask(NAME).await), [Ipv4Addr::from(TO)]);
    assert_eq!(server.came().len(), 1);
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails_talks_nonsense_answers_something_else_or_is_silent() {
    let codes = [ResponseCode::ServFail, ResponseCode::Refused].map(Says::Code);
    let astray = Says::Astray(leads(NAME, 300, &[[203, 0, 113, 66]]));
    for fails in codes.into_iter().chain([Says::Garbage, astray, Says::Nothing]) {
        let (first, second) = (Server::new().await, Server::new().await);
        first.says(NAME, fails.clone());
        second.says(NAME, Says::Records(there()));
        let ground = Ground::new(&[first.address, second.address], &[&[NAME]]).await;
        let reply = Bot::new(&ground, 2).await.ask(NAME).await;
        assert_eq!(addresses(&reply), [Ipv4Addr::from(TO)], "{fails:?}");
        let servers = ground.names.look().servers;
        assert!(servers[&first.address].is_some() && servers[&second.address].is_none(), "{servers:?}");
    }
}

#[tokio::test]
async fn a_server_that_answered_last_is_asked_first() {
    let (first, second) = (Server::new().await, Server::new().await);
    second.says(NAME, Says::Records(there()));
    second.says("b.example.com", Says::Records(leads("b.example.com", 300, &[TO])));
    first.says(NAME, Says::Garbage);
    let ground = Ground::new(&[first.address, second.address], &[&["*.example.com"]]).await;
    let bot = Bot::new(&ground, 2).await;
    bot.ask(NAME).await;
    bot.ask("b.example.com").await;
    assert_eq!(first.came().len(), 1);
}

#[tokio::test]
async fn where_no_server_answers_the_name_fails_with_its_reason() {
    let silent = Server::new().await;
    let ground = Ground::new(&[silent.address], &[&[NAME]]).await;
    let reply = Bot::new(&ground, 2).await.ask(NAME).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(silent.came().len(), 2, "a datagram may be lost");
    let failure = ground.names.look().tally.last_failure.expect("shown");
    assert_eq!((failure.name.as_str(), failure.reason.code.as_str()), (NAME, "name-server-silent"));
    assert!(failure.reason.mend.is_some());
}

#[tokio::test]
async fn a_slow_server_holds_up_nobody_who_does_not_wait_for_it() {
    let server = Server::new().await;
    server.says("slow.example.com", Says::Held(leads("slow.example.com", 300, &[TO])));
    server.says(NAME, Says::Records(there()));
    let ground = Ground::new(&[server.address], &[&["*.example.com"], &[NAME]]).await;
    let (slow, quick) = (Bot::new(&ground, 2).await, Bot::new(&ground, 3).await);
    let asked = question("slow.example.com", RecordType::A);
    slow.send(&asked.to_vec().unwrap()).await;
    soon("the slow question to wait", || ground.names.look().waiting == 1).await;
    for _ in 0..100 {
        assert_eq!(quick.ask(NAME).await.answers.len(), 1);
    }
    server.let_go(1);
    assert_eq!(slow.hear().await[..2], asked.metadata.id.to_be_bytes());
}

#[tokio::test]
async fn each_question_leaves_with_a_number_and_from_a_port_of_its_own() {
    let server = Server::new().await;
    let ground = Ground::new(&[server.address], &[&["*.example.com"]]).await;
    let bot = Bot::new(&ground, 2).await;
    for n in 0..20 {
        let name = format!("{n}.example.com");
        server.says(&name, Says::Records(leads(&name, 300, &[TO])));
        bot.ask(&name).await;
    }
    let came = server.came();
    let (ids, ports): (BTreeSet<_>, BTreeSet<_>) = came.iter().map(|came| (came.id, came.from.port())).unzip();
    // Of twenty drawn from some ten thousand, a pair may be the same.
    assert!(came.len() == 20 && ids.len() >= 18 && ports.len() >= 18, "{came:?}");
    assert!(came.iter().all(|came| came.wanted == "A"));
}
