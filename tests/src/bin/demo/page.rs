//! The bot's own page, as a visitor gets it: by its public name, over HTTPS, through the host's Caddy.
//!
//! `curl` is the visitor, on the near side of the host's link. The name is of no real domain, so the visitor is told
//! where it leads; the certificate is verified against the authority of the host's own Caddy.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::host::Host;
use launchpad_tests::lab::Lab;
use launchpad_tests::process::run;
use launchpad_tests::wait::wait_for;
use serde_json::{Value, json};

/// Under which bots of the demo have their names: reserved for such use (RFC 6761 §6.5).
pub(crate) const DOMAIN: &str = "demo.example";
/// A first certificate is made within milliseconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
/// What curl writes behind the page, on a line of its own.
const WRITTEN_OUT: &str = "\n%{http_code} %{http_version}";

/// The arguments that a coordinator needs so that bots have public names.
pub(crate) fn coordinator_arguments() -> Vec<String> {
    ["--ingress-domain", DOMAIN].map(str::to_owned).to_vec()
}

/// How a person looks at the page of a deployment: a command to paste.
pub(crate) fn visit(lab: &mut Lab, deployment: &Value) -> Result<Vec<String>> {
    let host = lab.host(0)?;
    let (url, name) = address(deployment)?;
    let root = host.caddy()?.root();
    Ok(words(host, &root, url, name))
}

/// What a visitor gets, once there is anything.
pub(crate) fn look(lab: &mut Lab, deployment: &Value) -> Result<Value> {
    let host = lab.host(0)?;
    let (url, name) = address(deployment)?;
    let root = host.caddy()?.root();
    let words = words(host, &root, url, name);
    let page = wait_for("the page to be shown", SHOWN_WITHIN, || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--write-out", WRITTEN_OUT]).args(&words[1..]);
        Ok(match run(&mut curl) {
            Ok(page) if page.lines().last().is_some_and(|end| end.starts_with("200 ")) => Ok(page),
            Ok(page) => Err(page),
            Err(error) => Err(error.to_string()),
        })
    })?;
    let (body, end) = page.rsplit_once('\n').context("curl writes a line behind the page")?;
    let (status, version) = end.split_once(' ').context("a status and a version")?;
    Ok(json!({
        "url": url, "status": status.parse::<u16>()?, "http_version": version, "bytes": body.len(),
        "title": title(body),
    }))
}

fn address(deployment: &Value) -> Result<(&str, &str)> {
    let url = deployment["url"].as_str().context("the deployment has no public name")?;
    let name = url.trim_start_matches("https://").trim_end_matches('/');
    Ok((url, name))
}

fn words(host: &Host, root: &Path, url: &str, name: &str) -> Vec<String> {
    let leads = format!("{name}:443:{}", host.net.address());
    let root = root.display().to_string();
    ["curl", "--cacert", &root, "--resolve", &leads, url].map(str::to_owned).to_vec()
}

fn title(body: &str) -> Option<&str> {
    body.split_once("<title>")?.1.split_once("</title>").map(|(title, _)| title)
}
