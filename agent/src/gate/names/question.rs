//! What a bot asks: one question, read from bytes that nobody vouches for. Pure.
//!
//! More than one question, an answer where none belongs, another operation or a name of other letters than
//! host names have never gets further than here.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use launchpad_protocol::egress::is_host_name;

/// Bytes of a question: 12 of head, 255 of name, 4 of type and class, and room for options that clients add.
/// The size that every server takes (RFC 1035 §4.2.1).
pub(super) const QUESTION_MAX_BYTES: usize = 512;

/// Bytes of a message's head (RFC 1035 §4.1.1).
const HEAD_BYTES: usize = 12;

/// Additional records of a question: the client's options, and a signature.
const ADDITIONAL_MAX: u16 = 2;

/// Types from here to the end of their byte are questions about a zone or a message, not data (RFC 6895
/// §3.1).
const META_TYPES: std::ops::RangeInclusive<u16> = 128..=255;

/// A question that can be judged.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Its number, for the reply.
    pub(super) id: u16,
    /// Whether recursion is asked for: said again in the reply.
    pub(super) recursion: bool,
    /// Bytes of UDP that the client takes, if it says so.
    pub(super) payload: Option<u16>,
    /// As it was asked, letter case included: some clients hide a number in it.
    pub(super) query: Query,
    /// The host name in lower case, without its final dot; none: it is no host name.
    pub(super) host: Option<String>,
    /// What is wished to be known.
    pub(super) wish: Wish,
}

/// What is wished to be known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Its IPv4 addresses.
    Addresses,
    /// Which name an address has.
    Reverse,
    /// Anything else that names have.
    Other,
    /// A zone, or something of another class.
    Meta,
}

/// Why bytes are no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not even that, or an answer: nobody waits for a reply.
    Silence,
    /// The sender is told so.
    Code {
        /// The number that it gave.
        id: u16,
        /// What is wrong.
        code: ResponseCode,
    },
}

impl Question {
    /// Reads one.
    ///
    /// # Errors
    /// [`Unfit`], and whether the sender hears of it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unfit> {
        let id = identified(bytes).ok_or(Unfit::Silence)?;
        let unfit = |code| Unfit::Code { id, code };
        // The counts are looked at before anything is made room for.
        let counts = [4, 6, 8, 10].map(|at| number(bytes, at));
        if bytes.len() > QUESTION_MAX_BYTES {
            return Err(unfit(ResponseCode::FormErr));
        }
        let [Some(1), Some(0), Some(0), Some(0..=ADDITIONAL_MAX)] = counts else {
            return Err(unfit(ResponseCode::FormErr));
        };
        let message = Message::from_vec(bytes).map_err(|_| unfit(ResponseCode::FormErr))?;
        if message.metadata.message_type == MessageType::Response {
            return Err(Unfit::Silence);
        }
        if message.metadata.op_code != OpCode::Query {
            return Err(unfit(ResponseCode::NotImp));
        }
        if message.version() > 0 {
            return Err(unfit(ResponseCode::BADVERS));
        }
        let payload = message.edns.as_ref().map(|_| message.max_payload());
        let recursion = message.metadata.recursion_desired;
        let query = message.queries.into_iter().next().ok_or_else(|| unfit(ResponseCode::FormErr))?;
        Ok(Self { id, recursion, payload, host: host_name(query.name()), wish: Wish::of(&query), query })
    }

    /// The name as people read it, also one that is no host name.
    pub(super) fn shown(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.query.name().to_lowercase().to_ascii())
    }
}

impl Wish {
    fn of(query: &Query) -> Self {
        let wanted = query.query_type();
        if query.query_class() != DNSClass::IN || META_TYPES.contains(&u16::from(wanted)) {
            Self::Meta
        } else if wanted == RecordType::A {
            Self::Addresses
        } else if wanted == RecordType::PTR {
            Self::Reverse
        } else {
            Self::Other
        }
    }
}

/// The number of what has a whole head, and asks.
fn identified(bytes: &[u8]) -> Option<u16> {
    const IS_ANSWER: u8 = 0x80;
    (bytes.len() >= HEAD_BYTES && bytes.get(2)? & IS_ANSWER == 0).then(|| number(bytes, 0)).flatten()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Label by label, because a label may hold a dot of its own: `a.b` as one label is not the two that a rule
/// means.
fn host_name(name: &Name) -> Option<String> {
    let labels: Option<Vec<&str>> =
        name.iter().map(|label| std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))).collect();
    let host = labels?.join(".").to_ascii_lowercase();
    is_host_name(&host).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Edns;
    use proptest::prelude::*;

    fn asking(name: &str, wanted: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), wanted));
        message
    }

    fn read(message: &Message) -> Result<Question, Unfit> {
        Question::read(&message.to_vec().expect("bytes"))
    }

    fn code(message: &Message) -> Option<ResponseCode> {
        match read(message) {
            Err(Unfit::Code { code, .. }) => Some(code),
            Ok(_) | Err(Unfit::Silence) => None,
        }
    }

    #[test]
    fn the_name_is_judged_in_lower_case_and_echoed_as_it_was_asked() {
        let question = read(&asking("aPi.ExAmple.COM.", RecordType::A)).expect("a question");
        assert_eq!(question.host.as_deref(), Some("api.example.com"));
        assert_eq!(question.query.name().to_ascii(), "aPi.ExAmple.COM.");
        assert_eq!(question.wish, Wish::Addresses);
    }

    #[test]
    fn a_label_with_a_dot_or_other_bytes_in_it_makes_no_host_name() {
        for labels in [
            &[&b"x.api"[..], b"example", b"com"][..],
            &[b"a b", b"example"],
            &[b"\xff", b"example"],
            &[b"*", b"example"],
        ] {
            let mut message = Message::query();
            message
                .add_query(Query::query(Name::from_labels(labels.iter().copied()).expect("a name"), RecordType::A));
            let question = read(&message).expect("a question");
            assert_eq!(question.host, None, "{}", question.shown());
        }
        assert_eq!(read(&asking(".", RecordType::A)).expect("a question").host, None);
    }

    #[test]
    fn what_is_no_single_plain_question_is_told_so() {
        let mut two = asking("a.example.", RecordType::A);
        two.add_query(Query::query(Name::from_ascii("b.example.").expect("a name"), RecordType::A));
        assert_eq!(code(&two), Some(ResponseCode::FormErr));
        assert_eq!(code(&Message::query()), Some(ResponseCode::FormErr), "none at all");
        let mut update = asking("a.example.", RecordType::A);
        update.metadata.op_code = OpCode::Notify;
        assert_eq!(code(&update), Some(ResponseCode::NotImp));
        let mut newer = asking("a.example.", RecordType::A);
        newer.set_edns(Edns::new().set_version(1).clone());
        assert_eq!(code(&newer), Some(ResponseCode::BADVERS));
    }

    #[test]
    fn counts_that_promise_more_than_comes_are_refused_before_room_is_made() {
        let mut bytes = asking("a.example.", RecordType::A).to_vec().expect("bytes");
        bytes[4..6].copy_from_slice(&u16::MAX.to_be_bytes());
        assert!(matches!(Question::read(&bytes), Err(Unfit::Code { code: ResponseCode::FormErr, .. })));
        assert_eq!(Question::read(&bytes[..HEAD_BYTES - 1]).expect_err("no head"), Unfit::Silence);
    }

    #[test]
    fn an_answer_is_never_answered() {
        let bytes = Message::response(7, OpCode::Query).to_vec().expect("bytes");
        assert_eq!(Question::read(&bytes).expect_err("an answer"), Unfit::Silence);
    }

    #[test]
    fn zones_other_classes_and_reverse_names_are_told_apart() {
        let wish = |wanted| read(&asking("a.example.", wanted)).expect("a question").wish;
        assert_eq!([wish(RecordType::ANY), wish(RecordType::AXFR), wish(RecordType::IXFR)], [Wish::Meta; 3]);
        assert_eq!(wish(RecordType::PTR), Wish::Reverse);
        for other in [RecordType::AAAA, RecordType::TXT, RecordType::MX, RecordType::HTTPS, RecordType::SRV] {
            assert_eq!(wish(other), Wish::Other);
        }
        let mut chaos = asking("version.bind.", RecordType::A);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(read(&chaos).expect("a question").wish, Wish::Meta);
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Question::read(&bytes);
        }

        #[test]
        fn no_damage_to_a_question_brings_it_down(at in 0_usize..40, byte: u8) {
            let mut bytes = asking("api.example.com.", RecordType::A).to_vec().expect("bytes");
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
            let _ = Question::read(&bytes);
        }
    }
}
