//! `launchpad deploy`: asks for a new bot and follows it until it runs.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use launchpad_protocol::reason::Reason;
use serde_json::{Value, json};

use crate::answers::Deployment;
use crate::arguments::Deploy;
use crate::client::{Client, read};
use crate::command::follow::{follow, running};
use crate::command::secret::value_in;
use crate::command::status;
use crate::failure::Failure;
use crate::output::Output;

/// Deploys.
pub(super) fn run(client: &Client, arguments: Deploy, output: Output) -> Result<(), Failure> {
    let patience = arguments.wait.patience();
    let value = client.post("/deployments", &request(arguments)?)?;
    let deployment: Deployment = read(&value)?;
    let Some(patience) = patience else {
        return output.show(&value, || Ok(format!("{} is requested as {}", deployment.name, deployment.id)));
    };
    let (value, deployment) = follow(client, &deployment.id, "", patience, &running)?;
    output.show(&value, || Ok(status::summary(&deployment)))
}

fn request(arguments: Deploy) -> Result<Value, Failure> {
    let mut body = json!({
        "name": arguments.name,
        "profile": arguments.profile,
        "plan": arguments.plan,
        "image": arguments.image,
    });
    if let Some(pool) = arguments.pool {
        body["pool"] = pool.into();
    }
    if let Some(policy) = arguments.policy {
        body["policy"] = policy.into();
    }
    if !arguments.egress.is_empty() {
        body["egress"] = json!(arguments.egress);
    }
    if let Some(config) = &arguments.config {
        body["config"] = text_of(config)?.into();
    }
    let secrets = arguments.secrets.iter().map(|text| secret(text)).collect::<Result<BTreeMap<_, _>, _>>()?;
    if !secrets.is_empty() {
        body["secrets"] = json!(secrets);
    }
    Ok(body)
}

/// `NAME=@FILE`. A value in its place is refused: whoever is on this machine can read a command line.
fn secret(text: &str) -> Result<(String, String), Failure> {
    let Some((name, file)) = text.split_once("=@") else {
        // The text may be the secret itself: it is not repeated.
        let reason = Reason::new("malformed-secret", "a --secret names no file");
        return Err(Failure::usage(reason.mend("write --secret NAME=@FILE, or NAME=@- for stdin")));
    };
    Ok((name.to_owned(), value_in(Path::new(file))?))
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        let reason = Reason::new("file-unreadable", format!("cannot read {}: {error}", path.display()));
        Failure::usage(reason.mend("name a text file that you may read"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "s3cret=1\n").unwrap();
        let (name, value) = secret(&format!("KEY=@{}", file.display())).unwrap();
        assert_eq!((name.as_str(), value.as_str()), ("KEY", "s3cret=1"));
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        for given in ["hunter2", "KEY=hunter2"] {
            let failure = secret(given).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}
