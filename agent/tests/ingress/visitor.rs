//! Visitors: curl for pages, a bare TLS connection for WebSockets and for those who mean no good. Both verify
//! certificates.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// What curl saw.
#[derive(Debug)]
pub(crate) struct Page {
    /// 0: no answer.
    pub(crate) status: u16,
    /// HTTP's.
    pub(crate) version: String,
    /// Head and body.
    pub(crate) text: String,
    /// curl's own, 35 when the handshake fails.
    pub(crate) exit: i32,
}

/// Visits a page by curl: `words` are more of its options.
pub(crate) fn visit(root: &Path, url: &str, words: &[&str]) -> Page {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--include", "--noproxy", "*", "--max-time", "30", "--cacert"]).arg(root);
    for port in [80, 443] {
        curl.args(["--resolve", &format!("*:{port}:127.0.0.1")]);
    }
    curl.args(["--write-out", "\n%{http_code} %{http_version}"]).args(words).arg(url);
    let output = curl.output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (text, facts) = text.rsplit_once('\n').expect("curl tells its facts");
    let (status, version) = facts.split_once(' ').expect("two of them");
    Page {
        status: status.parse().expect("a status"),
        version: version.to_owned(),
        text: text.to_owned(),
        exit: output.status.code().unwrap_or(-1),
    }
}

/// A TLS connection to Caddy for this name, HTTP/1.1.
pub(crate) struct Line {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Line {
    pub(crate) fn open(root: &Path, name: &'static str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect("127.0.0.1:443").unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream: StreamOwned::new(connection, socket) }
    }

    /// A WebSocket: from here on, bytes come back as they are sent.
    pub(crate) fn upgrade(mut self, name: &str) -> Self {
        self.send(&format!("GET /ws HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(char::from(byte[0]));
        }
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        self
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).and_then(|()| self.stream.flush()).unwrap();
    }

    /// Whether the other side still takes it.
    pub(crate) fn tries_to_send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// So many bytes; panics when they do not come.
    pub(crate) fn receive(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Whether the other side has hung up, as far as it is seen without waiting.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.stream.sock.set_nonblocking(true).unwrap();
        let seen = self.stream.read(&mut [0; 64]);
        self.stream.sock.set_nonblocking(false).unwrap();
        match seen {
            Ok(count) => count == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
