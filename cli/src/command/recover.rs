//! `launchpad recover status|confirm`: after a restore.

use launchpad_protocol::generation::Generation;
use serde_json::{Value, json};

use crate::answers::Recovery;
use crate::client::{Client, read};
use crate::failure::Failure;
use crate::output::{Output, indented, table};

/// A host that holds more than was made for it shows how much the store has forgotten.
const HEADS: [&str; 4] = ["HOST", "CONNECTED", "MADE FOR IT", "IT HOLDS"];

/// Says whether publishing is frozen, and why.
pub(super) fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.get("/recovery")?;
    output.show(&value, || text(&value))
}

/// Lets publishing go on.
pub(super) fn confirm(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.post("/recovery/confirm", &json!({}))?;
    output.show(&value, || text(&value))
}

fn text(value: &Value) -> Result<String, Failure> {
    let Recovery { frozen, reason, hosts } = read(value)?;
    if !frozen {
        return Ok("Publishing goes on.".to_owned());
    }
    let mut text = "Publishing is frozen: hosts run on as they are.".to_owned();
    if let Some(reason) = reason {
        text.push_str(&format!("\n{}", indented(&reason)));
    }
    if !hosts.is_empty() {
        let rows = hosts.iter().map(|host| {
            let connected = if host.connected { "yes" } else { "no" };
            vec![host.name.clone(), connected.to_owned(), shown(host.published), shown(host.floor)]
        });
        text.push_str(&format!("\n\n{}", table(&HEADS, rows.collect())));
    }
    Ok(text)
}

fn shown(generation: Option<Generation>) -> String {
    generation.map_or_else(|| "–".to_owned(), |generation| generation.to_string())
}
