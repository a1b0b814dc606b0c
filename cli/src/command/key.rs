//! `launchpad key ls|rotate`: the keys that wrap what the coordinator holds in confidence. For operators.

use launchpad_protocol::time::{Clock, Moment};
use serde_json::{Value, json};

use crate::answers::Keys;
use crate::client::{Client, read};
use crate::failure::Failure;
use crate::output::{Output, ago, indented, table};

const HEADS: [&str; 3] = ["KEY", "WRAPS", "NOW"];

/// Shows which key wraps what.
pub(super) fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.get("/keys")?;
    output.show(&value, || text(&value))
}

/// Asks for another key.
pub(super) fn rotate(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.post("/keys/rotate", &json!({}))?;
    output.show(&value, || text(&value))
}

fn text(value: &Value) -> Result<String, Failure> {
    let Keys { current, wraps, rotation } = read(value)?;
    let rows = wraps.iter().map(|(key, files)| {
        let now = if *key == current { "wraps what is new" } else { "only opens" };
        vec![key.clone(), format!("{files} files"), now.to_owned()]
    });
    let mut text = table(&HEADS, rows.collect());
    let Some(rotation) = rotation else { return Ok(text) };
    let now: Moment = Clock::machine().wall();
    text.push_str(&match rotation.done_at_us {
        Some(at) => format!("\n\nThe last rotation, {}, was done {} ago.", rotation.id, ago(at, now)),
        None => format!("\n\n{} is under way, for {} now.", rotation.id, ago(rotation.asked_at_us, now)),
    });
    if let Some(trouble) = rotation.trouble {
        text.push_str(&format!("\n{}", indented(&trouble)));
    }
    Ok(text)
}
