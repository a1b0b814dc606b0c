//! A question to a host, answered on a lane of its own.

use std::time::Duration;

use launchpad_coordinator::fleet::query::Asker;
use launchpad_pki::dial::Route;
use launchpad_protocol::frame::{Answer, Ask, CoordinatorFrame, LogLine, OutputStream, Question};
use launchpad_protocol::id::DeploymentId;
use tonic::Code;

use super::agent::{Agent, Session, hello, now, piece};
use super::coordinator::Coordinator;
use super::within;

const DEADLINE: Duration = Duration::from_secs(60);

fn question(coordinator: &Coordinator) -> Question {
    Question::Logs { deployment: coordinator.id::<DeploymentId>(), tail: 10, follow: true }
}

fn asker(coordinator: &Coordinator) -> Asker {
    Asker::Tenant(coordinator.id())
}

fn line(text: &str) -> Answer {
    Answer::Line(LogLine { at: now(), stream: OutputStream::Stdout, text: text.to_owned() })
}

async fn connected(coordinator: &Coordinator, name: &str) -> (Agent, Session) {
    let agent = coordinator.host(name).await;
    let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
    session.welcome().await;
    (agent, session)
}

impl Session {
    async fn asked(&mut self) -> Ask {
        match self.hear().await {
            Some(CoordinatorFrame::Ask(ask)) => ask,
            other => panic!("expected a question, heard {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hosts_answer_reaches_the_asker_in_order() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, "web-1").await;
    let question = question(&coordinator);
    let mut answers = coordinator.fleet.ask(agent.host, asker(&coordinator), question.clone(), DEADLINE).unwrap();
    let ask = session.asked().await;
    assert_eq!((ask.question, ask.deadline_ms), (question, 60_000));
    let (pieces, call) = session.answer(ask.id).await;
    let said: Vec<_> = (0..100).map(|number| line(&number.to_string())).chain([Answer::End(None)]).collect();
    let say = async {
        for answer in &said {
            pieces.send(piece(answer.clone())).await.unwrap();
        }
        drop(pieces);
    };
    let hear = async {
        let mut heard = Vec::new();
        while let Some(answer) = within(answers.next()).await {
            heard.push(answer);
        }
        heard
    };
    let ((), heard) = tokio::join!(say, hear);
    assert_eq!(heard, said);
    assert_eq!(within(call).await.unwrap().map_err(|status| status.to_string()), Ok(()));
}

#[tokio::test]
async fn an_asker_who_goes_away_stops_the_host() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, "web-1").await;
    let mut answers =
        coordinator.fleet.ask(agent.host, asker(&coordinator), question(&coordinator), DEADLINE).unwrap();
    let ask = session.asked().await;
    let (pieces, call) = session.answer(ask.id).await;
    let first = line("first");
    pieces.send(piece(first.clone())).await.unwrap();
    assert_eq!(within(answers.next()).await, Some(first));
    drop(answers);
    assert_eq!(session.hear().await, Some(CoordinatorFrame::Cancel(ask.id)));
    assert!(within(call).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_host_that_is_not_connected_cannot_be_asked() {
    let coordinator = Coordinator::start().await;
    let agent = coordinator.host("web-1").await;
    let refused =
        coordinator.fleet.ask(agent.host, asker(&coordinator), question(&coordinator), DEADLINE).unwrap_err();
    assert_eq!(refused.code, "host-offline");
}

#[tokio::test]
async fn a_host_that_leaves_ends_its_answer_with_a_reason() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, "web-1").await;
    let mut answers =
        coordinator.fleet.ask(agent.host, asker(&coordinator), question(&coordinator), DEADLINE).unwrap();
    session.asked().await;
    drop(session);
    let Some(Answer::End(Some(reason))) = within(answers.next()).await else { panic!("no end") };
    assert_eq!(reason.code, "host-offline");
}

#[tokio::test]
async fn another_host_cannot_answer() {
    let coordinator = Coordinator::start().await;
    let (agent, mut session) = connected(&coordinator, "web-1").await;
    let (_, other) = connected(&coordinator, "web-2").await;
    let mut answers =
        coordinator.fleet.ask(agent.host, asker(&coordinator), question(&coordinator), DEADLINE).unwrap();
    let ask = session.asked().await;
    let (pieces, lie) = other.answer(ask.id).await;
    // The call may be refused before this is taken.
    let _ = pieces.send(piece(line("a lie"))).await;
    assert_eq!(within(lie).await.unwrap().unwrap_err().code(), Code::NotFound);
    let (pieces, call) = session.answer(ask.id).await;
    pieces.send(piece(Answer::End(None))).await.unwrap();
    assert_eq!(within(answers.next()).await, Some(Answer::End(None)));
    assert!(within(call).await.unwrap().is_ok());
}
