//! Orders that cannot be carried out: refused at the door by the field that is wrong, or failed on the host with what
//! its registry or its bot said last. Each says how to mend it, costs the neighbours nothing, and can be taken back.

mod terminal;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use launchpad_tests::api::Answer;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::{Lab, registry_address};
use launchpad_tests::netns::HostNet;
use launchpad_tests::process::run;
use launchpad_tests::programs;
use serde_json::{Value, json};
use terminal::{Line, Told};

/// One plan that is good, and one that is below what echo needs.
const PLANS: &str = "\
[starter]\ncpu_millis = 100\nmemory_mb = 64\nstorage_mb = 10\nretention_days = 1\n
[crumb]\ncpu_millis = 100\nmemory_mb = 8\nstorage_mb = 10\nretention_days = 1\n";

/// A coordinator with those plans, and beside the built-in profiles one whose config is TOML.
fn start_coordinator(lab: &mut Lab) -> Result<()> {
    let (plans, profiles) = (lab.dir().join("plans.toml"), lab.dir().join("profiles"));
    fs::write(&plans, PLANS)?;
    fs::create_dir_all(&profiles)?;
    let echo = fs::read_to_string(programs::profile("echo"))?;
    let strict = echo.replacen("name = \"echo\"", "name = \"strict\"", 1).replacen("\"text\"", "\"toml\"", 1);
    fs::write(profiles.join("strict.toml"), strict.replacen("label = default", "label = \"default\"", 1))?;
    let coordinator = lab.start_coordinator()?;
    coordinator.place().arguments =
        ["--plans", &plans.display().to_string(), "--profiles", &profiles.display().to_string()]
            .map(str::to_owned)
            .to_vec();
    coordinator.restart()
}

fn order(lab: &Lab, changes: &Value) -> Result<Value> {
    let mut body = json!({ "name": "bot", "profile": "echo", "plan": "starter", "image": lab.image("echo")? });
    for (key, value) in changes.as_object().context("changes are an object")? {
        body[key] = value.clone();
    }
    Ok(body)
}

fn launchpad(lab: &mut Lab, arguments: &[&str]) -> Result<Told> {
    let (api, token) = (lab.api()?, lab.coordinator()?.token().to_owned());
    Line::launchpad(&api, &token)?.args(arguments).run()
}

/// The bad fields that an answer lists: each with what is wrong and what would be right.
fn fields(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 422, "{}", answer.body);
    let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
    for error in &errors {
        assert!(error["problem"].is_string() && error["mend"].is_string(), "{error}");
    }
    errors.iter().filter_map(|error| error["field"].as_str().map(str::to_owned)).collect()
}

#[test]
fn every_wrong_field_is_named_at_once_with_what_would_be_right() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    start_coordinator(&mut lab)?;
    let api = lab.api()?;
    let good = api.post("/deployments", &order(&lab, &json!({}))?)?.success()?;

    let all = json!({
        "name": "-web", "profile": "ghost", "plan": "gold", "image": "echo:latest", "pool": "No Pool",
        "secrets": { "../up": "x" },
    });
    let answer = api.post("/deployments", &order(&lab, &all)?)?;
    assert_eq!(fields(&answer), ["name", "pool", "profile", "plan", "image", "secrets.../up"], "{}", answer.body);
    let text = answer.body.to_string();
    for choice in ["crumb, starter", "echo, openclaw, strict", "@sha256:"] {
        assert!(text.contains(choice), "`{choice}` is not in {text}");
    }

    let image = lab.image("echo")?;
    let (repository, _) = image.split_once('@').context("an image has a digest")?;
    let tagged = image.replacen("/echo@", "/echo:1.0@", 1);
    let malformed = [
        repository.to_owned(),
        format!("{repository}:latest"),
        format!("{repository}@sha256:beef"),
        format!("{repository}@md5:{}", "0".repeat(32)),
        format!("@sha256:{}", "0".repeat(64)),
        image.to_uppercase(),
        tagged,
    ];
    for image in malformed {
        let answer = api.post("/deployments", &order(&lab, &json!({ "image": image }))?)?;
        assert_eq!(fields(&answer), ["image"], "{image}: {}", answer.body);
    }
    let broken = json!({ "profile": "strict", "config": "label = \"no end" });
    let answer = api.post("/deployments", &order(&lab, &broken)?)?;
    assert_eq!(fields(&answer), ["config"], "{}", answer.body);
    assert!(answer.body.to_string().contains("does not parse as TOML"), "{}", answer.body);

    let below = api.post("/deployments", &order(&lab, &json!({ "name": "small", "plan": "crumb" }))?)?;
    assert_eq!((below.status, below.body["mend"].is_string()), (422, true), "{}", below.body);
    assert!(below.body["detail"].as_str().is_some_and(|told| told.contains("crumb")), "{}", below.body);
    let taken = api.post("/deployments", &order(&lab, &json!({}))?)?;
    assert_eq!((taken.status, &taken.body["type"]), (409, &json!("urn:launchpad:name-taken")), "{}", taken.body);
    assert!(taken.body["mend"].is_string(), "{}", taken.body);

    // The same in a terminal: one line, and nothing is left of any of it.
    let deploy = |lab: &mut Lab, name: &str, image: &str| {
        launchpad(lab, &["deploy", name, "--profile", "echo", "--image", image, "--no-wait"])
    };
    deploy(&mut lab, "bot", &image)?.refused(1, &["name-taken", "`bot`"]);
    deploy(&mut lab, "No Label", "echo:latest")?.refused(1, &["invalid-fields", "name: ", "image: ", "@sha256:"]);
    let left = api.get("/deployments")?.success()?["items"].clone();
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(left[0]["id"], good["id"]);
    lab.close()
}

/// Refuses the host's connections to the registry, as one that is down does; or lets them through again.
fn set_registry_away(net: &HostNet, dir: &std::path::Path, away: bool) -> Result<()> {
    let (_, port) =
        registry_address().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    let down = format!(
        "add table inet away\nadd chain inet away out {{ type filter hook output priority 0; }}\n\
         add rule inet away out tcp dport {port} reject with tcp reset\n"
    );
    let file = dir.join("away.nft");
    fs::write(&file, if away { down.as_str() } else { "delete table inet away\n" })?;
    net.inside(|| run(Command::new("nft").arg("-f").arg(&file))).map(drop)
}

#[test]
fn what_a_registry_or_a_bot_refuses_is_told_in_its_own_words_and_can_be_removed() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let dir = lab.dir().to_owned();

    // A registry that is away is waited for, and told.
    set_registry_away(&lab.host(0)?.net, &dir, true)?;
    let patient = Deployment::create(&lab, "patient", "")?;
    let told =
        patient.wait("the reason", |now| now["instance"]["reason"].is_object() || now["reason"].is_object())?;
    let told = if told["reason"].is_object() { told["reason"].clone() } else { told["instance"]["reason"].clone() };
    assert_eq!(told["code"], "image-pull-failed", "{told}");
    assert!(told["cause"].as_str().is_some_and(|cause| cause.contains("connection refused")), "{told}");
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("registry")), "{told}");
    assert_ne!(patient.get()?["state"], "failed");
    set_registry_away(&lab.host(0)?.net, &dir, false)?;
    patient.wait_state("running")?;
    let neighbour = patient.identity(&lab.host(0)?.engine)?;

    // A digest that its repository does not have.
    let image = lab.image("echo")?;
    let (repository, _) = image.split_once('@').context("an image has a digest")?;
    let absent = format!("{repository}@sha256:{}", "0".repeat(64));
    let deploy = ["deploy", "absent", "--profile", "echo", "--image", &absent];
    launchpad(&mut lab, &deploy)?.assert_failed(&["image-unknown", &absent, "push it"]);

    // A config that only the bot itself can judge: it said why before it gave up.
    let config = dir.join("echo.conf");
    fs::write(&config, "no_such_key = 1\n")?;
    let deploy =
        ["deploy", "misled", "--profile", "echo", "--image", &image, "--config", &config.display().to_string()];
    launchpad(&mut lab, &deploy)?.assert_failed(&["78", "no_such_key"]);
    let misled = lab.api()?.get("/deployments/misled")?.success()?;
    assert_eq!((&misled["state"], &misled["instance"]["restarts"]), (&json!("failed"), &json!(0)), "{misled}");

    for name in ["absent", "misled"] {
        let told = launchpad(&mut lab, &["rm", name, "--purge"])?.done()?;
        assert!(told.contains("nothing of it is left"), "{told}");
    }
    let engine = &lab.host(0)?.engine;
    assert_eq!(engine.docker(&["ps", "--all", "--quiet", "--no-trunc"])?, neighbour.container);
    assert_eq!(patient.identity(engine)?, neighbour);
    // The names are free again.
    Deployment::running(&lab, "misled")?;
    lab.close()
}
