//! Every way in which a question can end, with a seat that no session drives.

use futures::stream;
use launchpad_pki::pipe::Transport;
use launchpad_protocol::frame::OutputStream;
use launchpad_protocol::generation::Fence;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::time::Moment;
use uuid::Uuid;

use super::super::seats::SeatEnds;
use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

struct Scene {
    asks: Arc<Asks>,
    seat: Seat,
    ends: SeatEnds,
}

fn scene() -> Scene {
    let (seat, ends) = Seat::new(Fence(1), Transport::Sim, None);
    Scene { asks: Arc::default(), seat, ends }
}

fn host(number: u128) -> HostId {
    HostId::from(Uuid::from_u128(number))
}

fn id(number: u128) -> AskId {
    AskId::from(Uuid::from_u128(number))
}

fn tenant(number: u128) -> Asker {
    Asker::Tenant(AccountId::from(Uuid::from_u128(number)))
}

fn line(text: &str) -> LogLine {
    LogLine { at: Moment::from_micros(1), stream: OutputStream::Stdout, text: text.to_owned() }
}

fn question() -> Question {
    Question::Logs { deployment: DeploymentId::from(Uuid::from_u128(9)), tail: 10, follow: true }
}

impl Scene {
    fn ask(&self, number: u128, deadline: Duration) -> Result<Answers, Reason> {
        // Somebody else each time, so that only the host's own bound is felt.
        self.asks.ask((host(1), self.seat.clone()), tenant(number), id(number), question(), deadline)
    }

    /// Waits until the session has that order.
    async fn order(&mut self) -> Order {
        self.ends.orders.recv().await.unwrap()
    }

    async fn asked(&mut self) -> Answers {
        let answers = self.ask(7, DEADLINE).unwrap();
        assert!(matches!(self.order().await, Order::Ask(ask) if ask.id == id(7) && ask.deadline_ms == 30_000));
        answers
    }

    async fn is_cancelled(&mut self) {
        assert!(matches!(self.order().await, Order::Cancel(cancelled) if cancelled == id(7)));
    }
}

fn pieces(pieces: impl IntoIterator<Item = Result<Answer, Reason>>) -> Pieces {
    stream::iter(pieces.into_iter().collect::<Vec<_>>()).boxed()
}

#[tokio::test]
async fn an_answer_arrives_in_order_and_ends_once() {
    let mut scene = scene();
    let mut answers = scene.asked().await;
    let said = [Ok(Answer::Line(line("a"))), Ok(Answer::Line(line("b"))), Ok(Answer::End(None))];
    let (told, ()) = tokio::join!(scene.asks.answer(host(1), id(7), pieces(said)), async {
        assert_eq!(answers.next().await, Some(Answer::Line(line("a"))));
        assert_eq!(answers.next().await, Some(Answer::Line(line("b"))));
        assert_eq!(answers.next().await, Some(Answer::End(None)));
        assert_eq!(answers.next().await, None);
    });
    assert_eq!(told, Ok(()));
}

#[tokio::test]
async fn an_asker_who_goes_away_cancels_the_question() {
    let mut scene = scene();
    let answers = scene.asked().await;
    drop(answers);
    scene.is_cancelled().await;
}

#[tokio::test]
async fn a_host_that_is_answering_is_let_go_when_the_asker_goes_away() {
    let mut scene = scene();
    let mut answers = scene.asked().await;
    let asks = Arc::clone(&scene.asks);
    let forever = stream::iter([Ok(Answer::Line(line("a")))]).chain(stream::pending()).boxed();
    let call = tokio::spawn(async move { asks.answer(host(1), id(7), forever).await });
    assert_eq!(answers.next().await, Some(Answer::Line(line("a"))));
    drop(answers);
    assert_eq!(call.await.unwrap(), Ok(()));
    scene.is_cancelled().await;
}

#[tokio::test]
async fn a_host_that_never_calls_back_is_given_up_at_the_deadline() {
    let mut scene = scene();
    let mut answers = scene.ask(7, Duration::from_millis(10)).unwrap();
    assert!(matches!(scene.order().await, Order::Ask(_)));
    let Some(Answer::End(Some(reason))) = answers.next().await else { panic!("no end") };
    assert_eq!(reason.code, "answer-too-late");
    scene.is_cancelled().await;
}

#[tokio::test]
async fn a_session_that_ends_takes_its_answers_with_it() {
    let mut scene = scene();
    let mut answers = scene.asked().await;
    scene.seat.over.cancel();
    let Some(Answer::End(Some(reason))) = answers.next().await else { panic!("no end") };
    assert_eq!(reason.code, "host-offline");
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_so_after_its_lines() {
    let mut scene = scene();
    let mut answers = scene.asked().await;
    let broken_off = pieces([Ok(Answer::Line(line("a")))]);
    let (told, ()) = tokio::join!(scene.asks.answer(host(1), id(7), broken_off), async {
        assert_eq!(answers.next().await, Some(Answer::Line(line("a"))));
        let Some(Answer::End(Some(reason))) = answers.next().await else { panic!("no end") };
        assert_eq!(reason.code, "answer-broken-off");
    });
    assert_eq!(told, Ok(()));
}

#[tokio::test]
async fn only_the_host_that_was_asked_answers_and_only_once() {
    let mut scene = scene();
    let mut answers = scene.asked().await;
    let lie = || pieces([Ok(Answer::Line(line("not yours"))), Ok(Answer::End(None))]);
    assert_eq!(scene.asks.answer(host(2), id(7), lie()).await.unwrap_err().code, "nobody-asks");
    assert_eq!(scene.asks.answer(host(1), id(8), lie()).await.unwrap_err().code, "nobody-asks");
    assert_eq!(scene.asks.answer(host(1), id(7), pieces([Ok(Answer::End(None))])).await, Ok(()));
    assert_eq!(scene.asks.answer(host(1), id(7), lie()).await.unwrap_err().code, "nobody-asks");
    assert_eq!(answers.next().await, Some(Answer::End(None)));
}

#[tokio::test]
async fn a_host_has_so_many_questions_to_answer_and_no_more() {
    let scene = scene();
    let open: Vec<_> = (0..ASKS_PER_HOST_MAX).map(|number| scene.ask(number as u128, DEADLINE).unwrap()).collect();
    assert_eq!(scene.ask(1_000, DEADLINE).unwrap_err().code, "host-is-answering");
    let elsewhere = scene.asks.ask((host(2), scene.seat.clone()), tenant(1), id(2_000), question(), DEADLINE);
    assert!(elsewhere.is_ok(), "another host's questions are its own");
    drop(open);
}

#[tokio::test]
async fn one_viewer_cannot_hold_all_that_a_host_answers() {
    let scene = scene();
    let ask = |to: u128, asker: Asker, number: usize| {
        scene.asks.ask((host(to), scene.seat.clone()), asker, id(number as u128), question(), DEADLINE)
    };
    let mut open: Vec<_> = (0..ASKS_PER_ASKER_MAX).map(|number| ask(1, tenant(1), number).unwrap()).collect();
    assert_eq!(ask(1, tenant(1), 100).unwrap_err().code, "too-many-questions");
    open.push(ask(1, tenant(2), 101).unwrap());
    open.push(ask(1, Asker::Staff(UserId::from(Uuid::from_u128(1))), 102).unwrap());
    open.push(ask(2, tenant(1), 103).unwrap());
    // Whoever closes one may open another.
    let mut closed = open.swap_remove(0);
    scene.seat.over.cancel();
    while closed.next().await.is_some() {}
    assert!(ask(1, tenant(1), 104).is_ok());
}
