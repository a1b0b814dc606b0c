//! The profiles that we ship: they parse, and the numbers that measurements asked for are in them.

use anyhow::Result;
use launchpad_protocol::profile::Profile;
use launchpad_tests::programs;

fn load(name: &str) -> Result<Profile> {
    Ok(Profile::parse(name, &std::fs::read_to_string(programs::profile(name))?)?)
}

#[test]
fn every_shipped_profile_parses_under_its_files_name() -> Result<()> {
    let folder = programs::workspace().join("profiles");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert_eq!(names, ["echo", "openclaw"]);
    for name in names {
        assert_eq!(load(&name)?.name, name);
    }
    Ok(())
}

#[test]
fn openclaw_gets_five_minutes_to_start_and_three_of_silence_before_it_counts_as_hung() -> Result<()> {
    let probes = load("openclaw")?.probes;
    assert_eq!(u64::from(probes.startup.period_ms) * u64::from(probes.startup.failures), 300_000);
    assert_eq!(u64::from(probes.liveness.period_ms) * u64::from(probes.liveness.failures), 180_000);
    Ok(())
}

#[test]
fn openclaw_takes_its_token_from_a_file_and_nothing_secret_from_its_environment() -> Result<()> {
    let profile = load("openclaw")?;
    assert!(profile.secrets.environment.is_empty());
    for secret in &profile.secrets.generated {
        let file = format!("{}/{secret}", profile.secrets.dir);
        assert!(profile.config.default.contains(&file), "the default config does not read {file}");
    }
    Ok(())
}

#[test]
fn openclaws_refused_lease_is_waited_out_and_its_config_error_is_final() -> Result<()> {
    let exits = load("openclaw")?.exits;
    assert_eq!(exits.terminal, [78]);
    // Measured: refused at 292 s after a kill, granted at 303 s.
    assert!(exits.transient.iter().any(|exit| exit.code == 1 && exit.for_s > 303));
    Ok(())
}
