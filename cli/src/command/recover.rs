//! `launchpad recover status|confirm`: after a restore.

use launchpad_protocol::generation::Generation;
use serde_json::{Value, json};

use crate::answers::Recovery;
use crate::client::{Client, read};
use crate::failure::Failure;
use crate::output::{Output, indented, table};

/// A host that holds more than was made for it shows how much the store has forgotten; one that has not spoken since
/// publishing was frozen holds the recovery up.
const HEADS: [&str; 5] = ["HOST", "CONNECTED", "HAS SPOKEN", "MADE FOR IT", "IT HOLDS"];

/// Says whether publishing is frozen, and why.
pub(super) fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let value = client.get("/recovery")?;
    output.show(&value, || text(&value))
}

/// Lets publishing go on.
pub(super) fn confirm(client: &Client, output: Output, without: &[String]) -> Result<(), Failure> {
    let value = client.post("/recovery/confirm", &json!({ "without": without }))?;
    output.show(&value, || text(&value))
}

fn text(value: &Value) -> Result<String, Failure> {
    let Recovery { frozen, reason, hosts, strangers } = read(value)?;
    if !frozen {
        return Ok("Publishing goes on.".to_owned());
    }
    let mut text = "Publishing is frozen: hosts run on as they are.".to_owned();
    if let Some(reason) = reason {
        text.push_str(&format!("\n{}", indented(&reason)));
    }
    if !hosts.is_empty() {
        let rows = hosts.iter().map(|host| {
            let (connected, spoken) = (yes_or_no(host.connected), yes_or_no(host.spoken));
            vec![host.name.clone(), connected, spoken, shown(host.published), shown(host.floor)]
        });
        text.push_str(&format!("\n\n{}", table(&HEADS, rows.collect())));
    }
    for stranger in strangers {
        text.push_str(&format!(
            "\n\n{} came, and is not in this store: it joined after the copy was made.",
            stranger.id
        ));
        text.push_str("\nWhat it runs runs on out of reach: enrol it anew, or see that nothing runs there.");
    }
    Ok(text)
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn shown(generation: Option<Generation>) -> String {
    generation.map_or_else(|| "–".to_owned(), |generation| generation.to_string())
}
