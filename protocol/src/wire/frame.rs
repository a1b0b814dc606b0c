//! The frames of both sides, and the pieces of an answer.
//!
//! ```text
//! agent/src/link.rs         AgentFrame ── From ──► v1 ── TryFrom ─► AgentFrame         coordinator/src/fleet
//!                     CoordinatorFrame ◄ TryFrom ─ v1 ◄─ From ───── CoordinatorFrame
//!                 AskId, then Answer … ── From ──► v1 ── TryFrom ─► AnswerPart …
//! ```
//! The spec in a frame stays closed: [`super::decode_spec`] opens it, after the session has said that it is wanted.

use super::field::{
    WireError, distinct, filled, known, malformed, optional, parse, parse_optional, positive, required,
};
use super::field::{set, unspecified};
use super::v1;
use crate::feature::Feature;
use crate::frame::{
    AgentFrame, Answer, Ask, CoordinatorFrame, Hello, Leases, LogLine, OutputStream, Question, Welcome,
};
use crate::generation::{Fence, Generation};
use crate::id::AskId;
use crate::limits::LOG_TAIL_MAX_LINES;
use crate::time::Moment;

impl From<AgentFrame> for v1::AgentFrame {
    fn from(frame: AgentFrame) -> Self {
        use v1::agent_frame::Frame;
        let frame = match frame {
            AgentFrame::Hello(hello) => Frame::Hello(hello.into()),
            AgentFrame::Verdict { generation, held, refusal } => Frame::Verdict(v1::Verdict {
                generation: generation.0,
                held: held.map(Into::into),
                refusal: refusal.map(Into::into),
            }),
            AgentFrame::Report { seq, report } => Frame::Report(v1::Report { seq, report: Some((*report).into()) }),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<v1::AgentFrame> for AgentFrame {
    type Error = WireError;

    fn try_from(message: v1::AgentFrame) -> Result<Self, WireError> {
        use v1::agent_frame::Frame;
        Ok(match set("frame", message.frame)? {
            Frame::Hello(hello) => Self::Hello(required("hello", Some(hello))?),
            Frame::Verdict(verdict) => Self::Verdict {
                generation: Generation(positive("verdict.generation", verdict.generation)?),
                held: optional("verdict.held", verdict.held)?,
                refusal: optional("verdict.refusal", verdict.refusal)?,
            },
            Frame::Report(report) => {
                Self::Report { seq: report.seq, report: Box::new(required("report.report", report.report)?) }
            }
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        let (protocol_lowest, protocol_highest) = hello.protocol;
        Self {
            protocol_lowest,
            protocol_highest,
            features: hello.features.into_iter().map(|feature| feature.0).collect(),
            agent_version: hello.agent_version,
            boot_id: hello.boot_id,
            incarnation_id: hello.incarnation.map(|id| id.to_string()),
            accepted: hello.accepted.map(Into::into),
            wall_us: hello.wall.micros(),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = WireError;

    fn try_from(message: v1::Hello) -> Result<Self, WireError> {
        let lowest = positive("protocol_lowest", message.protocol_lowest)?;
        if message.protocol_highest < lowest {
            let problem = format!("is {}, below protocol_lowest {lowest}", message.protocol_highest);
            return Err(malformed("protocol_highest", problem));
        }
        Ok(Self {
            protocol: (lowest, message.protocol_highest),
            features: distinct("features", message.features, |name| filled("", name).map(Feature))?,
            agent_version: message.agent_version,
            boot_id: message.boot_id,
            incarnation: parse_optional("incarnation_id", message.incarnation_id)?,
            accepted: optional("accepted", message.accepted)?,
            wall: Moment::from_micros(message.wall_us),
        })
    }
}

impl From<CoordinatorFrame> for v1::CoordinatorFrame {
    fn from(frame: CoordinatorFrame) -> Self {
        use v1::coordinator_frame::Frame;
        let frame = match frame {
            CoordinatorFrame::Welcome(welcome) => Frame::Welcome(welcome.into()),
            CoordinatorFrame::Farewell(reason) => Frame::Farewell(reason.into()),
            CoordinatorFrame::Spec(offer) => Frame::Spec(offer.into()),
            CoordinatorFrame::ReportStored { seq, leases } => {
                let leases = match leases {
                    Leases::Untouched => v1::Leases::Unspecified,
                    Leases::Extended => v1::Leases::Extended,
                    Leases::Granted => v1::Leases::Granted,
                };
                Frame::ReportStored(v1::ReportStored { seq, leases: leases.into() })
            }
            CoordinatorFrame::Ask(ask) => Frame::Ask(ask.into()),
            CoordinatorFrame::Cancel(id) => Frame::Cancel(v1::Cancel { ask_id: id.to_string() }),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<v1::CoordinatorFrame> for CoordinatorFrame {
    type Error = WireError;

    fn try_from(message: v1::CoordinatorFrame) -> Result<Self, WireError> {
        use v1::coordinator_frame::Frame;
        Ok(match set("frame", message.frame)? {
            Frame::Welcome(welcome) => Self::Welcome(required("welcome", Some(welcome))?),
            Frame::Farewell(reason) => Self::Farewell(required("farewell", Some(reason))?),
            Frame::Spec(offer) => Self::Spec(required("spec", Some(offer))?),
            Frame::ReportStored(v1::ReportStored { seq, leases }) => {
                // What a newer coordinator means by another word is not known here: it renews nothing.
                let leases = match v1::Leases::try_from(leases) {
                    Ok(v1::Leases::Unspecified) | Err(_) => Leases::Untouched,
                    Ok(v1::Leases::Extended) => Leases::Extended,
                    Ok(v1::Leases::Granted) => Leases::Granted,
                };
                Self::ReportStored { seq, leases }
            }
            Frame::Ask(ask) => Self::Ask(required("ask", Some(ask))?),
            Frame::Cancel(v1::Cancel { ask_id }) => Self::Cancel(parse("cancel.ask_id", &ask_id)?),
        })
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            protocol: welcome.protocol,
            incarnation_id: welcome.incarnation.to_string(),
            fence: welcome.fence.0,
            wall_us: welcome.wall.micros(),
        }
    }
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = WireError;

    fn try_from(message: v1::Welcome) -> Result<Self, WireError> {
        Ok(Self {
            protocol: positive("protocol", message.protocol)?,
            incarnation: parse("incarnation_id", &message.incarnation_id)?,
            fence: Fence(message.fence),
            wall: Moment::from_micros(message.wall_us),
        })
    }
}

impl From<Ask> for v1::Ask {
    fn from(ask: Ask) -> Self {
        let question = match ask.question {
            Question::Logs { deployment, tail, follow } => v1::ask::Question::Logs(v1::ask::Logs {
                deployment_id: deployment.to_string(),
                tail_lines: tail,
                follow,
            }),
        };
        Self { ask_id: ask.id.to_string(), deadline_ms: ask.deadline_ms, question: Some(question) }
    }
}

impl TryFrom<v1::Ask> for Ask {
    type Error = WireError;

    fn try_from(message: v1::Ask) -> Result<Self, WireError> {
        let question = match set("question", message.question)? {
            v1::ask::Question::Logs(logs) => {
                if logs.tail_lines > LOG_TAIL_MAX_LINES {
                    let problem = format!("asks for {} lines, at most {LOG_TAIL_MAX_LINES}", logs.tail_lines);
                    return Err(malformed("logs.tail_lines", problem));
                }
                let deployment = parse("logs.deployment_id", &logs.deployment_id)?;
                Question::Logs { deployment, tail: logs.tail_lines, follow: logs.follow }
            }
        };
        Ok(Self { id: parse("ask_id", &message.ask_id)?, deadline_ms: message.deadline_ms, question })
    }
}

/// One frame of an answer's stream: the first is [`AnswerPart::Begins`], and no other is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// Which question the stream answers.
    Begins(AskId),
    /// A piece of the answer.
    Piece(Answer),
}

impl From<AnswerPart> for v1::AnswerFrame {
    fn from(part: AnswerPart) -> Self {
        use v1::answer_frame::{End, Frame};
        let frame = match part {
            AnswerPart::Begins(id) => Frame::AskId(id.to_string()),
            AnswerPart::Piece(Answer::Line(line)) => Frame::Line(line.into()),
            AnswerPart::Piece(Answer::End(reason)) => Frame::End(End { reason: reason.map(Into::into) }),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<v1::AnswerFrame> for AnswerPart {
    type Error = WireError;

    fn try_from(message: v1::AnswerFrame) -> Result<Self, WireError> {
        use v1::answer_frame::{End, Frame};
        Ok(match set("frame", message.frame)? {
            Frame::AskId(id) => Self::Begins(parse("ask_id", &id)?),
            Frame::Line(line) => Self::Piece(Answer::Line(required("line", Some(line))?)),
            Frame::End(End { reason }) => Self::Piece(Answer::End(optional("end.reason", reason)?)),
        })
    }
}

impl From<LogLine> for v1::LogLine {
    fn from(line: LogLine) -> Self {
        let stream = match line.stream {
            OutputStream::Stdout => v1::OutputStream::Stdout,
            OutputStream::Stderr => v1::OutputStream::Stderr,
        };
        Self { at_us: line.at.micros(), stream: stream.into(), text: line.text }
    }
}

impl TryFrom<v1::LogLine> for LogLine {
    type Error = WireError;

    fn try_from(message: v1::LogLine) -> Result<Self, WireError> {
        let stream = match known("stream", message.stream)? {
            v1::OutputStream::Unspecified => return Err(unspecified("stream")),
            v1::OutputStream::Stdout => OutputStream::Stdout,
            v1::OutputStream::Stderr => OutputStream::Stderr,
        };
        Ok(Self { at: Moment::from_micros(message.at_us), stream, text: message.text })
    }
}
