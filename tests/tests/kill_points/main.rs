//! SIGKILL at every action of a plan, at every note of the agent, at every step of a volume and at every commit of the
//! store, on a real engine.
//!
//! For each point one journey, which its process does not survive: it dies there, is started again without the point, and
//! the journey has to end as if nothing had happened, beside a neighbour whose container stays the same throughout.
//!
//! ```text
//!  the code's own lists ──► points that a tenant's journey meets ──────────────┐
//!         │                 points of FIRST_BOT, JOINING, RESTORING … below ──┐│
//!         └── a new one is met by the tenant's journey, or fails there       ▼▼
//!                                       laboratories side by side: arm ─► travel ─► died once ─► nothing left behind
//! ```
//! No point is exempt. `site.rs` arms and revives; `tenant.rs`, `fleet.rs` and `installation.rs` are the journeys;
//! `remains.rs` looks at what a purged deployment left; `turns.rs` keeps the number of laboratories within reason.
//!
//! The programs must be built with the feature `killpoints`, as `make test` does.

mod fleet;
mod installation;
mod remains;
mod site;
mod tenant;
#[path = "../terminal/mod.rs"]
mod terminal;
mod turns;

use anyhow::Result;
use launchpad_coordinator::store::Commit;
use site::Site;
use turns::visit_all;

/// Actions that a host with another bot of the same tenant has no need of.
const FIRST_BOT: [&str; 3] = ["pull_image", "ensure_network", "remove_network"];
/// What follows when somebody changes a running container's limits behind the agent's back.
const TAMPERED: [&str; 1] = ["update_resources"];
/// What is asked for of a volume, and the steps that nothing else takes.
const COPYING: [&str; 5] = ["snapshot_volume", "restore_volume", "drop_snapshot", "volume_copy_image", "volume_note"];
/// What a person on the host does.
const ON_THE_HOST: [&str; 1] = ["ledger-local-stop"];

/// `launchpad-coordinator init`.
const INSTALLING: [&str; 1] = ["initialise"];
/// A machine becomes a host, says whom it trusts, is given nothing new, and is thrown out again.
const JOINING: [&str; 5] = ["create-join-token", "enroll", "note-trust", "cordon-host", "revoke-host"];
/// A certificate past half its life.
const RENEWING: [&str; 1] = ["renew-certificate"];
/// Agents become another version.
const UPGRADING: [&str; 1] = ["upgrade"];
/// A host that says nothing any more.
const FALLING_SILENT: [&str; 1] = ["silence"];
/// What a bot is given in confidence changes.
const CONFIDING: [&str; 2] = ["set-secret", "remove-secret"];
/// What a bot may reach and use changes, and what leads to it.
const OPENING: [&str; 5] = ["set-egress", "set-plan", "claim-domain", "check-domain", "remove-domain"];
/// A copy is asked for, its return, and its end: one commit each.
const ORDERING_COPIES: [&str; 1] = ["order-snapshot"];
/// How often that is, in one journey.
const COPIES_ORDERED: usize = 3;
/// Another key wraps what the store holds.
const ROTATING: [&str; 2] = ["rotate-keys", "rotation"];
/// Steps of a rotation, each with a commit: the key is made, files are rewrapped, the old key is retired, all is done.
const ROTATION_STEPS: usize = 4;
/// Another issuing CA is made beside the first, and given up again.
const CHANGING_CA: [&str; 2] = ["begin-ca-rotation", "step-ca-rotation"];
/// Staff look at what is another account's.
const LOOKING: [&str; 1] = ["note-view"];
/// A deleted bot's data, once its retention is over.
const REAPING: [&str; 1] = ["reap"];
/// `launchpad-coordinator restore`, and the operator's word after it.
const RESTORING: [&str; 2] = ["restamp", "confirm-recovery"];
/// A copy put in place by hand, under a host that holds more.
const PUT_BACK: [&str; 1] = ["freeze"];

/// The agent's places that have a journey of their own.
fn agents_own() -> Vec<&'static str> {
    [&FIRST_BOT[..], &TAMPERED, &COPYING, &ON_THE_HOST].concat()
}

/// The coordinator's places that have a journey of their own.
fn coordinators_own() -> Vec<&'static str> {
    let fleet = [&JOINING[..], &RENEWING, &UPGRADING, &FALLING_SILENT, &LOOKING, &REAPING].concat();
    let tenants = [&CONFIDING[..], &OPENING, &ORDERING_COPIES].concat();
    [&fleet[..], &tenants, &INSTALLING, &RESTORING, &PUT_BACK, &ROTATING, &CHANGING_CA].concat()
}

fn commits() -> Vec<&'static str> {
    Commit::ALL.iter().map(|commit| commit.name()).collect()
}

/// Both sides of these places, as `killpoint` names them.
fn points(process: &str, places: &[&str]) -> Vec<String> {
    let both = |place: &&str| ["before", "after"].map(|side| format!("{process}:{place}:{side}"));
    places.iter().flat_map(both).collect()
}

/// Both sides of a process's places but these.
fn all_but(process: &str, places: Vec<&str>, elsewhere: &[&str]) -> Vec<String> {
    points(process, &places.into_iter().filter(|place| !elsewhere.contains(place)).collect::<Vec<_>>())
}

#[test]
fn an_agent_killed_at_any_action_note_or_step_of_a_volume_goes_on_and_leaves_the_neighbour_alone() -> Result<()> {
    let points = all_but("agent", launchpad_agent::kill_points(), &agents_own());
    visit_all(&points, Site::with_neighbour, tenant::deploy_restart_purge)
}

#[test]
fn a_coordinator_killed_while_it_upgrades_agents_asks_each_host_once() -> Result<()> {
    visit_all(&points("coordinator", &UPGRADING), Site::with_host, fleet::upgraded)
}

#[test]
fn an_agent_killed_while_it_makes_or_removes_what_a_first_bot_needs_finishes_the_journey() -> Result<()> {
    visit_all(&points("agent", &FIRST_BOT), Site::with_host, tenant::first_and_last)
}

#[test]
fn an_agent_killed_while_it_puts_limits_right_that_somebody_changed_puts_them_right() -> Result<()> {
    visit_all(&points("agent", &TAMPERED), Site::with_neighbour, tenant::tampered_with)
}

#[test]
fn an_agent_killed_while_it_copies_a_volume_or_puts_it_back_does_it_once() -> Result<()> {
    visit_all(&points("agent", &COPYING), Site::with_neighbour, tenant::copied_and_put_back)
}

#[test]
fn an_agent_killed_at_a_local_stop_or_start_carries_it_out_when_it_is_asked_again() -> Result<()> {
    // The second visit is the start.
    let points = points("agent", &ON_THE_HOST).into_iter().flat_map(|point| [point.clone(), format!("{point}#2")]);
    visit_all(&points.collect::<Vec<_>>(), Site::with_neighbour, tenant::stopped_on_the_host)
}

#[test]
fn a_coordinator_killed_at_any_commit_finishes_the_journey_and_leaves_the_neighbour_alone() -> Result<()> {
    let points = all_but("coordinator", commits(), &coordinators_own());
    visit_all(&points, Site::with_neighbour, tenant::deploy_restart_purge)
}

#[test]
fn a_coordinator_killed_while_it_orders_kept_data_away_orders_it_away_once() -> Result<()> {
    visit_all(&points("coordinator", &REAPING), tenant::without_retention, tenant::reaped)
}

#[test]
fn a_coordinator_killed_while_a_secret_changes_has_changed_it_or_changes_it_when_asked_again() -> Result<()> {
    visit_all(&points("coordinator", &CONFIDING), Site::with_neighbour, tenant::confided)
}

#[test]
fn a_coordinator_killed_while_a_bots_reach_plan_or_names_change_has_changed_them_or_does_later() -> Result<()> {
    visit_all(&points("coordinator", &OPENING), Site::with_neighbour, tenant::opened)
}

#[test]
fn a_coordinator_killed_while_a_copy_is_asked_for_asks_its_host_once() -> Result<()> {
    let visits = |point: String| (1..=COPIES_ORDERED).map(move |visit| format!("{point}#{visit}"));
    let points = points("coordinator", &ORDERING_COPIES).into_iter().flat_map(visits);
    visit_all(&points.collect::<Vec<_>>(), Site::with_neighbour, tenant::copied_and_put_back)
}

#[test]
fn a_coordinator_killed_at_any_step_of_a_rotation_finishes_it_and_loses_no_secret() -> Result<()> {
    let visits = |point: String| (1..=ROTATION_STEPS).map(move |visit| format!("{point}#{visit}"));
    let asked = points("coordinator", &ROTATING[..1]);
    let steps = points("coordinator", &ROTATING[1..]).into_iter().flat_map(visits);
    visit_all(&asked.into_iter().chain(steps).collect::<Vec<_>>(), Site::with_neighbour, installation::rotated)
}

#[test]
fn a_coordinator_killed_while_staff_look_shows_what_they_asked_for_when_they_look_again() -> Result<()> {
    visit_all(&points("coordinator", &LOOKING), Site::without_agent, tenant::looked_at_by_staff)
}

#[test]
fn a_coordinator_killed_while_a_host_joins_or_is_thrown_out_goes_on_where_it_was() -> Result<()> {
    visit_all(&points("coordinator", &JOINING), Site::without_agent, fleet::joined_and_revoked)
}

#[test]
fn a_coordinator_killed_while_it_renews_a_certificate_renews_it_when_the_host_is_back() -> Result<()> {
    visit_all(&points("coordinator", &RENEWING), Site::with_neighbour, fleet::renewed)
}

#[test]
fn a_coordinator_killed_while_it_notes_a_silent_host_notes_it_and_hears_it_again() -> Result<()> {
    visit_all(&points("coordinator", &FALLING_SILENT), Site::with_neighbour, fleet::fallen_silent)
}

#[test]
fn an_init_killed_around_its_commit_is_run_again_or_says_how_to_go_on() -> Result<()> {
    points("coordinator", &INSTALLING).iter().try_for_each(|point| installation::initialised(point))
}

#[test]
fn a_restore_or_its_confirmation_killed_halfway_is_finished_by_doing_it_again() -> Result<()> {
    visit_all(&points("coordinator", &RESTORING), Site::with_neighbour, installation::restored)
}

#[test]
fn a_coordinator_killed_while_it_freezes_an_older_store_freezes_it_when_it_is_back() -> Result<()> {
    visit_all(&points("coordinator", &PUT_BACK), Site::with_neighbour, installation::put_back)
}

#[test]
fn places_with_a_journey_of_their_own_still_exist() {
    let (agent, coordinator) = (launchpad_agent::kill_points(), commits());
    assert!(agents_own().iter().all(|place| agent.contains(place)), "{:?} against {agent:?}", agents_own());
    let own = coordinators_own();
    assert!(own.iter().all(|place| coordinator.contains(place)), "{own:?} against {coordinator:?}");
}

#[test]
fn a_coordinator_killed_while_one_ca_takes_over_from_another_is_in_one_phase_or_the_next() -> Result<()> {
    visit_all(&points("coordinator", &CHANGING_CA), Site::with_neighbour, installation::ca_changed)
}
