//! What bots are told, and what is done before.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::bot::{Bot, addresses};
use crate::ground::Ground;
use crate::server::{Says, Server, alias, leads};

const TO: [u8; 4] = [203, 0, 113, 7];

async fn world(bots: &[&[&str]]) -> (Server, Ground) {
    let server = Server::new().await;
    let ground = Ground::new(&[server.address], bots).await;
    (server, ground)
}

#[tokio::test]
async fn an_allowed_name_is_answered_and_the_kernel_had_it_before() {
    let (server, ground) = world(&[&["api.example.com:443,8443"]]).await;
    server.says("api.example.com", Says::Records(leads("api.example.com", 300, &[TO])));
    let reply = Bot::new(&ground, 2).await.ask("api.example.com").await;
    assert_eq!((addresses(&reply), reply.answers[0].ttl), (vec![Ipv4Addr::from(TO)], 300));
    let admitted = ground.kernel.admitted();
    assert_eq!(admitted.len(), 1);
    assert_eq!((admitted[0].bot, &admitted[0].ports[..]), (ground.address(2), &[443, 8443][..]));
    assert!(admitted[0].lifetime > Duration::from_secs(300));
}

#[tokio::test]
async fn nothing_is_answered_that_the_kernel_did_not_take() {
    let (server, ground) = world(&[&["api.example.com"]]).await;
    server.says("api.example.com", Says::Records(leads("api.example.com", 300, &[TO])));
    ground.kernel.refuses.store(true, Ordering::SeqCst);
    let bot = Bot::new(&ground, 2).await;
    assert_eq!(bot.ask("api.example.com").await.metadata.response_code, ResponseCode::ServFail);
    let failure = ground.names.look().tally.last_failure.expect("shown");
    assert_eq!(failure.reason.code, "nft-failed");
}

#[tokio::test]
async fn the_letter_case_of_the_question_comes_back_and_goes_no_further() {
    let (server, ground) = world(&[&["api.example.com"]]).await;
    server.says("api.example.com", Says::Records(leads("api.example.com", 300, &[TO])));
    let bot = Bot::new(&ground, 2).await;
    for asked in ["aPI.eXamPLe.cOm", "API.EXAMPLE.COM"] {
        let reply = bot.ask(asked).await;
        assert_eq!(reply.queries[0].name().to_ascii(), format!("{asked}."));
        assert_eq!(reply.answers[0].name.to_ascii(), format!("{asked}."));
    }
    let came: Vec<_> = server.came().into_iter().map(|came| came.name).collect();
    assert_eq!(came, ["api.example.com"], "once, in lower case");
}

#[tokio::test]
async fn a_chain_of_aliases_is_answered_under_the_name_that_was_asked() {
    let (server, ground) = world(&[&["www.example.com"]]).await;
    let mut chain = vec![alias("www.example.com", 300, "cdn.other.net"), alias("cdn.other.net", 90, "e1.edge.net")];
    chain.extend(leads("e1.edge.net", 200, &[TO]));
    server.says("www.example.com", Says::Records(chain));
    let bot = Bot::new(&ground, 2).await;
    let reply = bot.ask("www.example.com").await;
    assert_eq!((addresses(&reply), reply.answers[0].ttl), (vec![Ipv4Addr::from(TO)], 90));
    assert_eq!(reply.answers[0].name, reply.queries[0].name);
    assert_eq!(bot.ask("cdn.other.net").await.metadata.response_code, ResponseCode::NXDomain, "no rule means that");
    assert_eq!(server.came().len(), 1);
}

#[tokio::test]
async fn a_ring_of_aliases_is_a_failure() {
    let (server, ground) = world(&[&["*.example.com"]]).await;
    let ring = vec![alias("a.example.com", 60, "b.example.com"), alias("b.example.com", 60, "a.example.com")];
    server.says("a.example.com", Says::Records(ring));
    let reply = Bot::new(&ground, 2).await.ask("a.example.com").await;
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::ServFail, 0));
    assert!(ground.kernel.admitted().is_empty());
}

#[tokio::test]
async fn an_allowed_name_that_leads_inside_is_refused_and_what_leads_out_beside_it_stays() {
    let (server, ground) = world(&[&["*.example.com"]]).await;
    let metadata = [169, 254, 169, 254];
    server.says("trap.example.com", Says::Records(leads("trap.example.com", 300, &[metadata, [10, 0, 0, 1]])));
    server.says("half.example.com", Says::Records(leads("half.example.com", 300, &[metadata, TO, [127, 0, 0, 1]])));
    let bot = Bot::new(&ground, 2).await;
    assert_eq!(bot.ask("trap.example.com").await.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(ground.witness.refused(), [("trap.example.com".to_owned(), 1)].into());
    assert_eq!(addresses(&bot.ask("half.example.com").await), [Ipv4Addr::from(TO)]);
    let admitted: Vec<_> = ground.kernel.admitted().into_iter().flat_map(|admission| admission.to).collect();
    assert_eq!(admitted, [Ipv4Addr::from(TO)]);
}

#[tokio::test]
async fn of_an_allowed_name_nothing_but_addresses_is_asked_for() {
    let (server, ground) = world(&[&["api.example.com"]]).await;
    let bot = Bot::new(&ground, 2).await;
    for wanted in
        [RecordType::AAAA, RecordType::TXT, RecordType::MX, RecordType::SRV, RecordType::HTTPS, RecordType::CNAME]
    {
        let reply = bot.wish("api.example.com", wanted).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0), "{wanted}");
    }
    for wanted in [RecordType::ANY, RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(
            bot.wish("api.example.com", wanted).await.metadata.response_code,
            ResponseCode::Refused,
            "{wanted}"
        );
    }
    let reverse = bot.wish("7.113.0.203.in-addr.arpa", RecordType::PTR).await;
    assert_eq!(reverse.metadata.response_code, ResponseCode::NXDomain);
    assert!(server.came().is_empty());
}

#[tokio::test]
async fn a_name_that_does_not_exist_or_has_no_address_is_told_so() {
    let (server, ground) = world(&[&["*.example.com"]]).await;
    server.says("none.example.com", Says::Code(ResponseCode::NXDomain));
    server.says("bare.example.com", Says::Records(Vec::new()));
    let bot = Bot::new(&ground, 2).await;
    assert_eq!(bot.ask("none.example.com").await.metadata.response_code, ResponseCode::NXDomain);
    let bare = bot.ask("bare.example.com").await;
    assert_eq!((bare.metadata.response_code, bare.answers.len()), (ResponseCode::NoError, 0));
    assert!(ground.witness.refused().is_empty(), "nothing of this was refused");
}

#[tokio::test]
async fn a_name_is_answered_by_its_rules_of_now() {
    let (server, ground) = world(&[&["api.example.com"]]).await;
    server.says("api.example.com", Says::Records(leads("api.example.com", 300, &[TO])));
    let bot = Bot::new(&ground, 2).await;
    assert_eq!(bot.ask("api.example.com").await.answers.len(), 1);
    ground.allow(&[&["other.example.com"]]);
    assert_eq!(bot.ask("api.example.com").await.metadata.response_code, ResponseCode::NXDomain);
    ground.allow(&[&["api.example.com:8443"]]);
    assert_eq!(bot.ask("api.example.com").await.answers.len(), 1);
    let ports: Vec<_> = ground.kernel.admitted().into_iter().map(|admission| admission.ports).collect();
    assert_eq!((ports, server.came().len()), (vec![vec![443], vec![8443]], 1));
}

#[tokio::test]
async fn an_address_that_is_no_bots_is_refused() {
    let (server, ground) = world(&[&["api.example.com"]]).await;
    let reply = Bot::new(&ground, 99).await.ask("api.example.com").await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert!(server.came().is_empty());
}
