//! Every state against every event.

use launchpad_protocol::reason::Reason;

use super::*;

fn why() -> Reason {
    Reason::new("why", "because")
}

fn events() -> Vec<Event> {
    vec![
        Event::Placed,
        Event::Unplaceable(why()),
        Event::Pulling,
        Event::Preparing,
        Event::Started,
        Event::Ready,
        Event::Strained(why()),
        Event::Unready(why()),
        Event::CrashLooping(why()),
        Event::Retrying(why()),
        Event::Refused(why()),
        Event::Stopped,
        Event::Restart,
        Event::Update,
        Event::Suspend,
        Event::Resume,
        Event::Delete,
        Event::WishRefused(why()),
        Event::ContainerGone,
        Event::DataGone,
    ]
}

/// The states in which a bot runs, or is on its way there.
const WORKING: [State; 6] =
    [State::Provisioning, State::Configuring, State::Starting, State::Running, State::Updating, State::Restarting];

/// An event's name, without its reason.
fn name(event: &Event) -> String {
    let debug = format!("{event:?}");
    debug.split('(').next().unwrap_or_default().to_owned()
}

/// One state's row: where each event leads; an event that is not in it is refused.
fn row(state: State) -> String {
    let mut leads: Vec<(State, Vec<String>)> = Vec::new();
    for event in events() {
        let Ok(transition) = step(state, event.clone()) else { continue };
        match leads.iter_mut().find(|(to, _)| *to == transition.to) {
            Some((_, names)) => names.push(name(&event)),
            None => leads.push((transition.to, vec![name(&event)])),
        }
    }
    let leads = leads.into_iter().map(|(to, names)| format!("\n    -> {to}: {}", names.join(" ")));
    format!("{state}{}", leads.collect::<String>())
}

#[test]
fn the_whole_table_is_as_drawn() {
    let table = State::ALL.into_iter().map(row).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(table, @r#"
    requested
        -> provisioning: Placed
        -> requested: Unplaceable Update
        -> terminating: Delete
    provisioning
        -> provisioning: Pulling Unready Retrying Update WishRefused
        -> configuring: Preparing
        -> starting: Started
        -> running: Ready Strained
        -> failed: CrashLooping Refused Stopped
        -> suspended: Suspend
        -> terminating: Delete
    configuring
        -> provisioning: Pulling
        -> configuring: Preparing Unready Retrying Update WishRefused
        -> starting: Started
        -> running: Ready Strained
        -> failed: CrashLooping Refused Stopped
        -> suspended: Suspend
        -> terminating: Delete
    starting
        -> provisioning: Pulling
        -> configuring: Preparing
        -> starting: Started Unready Retrying Update WishRefused
        -> running: Ready Strained
        -> failed: CrashLooping Refused Stopped
        -> suspended: Suspend
        -> terminating: Delete
    running
        -> restarting: Pulling Preparing Started Retrying Restart
        -> running: Ready Strained Unready WishRefused
        -> failed: CrashLooping Refused Stopped
        -> updating: Update
        -> suspended: Suspend
        -> terminating: Delete
    updating
        -> updating: Pulling Preparing Started Unready Retrying Restart Update WishRefused
        -> running: Ready Strained
        -> failed: CrashLooping Refused Stopped
        -> suspended: Suspend
        -> terminating: Delete
    failed
        -> restarting: Pulling Preparing Started Unready Retrying Restart
        -> running: Ready Strained
        -> failed: CrashLooping Refused Stopped WishRefused
        -> updating: Update
        -> suspended: Suspend
        -> terminating: Delete
    restarting
        -> restarting: Pulling Preparing Started Unready Retrying Restart WishRefused
        -> running: Ready Strained
        -> failed: CrashLooping Refused Stopped
        -> updating: Update
        -> suspended: Suspend
        -> terminating: Delete
    suspended
        -> suspended: Pulling Preparing Started Ready Strained Unready CrashLooping Retrying Refused Stopped Update WishRefused
        -> starting: Resume
        -> terminating: Delete
    terminating
        -> terminating: Delete ContainerGone
        -> terminated: DataGone
    terminated
    "#);
}

#[test]
fn every_working_state_can_fail() {
    for state in WORKING {
        for event in [Event::CrashLooping(why()), Event::Refused(why())] {
            let transition = step(state, event).expect("a working state can fail");
            assert_eq!((transition.to, transition.reason), (State::Failed, Some(why())), "{state}");
        }
    }
}

#[test]
fn every_state_but_the_last_can_be_terminated() {
    for state in State::ALL {
        let deleted = step(state, Event::Delete).map(|transition| transition.to);
        let expected = if state == State::Terminated { None } else { Some(State::Terminating) };
        assert_eq!(deleted.ok(), expected, "{state}");
    }
}

#[test]
fn nothing_happens_to_a_terminated_deployment() {
    for event in events() {
        assert!(step(State::Terminated, event.clone()).is_err(), "{event:?}");
    }
}

#[test]
fn a_deleted_deployment_never_comes_back() {
    for event in events() {
        if let Ok(transition) = step(State::Terminating, event) {
            assert!(matches!(transition.to, State::Terminating | State::Terminated), "{transition:?}");
        }
    }
}

#[test]
fn only_ready_leads_to_running_and_without_strain_it_clears_the_reason() {
    for state in State::ALL {
        for event in events() {
            let Ok(transition) = step(state, event.clone()) else { continue };
            if transition.to == State::Running && state != State::Running {
                assert!(matches!(event, Event::Ready | Event::Strained(_)), "{state} by {event:?}");
            }
            if event == Event::Ready {
                assert_eq!(transition.reason, None, "{state}");
            }
        }
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let refusal = step(State::Starting, Event::Restart).expect_err("not yet running");
    assert_eq!(
        refusal.to_string(),
        "a deployment that is starting cannot be restarted; wait until it runs or has failed"
    );
}

#[test]
fn a_state_reads_back_as_itself() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert!("run".parse::<State>().is_err());
}
