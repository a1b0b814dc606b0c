//! The host contract, proved from inside: a bot that attacks everything it can see gets nowhere, and its
//! neighbours do not notice. With every volume backend that the machine has.

use anyhow::Result;
use launchpad_tests::contract::backend::Backend;
use launchpad_tests::contract::site::Site;
use launchpad_tests::lab::Run;

/// All attacks on one host, whose volumes that backend holds.
fn prove(backend: Backend) -> Result<()> {
    let run = Run::fresh()?;
    if let Err(why) = backend.available(&std::env::temp_dir()) {
        eprintln!("NOT PROVED HERE, {}: {why}", backend.name());
        return Ok(());
    }
    let mut site = Site::open(run, backend, &[])?;
    let shown = site.hostile.get()?;
    assert_eq!(shown["instance"]["volume"]["backend"], backend.name(), "{}", shown["instance"]);
    let evidence = site.attack()?;
    assert_eq!(evidence.breaches(), Vec::<String>::new());
    // Fewer would mean that a room was left out.
    assert!(evidence.attempts() > 250, "only {} tries", evidence.attempts());
    let enforcement = site.enforcement(&site.hostile)?;
    let failed: Vec<_> = enforcement.iter().filter(|(_, told)| told["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    site.close()
}

#[test]
fn a_hostile_bot_gets_nowhere_with_volumes_in_images() -> Result<()> {
    prove(Backend::Ext4Image)
}

#[test]
fn a_hostile_bot_gets_nowhere_with_volumes_under_project_quotas() -> Result<()> {
    prove(Backend::XfsQuota)
}
