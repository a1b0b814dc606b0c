//! Strategies of what travels: one of each side's frames, and one part of an answer.
//!
//! A drawn spec offer is honest: its digest is that of its bytes, and its bytes are a spec of its generation.

use proptest::prelude::*;

use super::report::host_report;
use super::spec::host_spec;
use super::{COUNTER_MAX, accepted, deployment_at, few_once, generation, id, maybe, moment, name, reason, text};
use crate::feature::Feature;
use crate::frame::{
    AgentFrame, Answer, Ask, CoordinatorFrame, Hello, Leases, LogLine, OutputStream, Question, Welcome,
};
use crate::generation::Fence;
use crate::limits::LOG_TAIL_MAX_LINES;
use crate::wire::{AnswerPart, encode_spec};

/// What an agent says, about the pool's first `most` deployments.
pub fn agent_frame(most: usize) -> impl Strategy<Value = AgentFrame> {
    prop_oneof![
        hello().prop_map(AgentFrame::Hello),
        (generation(), maybe(accepted()), maybe(reason()))
            .prop_map(|(generation, held, refusal)| AgentFrame::Verdict { generation, held, refusal }),
        (0..COUNTER_MAX, host_report(most).prop_map(Box::new))
            .prop_map(|(seq, report)| AgentFrame::Report { seq, report }),
    ]
}

/// What a coordinator says, about the pool's first `most` deployments.
pub fn coordinator_frame(most: usize) -> impl Strategy<Value = CoordinatorFrame> {
    prop_oneof![
        welcome().prop_map(CoordinatorFrame::Welcome),
        reason().prop_map(CoordinatorFrame::Farewell),
        host_spec(most).prop_map(|spec| CoordinatorFrame::Spec(encode_spec(&spec))),
        (0..COUNTER_MAX, leases()).prop_map(|(seq, leases)| CoordinatorFrame::ReportStored { seq, leases }),
        ask(most).prop_map(CoordinatorFrame::Ask),
        id().prop_map(CoordinatorFrame::Cancel),
    ]
}

fn leases() -> impl Strategy<Value = Leases> {
    prop_oneof![Just(Leases::Untouched), Just(Leases::Extended), Just(Leases::Granted)]
}

/// One part of an answer's stream.
pub fn answer_part() -> impl Strategy<Value = AnswerPart> {
    let stream = prop_oneof![Just(OutputStream::Stdout), Just(OutputStream::Stderr)];
    let line = (moment(), stream, text()).prop_map(|(at, stream, text)| LogLine { at, stream, text });
    prop_oneof![
        id().prop_map(AnswerPart::Begins),
        line.prop_map(|line| AnswerPart::Piece(Answer::Line(line))),
        maybe(reason()).prop_map(|reason| AnswerPart::Piece(Answer::End(reason))),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let protocol = (1..8_u32, 0..8_u32).prop_map(|(lowest, more)| (lowest, lowest + more));
    let features = few_once(name().prop_map(Feature));
    (protocol, features, name(), name(), maybe(id()), maybe(accepted()), moment()).prop_map(
        |(protocol, features, agent_version, boot_id, incarnation, accepted, wall)| Hello {
            protocol,
            features,
            agent_version,
            boot_id,
            incarnation,
            accepted,
            wall,
        },
    )
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (1..8_u32, id(), 0..COUNTER_MAX, moment()).prop_map(|(protocol, incarnation, fence, wall)| Welcome {
        protocol,
        incarnation,
        fence: Fence(fence),
        wall,
    })
}

fn ask(most: usize) -> impl Strategy<Value = Ask> {
    let deployment = (0..most.max(1)).prop_map(deployment_at);
    let question = (deployment, 0..=LOG_TAIL_MAX_LINES, any::<bool>())
        .prop_map(|(deployment, tail, follow)| Question::Logs { deployment, tail, follow });
    (id(), any::<u64>(), question).prop_map(|(id, deadline_ms, question)| Ask { id, deadline_ms, question })
}
