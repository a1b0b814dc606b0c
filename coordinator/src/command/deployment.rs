//! What a customer may ask of a deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use launchpad_protocol::egress::EgressRule;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::limits::{SEALED_BYTES_PER_DEPLOYMENT_MAX, SEALED_FILE_MAX_BYTES, SEALED_FILES_MAX};
use launchpad_protocol::profile::{ConfigFormat, Profile};

use super::egress::egress_rules;
use super::{DEFAULT_POOL, FieldProblems, Name, Secret, SecretName};
use crate::domain::lease::Policy;
use crate::domain::plan_table::PlanTable;

/// Start a new bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDeployment {
    /// The account that it belongs to, when staff acts for one; a member acts for their own.
    pub account: Option<AccountId>,
    /// Unique in its account.
    pub name: Name,
    /// A profile that exists.
    pub profile: String,
    /// A plan that exists.
    pub plan: String,
    /// What runs.
    pub image: ImageRef,
    /// Where it may run.
    pub pool: Name,
    /// What becomes of it when its host falls silent.
    pub policy: Policy,
    /// The config file; the profile's default when absent.
    pub config: Option<String>,
    /// Secret files by name.
    pub secrets: BTreeMap<SecretName, Secret>,
    /// What it may reach beyond its profile.
    pub egress: BTreeSet<EgressRule>,
}

/// The fields as they came.
#[derive(Debug, Clone, Default)]
pub struct DeploymentDraft {
    /// The account that staff acts for.
    pub account: Option<AccountId>,
    /// `name`.
    pub name: String,
    /// `profile`.
    pub profile: String,
    /// `plan`.
    pub plan: String,
    /// `image`.
    pub image: String,
    /// `pool`.
    pub pool: Option<String>,
    /// `policy`.
    pub policy: Option<String>,
    /// `config`.
    pub config: Option<String>,
    /// `secrets`.
    pub secrets: BTreeMap<String, Secret>,
    /// `egress`.
    pub egress: Vec<String>,
}

/// What there is to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue<'a> {
    /// The profiles by name.
    pub profiles: &'a BTreeMap<String, Profile>,
    /// The plans.
    pub plans: &'a PlanTable,
}

/// A deployment as people name it in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRef {
    /// The account to look in, when staff names one.
    pub account: Option<AccountId>,
    /// Which.
    pub which: Which,
}

/// By id, or by its name in its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Its id.
    Id(DeploymentId),
    /// Its name.
    Name(Name),
}

impl DeploymentRef {
    /// The same, in that account only.
    #[must_use]
    pub fn within(self, account: Option<AccountId>) -> Self {
        Self { account, ..self }
    }
}

impl FromStr for DeploymentRef {
    type Err = super::field::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let which = match text.parse() {
            Ok(id) => Which::Id(id),
            Err(_) => Which::Name(text.parse()?),
        };
        Ok(Self { account: None, which })
    }
}

impl fmt::Display for DeploymentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Id(id) => id.fmt(f),
            Which::Name(name) => name.fmt(f),
        }
    }
}

impl CreateDeployment {
    /// Checks the fields against each other and against what there is to choose from.
    ///
    /// # Errors
    /// Every bad field.
    pub fn new(draft: DeploymentDraft, catalogue: Catalogue<'_>) -> Result<Self, FieldProblems> {
        let mut problems = FieldProblems::default();
        let name = name(&mut problems, "name", &draft.name);
        let pool = name_or_default(&mut problems, draft.pool.as_deref());
        let profile = catalogue.profiles.get(&draft.profile);
        if profile.is_none() {
            problems.add("profile", unknown(&draft.profile), choose(catalogue.profiles.keys()));
        }
        if catalogue.plans.get(&draft.plan).is_none() {
            problems.add("plan", unknown(&draft.plan), choose(&catalogue.plans.names()));
        }
        let image = image(&mut problems, &draft.image);
        if let Some(config) = &draft.config {
            check_config(&mut problems, config, profile);
        }
        let secrets = secrets(&mut problems, draft.secrets);
        check_sum(&mut problems, draft.config.as_deref(), &secrets);
        let egress = egress_rules(&mut problems, "egress", &draft.egress);
        let policy = policy(&mut problems, draft.policy.as_deref());
        match (name, pool, image, problems.is_empty()) {
            (Some(name), Some(pool), Some(image), true) => Ok(Self {
                account: draft.account,
                name,
                profile: draft.profile,
                plan: draft.plan,
                image,
                pool,
                policy,
                config: draft.config,
                secrets,
                egress,
            }),
            _ => Err(problems),
        }
    }
}

/// A DNS label, or a noted problem.
pub(super) fn name(problems: &mut FieldProblems, field: &str, text: &str) -> Option<Name> {
    text.parse()
        .map_err(|error| {
            let problem = if text.is_empty() { "is missing".to_owned() } else { format!("`{}` {error}", echo(text)) };
            let mend = "1 to 63 lower-case letters, digits and hyphens, no hyphen at either end";
            problems.add(field, problem, mend);
        })
        .ok()
}

fn name_or_default(problems: &mut FieldProblems, pool: Option<&str>) -> Option<Name> {
    name(problems, "pool", pool.unwrap_or(DEFAULT_POOL))
}

/// `keep` unless told otherwise. A noted problem refuses all, whatever stands here then.
fn policy(problems: &mut FieldProblems, text: Option<&str>) -> Policy {
    let Some(text) = text else { return Policy::default() };
    text.parse().unwrap_or_else(|_| {
        problems.add(
            "policy",
            unknown(text),
            "keep: it waits for its host; failover: it may move, and keeps no state",
        );
        Policy::default()
    })
}

fn image(problems: &mut FieldProblems, text: &str) -> Option<ImageRef> {
    if text.is_empty() {
        problems.add("image", "is missing", "REPOSITORY@sha256:DIGEST");
        return None;
    }
    text.parse()
        .map_err(|error: launchpad_protocol::image::ImageRefError| {
            let mend = "REPOSITORY@sha256:DIGEST, as `docker inspect` shows it under RepoDigests";
            problems.add("image", error.to_string(), mend);
        })
        .ok()
}

fn check_config(problems: &mut FieldProblems, config: &str, profile: Option<&Profile>) {
    if config.len() > SEALED_FILE_MAX_BYTES {
        problems.add(
            "config",
            format!("{} bytes are too many", config.len()),
            format!("at most {SEALED_FILE_MAX_BYTES} bytes"),
        );
        return;
    }
    let Some(profile) = profile else { return };
    let error = match profile.config.format {
        ConfigFormat::Json => {
            serde_json::from_str::<serde_json::Value>(config).err().map(|e| ("JSON", e.to_string()))
        }
        ConfigFormat::Toml => toml::from_str::<toml::Table>(config).err().map(|e| ("TOML", e.message().to_owned())),
        ConfigFormat::Json5 | ConfigFormat::Text => None,
    };
    if let Some((language, error)) = error {
        let mend = format!("profile `{}` reads {language}; correct the text and send it again", profile.name);
        problems.add("config", format!("does not parse as {language}: {error}"), mend);
    }
}

fn secrets(problems: &mut FieldProblems, given: BTreeMap<String, Secret>) -> BTreeMap<SecretName, Secret> {
    // One place among the sealed files is the config's.
    let most = SEALED_FILES_MAX - 1;
    if given.len() > most {
        problems.add("secrets", format!("{} are too many", given.len()), format!("at most {most}"));
    }
    let mut secrets = BTreeMap::new();
    for (text, secret) in given {
        let field = format!("secrets.{}", echo(&text));
        if secret.expose().len() > SEALED_FILE_MAX_BYTES {
            problems.add(&field, "the value is too long", format!("at most {SEALED_FILE_MAX_BYTES} bytes"));
        }
        match text.parse::<SecretName>() {
            Ok(name) => drop(secrets.insert(name, secret)),
            Err(error) => problems.add(&field, format!("the name {error}"), "letters, digits and . _ - only"),
        }
    }
    secrets
}

/// A host's spec carries the files of all its tenants: nobody fills it alone.
fn check_sum(problems: &mut FieldProblems, config: Option<&str>, secrets: &BTreeMap<SecretName, Secret>) {
    let sum = config.map_or(0, str::len) + secrets.values().map(|secret| secret.expose().len()).sum::<usize>();
    if sum > SEALED_BYTES_PER_DEPLOYMENT_MAX {
        let problem = format!("config and secrets are {sum} bytes together");
        problems.add("secrets", problem, format!("at most {SEALED_BYTES_PER_DEPLOYMENT_MAX} bytes together"));
    }
}

/// What is wrong with the name of something that there is none of.
pub(super) fn unknown(text: &str) -> String {
    if text.is_empty() { "is missing".to_owned() } else { format!("there is no `{}`", echo(text)) }
}

/// What there is to choose from.
pub(super) fn choose<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    format!("choose one of: {}", names.join(", "))
}

/// As much of a bad value as helps to recognise it.
pub(super) fn echo(text: &str) -> String {
    text.chars().take(launchpad_protocol::limits::NAME_MAX_CHARS + 1).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn wish(config_bytes: usize, secrets: usize) -> Result<CreateDeployment, FieldProblems> {
        let value = "x".repeat(SEALED_FILE_MAX_BYTES);
        let draft = DeploymentDraft {
            name: "web".to_owned(),
            profile: "echo".to_owned(),
            plan: "starter".to_owned(),
            image: format!("echo@{}", launchpad_protocol::digest::Digest::of(b"echo")),
            config: Some("x".repeat(config_bytes)),
            secrets: (0..secrets).map(|n| (format!("s{n}"), Secret::new(value.clone()))).collect(),
            ..DeploymentDraft::default()
        };
        let profiles = catalogue::profiles(None).unwrap();
        CreateDeployment::new(draft, Catalogue { profiles: &profiles, plans: &PlanTable::default() })
    }

    #[test]
    fn nobody_fills_a_hosts_spec_with_secrets_of_allowed_size() {
        let most = SEALED_BYTES_PER_DEPLOYMENT_MAX / SEALED_FILE_MAX_BYTES;
        assert!(wish(0, most).is_ok());
        let refused = wish(1, most).unwrap_err().0;
        assert_eq!(refused.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), ["secrets"], "{refused:?}");
    }
}
