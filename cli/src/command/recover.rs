//! `launchpad recover status|confirm`: after a restore.

use serde_json::{Value, json};

use crate::answers::Recovery;
use crate::client::{Client, read};
use crate::failure::Failure;
use crate::output::{Output, indented};

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
    let Recovery { frozen, reason } = read(value)?;
    let why = reason.map(|reason| format!("\n{}", indented(&reason))).unwrap_or_default();
    Ok(if frozen {
        format!("Publishing is frozen: hosts run on as they are.{why}")
    } else {
        "Publishing goes on.".to_owned()
    })
}
