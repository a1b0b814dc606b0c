//! Questions, and answers that never stand in a spec's way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use launchpad_agent::link::ports::Floor;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::frame::{AgentFrame, Answer, Ask, Question};
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::AskId;
use launchpad_protocol::session::CoordinatorInput;
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::AnswerPart;

use crate::coordinator::Coordinator;
use crate::world::{Agent, World, offer, quick, until};

fn ask(tail: u32, follow: bool, deadline_ms: u64) -> Ask {
    let deployment = "dep_00000000000000000000000000000001".parse().unwrap();
    let id = Entropy::system().id(Moment::from_micros(0));
    Ask { id, deadline_ms, question: Question::Logs { deployment, tail, follow } }
}

fn lines(coordinator: &Coordinator) -> usize {
    let answers = coordinator.heard.answers.lock().unwrap();
    answers.iter().filter(|part| matches!(part, AnswerPart::Piece(Answer::Line(_)))).count()
}

fn over(coordinator: &Coordinator) -> bool {
    coordinator.heard.answers_over.load(Ordering::SeqCst) > 0
}

async fn connected() -> (Coordinator, Agent) {
    let world = World::new();
    let coordinator = Coordinator::start(&world).await;
    let identity = world.identity(Duration::ZERO, &[coordinator.fleet], coordinator.enroll);
    let agent = Agent::start(&identity, Floor::default(), quick());
    agent.connected().await;
    (coordinator, agent)
}

#[tokio::test]
async fn an_answer_names_its_question_first_and_ends_once() {
    let (coordinator, agent) = connected().await;
    let ask = ask(3, false, 10_000);
    let id: AskId = ask.id;
    coordinator.tell(CoordinatorInput::Ask(ask)).await;
    until("the answer is over", || over(&coordinator)).await;
    let parts = coordinator.heard.answers.lock().unwrap().clone();
    assert_eq!(parts.len(), 5, "{parts:?}");
    assert_eq!(parts.first(), Some(&AnswerPart::Begins(id)));
    assert_eq!(parts.last(), Some(&AnswerPart::Piece(Answer::End(None))));
    assert_eq!(lines(&coordinator), 3);
    agent.stop().await;
}

#[tokio::test]
async fn a_followed_log_outlives_its_deadline_and_ends_when_it_is_cancelled() {
    let (coordinator, agent) = connected().await;
    let ask = ask(0, true, 1);
    let id = ask.id;
    coordinator.tell(CoordinatorInput::Ask(ask)).await;
    until("it follows", || lines(&coordinator) > 500).await;
    assert!(!over(&coordinator));
    coordinator.tell(CoordinatorInput::Cancel(id)).await;
    until("it ends", || over(&coordinator)).await;
    agent.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_delay_no_spec() {
    let (coordinator, mut agent) = connected().await;
    coordinator.heard.deaf_to_answers.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        coordinator.tell(CoordinatorInput::Ask(ask(0, true, 1))).await;
    }
    for generation in 1..=20 {
        coordinator.publish(offer(generation)).await;
        assert_eq!(agent.accept().await, offer(generation));
    }
    let told = |frame: &AgentFrame| matches!(frame, AgentFrame::Verdict { generation: Generation(20), .. });
    until("the last verdict arrives", || coordinator.heard.saw(told)).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_question_too_many_is_told_so_at_once() {
    let (coordinator, agent) = connected().await;
    let most = launchpad_protocol::limits::ASKS_PER_HOST_MAX;
    for _ in 0..most {
        coordinator.tell(CoordinatorInput::Ask(ask(0, true, 1))).await;
    }
    coordinator.tell(CoordinatorInput::Ask(ask(1, false, 10_000))).await;
    let told =
        |part: &AnswerPart| matches!(part, AnswerPart::Piece(Answer::End(Some(why))) if why.code == "asks-full");
    until("it is told", || coordinator.heard.answers.lock().unwrap().iter().any(told)).await;
    agent.stop().await;
}
