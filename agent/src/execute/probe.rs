//! One HTTP GET, answered 200 in time with the right words or not.
//!
//! The prober asks through [`super::Eyes::probe`]. The connection is made anew each time, as a visitor's
//! would be, and from the host's own address: at the bridge's stands the ingress, and a bot that trusts it takes
//! no word from there that names no visitor. What answers is a stranger's program: of its body so many bytes and
//! frames are read and no more, and each byte costs the same however they are cut.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use launchpad_protocol::spec::HttpProbe;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// Bytes of a body that are looked at: openclaw's longest answer to a probe has 2 KiB.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Frames of a body that are looked at: a chunk is one, whatever its size, and each costs hyper about a
/// microsecond. Honest servers send an answer to a probe in one or two.
const FRAMES_MAX: usize = 1024;

/// How long the host's own address is taken for what it was: asking takes a socket and five system calls, and a host with
/// thirty bots probes twelve times a second. One that is gone is noticed at once, because nothing can be bound to it.
const OWN_ADDRESS_FOR: Duration = Duration::from_secs(10);

/// Who asks, and from where.
#[derive(Debug, Default)]
pub struct Asker {
    own: Mutex<Option<Own>>,
}

/// The host's own address, if it has one, and when that was found.
#[derive(Debug, Clone, Copy)]
struct Own {
    address: Option<SocketAddr>,
    found_at: Instant,
}

impl Asker {
    /// Asks once.
    ///
    /// # Errors
    /// In a few words, what came instead.
    pub async fn get(&self, address: Ipv4Addr, port: u16, probe: &HttpProbe) -> Result<(), String> {
        let address = SocketAddr::from((address, port));
        let asked = async {
            let stream = self.dial(address).await.map_err(|error| in_few_words(&error))?;
            ask(stream, address, probe).await
        };
        match tokio::time::timeout(probe.timeout, asked).await {
            Ok(verdict) => verdict,
            Err(_) => Err(format!("no answer within {:?}", probe.timeout)),
        }
    }

    /// Connects from the host's own address; where it has none but its bridges', from whichever the kernel takes.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let Some(own) = self.own() else { return TcpStream::connect(address).await };
        let socket = TcpSocket::new_v4()?;
        if let Err(error) = socket.bind(own) {
            if error.kind() != io::ErrorKind::AddrNotAvailable {
                return Err(error);
            }
            self.forget();
            let Some(own) = self.own() else { return TcpStream::connect(address).await };
            socket.bind(own)?;
        }
        socket.connect(address).await
    }

    fn own(&self) -> Option<SocketAddr> {
        let mut known = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *known {
            Some(own) if now.duration_since(own.found_at) < OWN_ADDRESS_FOR => own.address,
            Some(_) | None => known.insert(Own { address: own_address(), found_at: now }).address,
        }
    }

    fn forget(&self) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn ask(stream: TcpStream, address: SocketAddr, probe: &HttpProbe) -> Result<(), String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("no HTTP: {error}"))?;
    let request = Request::get(&probe.path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, concat!("launchpad-agent/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("path `{}` is no path: {error}", probe.path))?;
    let conversation = async {
        let answer = sender.send_request(request).await.map_err(|error| format!("no HTTP answer: {error}"))?;
        judge(answer, probe.body_contains.as_deref()).await
    };
    // The connection has to be driven beside the conversation; when that has its verdict, both are dropped.
    tokio::pin!(conversation, connection);
    tokio::select! {
        verdict = &mut conversation => verdict,
        ended = &mut connection => match ended {
            Ok(()) => conversation.await,
            Err(error) => Err(format!("the connection broke: {error}")),
        },
    }
}

/// The address from which this host reaches others, any port of it. Nothing is sent: the kernel looks up the way to an
/// address that nobody has (TEST-NET-1, RFC 5737), and says where it would begin.
fn own_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|own| SocketAddr::new(own.ip(), 0))
}

async fn judge<B>(answer: Response<B>, wanted: Option<&str>) -> Result<(), String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if answer.status() != StatusCode::OK {
        return Err(format!("status {}", answer.status().as_u16()));
    }
    let Some(wanted) = wanted else { return Ok(()) };
    let mut search = Search::of(wanted.as_bytes());
    let mut body = answer.into_body();
    let mut left = BODY_MAX_BYTES;
    for _ in 0..FRAMES_MAX {
        if search.found() {
            return Ok(());
        }
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| format!("the body broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            let looked_at = &data[..data.len().min(left)];
            left -= looked_at.len();
            search.read(looked_at);
        }
        if left == 0 {
            break;
        }
    }
    if search.found() { Ok(()) } else { Err(format!("status 200, but the body has no `{wanted}`")) }
}

/// Knuth, Morris and Pratt's search in a text that comes in pieces: nothing of it is kept, no byte is read twice,
/// and there are at most two comparisons a byte. Of any symbols, so that a test can count.
struct Search<'a, T> {
    wanted: &'a [T],
    /// For each beginning of `wanted`, the longest shorter beginning that it ends with.
    fallback: Vec<usize>,
    /// So much of `wanted` is what the text so far ends with; all of it, once found.
    matched: usize,
}

impl<'a, T: PartialEq> Search<'a, T> {
    fn of(wanted: &'a [T]) -> Self {
        let mut fallback = vec![0; wanted.len()];
        let mut matched = 0;
        for end in 1..wanted.len() {
            while matched > 0 && wanted[end] != wanted[matched] {
                matched = fallback[matched - 1];
            }
            matched += usize::from(wanted[end] == wanted[matched]);
            fallback[end] = matched;
        }
        Self { wanted, fallback, matched: 0 }
    }

    fn found(&self) -> bool {
        self.matched == self.wanted.len()
    }

    fn read(&mut self, piece: &[T]) {
        for symbol in piece {
            while let Some(next) = self.wanted.get(self.matched) {
                if symbol == next {
                    self.matched += 1;
                    break;
                }
                if self.matched == 0 {
                    break;
                }
                self.matched = self.fallback[self.matched - 1];
            }
        }
    }
}

fn in_few_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "connection refused".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn probe(wanted: Option<&str>) -> HttpProbe {
        HttpProbe {
            path: "/readyz".to_owned(),
            period: Duration::from_secs(1),
            timeout: Duration::from_millis(300),
            failures: 1,
            body_contains: wanted.map(str::to_owned),
        }
    }

    /// Serves that answer once; an empty one is silence.
    async fn asked(answer: &'static str, wanted: Option<&str>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        };
        let probe = probe(wanted);
        let asker = Asker::default();
        tokio::select! {
            verdict = asker.get(Ipv4Addr::LOCALHOST, port, &probe) => verdict,
            () = async { served.await; std::future::pending().await } => unreachable!("it waits for the verdict"),
        }
    }

    #[tokio::test]
    async fn only_a_200_with_the_right_words_is_well() {
        let well = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
        assert_eq!(asked(well, Some("\"ok\":true")).await, Ok(()));
        assert_eq!(asked(well, None).await, Ok(()));
        let other = asked(well, Some("\"ready\":true")).await.unwrap_err();
        assert!(other.contains("no `\"ready\":true`"), "{other}");
        let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(asked(busy, None).await, Err("status 503".to_owned()));
    }

    #[tokio::test]
    async fn a_probe_comes_from_the_hosts_own_address() {
        let asker = Asker::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialled, accepted) = tokio::join!(asker.dial(listener.local_addr().unwrap()), listener.accept());
        let own = own_address().map_or(Ipv4Addr::LOCALHOST.into(), |own| own.ip());
        assert_eq!((dialled.unwrap().local_addr().unwrap().ip(), accepted.unwrap().1.ip()), (own, own));
    }

    #[tokio::test]
    async fn an_address_that_the_host_has_lost_is_asked_for_anew_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = Own { address: Some("203.0.113.9:0".parse().unwrap()), found_at: Instant::now() };
        let asker = Asker { own: Mutex::new(Some(gone)) };
        let (dialled, _) = tokio::join!(asker.dial(listener.local_addr().unwrap()), listener.accept());
        assert!(dialled.is_ok(), "{dialled:?}");
    }

    #[tokio::test]
    async fn silence_and_a_closed_port_are_told_apart() {
        assert_eq!(asked("", None).await, Err("no answer within 300ms".to_owned()));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert_eq!(
            Asker::default().get(Ipv4Addr::LOCALHOST, free, &probe(None)).await,
            Err("connection refused".to_owned())
        );
    }

    /// Answers 200 with an endless body of such pieces; how many of them were taken.
    async fn pieces_taken(piece: &'static [u8], wanted: &str) -> usize {
        let mut taken = 0;
        let pieces = futures::stream::repeat_with(|| {
            taken += 1;
            Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(Bytes::from_static(piece)))
        });
        let verdict = judge(Response::new(http_body_util::StreamBody::new(pieces)), Some(wanted)).await;
        assert_eq!(verdict, Err(format!("status 200, but the body has no `{wanted}`")));
        taken
    }

    #[tokio::test]
    async fn a_body_without_end_is_read_only_so_far_however_it_is_cut() {
        assert_eq!(pieces_taken(b"x", "ok").await, FRAMES_MAX);
        assert_eq!(pieces_taken(&[b'x'; 4096], "ok").await, BODY_MAX_BYTES / 4096);
        assert_eq!(pieces_taken(b"", "ok").await, FRAMES_MAX);
    }

    thread_local! {
        static COMPARISONS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// A byte that counts how often it is compared.
    #[derive(Clone, Copy)]
    struct Counted(u8);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0 == other.0
        }
    }

    #[test]
    fn a_body_made_to_be_slow_costs_two_comparisons_a_byte() {
        let wanted = [[Counted(b'x'); 200].as_slice(), &[Counted(b'y')]].concat();
        let mut search = Search::of(&wanted);
        COMPARISONS.set(0);
        for _ in 0..BODY_MAX_BYTES {
            search.read(&[Counted(b'x')]);
        }
        assert!(!search.found());
        assert!(COMPARISONS.get() <= 2 * BODY_MAX_BYTES, "{}", COMPARISONS.get());
    }

    proptest::proptest! {
        #[test]
        fn words_are_found_wherever_the_body_is_cut(text in "[ab]{0,40}", wanted in "[ab]{0,6}", cut in 1_usize..9) {
            let mut search = Search::of(wanted.as_bytes());
            text.as_bytes().chunks(cut).for_each(|piece| search.read(piece));
            proptest::prop_assert_eq!(search.found(), text.contains(&wanted));
        }
    }
}
