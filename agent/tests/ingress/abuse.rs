//! Visitors and bots who mean no good: each is bounded, and none reaches what is not for it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::bots;
use crate::ground::{Ground, eventually, run, within};
use crate::visitor::{Line, visit};

const ONE: (u128, &str, &[&str]) = (1, "127.0.1.1:8080", &["one.bots.example"]);
/// A request's head may take 10 s; the rest is a busy machine's.
const HEAD_ENDS_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_body_or_a_head_without_end_is_refused() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[ONE]);
    let file = |mib: usize| {
        let path = ground.dir.path().join(format!("{mib}-mib"));
        std::fs::write(&path, vec![b'x'; mib << 20]).unwrap();
        format!("@{}", path.display())
    };
    let (large, fair) = (file(33), file(31));
    let url = "https://one.bots.example/";
    for words in [&["--http2"][..], &["--http1.1"], &["--http1.1", "--header", "Transfer-Encoding: chunked"]] {
        let sent = |body: &str| visit(&ground.root(), url, &[words, &["--data-binary", body]].concat());
        let page = sent(&large);
        assert_eq!(page.status, 413, "{words:?}: {}", page.text);
        assert_eq!(sent(&fair).status, 200, "{words:?}");
    }
    let head = format!("X-Long: {}", "x".repeat(24 << 10));
    assert_eq!(visit(&ground.root(), url, &["--http1.1", "--header", &head]).status, 431);
    assert_eq!(visit(&ground.root(), url, &["--http2", "--header", &head]).status, 0);
}

#[test]
fn a_head_that_comes_byte_by_byte_ends_and_neither_neighbours_nor_websockets_do() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[ONE]);
    let root = ground.root();
    let mut socket = Line::open(&root, "one.bots.example").upgrade("one.bots.example");
    let mut slow: Vec<Line> = (0..20).map(|_| Line::open(&root, "one.bots.example")).collect();
    slow.iter_mut().for_each(|line| line.send("GET / HTTP/1.1\r\nHost: one.bots.example\r\nX-Slow: "));
    assert_eq!(visit(&root, "https://one.bots.example/", &[]).status, 200);
    let slow = std::cell::RefCell::new(slow);
    within(HEAD_ENDS_WITHIN, "every slow head to be cut off", || {
        slow.borrow_mut().retain_mut(|line| line.tries_to_send("x") && !line.is_closed());
        slow.borrow().is_empty()
    });
    socket.send("still here");
    assert_eq!(socket.receive(10), "still here");
}

/// A bot's own namespace, with a bridge's end in the host's: the host is at 198.18.77.1.
#[test]
fn a_bot_reaches_neither_the_directory_nor_caddys_admin() {
    let Some(ground) = Ground::with_caddy() else { return };
    let (ready, made) = std::sync::mpsc::channel();
    let (linked, link) = std::sync::mpsc::channel();
    let bot = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(nix::unistd::gettid()).unwrap();
        link.recv().unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "set", "inside", "up"]);
        run("ip", &["address", "add", "198.18.77.2/30", "dev", "inside"]);
        let dial = |address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(drop).map_err(|error| error.kind())
        };
        // The way to the host is open here, and so is what listens for visitors.
        eventually("the link to be up", || dial("198.18.77.1:443").is_ok());
        for shut in ["198.18.77.1:770", "127.0.0.1:770", "198.18.77.1:2019", "127.0.0.1:2019"] {
            assert_eq!(dial(shut), Err(ErrorKind::ConnectionRefused), "{shut}");
        }
    });
    let namespace = made.recv().unwrap().to_string();
    run("ip", &["link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", &namespace]);
    run("ip", &["address", "add", "198.18.77.1/30", "dev", "outside"]);
    run("ip", &["link", "set", "outside", "up"]);
    linked.send(()).unwrap();
    bot.join().unwrap();
    // The host itself does.
    assert!(TcpStream::connect(ground.args().ingress_directory).is_ok());
}
