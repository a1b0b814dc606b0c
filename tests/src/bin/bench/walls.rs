//! What the walls around a bot cost: throughput through the egress rules, and how long a flush of all rules lasts.
//!
//! A bot's network is entered from outside and sends to a sink on the fabric; the peer is a container on a plain bridge
//! of the same engine, to the same sink. Runs alternate.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::Lab;
use launchpad_tests::netns::{inside, ip};
use launchpad_tests::process::run;
use launchpad_tests::wait::{Stopwatch, wait_at_most_every};
use serde_json::json;

use crate::figure::{Figure, median};

/// Of each side.
const RUNS: usize = 15;
/// Bytes of one run: half a second and more at what a veth pair carries.
const RUN_BYTES: usize = 2 << 30;
/// Bytes of one write, as a file server makes them.
const WRITE_BYTES: usize = 1 << 20;
/// The issue asks for at least 97 % of a plain bridge's throughput: so much longer may the same bytes take.
const LONGER_AT_MOST: f64 = 1.0 / 0.97 - 1.0;
/// An address for documentation (RFC 5737), which no rule denies by itself.
const SINK: &str = "203.0.113.9";
const SINK_PORT: u16 = 5201;
/// Times that all rules are flushed.
const FLUSHES: usize = 20;
/// Milliseconds until ours are back.
const EXPOSURE_TARGET_MS: f64 = 250.0;
/// Between two looks at the rules: `nft` itself takes about as long.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Both figures.
pub(crate) fn around_a_bot(lab: &mut Lab) -> Result<Vec<Figure>> {
    ip(&["address", "add", &format!("{SINK}/32"), "dev", "lo"])?;
    let body = json!({
        "name": "sender", "profile": "echo", "plan": "starter", "image": lab.image("echo")?,
        "egress": [format!("{SINK}/32:{SINK_PORT}")],
    });
    let sender = Deployment::order(&lab.api()?, &body)?;
    sender.wait_state("running")?;
    let figures = vec![throughput(lab, &sender)?, exposure(lab)?];
    sender.delete(true)?;
    sender.wait_state("terminated")?;
    Ok(figures)
}

fn throughput(lab: &mut Lab, sender: &Deployment) -> Result<Figure> {
    let image = lab.image("echo")?;
    let engine = &lab.host(0)?.engine;
    let ours = sender.identity(engine)?.pid;
    // The engine has no docker0.
    engine.docker(&["network", "create", "--subnet", "172.31.78.0/24", "plain"])?;
    let plain = engine.docker(&["run", "--detach", "--name", "plain", "--network", "plain", &image])?;
    let theirs = launchpad_tests::deployment::identity(engine, plain.trim())?.pid;
    let listener = TcpListener::bind((SINK, SINK_PORT)).context("listen as the sink")?;
    let sink = thread::spawn(move || (0..2 * RUNS).try_for_each(|_| swallow(&listener)));
    let (mut our_s, mut their_s) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        our_s.push(send_from(ours)?);
        their_s.push(send_from(theirs)?);
    }
    sink.join().map_err(|_| anyhow!("the sink panicked"))??;
    let engine = &lab.host(0)?.engine;
    engine.docker(&["rm", "--force", "--volumes", "plain"])?;
    engine.docker(&["network", "rm", "plain"])?;
    let theirs = median(their_s);
    Ok(Figure {
        name: "2 GiB by TCP through the egress rules, p50",
        unit: "s",
        ours: median(our_s),
        peer: Some("plain bridge"),
        theirs: Some(theirs),
        target: Some(theirs * LONGER_AT_MOST),
    })
}

/// Takes one connection's bytes and answers with one when it has them all.
fn swallow(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut room = vec![0; WRITE_BYTES];
    let mut left = RUN_BYTES;
    while left > 0 {
        let got = stream.read(&mut room)?;
        anyhow::ensure!(got > 0, "the sender stopped {left} bytes early");
        left = left.saturating_sub(got);
    }
    stream.write_all(&[1]).context("answer")
}

/// Seconds from the connection to the sink's answer.
fn send_from(pid: u64) -> Result<f64> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).context("open the bot's network")?;
    inside(namespace, || {
        let address = SocketAddr::from((SINK.parse::<std::net::Ipv4Addr>()?, SINK_PORT));
        let bytes = vec![7_u8; WRITE_BYTES];
        let clock = Stopwatch::start();
        let mut stream = TcpStream::connect_timeout(&address, SOON).context("reach the sink")?;
        for _ in 0..RUN_BYTES / WRITE_BYTES {
            stream.write_all(&bytes)?;
        }
        stream.read_exact(&mut [0])?;
        Ok(clock.elapsed().as_secs_f64())
    })
}

/// Until our table is whole again after somebody flushed everything, as seen from outside.
fn exposure(lab: &mut Lab) -> Result<Figure> {
    let net = &lab.host(0)?.net;
    let took = net.inside(|| {
        (0..FLUSHES)
            .map(|_| {
                run(Command::new("nft").args(["flush", "ruleset"]))?;
                let clock = Stopwatch::start();
                wait_at_most_every(LOOK_EVERY, "our table to be back", SOON, || {
                    let listed = run(Command::new("nft").args(["list", "table", "inet", "launchpad"]));
                    Ok(listed.map(drop).map_err(|error| error.to_string()))
                })?;
                Ok(clock.elapsed().as_secs_f64() * 1000.0)
            })
            .collect::<Result<Vec<f64>>>()
    })?;
    let longest = took.into_iter().fold(0.0, f64::max);
    Ok(Figure::alone("rules back after a flush, longest of 20", "ms", longest, Some(EXPOSURE_TARGET_MS)))
}
