//! What visitors see: pages, redirects, WebSockets, and a calm word where no bot answers.

use std::net::TcpListener;
use std::time::Duration;

use crate::bots;
use crate::ground::{Ground, within};
use crate::visitor::{Line, visit};

/// A change of the policy is promised to be seen in this time; it is asked for at each request, so it is seen
/// at once.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

#[test]
fn a_public_name_leads_to_its_bot_over_https_and_http_2() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example", "www.one.example"])]);
    for name in ["one.bots.example", "www.one.example"] {
        let page = visit(&ground.root(), &format!("https://{name}/path?query=1"), &[]);
        assert_eq!((page.status, page.version.as_str()), (200, "2"), "{}", page.text);
        assert!(page.text.contains("one\nGET /path?query=1 HTTP/1.1"), "{}", page.text);
    }
    let page = visit(&ground.root(), "https://one.bots.example/", &["--http1.1", "--data", "a body"]);
    assert_eq!((page.status, page.version.as_str()), (200, "1.1"), "{}", page.text);
    assert!(page.text.contains("POST / HTTP/1.1"), "{}", page.text);
}

#[test]
fn a_bot_learns_the_visitors_address_from_caddy_and_not_from_the_visitor() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example"])]);
    let lies =
        ["X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Forwarded-Host: a.b"];
    let lies: Vec<&str> = lies.iter().flat_map(|lie| ["--header", *lie]).collect();
    let seen = visit(&ground.root(), "https://one.bots.example/", &lies).text;
    assert!(!seen.contains("192.0.2.1") && !seen.contains("a.b"), "{seen}");
    for truth in
        ["X-Forwarded-For: 127.0.0.1", "X-Real-Ip: 127.0.0.1", "X-Forwarded-Proto: https", "Host: one.bots.example"]
    {
        assert!(seen.contains(truth), "no `{truth}` in {seen}");
    }
}

#[test]
fn plain_http_is_sent_on_to_https_where_there_is_a_bot() {
    let Some(ground) = Ground::with_caddy() else { return };
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example"])]);
    let page = visit(&ground.root(), "http://one.bots.example/a?b=%20c", &[]);
    assert_eq!(page.status, 308);
    assert!(page.text.contains("Location: https://one.bots.example/a?b=%20c\r\n"), "{}", page.text);
    let page = visit(&ground.root(), "http://stranger.example/", &[]);
    assert_eq!(page.status, 404);
    assert!(page.text.contains("There is no bot here"), "{}", page.text);
}

#[test]
fn a_name_that_no_bot_has_gets_no_certificate() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example"])]);
    for stranger in ["stranger.example", "x.one.bots.example", "127.0.0.1"] {
        let page = visit(&ground.root(), &format!("https://{stranger}/"), &[]);
        assert_eq!((page.status, page.exit), (0, 35), "{stranger}: {}", page.text);
    }
    // One that has a certificate opens no door to another.
    let fronted = visit(&ground.root(), "https://one.bots.example/", &["--header", "Host: stranger.example"]);
    assert_eq!(fronted.status, 421, "{}", fronted.text);
    assert_eq!(ground.certified(), ["one.bots.example"]);
}

#[test]
fn an_open_websocket_survives_twenty_changes_each_of_which_counts_at_once() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    bots::start("two", "127.0.1.2:8080");
    bots::start("three", "127.0.1.3:8080");
    let one: (u128, &str, &[&str]) = (1, "127.0.1.1:8080", &["one.bots.example"]);
    ground.tell(&[one]);
    let mut socket = Line::open(&ground.root(), "one.bots.example").upgrade("one.bots.example");
    let root = ground.root();
    for round in 0..20 {
        // A neighbour comes, moves to another address, and goes.
        let (at, expected) = match round % 3 {
            0 => ("127.0.1.2:8080", Some("two\n")),
            1 => ("127.0.1.3:8080", Some("three\n")),
            _ => ("", None),
        };
        let neighbour: (u128, &str, &[&str]) = (2, at, &["two.bots.example"]);
        let bots = [one, neighbour];
        ground.tell(if expected.is_some() { &bots } else { &bots[..1] });
        within(SEEN_WITHIN, "the change to be seen", || {
            let page = visit(&root, "https://two.bots.example/", &[]);
            expected.map_or(page.status == 404, |words| page.text.contains(words))
        });
        let words = format!("change {round}");
        socket.send(&words);
        assert_eq!(socket.receive(words.len()), words);
    }
}

#[test]
fn a_bot_that_does_not_answer_yet_is_a_calm_page_that_asks_again() {
    let Some(ground) = Ground::with_caddy() else { return };
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example"])]);
    let page = visit(&ground.root(), "https://one.bots.example/", &[]);
    assert_eq!(page.status, 503);
    assert!(page.text.contains("retry-after: 5") && page.text.contains("This bot is starting"), "{}", page.text);
    assert!(!page.text.contains("127.0.1.1") && !page.text.contains("refused"), "{}", page.text);
    bots::start("one", "127.0.1.1:8080");
    assert_eq!(visit(&ground.root(), "https://one.bots.example/", &[]).status, 200);
}

#[test]
fn a_visitor_waits_for_a_gate_that_is_being_restarted() {
    let Some(mut ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example"])]);
    let mut socket = Line::open(&ground.root(), "one.bots.example").upgrade("one.bots.example");
    ground.stop_gate();
    let nobody = TcpListener::bind(ground.args().ingress_directory).unwrap();
    let root = ground.root();
    let visitor = std::thread::spawn(move || visit(&root, "https://one.bots.example/", &[]).status);
    // The look-up has come, and is turned away; from here on the port is shut.
    drop(nobody.accept().unwrap());
    drop(nobody);
    ground.start_gate();
    assert_eq!(visitor.join().unwrap(), 200);
    socket.send("still here");
    assert_eq!(socket.receive(10), "still here");
}
