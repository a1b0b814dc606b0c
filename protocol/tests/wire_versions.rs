//! A peer one release newer: it says what this version has never heard of, and nothing that this version knows is lost.
//!
//! What an older peer sends is `wire_recorded.rs`; which versions talk at all is `session/versions.rs`. Here the recorded
//! messages are made newer: a field that nobody knows, in every message of every frame, a frame and a value from the
//! future.

mod support;

use std::collections::BTreeSet;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame};
use launchpad_protocol::spec::{InstanceSpec, SpecOffer};
use launchpad_protocol::wire::{AnswerPart, decode_spec, encode_spec, ledgered_spec, v1};
use prost::Message as _;
use support::{dropped, frames, spec};

/// Field 1012, a number, and field 1013, a text: far above all that are in use.
const OF_THE_FUTURE: [u8; 9] = [0xa0, 0x3f, 0x07, 0xaa, 0x3f, 0x03, b'n', b'e', b'w'];

/// Messages inside of messages, by the numbers of their fields: where a newer release would add something.
const IN_A_SPEC: [&[u64]; 10] = [&[], &[4], &[4, 6], &[4, 10], &[4, 11], &[4, 12], &[4, 12, 4], &[4, 16], &[5], &[6]];
const IN_A_REPORT: [&[u64]; 9] =
    [&[], &[3], &[3, 2], &[3, 2, 6], &[3, 2, 7], &[3, 2, 8], &[3, 2, 11], &[3, 2, 13], &[3, 2, 15]];

#[test]
fn fields_of_a_newer_agent_are_skipped_wherever_they_stand() {
    let mut places = BTreeSet::new();
    for (name, frame) in frames::agent_frames() {
        let bytes = v1::AgentFrame::from(frame.clone()).encode_to_vec();
        for path in IN_A_REPORT {
            let Some(newer) = dropped::added(&bytes, path, &OF_THE_FUTURE) else { continue };
            places.insert(path);
            let read = v1::AgentFrame::decode(newer.as_slice()).expect(name);
            assert_eq!(AgentFrame::try_from(read).expect(name), frame, "{name} {path:?}");
        }
    }
    assert_eq!(places.len(), IN_A_REPORT.len(), "every place is in some frame");
}

#[test]
fn fields_of_a_newer_coordinator_are_skipped_wherever_they_stand() {
    for (name, frame) in frames::coordinator_frames() {
        let bytes = v1::CoordinatorFrame::from(frame.clone()).encode_to_vec();
        let newer = [bytes.as_slice(), &OF_THE_FUTURE].concat();
        let read = v1::CoordinatorFrame::decode(newer.as_slice()).expect(name);
        assert_eq!(CoordinatorFrame::try_from(read).expect(name), frame, "{name}");
    }
    for (name, part) in frames::answer_parts() {
        let newer = [v1::AnswerFrame::from(part.clone()).encode_to_vec().as_slice(), &OF_THE_FUTURE].concat();
        let read = v1::AnswerFrame::decode(newer.as_slice()).expect(name);
        assert_eq!(AnswerPart::try_from(read).expect(name), part, "{name}");
    }
}

/// A newer coordinator's spec is read for what is known of it, and kept as the bytes that came: after the agent has been
/// upgraded, its ledger holds the rest as well.
#[test]
fn a_newer_coordinators_spec_is_read_as_far_as_it_is_known_and_kept_to_the_last_byte() {
    let wish = spec::host_spec();
    let offer = encode_spec(&wish);
    for path in IN_A_SPEC {
        let bytes = dropped::added(&offer.bytes, path, &OF_THE_FUTURE).expect("the sample has every message");
        let newer = SpecOffer { generation: offer.generation, digest: Digest::of(&bytes), bytes: bytes.clone() };
        assert_eq!(decode_spec(&newer).expect("what is not known is skipped"), wish, "{path:?}");
        let (ledgered, read) = ledgered_spec(bytes).expect("and so it is from the ledger");
        assert_eq!((ledgered, read), (newer, wish.clone()), "{path:?}");
    }
}

#[test]
fn an_instance_that_needs_a_feature_of_the_future_says_so_by_name() {
    let mut wish = spec::instance(1);
    wish.requires.insert(Feature("landlock.v1".to_owned()));
    let bytes = [v1::InstanceSpec::from(&wish).encode_to_vec().as_slice(), &OF_THE_FUTURE].concat();
    let message = v1::InstanceSpec::decode(bytes.as_slice()).expect("an unknown field is no error");
    let read = InstanceSpec::try_from(message).expect("nor here");
    assert_eq!(&read.requires - &Feature::all(), BTreeSet::from([Feature("landlock.v1".to_owned())]));
}

/// A release that sends one raises `PROTOCOL_MAX`, and sends it only where the session's version has it.
#[test]
fn a_frame_of_a_kind_from_the_future_is_refused_by_name_and_read_as_nothing_else() {
    let agent = v1::AgentFrame::decode(OF_THE_FUTURE.as_slice()).expect("protobuf skips it");
    assert!(AgentFrame::try_from(agent).expect_err("no frame").to_string().starts_with("frame"));
    let coordinator = v1::CoordinatorFrame::decode(OF_THE_FUTURE.as_slice()).expect("protobuf skips it");
    assert!(CoordinatorFrame::try_from(coordinator).expect_err("no frame").to_string().starts_with("frame"));
    let part = v1::AnswerFrame::decode(OF_THE_FUTURE.as_slice()).expect("protobuf skips it");
    assert!(AnswerPart::try_from(part).expect_err("no part").to_string().starts_with("frame"));
}

/// A value of the future never turns into one that is known: a bot would be run as nobody wished. The whole spec is
/// refused, the host keeps the one before, and everything on it runs on.
#[test]
fn a_value_of_the_future_in_a_spec_is_refused_with_its_path_and_never_guessed() {
    let mut message = v1::HostSpec::from(&spec::host_spec());
    message.instances[1].power = 7;
    let bytes = message.encode_to_vec();
    let refusal = ledgered_spec(bytes).expect_err("nobody knows what 7 means").to_string();
    assert!(refusal.starts_with("instances[1].power"), "{refusal}");
}

#[test]
fn a_spec_of_an_older_coordinator_wishes_nothing_of_what_came_later() {
    let wish = spec::host_spec();
    let (path, older) = dropped::drops(&encode_spec(&wish).bytes)
        .into_iter()
        .find(|(path, _)| path == &[6])
        .expect("the sample wishes an upgrade");
    let (_, read) = ledgered_spec(older).expect("an older spec is read");
    assert_eq!(read, launchpad_protocol::spec::HostSpec { upgrade: None, ..wish }, "{path:?}");
}
