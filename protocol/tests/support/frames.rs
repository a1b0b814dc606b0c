//! A report with every field set, and one frame of every kind.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::enforcement::{Enforcement, Item};
use launchpad_protocol::feature::Feature;
use launchpad_protocol::frame::{
    AgentFrame, Answer, Ask, CoordinatorFrame, Hello, Leases, LogLine, OutputStream, Question, Welcome,
};
use launchpad_protocol::generation::{Accepted, Epoch, Fence, Generation, Revision};
use launchpad_protocol::report::{
    Capability, Capacity, ContainerReport, Denial, Denials, Event, EventBatch, GateReport, HostReport,
    InstanceReport, KernelLimits, Orphan, Outcome, Phase, SnapshotReport, VolumeReport,
};
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::{AnswerPart, encode_spec};

use super::spec::host_spec;
use super::{digest, id, reason};

/// Every frame of an agent, by name.
pub(crate) fn agent_frames() -> Vec<(&'static str, AgentFrame)> {
    let taken = AgentFrame::Verdict { generation: Generation(42), held: Some(accepted(42)), refusal: None };
    let refused = AgentFrame::Verdict {
        generation: Generation(41),
        held: Some(accepted(42)),
        refusal: Some(reason("spec-stale")),
    };
    vec![
        ("agent-hello", AgentFrame::Hello(hello())),
        ("agent-verdict-taken", taken),
        ("agent-verdict-refused", refused),
        ("agent-report", AgentFrame::Report { seq: 12, report: Box::new(host_report()) }),
    ]
}

/// Every frame of a coordinator, by name.
pub(crate) fn coordinator_frames() -> Vec<(&'static str, CoordinatorFrame)> {
    let welcome = Welcome { protocol: 1, incarnation: id(101), fence: Fence(17), wall: moment(2) };
    let question = Question::Logs { deployment: id(1), tail: 200, follow: true };
    vec![
        ("coordinator-welcome", CoordinatorFrame::Welcome(welcome)),
        ("coordinator-farewell", CoordinatorFrame::Farewell(reason("replaced"))),
        ("coordinator-spec", CoordinatorFrame::Spec(encode_spec(&host_spec()))),
        ("coordinator-report-stored", CoordinatorFrame::ReportStored { seq: 12, leases: Leases::Granted }),
        ("coordinator-ask", CoordinatorFrame::Ask(Ask { id: id(500), deadline_ms: 30_000, question })),
        ("coordinator-cancel", CoordinatorFrame::Cancel(id(500))),
    ]
}

/// Every part of an answer, by name.
pub(crate) fn answer_parts() -> Vec<(&'static str, AnswerPart)> {
    let line = |stream| LogLine { at: moment(3), stream, text: "listening on 8080 – bereit".to_owned() };
    vec![
        ("answer-begins", AnswerPart::Begins(id(500))),
        ("answer-line-stdout", AnswerPart::Piece(Answer::Line(line(OutputStream::Stdout)))),
        ("answer-line-stderr", AnswerPart::Piece(Answer::Line(line(OutputStream::Stderr)))),
        ("answer-end", AnswerPart::Piece(Answer::End(None))),
        ("answer-end-short", AnswerPart::Piece(Answer::End(Some(reason("container-gone"))))),
    ]
}

fn hello() -> Hello {
    Hello {
        protocol: (1, 3),
        features: BTreeSet::from([Feature::limits(), Feature::sealed_files()]),
        agent_version: "0.1.0".to_owned(),
        boot_id: "5e1b7b0c-0f7f-4c53-9f0e-0d0c7c3c1a11".to_owned(),
        incarnation: Some(id(101)),
        accepted: Some(accepted(41)),
        wall: moment(1),
    }
}

/// A report with every field set: one instance in every phase.
pub(crate) fn host_report() -> HostReport {
    HostReport {
        boot_id: "5e1b7b0c-0f7f-4c53-9f0e-0d0c7c3c1a11".to_owned(),
        agent_version: "0.1.0".to_owned(),
        wall: moment(9),
        accepted: Some(accepted(42)),
        applied: Generation(41),
        capacity: Capacity { cpu_millis: 4_000, memory_bytes: 7 << 30, storage_bytes: 80_000_000_000 },
        capabilities: BTreeMap::from([
            ("live-restore".to_owned(), Capability::Present),
            ("apparmor".to_owned(), Capability::Absent { reason: reason("kernel-lacks-apparmor") }),
        ]),
        instances: PHASES.into_iter().zip(1..).map(|(phase, number)| (id(number), instance(phase, number))).collect(),
        orphans: vec![Orphan {
            container: "0f1e2d3c4b5a".to_owned(),
            deployment: Some(id(77)),
            account: Some(id(277)),
            running: true,
        }],
        buried: BTreeSet::from([id(408), id(409)]),
        outcomes: BTreeMap::from([
            (id(300), Outcome::Done { at: moment(4) }),
            (id(301), Outcome::Refused { reason: reason("no-such-snapshot") }),
        ]),
        troubles: vec![reason("disk-nearly-full")],
        events: events(),
        denials: BTreeMap::from([(
            id(277),
            Denials {
                count: 12,
                samples: vec![Denial {
                    at: moment(9),
                    deployment: Some(id(1)),
                    target: "tcp 203.0.113.5:25".to_owned(),
                    count: 3,
                }],
            },
        )]),
        gate: Some(GateReport {
            flushes: 1,
            longest_exposure: std::time::Duration::from_millis(21),
            ingress_addresses: BTreeSet::from(["198.51.100.7".to_owned()]),
        }),
    }
}

const PHASES: [Phase; 10] = [
    Phase::Absent,
    Phase::Pulling,
    Phase::Preparing,
    Phase::Starting,
    Phase::Ready,
    Phase::Unready,
    Phase::Backoff,
    Phase::Stopping,
    Phase::Stopped,
    Phase::Refused,
];

fn instance(phase: Phase, number: u128) -> InstanceReport {
    InstanceReport {
        phase,
        reason: Some(reason("probe-failed")),
        revision: Revision(7),
        epoch: Epoch(3),
        container: Some(ContainerReport {
            id: format!("c0ffee{number:06}"),
            image: Some(digest("image")),
            started_at: Some(moment(5)),
            address: Some("10.64.0.2".to_owned()),
            limits: Some(KernelLimits { cpu_millis: 500, memory_bytes: 1 << 30, pids: 256 }),
        }),
        restarts: 2,
        ready_at: Some(moment(6)),
        enforcement: BTreeMap::from([
            (Item::Memory, Enforcement::enforced("memory.limit_in_bytes 1073741824")),
            (Item::ProcessEnvironment, Enforcement::degraded("API_KEY", reason("secret-in-environment"))),
            (Item::Egress, Enforcement::failed("no table", reason("rules-altered"))),
        ]),
        volume: Some(VolumeReport {
            backend: "loop-ext4".to_owned(),
            bytes: 10_000_000_000,
            used_bytes: 54_000_000,
            snapshots: BTreeMap::from([(
                "before-7".to_owned(),
                SnapshotReport { bytes: 60_000_000, taken_at: moment(8), digest: digest("a volume") },
            )]),
        }),
        oom_kills: 1,
    }
}

fn events() -> EventBatch {
    let event = |seq, phase, reason| Event { seq, at: moment(7), deployment: id(1), phase, reason };
    EventBatch {
        journal: id(600),
        dropped: 4,
        events: vec![event(10, Phase::Starting, None), event(11, Phase::Backoff, Some(reason("exited")))],
    }
}

fn accepted(generation: u64) -> Accepted {
    Accepted { generation: Generation(generation), digest: digest("the bytes of a spec") }
}

/// A moment in 2026, that many seconds after its first.
fn moment(seconds: i64) -> Moment {
    Moment::from_micros(1_767_225_600_000_000 + seconds * 1_000_000)
}
