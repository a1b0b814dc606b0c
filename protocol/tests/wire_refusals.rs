//! What the door refuses, and that each refusal names the field: one good message, spoiled in one place at a time.

mod support;

use std::collections::BTreeSet;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame};
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::{DeploymentId, OperationId, TombstoneId};
use launchpad_protocol::limits::{
    EVENTS_PER_REPORT_MAX, INSTANCES_PER_HOST_MAX, LOG_TAIL_MAX_LINES, OPERATIONS_PER_INSTANCE_MAX, SEALED_FILES_MAX,
    SPEC_MAX_BYTES,
};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::HostReport;
use launchpad_protocol::spec::{HostSpec, InstanceSpec, SpecOffer};
use launchpad_protocol::wire::{AnswerPart, decode_spec, encode_spec, v1};
use prost::Message as _;
use support::{frames, id, spec};

/// The refusal of the fullest spec after `spoil`, which gets the message and its first instance's index.
fn spec_refusal(spoil: impl FnOnce(&mut v1::HostSpec)) -> String {
    let mut message = v1::HostSpec::from(&spec::host_spec());
    spoil(&mut message);
    HostSpec::try_from(message).expect_err("it is spoiled").to_string()
}

/// The refusal of the fullest spec after its first instance was spoiled, without the instance's own path.
fn instance_refusal(spoil: impl FnOnce(&mut v1::InstanceSpec)) -> String {
    let refusal = spec_refusal(|message| spoil(&mut message.instances[0]));
    refusal.strip_prefix("instances[0].").map(str::to_owned).unwrap_or(refusal)
}

fn report_refusal(spoil: impl FnOnce(&mut v1::HostReport)) -> String {
    let mut message = v1::HostReport::from(frames::host_report());
    spoil(&mut message);
    HostReport::try_from(message).expect_err("it is spoiled").to_string()
}

#[test]
fn an_error_names_the_whole_path_of_the_field() {
    let refusal = spec_refusal(|message| message.instances[1].image = "registry.example/echo:latest".to_owned());
    assert!(refusal.starts_with("instances[1].image: "), "{refusal}");
    assert!(refusal.contains("a tag can change"), "{refusal}");
    let refusal = report_refusal(|message| message.instances[4].enforcement[0].item = "warmth".to_owned());
    assert_eq!(refusal, "instances[4].enforcement[0].item: `warmth` is nothing that a spec promises");
}

#[test]
fn an_unset_choice_or_message_is_refused() {
    let missing = |field: &str| format!("{field}: is missing");
    assert_eq!(instance_refusal(|i| i.lease = None), missing("lease"));
    assert_eq!(instance_refusal(|i| i.lease = Some(v1::Lease { policy: None })), missing("lease.policy"));
    assert_eq!(instance_refusal(|i| i.process = None), missing("process"));
    assert_eq!(instance_refusal(|i| i.resources = None), missing("resources"));
    assert_eq!(instance_refusal(|i| i.isolation = None), missing("isolation"));
    assert_eq!(instance_refusal(|i| i.egress = None), missing("egress"));
    assert_eq!(instance_refusal(|i| i.ingress = None), missing("ingress"));
    assert_eq!(instance_refusal(|i| i.probes = None), missing("probes"));
    assert_eq!(instance_refusal(|i| i.restart = None), missing("restart"));
    assert_eq!(instance_refusal(|i| i.operations[0].action = None), missing("operations[0].action"));
    let no_seccomp = |i: &mut v1::InstanceSpec| i.isolation.as_mut().expect("set").seccomp = None;
    assert_eq!(instance_refusal(no_seccomp), missing("isolation.seccomp"));
    assert_eq!(report_refusal(|r| r.capabilities[0].state = None), missing("capabilities[0].state"));
    assert_eq!(report_refusal(|r| r.outcomes[0].result = None), missing("outcomes[0].result"));
    assert_eq!(report_refusal(|r| r.capacity = None), missing("capacity"));
    assert_eq!(report_refusal(|r| r.events = None), missing("events"));
}

#[test]
fn an_empty_frame_is_refused() {
    let agent = AgentFrame::try_from(v1::AgentFrame::default()).map_err(|error| error.to_string());
    let coordinator = CoordinatorFrame::try_from(v1::CoordinatorFrame::default()).map_err(|error| error.to_string());
    let answer = AnswerPart::try_from(v1::AnswerFrame::default()).map_err(|error| error.to_string());
    assert_eq!(agent, Err("frame: is missing".to_owned()));
    assert_eq!(coordinator, Err("frame: is missing".to_owned()));
    assert_eq!(answer, Err("frame: is missing".to_owned()));
}

#[test]
fn an_enums_zero_and_a_value_from_the_future_are_refused() {
    for value in [0, 99] {
        let unknown = |field: &str| format!("{field}: holds {value}, which this version does not know");
        let refusals = [
            (instance_refusal(|i| i.power = value), unknown("power")),
            (instance_refusal(|i| i.files[0].kind = value), unknown("files[0].kind")),
            (spec_refusal(|m| m.tombstones[0].scope = value), unknown("tombstones[0].scope")),
            (report_refusal(|r| r.instances[0].phase = value), unknown("instances[0].phase")),
            (
                report_refusal(|r| r.events.as_mut().expect("set").events[0].phase = value),
                unknown("events.events[0].phase"),
            ),
        ];
        for (refusal, expected) in refusals {
            assert!(refusal.starts_with(&expected), "{refusal}");
        }
    }
    let line = v1::LogLine { at_us: 0, stream: 0, text: String::new() };
    let frame = v1::AnswerFrame { frame: Some(v1::answer_frame::Frame::Line(line)) };
    let refusal = AnswerPart::try_from(frame).expect_err("no stream");
    assert!(refusal.to_string().starts_with("line.stream: holds 0"), "{refusal}");
}

#[test]
fn root_and_limits_that_docker_reads_as_none_are_refused() {
    fn process(i: &mut v1::InstanceSpec) -> &mut v1::ProcessSpec {
        i.process.as_mut().expect("set")
    }
    fn resources(i: &mut v1::InstanceSpec) -> &mut v1::Resources {
        i.resources.as_mut().expect("set")
    }
    fn isolation(i: &mut v1::InstanceSpec) -> &mut v1::Isolation {
        i.isolation.as_mut().expect("set")
    }
    let zero = |field: &str| format!("{field}: must not be 0");
    assert_eq!(instance_refusal(|i| process(i).uid = 0), zero("process.uid"));
    assert_eq!(instance_refusal(|i| process(i).gid = 0), zero("process.gid"));
    assert_eq!(instance_refusal(|i| resources(i).cpu_millis = 0), zero("resources.cpu_millis"));
    assert_eq!(instance_refusal(|i| resources(i).memory_bytes = 0), zero("resources.memory_bytes"));
    assert_eq!(instance_refusal(|i| resources(i).pids = 0), zero("resources.pids"));
    assert_eq!(instance_refusal(|i| isolation(i).open_files = 0), zero("isolation.open_files"));
    assert_eq!(instance_refusal(|i| isolation(i).shm_bytes = 0), zero("isolation.shm_bytes"));
    assert_eq!(instance_refusal(|i| isolation(i).log_bytes = 0), zero("isolation.log_bytes"));
    assert_eq!(instance_refusal(|i| isolation(i).tmpfs[0].size_bytes = 0), zero("isolation.tmpfs[0].size_bytes"));
    assert_eq!(instance_refusal(|i| i.volume.as_mut().expect("set").size_bytes = 0), zero("volume.size_bytes"));
    assert_eq!(instance_refusal(|i| i.ingress.as_mut().expect("set").port = 0), zero("ingress.port"));
    assert_eq!(spec_refusal(|m| m.generation = 0), zero("generation"));
}

#[test]
fn a_span_of_nothing_is_refused_where_it_would_never_pause() {
    fn restart(i: &mut v1::InstanceSpec) -> &mut v1::RestartPolicy {
        i.restart.as_mut().expect("set")
    }
    fn liveness(i: &mut v1::InstanceSpec) -> &mut v1::HttpProbe {
        i.probes.as_mut().and_then(|probes| probes.liveness.as_mut()).expect("set")
    }
    let no_term = v1::Lease { policy: Some(v1::lease::Policy::Failover(v1::lease::Failover { term_us: 0 })) };
    let zero = |field: &str| format!("{field}: must not be 0");
    assert_eq!(instance_refusal(|i| i.lease = Some(no_term)), zero("lease.failover.term_us"));
    assert_eq!(instance_refusal(|i| liveness(i).period_us = 0), zero("probes.liveness.period_us"));
    assert_eq!(instance_refusal(|i| liveness(i).timeout_us = 0), zero("probes.liveness.timeout_us"));
    assert_eq!(instance_refusal(|i| liveness(i).failures = 0), zero("probes.liveness.failures"));
    assert_eq!(instance_refusal(|i| restart(i).backoff_initial_us = 0), zero("restart.backoff_initial_us"));
    assert_eq!(instance_refusal(|i| restart(i).transient[0].retry_us = 0), zero("restart.transient[0].retry_us"));
    let refusal = instance_refusal(|i| restart(i).backoff_cap_us = 1);
    assert_eq!(refusal, "restart.backoff_cap_us: is less than backoff_initial_us");
}

#[test]
fn a_name_that_would_leave_its_folder_on_the_host_is_refused() {
    use v1::operation::{Action, Snapshot};
    let bare = "must be a bare file name";
    let refusal = instance_refusal(|i| i.files[0].name = "../../root/.ssh/authorized_keys".to_owned());
    assert!(refusal.starts_with("files[0].name: ") && refusal.ends_with(bare), "{refusal}");
    let climb = Action::Snapshot(Snapshot { name: "..".to_owned() });
    let refusal = instance_refusal(|i| i.operations[0].action = Some(climb));
    assert!(refusal.starts_with("operations[0].snapshot.name: ") && refusal.ends_with(bare), "{refusal}");
    let refusal = instance_refusal(|i| i.files[1].dir = "/etc/launchpad/../..".to_owned());
    assert!(refusal.starts_with("files[1].dir: "), "{refusal}");
    let refusal = instance_refusal(|i| i.volume.as_mut().expect("set").path = "data".to_owned());
    assert!(refusal.starts_with("volume.path: "), "{refusal}");
}

#[test]
fn what_may_come_once_and_comes_twice_is_refused_by_name() {
    fn repeat<T: Clone>(entries: &mut Vec<T>) {
        entries.push(entries[0].clone());
    }
    let names = |refusal: String, field: &str, key: &str| {
        assert_eq!(refusal, format!("{field}: names `{key}` twice"));
    };
    let deployment = id::<DeploymentId>(1).to_string();
    names(spec_refusal(|m| repeat(&mut m.instances)), "instances", &deployment);
    names(report_refusal(|r| repeat(&mut r.instances)), "instances", &deployment);
    let tombstone = id::<TombstoneId>(408).to_string();
    names(spec_refusal(|m| repeat(&mut m.tombstones)), "tombstones", &tombstone);
    let operation = id::<OperationId>(300).to_string();
    names(instance_refusal(|i| repeat(&mut i.operations)), "operations", &operation);
    names(report_refusal(|r| repeat(&mut r.outcomes)), "outcomes", &operation);
    names(instance_refusal(|i| repeat(&mut i.files)), "files", "/etc/launchpad/secrets/token");
    names(instance_refusal(|i| repeat(&mut i.secret_environment)), "secret_environment", "BOT_TOKEN");
    names(instance_refusal(|i| repeat(&mut i.requires)), "requires", "limits.v1");
}

#[test]
fn more_than_a_bound_allows_is_refused_by_name() {
    let grow = |found: usize, most: usize| format!("has {found} entries, at most {most} are allowed");
    let filled = |count: usize| vec![v1::InstanceSpec::default(); count];
    let over = INSTANCES_PER_HOST_MAX + 1;
    assert_eq!(
        spec_refusal(|m| m.instances = filled(over)),
        format!("instances: {}", grow(over, INSTANCES_PER_HOST_MAX))
    );
    let over = SEALED_FILES_MAX + 1;
    let files = vec![v1::SealedFile::default(); over];
    assert_eq!(instance_refusal(|i| i.files = files), format!("files: {}", grow(over, SEALED_FILES_MAX)));
    let over = OPERATIONS_PER_INSTANCE_MAX + 1;
    let operations = vec![v1::Operation::default(); over];
    let refusal = instance_refusal(|i| i.operations = operations);
    assert_eq!(refusal, format!("operations: {}", grow(over, OPERATIONS_PER_INSTANCE_MAX)));
    let over = EVENTS_PER_REPORT_MAX + 1;
    let events = vec![v1::Event::default(); over];
    let refusal = report_refusal(|r| r.events.as_mut().expect("set").events = events);
    assert_eq!(refusal, format!("events.events: {}", grow(over, EVENTS_PER_REPORT_MAX)));
}

#[test]
fn events_out_of_order_are_refused() {
    let refusal = report_refusal(|r| r.events.as_mut().expect("set").events.reverse());
    assert_eq!(refusal, "events.events: number 10 comes after 11");
}

#[test]
fn a_hello_whose_range_is_empty_is_refused() {
    let refusal = |protocol_lowest, protocol_highest| {
        let hello = v1::Hello { protocol_lowest, protocol_highest, ..v1::Hello::default() };
        let frame = v1::AgentFrame { frame: Some(v1::agent_frame::Frame::Hello(hello)) };
        AgentFrame::try_from(frame).expect_err("no version is in it").to_string()
    };
    assert_eq!(refusal(0, 0), "hello.protocol_lowest: must not be 0");
    assert_eq!(refusal(3, 2), "hello.protocol_highest: is 2, below protocol_lowest 3");
}

#[test]
fn a_question_for_too_many_lines_is_refused() {
    let logs = v1::ask::Logs { tail_lines: LOG_TAIL_MAX_LINES + 1, ..v1::ask::Logs::default() };
    let ask = v1::Ask { question: Some(v1::ask::Question::Logs(logs)), ..v1::Ask::default() };
    let frame = v1::CoordinatorFrame { frame: Some(v1::coordinator_frame::Frame::Ask(ask)) };
    let refusal = CoordinatorFrame::try_from(frame).expect_err("too many");
    assert_eq!(refusal.to_string(), "ask.logs.tail_lines: asks for 10001 lines, at most 10000");
}

#[test]
fn a_spec_above_the_bound_is_refused_by_size_before_it_is_read() {
    let bytes = vec![0; SPEC_MAX_BYTES + 1];
    let offer = SpecOffer { generation: Generation(1), digest: Digest::of(b"not even hashed"), bytes };
    let refusal = decode_spec(&offer).expect_err("it is too large");
    let told = format!("host_spec: has {} bytes, at most {SPEC_MAX_BYTES} are allowed", SPEC_MAX_BYTES + 1);
    assert_eq!(refusal.to_string(), told);
    assert_eq!(Reason::from(&refusal).code, "message-too-large");
    let frame = v1::CoordinatorFrame::from(CoordinatorFrame::Spec(offer));
    let refusal = CoordinatorFrame::try_from(frame).expect_err("it is too large");
    assert_eq!(refusal.to_string(), format!("spec.{told}"));
}

#[test]
fn bytes_that_are_not_the_promised_ones_are_refused() {
    let honest = encode_spec(&spec::host_spec());
    let other = SpecOffer { digest: Digest::of(b"other bytes"), ..honest.clone() };
    let refusal = decode_spec(&other).expect_err("another digest");
    assert!(refusal.to_string().starts_with("digest: is sha256:"), "{refusal}");
    assert_eq!(Reason::from(&refusal).code, "spec-corrupt");
    let ahead = SpecOffer { generation: honest.generation.next(), ..honest };
    let refusal = decode_spec(&ahead).expect_err("another generation");
    assert_eq!(refusal.to_string(), "generation: is 43, but the spec in the bytes is of generation 42");
}

#[test]
fn bytes_that_are_no_message_are_refused_by_name() {
    let bytes = b"not a protobuf message".to_vec();
    let offer = SpecOffer { generation: Generation(1), digest: Digest::of(&bytes), bytes };
    let refusal = decode_spec(&offer).expect_err("no message");
    assert!(refusal.to_string().starts_with("host_spec: is no HostSpec: "), "{refusal}");
}

/// What protobuf cannot protect, and `requires` does: a field from the future is not seen, its feature's name is.
#[test]
fn a_field_from_the_future_is_skipped_and_its_feature_is_still_named() {
    const FIELD_OF_THE_FUTURE: [u8; 4] = [0xa2, 0x3f, 0x01, 0x07];
    let mut wish = spec::instance(1);
    wish.requires.insert(Feature("seccomp-notify.v1".to_owned()));
    let bytes = [v1::InstanceSpec::from(&wish).encode_to_vec(), FIELD_OF_THE_FUTURE.to_vec()].concat();
    let message = v1::InstanceSpec::decode(bytes.as_slice()).expect("an unknown field is no error");
    let read = InstanceSpec::try_from(message).expect("nor here");
    assert_eq!(read, wish);
    let lacking = &read.requires - &Feature::all();
    assert_eq!(lacking, BTreeSet::from([Feature("seccomp-notify.v1".to_owned())]));
}
