//! The network of a run: links between one agent and the coordinator, and the weather on them.
//!
//! ```text
//!   send ── lost? ── damaged? ── twice? ── late, or out of order? ──► Event::Arrive at either end
//!   cut  ── each end goes on believing in the link until it notices (Event::Notice), in its own time
//! ```
//! Frames of one direction arrive in the order in which they were sent, unless the weather reorders them. A frame that
//! arrives at an end which has given its link up falls to the floor.

use launchpad_protocol::frame::{AgentFrame, CoordinatorFrame};
use launchpad_protocol::spec::SpecOffer;
use launchpad_protocol::wire::{decode_spec, encode_spec};

use super::world::{Event, MILLI, Micros, SECOND, World};

/// How long a frame is on its way in good weather, at most.
const TRANSIT_MAX: Micros = 20 * MILLI;

/// How long either end takes at most to notice a link that is gone: the transport's idle timeout is 30 s.
const NOTICE_MAX: Micros = 30 * SECOND;

/// How long a link that was closed at one end is open at the other, at most.
const FAREWELL_MAX: Micros = 100 * MILLI;

/// Names a link: numbers are never used twice in a run.
pub(super) type LinkId = u64;

/// One of the two ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Agent,
    Coordinator,
}

/// A frame, and which way it goes.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    Up(AgentFrame),
    Down(CoordinatorFrame),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    /// Whose.
    pub(super) host: usize,
    cut: bool,
    /// When the last frame of each direction arrives, up and down: later ones do not overtake it.
    last: [Micros; 2],
}

/// What the network does to one host's frames, in percent and microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) lost: u32,
    pub(super) twice: u32,
    pub(super) reordered: u32,
    pub(super) damaged: u32,
    pub(super) late: Micros,
}

impl World {
    /// A new link of that host.
    pub(super) fn connect(&mut self, host: usize) -> LinkId {
        self.next_link += 1;
        self.links.insert(self.next_link, Link { host, cut: false, last: [0; 2] });
        self.next_link
    }

    /// Puts a frame on its way.
    pub(super) fn send(&mut self, link: LinkId, mut frame: Frame) {
        let Some(Link { host, cut: false, .. }) = self.links.get(&link) else { return };
        let weather = self.weather[*host];
        if self.percent(weather.lost) {
            self.note(format_args!("link {link}: lost {}", name(&frame)));
            return;
        }
        if weather.damaged > 0 && self.percent(weather.damaged) {
            damage(&mut frame);
        }
        if self.percent(weather.twice) {
            self.dispatch(link, frame.clone(), weather);
        }
        self.dispatch(link, frame, weather);
    }

    fn dispatch(&mut self, link: LinkId, frame: Frame, weather: Weather) {
        let at = self.now + self.within(TRANSIT_MAX) + self.within(weather.late);
        let overtakes = self.percent(weather.reordered);
        let Some(on) = self.links.get_mut(&link) else { return };
        let last = &mut on.last[usize::from(matches!(frame, Frame::Down(_)))];
        let at = if overtakes { at } else { at.max(*last + 1) };
        *last = at.max(*last);
        self.at(at, Event::Arrive { link, frame: Box::new(frame) });
    }

    /// Cuts a link; its ends notice in their own time.
    pub(super) fn cut(&mut self, link: LinkId) {
        let Some(on) = self.links.get_mut(&link) else { return };
        on.cut = true;
        for end in [End::Agent, End::Coordinator] {
            let span = self.within(NOTICE_MAX);
            self.after(span, Event::Notice { link, end });
        }
    }

    /// Closes a link from one end: what was sent before still arrives, then the other end knows.
    pub(super) fn hang_up(&mut self, link: LinkId, from: End) {
        let Some(on) = self.links.get(&link) else { return };
        let other = if from == End::Agent { End::Coordinator } else { End::Agent };
        let last = on.last[usize::from(from == End::Coordinator)].max(self.now);
        let span = self.within(FAREWELL_MAX);
        self.at(last + span, Event::Notice { link, end: other });
    }
}

/// Takes something out of a spec and leaves the digest that was promised.
fn damage(frame: &mut Frame) {
    let Frame::Down(CoordinatorFrame::Spec(offer)) = frame else { return };
    let Ok(mut spec) = decode_spec(offer) else { return };
    if spec.instances.pop_first().is_some() {
        *offer = SpecOffer { bytes: encode_spec(&spec).bytes, ..offer.clone() };
    }
}

/// What a story calls a frame.
pub(super) fn name(frame: &Frame) -> String {
    match frame {
        Frame::Up(AgentFrame::Hello(hello)) => {
            format!("hello, holding {:?}", hello.accepted.map(|held| held.generation.0))
        }
        Frame::Up(AgentFrame::Verdict { generation, refusal, .. }) => {
            format!("verdict on {generation}: {}", refusal.as_ref().map_or("taken", |reason| &reason.code))
        }
        Frame::Up(AgentFrame::Report { seq, report }) => {
            format!("report {seq}, holding {:?}", report.accepted.map(|held| held.generation.0))
        }
        Frame::Down(CoordinatorFrame::Welcome(welcome)) => format!("welcome, fence {}", welcome.fence),
        Frame::Down(CoordinatorFrame::Farewell(reason)) => format!("farewell: {}", reason.code),
        Frame::Down(CoordinatorFrame::Spec(offer)) => format!("spec {}", offer.generation),
        Frame::Down(CoordinatorFrame::ReportStored { seq, leases }) => format!("stored {seq}, leases {leases:?}"),
        Frame::Down(CoordinatorFrame::Ask(_) | CoordinatorFrame::Cancel(_)) => "a question".to_owned(),
    }
}
