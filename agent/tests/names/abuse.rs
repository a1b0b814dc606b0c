//! What a hostile bot tries: to talk through names, to crowd out its neighbours, to break what reads it.

use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::bot::{Bot, addresses, connect, framed, question, receive, send};
use crate::ground::{Ground, soon};
use crate::server::{Says, Server, leads};

const NAME: &str = "api.example.com";
const TO: [u8; 4] = [203, 0, 113, 7];

async fn world(bots: &[&[&str]]) -> (Server, Ground) {
    let server = Server::new().await;
    server.says(NAME, Says::Records(leads(NAME, 300, &[TO])));
    let ground = Ground::new(&[server.address], bots).await;
    (server, ground)
}

#[tokio::test]
async fn ten_thousand_denied_names_never_leave_the_host_and_leave_nothing_behind() {
    let (server, ground) = world(&[&[NAME]]).await;
    let bot = Bot::new(&ground, 2).await;
    for n in 0..10_000 {
        let reply = bot.wish(&format!("{n}.stolen.evil.example"), RecordType::TXT).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
    assert!(server.came().is_empty());
    let look = ground.names.look();
    assert_eq!((look.remembered, look.waiting, look.tally.refused), (0, 0, 10_000));
    assert_eq!(bot.ask(NAME).await.answers.len(), 1);
}

#[tokio::test]
async fn a_flood_of_new_names_under_an_allowed_one_is_slowed_down_and_its_neighbour_is_not() {
    let (server, ground) = world(&[&["*.example.net"], &[NAME]]).await;
    let (hostile, neighbour) = (Bot::new(&ground, 2).await, Bot::new(&ground, 3).await);
    for n in 0..2000 {
        hostile.send(&question(&format!("{n}.example.net"), RecordType::A).to_vec().unwrap()).await;
    }
    assert_eq!(addresses(&neighbour.ask(NAME).await), [Ipv4Addr::from(TO)]);
    assert!(ground.names.look().waiting <= 32);
    soon("the flood to have gone by", || ground.names.look().waiting == 0).await;
    assert!(server.came().len() < 500, "{} were handed on", server.came().len());
    assert_eq!(neighbour.ask(NAME).await.answers.len(), 1);
}

#[tokio::test]
async fn nothing_that_is_no_question_breaks_it() {
    let (_server, ground) = world(&[&[NAME]]).await;
    let bot = Bot::new(&ground, 2).await;
    let good = question(NAME, RecordType::A).to_vec().unwrap();
    let long_label = {
        let mut bytes = good.clone();
        // A length that no label has, one that is a pointer, and a pointer to itself.
        bytes[12] = 0x7f;
        bytes
    };
    let mut pointer = good.clone();
    pointer[12..14].copy_from_slice(&[0xc0, 12]);
    let mut promised = good.clone();
    promised[4..12].copy_from_slice(&[0xff; 8]);
    let huge = [good.as_slice(), &[0; 2000]].concat();
    let answer = [&good[..2], &[0x81, 0x80], &good[4..]].concat();
    for bytes in [&b""[..], b"\0", &[0xff; 512], &long_label, &pointer, &promised, &huge, &answer, &good[..17]] {
        bot.send(bytes).await;
    }
    assert_eq!(bot.ask(NAME).await.answers.len(), 1);
}

#[tokio::test]
async fn a_name_of_the_greatest_length_is_judged_like_any_other() {
    let (server, ground) = world(&[&["*.example.com"]]).await;
    let label = "x".repeat(63);
    let name = format!("{label}.{label}.{label}.{}.example.com", "y".repeat(253 - 3 * 64 - 12));
    assert_eq!(name.len(), 253);
    server.says(&name, Says::Records(leads(&name, 300, &[TO])));
    let bot = Bot::new(&ground, 2).await;
    assert_eq!(addresses(&bot.ask(&name).await), [Ipv4Addr::from(TO)]);
    let other = name.replace("example.com", "example.net");
    assert_eq!(bot.ask(&other).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn questions_in_a_row_on_one_connection_are_answered_in_a_row() {
    let (_server, ground) = world(&[&[NAME]]).await;
    let mut stream = connect(&ground, 2).await;
    let questions = [
        question(NAME, RecordType::A),
        question(NAME, RecordType::AAAA),
        question("stolen.evil.example", RecordType::A),
        question(NAME, RecordType::A),
    ];
    send(&mut stream, &questions.iter().flat_map(framed).collect::<Vec<_>>()).await;
    let mut seen = Vec::new();
    for question in &questions {
        let reply = receive(&mut stream).await.expect("an answer");
        assert_eq!(reply.metadata.id, question.metadata.id);
        seen.push((reply.metadata.response_code, reply.answers.len()));
    }
    let (fine, none) = (ResponseCode::NoError, ResponseCode::NXDomain);
    assert_eq!(seen, [(fine, 1), (fine, 0), (none, 0), (fine, 1)]);
}

#[tokio::test]
async fn a_connection_that_sends_half_a_question_or_too_much_is_closed() {
    let (_server, ground) = world(&[&[NAME]]).await;
    let (mut half, mut much) = (connect(&ground, 2).await, connect(&ground, 2).await);
    send(&mut half, &framed(&question(NAME, RecordType::A))[..10]).await;
    send(&mut much, &2000_u16.to_be_bytes()).await;
    assert!(receive(&mut much).await.is_none());
    assert!(receive(&mut half).await.is_none(), "after it has been idle");
    assert_eq!(Bot::new(&ground, 2).await.ask(NAME).await.answers.len(), 1);
}

#[tokio::test]
async fn a_bot_has_a_handful_of_connections_a_stranger_none_and_its_neighbour_his_own() {
    let (_server, ground) = world(&[&[NAME], &[NAME]]).await;
    let ask = framed(&question(NAME, RecordType::A));
    let mut open = Vec::new();
    let mut answered = 0;
    for _ in 0..20 {
        let mut stream = connect(&ground, 2).await;
        answered += usize::from(is_answered(&mut stream, &ask).await);
        open.push(stream);
    }
    assert_eq!(answered, 8);
    assert!(is_answered(&mut connect(&ground, 3).await, &ask).await);
    assert!(!is_answered(&mut connect(&ground, 99).await, &ask).await);
    drop(open);
}

/// Whether a connection is answered, and not closed.
async fn is_answered(stream: &mut TcpStream, ask: &[u8]) -> bool {
    // One that was closed already may not take it.
    let _ = stream.write_all(ask).await;
    receive(stream).await.is_some()
}
