//! Bytes that a broken or hostile peer could send: cut short, with a bit turned, or made up. The door may refuse them or
//! read something else in them; it never panics, and a spec that was touched is never taken for the one that was sent.

mod support;

use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame};
use launchpad_protocol::spec::{HostSpec, SpecOffer};
use launchpad_protocol::wire::{AnswerPart, decode_spec, encode_spec, v1};
use proptest::prelude::*;
use prost::Message;
use support::{frames, spec};

/// Reads bytes as one kind of message, as its receiver would.
type Reader = fn(&[u8]);

fn as_agent_frame(bytes: &[u8]) {
    let _ = v1::AgentFrame::decode(bytes).map(AgentFrame::try_from);
}

fn as_coordinator_frame(bytes: &[u8]) {
    let _ = v1::CoordinatorFrame::decode(bytes).map(CoordinatorFrame::try_from);
}

fn as_answer(bytes: &[u8]) {
    let _ = v1::AnswerFrame::decode(bytes).map(AnswerPart::try_from);
}

/// Without the digest, which would refuse nearly all of them before a field is read.
fn as_spec(bytes: &[u8]) {
    let _ = v1::HostSpec::decode(bytes).map(HostSpec::try_from);
}

const READERS: [Reader; 4] = [as_agent_frame, as_coordinator_frame, as_answer, as_spec];

fn messages() -> Vec<(Vec<u8>, Reader)> {
    let mut messages: Vec<(Vec<u8>, Reader)> = vec![(encode_spec(&spec::host_spec()).bytes, as_spec)];
    for (_, frame) in frames::agent_frames() {
        messages.push((v1::AgentFrame::from(frame).encode_to_vec(), as_agent_frame));
    }
    for (_, frame) in frames::coordinator_frames() {
        messages.push((v1::CoordinatorFrame::from(frame).encode_to_vec(), as_coordinator_frame));
    }
    for (_, part) in frames::answer_parts() {
        messages.push((v1::AnswerFrame::from(part).encode_to_vec(), as_answer));
    }
    messages
}

#[test]
fn a_message_cut_short_anywhere_never_panics() {
    for (message, read) in messages() {
        (0..message.len()).for_each(|length| read(&message[..length]));
    }
}

#[test]
fn a_message_with_any_bit_turned_never_panics() {
    for (mut message, read) in messages() {
        for bit in 0..message.len() * 8 {
            message[bit / 8] ^= 1 << (bit % 8);
            read(&message);
            message[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_spec_cut_short_or_with_a_bit_turned_is_refused_by_its_digest() {
    let whole = encode_spec(&spec::host_spec());
    for length in 0..whole.bytes.len() {
        let cut = SpecOffer { bytes: whole.bytes[..length].to_vec(), ..whole.clone() };
        assert_eq!(decode_spec(&cut).expect_err("bytes are missing").path, "digest");
    }
    for byte in 0..whole.bytes.len() {
        let mut turned = whole.clone();
        turned.bytes[byte] ^= 1;
        assert_eq!(decode_spec(&turned).expect_err("a bit is turned").path, "digest");
    }
}

proptest! {
    #[test]
    fn made_up_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        READERS.iter().for_each(|read| read(&bytes));
    }
}
