//! Caddy killed, meddled with or hindered: it is told by name, harms nobody else, and is put right without
//! anybody.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::bots;
use crate::ground::{Ground, eventually, run};
use crate::visitor::{Line, visit};

const ONE: (u128, &str, &[&str]) = (1, "127.0.1.1:8080", &["one.bots.example"]);
const NAMELESS: (u128, &str, &[&str]) = (2, "127.0.1.2:8080", &[]);

#[test]
fn a_killed_caddy_is_told_and_comes_back_as_it_was_without_anybody() {
    let Some(mut ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[ONE, NAMELESS]);
    assert_eq!(visit(&ground.root(), "https://one.bots.example/", &[]).status, 200);
    ground.kill_caddy();
    eventually("the loss to be told", || ground.fault(1) == "caddy-away");
    assert_eq!(ground.fault(2), "ours");
    let fault = ground.sight(1).fault.unwrap();
    assert!(fault.mend.unwrap().contains("caddy run --config"));

    // With the gate gone too: the file alone brings it back, and the gate finds it as it should be.
    ground.stop_gate();
    ground.spawn_caddy(&ground.args().caddy_config.clone());
    ground.start_gate();
    eventually("Caddy to be ours again", || ground.fault(1) == "ours");
    assert_eq!(visit(&ground.root(), "https://one.bots.example/", &[]).status, 200);
    assert!(!ground.log().contains("another configuration"), "{}", ground.log());
}

#[test]
fn what_somebody_changed_of_caddys_configuration_is_put_right_and_its_file_too() {
    let Some(ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[ONE]);
    let admin = ground.args().caddy_admin.display().to_string();
    let answer = json!([{ "handle": [{ "handler": "static_response", "body": "seized" }] }]).to_string();
    let url = "http://caddy/config/apps/http/servers/https/routes";
    let words = ["--silent", "--fail", "--unix-socket", &admin, "--header", "Host;", "--request", "PATCH"];
    run("curl", &[&words[..], &["--json", &answer, url]].concat());
    fs::write(&ground.args().caddy_config, "{}").unwrap();
    eventually("the bot to be reached again", || {
        visit(&ground.root(), "https://one.bots.example/", &[]).text.contains("one\nGET /")
    });
    eventually("the file to be put right", || {
        let seen: Value = serde_json::from_slice(&fs::read(&ground.args().caddy_config).unwrap()).unwrap();
        seen["apps"]["http"]["servers"]["https"]["routes"].is_array()
    });
    eventually("it to be seen", || ground.fault(1) == "ours");
}

#[test]
fn looking_at_caddy_never_changes_it() {
    let Some(mut ground) = Ground::with_caddy() else { return };
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[ONE]);
    let mut socket = Line::open(&ground.root(), "one.bots.example").upgrade("one.bots.example");
    // Every gate that starts looks at once; a push would close the WebSocket.
    for round in 0..5 {
        ground.stop_gate();
        ground.start_gate();
        eventually("the new gate to have looked", || ground.fault(1) == "ours");
        let words = format!("gate {round}");
        socket.send(&words);
        assert_eq!(socket.receive(words.len()), words);
    }
}

#[test]
fn a_caddy_that_cannot_take_the_configuration_says_why_and_takes_it_once_it_can() {
    let Some(mut ground) = Ground::bare() else { return };
    ground.tell(&[ONE, NAMELESS]);
    let squatter = TcpListener::bind("0.0.0.0:443").unwrap();
    let empty = ground.dir.path().join("empty.json");
    let admin = format!("unix/{}", ground.args().caddy_admin.display());
    fs::write(&empty, json!({ "admin": { "listen": admin } }).to_string()).unwrap();
    ground.spawn_caddy(&empty);
    eventually("the refusal to be told", || ground.fault(1) == "caddy-refused");
    let fault = ground.sight(1).fault.unwrap();
    assert!(fault.cause.unwrap().contains(":443"), "it names the port");
    assert_eq!(ground.fault(2), "ours");
    drop(squatter);
    eventually("Caddy to be ours", || ground.fault(1) == "ours");
}

#[test]
fn a_directory_port_that_somebody_holds_is_told_and_taken_once_it_is_free() {
    let Some(mut ground) = Ground::with_caddy() else { return };
    ground.stop_gate();
    let squatter = TcpListener::bind(ground.args().ingress_directory).unwrap();
    ground.start_gate();
    ground.tell(&[ONE, NAMELESS]);
    eventually("the squatter to be told", || ground.fault(1) == "ingress-directory-shut");
    assert_eq!(ground.fault(2), "ours");
    drop(squatter);
    eventually("the port to be taken", || ground.fault(1) == "ours");
}
