//! Messages as version 1 sends them, kept in `recorded/v1`: this version must still read them, and still send them so.
//!
//! Each message is two files: `NAME.bin` holds the bytes, `NAME.txt` what they mean. When a test here fails, decide:
//!
//! - The *meaning* is shown differently, and is the same (a type has a new field, and old messages give it its
//!   default): `LAUNCHPAD_RECORD=texts cargo test -p launchpad-protocol --test wire_recorded`.
//! - The *bytes* are other ones. As long as no version that sends the old ones is in anybody's hands:
//!   `LAUNCHPAD_RECORD=bytes …`. Afterwards never: old agents keep sending and ledgering them. Leave `v1` as it is, and
//!   record beside it.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Once;

use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame};
use launchpad_protocol::wire::{AnswerPart, decode_spec, encode_spec, v1};
use prost::Message;
use support::{enrollment, frames, spec};

/// What the variable may say; see the head.
const RECORD: &str = "LAUNCHPAD_RECORD";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/v1")
}

/// Records what the variable asks for, once, before either test reads.
fn record() {
    static RECORDED: Once = Once::new();
    RECORDED.call_once(|| {
        let asked = std::env::var(RECORD).unwrap_or_default();
        if asked == "bytes" {
            fs::create_dir_all(folder()).expect("the folder can be made");
            for (name, bytes) in messages() {
                fs::write(folder().join(format!("{name}.bin")), bytes).expect("the bytes can be written");
            }
        }
        if asked == "bytes" || asked == "texts" {
            for (name, bytes) in recorded() {
                fs::write(folder().join(format!("{name}.txt")), meaning(&name, &bytes)).expect("so can the text");
            }
        }
    });
}

/// Every message in the folder, whether this version still sends it or not.
fn recorded() -> BTreeMap<String, Vec<u8>> {
    let mut messages = BTreeMap::new();
    for entry in fs::read_dir(folder()).expect("recorded/v1 is there") {
        let file = entry.expect("it can be listed").path();
        if file.extension().is_some_and(|extension| extension == "bin") {
            let name = file.file_stem().expect("it has a name").to_string_lossy().into_owned();
            messages.insert(name, fs::read(&file).expect("it can be read"));
        }
    }
    messages
}

/// Every message as this version encodes it, by the name of its file.
fn messages() -> BTreeMap<&'static str, Vec<u8>> {
    let mut messages = BTreeMap::from([("host-spec", encode_spec(&spec::host_spec()).bytes)]);
    messages.extend(frames::agent_frames().into_iter().map(|(n, f)| (n, v1::AgentFrame::from(f).encode_to_vec())));
    let coordinator = frames::coordinator_frames().into_iter();
    messages.extend(coordinator.map(|(n, f)| (n, v1::CoordinatorFrame::from(f).encode_to_vec())));
    messages.extend(frames::answer_parts().into_iter().map(|(n, p)| (n, v1::AnswerFrame::from(p).encode_to_vec())));
    messages.extend(enrollment::messages());
    messages
}

/// What a recorded message means, in words that do not depend on its bytes.
fn meaning(name: &str, bytes: &[u8]) -> String {
    let kind = name.split('-').next().unwrap_or_default();
    match kind {
        "host" => {
            json(&launchpad_protocol::spec::HostSpec::try_from(message::<v1::HostSpec>(name, bytes)).expect(name))
        }
        "agent" => agent_meaning(AgentFrame::try_from(message::<v1::AgentFrame>(name, bytes)).expect(name)),
        "coordinator" => {
            coordinator_meaning(CoordinatorFrame::try_from(message::<v1::CoordinatorFrame>(name, bytes)).expect(name))
        }
        "answer" => debug(&AnswerPart::try_from(message::<v1::AnswerFrame>(name, bytes)).expect(name)),
        "enrollment" => enrollment::meaning(name, bytes),
        other => panic!("{name}.bin: no message begins with `{other}`"),
    }
}

fn message<M: Message + Default>(name: &str, bytes: &[u8]) -> M {
    M::decode(bytes).unwrap_or_else(|error| panic!("{name}.bin does not decode any more: {error}"))
}

fn agent_meaning(frame: AgentFrame) -> String {
    match frame {
        AgentFrame::Report { seq, report } => format!("Report {seq}\n{}", json(&report)),
        other @ (AgentFrame::Hello(_) | AgentFrame::Verdict { .. }) => debug(&other),
    }
}

fn coordinator_meaning(frame: CoordinatorFrame) -> String {
    match frame {
        CoordinatorFrame::Spec(offer) => {
            let spec = decode_spec(&offer).expect("the offer holds its spec");
            format!("Spec {} {}\n{}", offer.generation, offer.digest, json(&spec))
        }
        other @ (CoordinatorFrame::Welcome(_)
        | CoordinatorFrame::Farewell(_)
        | CoordinatorFrame::ReportStored { .. }
        | CoordinatorFrame::Ask(_)
        | CoordinatorFrame::Cancel(_)) => debug(&other),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("our types have a JSON form") + "\n"
}

fn debug(value: &impl std::fmt::Debug) -> String {
    format!("{value:#?}\n")
}

#[test]
fn what_this_version_sends_is_what_was_recorded() {
    record();
    let recorded = recorded();
    for (name, bytes) in messages() {
        let before = recorded.get(name).unwrap_or_else(|| panic!("{name}.bin is missing: see this test's head"));
        assert!(
            *before == bytes,
            "{name}: the encoder makes other bytes than it did ({} instead of {}). If that is deliberate, the head of \
             tests/wire_recorded.rs says when and how to record anew with {RECORD}=bytes",
            hex(&bytes),
            hex(before),
        );
    }
}

#[test]
fn what_was_recorded_still_means_the_same() {
    record();
    let recorded = recorded();
    assert!(recorded.len() >= messages().len(), "only {} of {} are recorded", recorded.len(), messages().len());
    for (name, bytes) in recorded {
        let text = folder().join(format!("{name}.txt"));
        let meant = fs::read_to_string(&text).unwrap_or_else(|error| panic!("{}: {error}", text.display()));
        assert_eq!(
            meaning(&name, &bytes),
            meant,
            "{name}: the recorded bytes mean something else now. If it is only shown differently, the head of \
             tests/wire_recorded.rs says how to record the texts anew with {RECORD}=texts",
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
