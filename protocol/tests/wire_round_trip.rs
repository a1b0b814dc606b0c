//! Whatever one side means, the other side reads: every spec, report, frame and answer survives the wire, the same
//! value always makes the same bytes, and no field can be dropped on the way without these properties noticing.

mod support;

use launchpad_protocol::arbitrary::{agent_frame, answer_part, coordinator_frame, host_report, host_spec};
use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame};
use launchpad_protocol::report::HostReport;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::wire::{AnswerPart, WireError, decode_spec, encode_spec, ledgered_spec, v1};
use proptest::prelude::*;
use prost::Message;
use support::dropped::drops;

/// Deployments that a drawn message speaks of.
const DEPLOYMENTS: usize = 3;

/// Through bytes and back, as `agent/src/link.rs` and `coordinator/src/fleet` do it.
fn through_bytes<M, T>(value: T) -> Result<T, WireError>
where
    M: From<T> + Message + Default,
    T: TryFrom<M, Error = WireError>,
{
    let bytes = M::from(value).encode_to_vec();
    T::try_from(M::decode(bytes.as_slice()).expect("what was encoded decodes"))
}

proptest! {
    #[test]
    fn a_host_spec_survives_the_wire(spec in host_spec(DEPLOYMENTS)) {
        prop_assert_eq!(decode_spec(&encode_spec(&spec)), Ok(spec));
    }

    #[test]
    fn the_same_spec_always_makes_the_same_bytes(spec in host_spec(DEPLOYMENTS)) {
        let offer = encode_spec(&spec);
        let read = decode_spec(&offer).expect("it survives");
        prop_assert_eq!(encode_spec(&read), offer);
    }

    #[test]
    fn a_ledgered_spec_is_the_offer_that_it_was(spec in host_spec(DEPLOYMENTS)) {
        let offer = encode_spec(&spec);
        prop_assert_eq!(ledgered_spec(offer.bytes.clone()), Ok((offer, spec)));
    }

    #[test]
    fn a_report_survives_the_wire(report in host_report(DEPLOYMENTS)) {
        prop_assert_eq!(through_bytes::<v1::HostReport, HostReport>(report.clone()), Ok(report));
    }

    #[test]
    fn an_agents_frame_survives_the_wire(frame in agent_frame(DEPLOYMENTS)) {
        prop_assert_eq!(through_bytes::<v1::AgentFrame, AgentFrame>(frame.clone()), Ok(frame));
    }

    #[test]
    fn a_coordinators_frame_survives_the_wire(frame in coordinator_frame(DEPLOYMENTS)) {
        prop_assert_eq!(through_bytes::<v1::CoordinatorFrame, CoordinatorFrame>(frame.clone()), Ok(frame));
    }

    #[test]
    fn a_part_of_an_answer_survives_the_wire(part in answer_part()) {
        prop_assert_eq!(through_bytes::<v1::AnswerFrame, AnswerPart>(part.clone()), Ok(part));
    }
}

/// What the properties above compare: does a value survive an encoder, whichever?
fn spec_survives(spec: &HostSpec, encoded: &[u8]) -> bool {
    v1::HostSpec::decode(encoded).is_ok_and(|message| HostSpec::try_from(message).as_ref() == Ok(spec))
}

fn report_survives(report: &HostReport, encoded: &[u8]) -> bool {
    v1::HostReport::decode(encoded).is_ok_and(|message| HostReport::try_from(message).as_ref() == Ok(report))
}

/// The planted bug: an encoder that forgets one field. Every field of the fullest spec and report is forgotten in turn,
/// nested ones included, and each time the round trip has to fail.
#[test]
fn a_conversion_that_drops_any_field_is_caught_by_the_round_trip() {
    let spec = support::spec::host_spec();
    let whole = v1::HostSpec::from(&spec).encode_to_vec();
    assert!(spec_survives(&spec, &whole));
    // instances.probes.startup.body_contains
    assert_every_drop_is_noticed(&whole, &[4, 18, 1, 5], |encoded| spec_survives(&spec, encoded));

    let report = support::frames::host_report();
    let whole = v1::HostReport::from(report.clone()).encode_to_vec();
    assert!(report_survives(&report, &whole));
    // instances.container.limits.pids
    assert_every_drop_is_noticed(&whole, &[8, 6, 5, 3], |encoded| report_survives(&report, encoded));
}

/// The same bug written out in one conversion, as a hand would make it.
#[test]
fn a_conversion_that_forgets_the_transient_exits_is_caught() {
    let spec = support::spec::host_spec();
    let mut message = v1::HostSpec::from(&spec);
    message.instances[0].restart.as_mut().expect("there is a policy").transient.clear();
    assert!(!spec_survives(&spec, &message.encode_to_vec()));
}

fn assert_every_drop_is_noticed(whole: &[u8], deepest: &[u64], survives: impl Fn(&[u8]) -> bool) {
    let drops = drops(whole);
    assert!(drops.iter().any(|(path, _)| path == deepest), "the walk does not reach field {deepest:?}");
    for (path, encoded) in drops {
        assert!(!survives(&encoded), "field {path:?} was dropped, and the round trip did not notice");
    }
}
