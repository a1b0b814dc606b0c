//! One HTTP GET, answered 200 in time with the right words or not.
//!
//! The prober asks through [`super::Eyes::probe`]. The connection is made anew each time, as a visitor's
//! would be; a body is read only as far as a verdict needs, and never beyond a bound.

use std::net::{Ipv4Addr, SocketAddr};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use launchpad_protocol::spec::HttpProbe;
use tokio::net::TcpStream;

/// Bytes of a body that are looked at: openclaw's longest answer to a probe has 2 KiB.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Asks once.
///
/// # Errors
/// In a few words, what came instead.
pub async fn get(address: Ipv4Addr, port: u16, probe: &HttpProbe) -> Result<(), String> {
    let asked = ask(SocketAddr::from((address, port)), probe);
    match tokio::time::timeout(probe.timeout, asked).await {
        Ok(verdict) => verdict,
        Err(_) => Err(format!("no answer within {:?}", probe.timeout)),
    }
}

async fn ask(address: SocketAddr, probe: &HttpProbe) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| in_few_words(&error))?;
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

async fn judge(answer: Response<Incoming>, wanted: Option<&str>) -> Result<(), String> {
    if answer.status() != StatusCode::OK {
        return Err(format!("status {}", answer.status().as_u16()));
    }
    let Some(wanted) = wanted else { return Ok(()) };
    let mut body = answer.into_body();
    let mut seen: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the body broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            seen.extend_from_slice(&data[..data.len().min(BODY_MAX_BYTES - seen.len())]);
            if contains(&seen, wanted.as_bytes()) {
                return Ok(());
            }
            if seen.len() >= BODY_MAX_BYTES {
                break;
            }
        }
    }
    Err(format!("status 200, but the body has no `{wanted}`"))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

fn in_few_words(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        return "connection refused".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
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
        tokio::select! {
            verdict = get(Ipv4Addr::LOCALHOST, port, &probe) => verdict,
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
    async fn silence_and_a_closed_port_are_told_apart() {
        assert_eq!(asked("", None).await, Err("no answer within 300ms".to_owned()));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert_eq!(get(Ipv4Addr::LOCALHOST, free, &probe(None)).await, Err("connection refused".to_owned()));
    }

    #[tokio::test]
    async fn a_body_without_end_is_read_only_so_far() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let flood = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            std::future::pending().await
        };
        let probe = HttpProbe { timeout: Duration::from_secs(20), ..probe(Some("ok")) };
        tokio::select! {
            verdict = get(Ipv4Addr::LOCALHOST, port, &probe) => assert!(verdict.is_err()),
            () = flood => unreachable!("it waits for the verdict"),
        }
    }
}
