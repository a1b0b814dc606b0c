//! `launchpad ps`: every deployment, a line each.

use launchpad_protocol::time::{Clock, Moment};
use serde_json::json;

use crate::answers::Deployment;
use crate::client::{Client, read};
use crate::command::follow::why;
use crate::failure::Failure;
use crate::output::{Output, ago, table};

const HEADS: [&str; 7] = ["NAME", "STATE", "PROFILE", "PLAN", "HOST", "AGE", "WHY"];

/// Lists.
pub(super) fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let items = client.list("/deployments")?;
    let now = Clock::machine().wall();
    output.show(&json!({ "items": items }), || {
        let rows = items.iter().map(|item| read(item).map(|deployment| row(&deployment, now)));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(if rows.is_empty() {
            "No deployments. Start one with `launchpad deploy`.".to_owned()
        } else {
            table(&HEADS, rows)
        })
    })
}

fn row(deployment: &Deployment, now: Moment) -> Vec<String> {
    vec![
        deployment.name.clone(),
        deployment.state.clone(),
        deployment.profile.clone(),
        deployment.plan.clone(),
        deployment.host.clone().unwrap_or_else(|| "–".to_owned()),
        ago(deployment.created_at_us, now),
        why(deployment).map(|reason| reason.sentence).unwrap_or_default(),
    ]
}
