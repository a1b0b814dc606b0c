//! The host contract, proved from inside: a bot that attacks everything it can see gets nowhere, and its
//! neighbours do not notice.

use anyhow::Result;
use launchpad_tests::contract::backend::Backend;
use launchpad_tests::contract::site::Site;
use launchpad_tests::lab::Run;

/// Fewer tries than this would mean that a room of attacks was left out.
const TRIES_MIN: usize = 300;

/// All attacks on one host, whose volumes that backend holds.
fn prove(backend: Backend) -> Result<()> {
    let mut site = Site::open(Run::fresh()?, backend, &[])?;
    let shown = site.hostile.get()?;
    assert_eq!(shown["instance"]["volume"]["backend"], backend.name(), "{}", shown["instance"]);
    let evidence = site.attack()?;
    assert_eq!(evidence.breaches(), Vec::<String>::new());
    assert!(evidence.attempts() > TRIES_MIN, "only {} tries", evidence.attempts());
    let enforcement = site.enforcement(&site.hostile)?;
    let failed: Vec<_> = enforcement.iter().filter(|(_, told)| told["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    site.close()
}

#[test]
fn a_hostile_bot_gets_nowhere_with_every_volume_backend_that_the_machine_has() -> Result<()> {
    let mut proved = 0;
    for backend in Backend::ALL {
        match backend.available(&std::env::temp_dir()) {
            Ok(()) => {
                prove(backend)?;
                proved += 1;
            }
            Err(why) => eprintln!("not proved with {}, which this machine cannot have: {why}", backend.name()),
        }
    }
    assert!(proved > 0, "this machine can hold volumes in no way at all");
    Ok(())
}

#[test]
fn once_the_gates_walls_are_torn_down_the_same_attacks_are_breaches() -> Result<()> {
    let mut site = Site::open(Run::fresh()?, Backend::Ext4Image, &[])?;
    site.tear_down_the_network_walls()?;
    let breaches = site.attack_by(&["public", "host-8099", "stranger-8080"])?.breaches();
    // Seen by the bot, by the one who was visited, and on the wire.
    for seen in ["stranger-8080 got through", "came to host:", "left the host: tcp to 198.51.100.20 port 443"] {
        assert!(breaches.iter().any(|breach| breach.starts_with(seen)), "no `{seen}` in {breaches:#?}");
    }
    site.close()
}
