//! The planted bug of the wire: an encoder that forgets one field, for every field that there is.
//!
//! It works on the bytes and knows no message, so that a field which is added tomorrow is forgotten as well.

/// Every way to leave one field out of an encoded message, with its path of field numbers. Text and bytes that happen
/// to parse as a message are cut as well: they are then another text, which has to be noticed just so.
pub(crate) fn drops(message: &[u8]) -> Vec<(Vec<u64>, Vec<u8>)> {
    let Some(fields) = fields(message) else { return Vec::new() };
    let mut drops = Vec::new();
    for field in fields {
        let (before, after) = (&message[..field.start], &message[field.end..]);
        drops.push((vec![field.number], [before, after].concat()));
        let Some(payload) = field.payload else { continue };
        for (path, shorter) in self::drops(&message[payload..field.end]) {
            let header = [varint(field.number << 3 | LENGTH_DELIMITED), varint(shorter.len() as u64)].concat();
            let path = [vec![field.number], path].concat();
            drops.push((path, [before, &header, &shorter, after].concat()));
        }
    }
    drops
}

/// The message with `more` at the end of the first message under that path of field numbers; none: there is no such.
pub(crate) fn added(message: &[u8], path: &[u64], more: &[u8]) -> Option<Vec<u8>> {
    let Some((number, rest)) = path.split_first() else { return Some([message, more].concat()) };
    let field = fields(message)?.into_iter().find(|field| field.number == *number)?;
    let inner = added(&message[field.payload?..field.end], rest, more)?;
    let header = [varint(number << 3 | LENGTH_DELIMITED), varint(inner.len() as u64)].concat();
    Some([&message[..field.start], &header, &inner, &message[field.end..]].concat())
}

/// One field of an encoded message: where it starts and ends, and where its payload starts if it has a length.
struct Field {
    number: u64,
    start: usize,
    payload: Option<usize>,
    end: usize,
}

/// Wire types of protobuf (protobuf.dev, "Encoding"); the fixed-width ones are not used in our messages.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// The fields of a message, or nothing if these bytes are none.
fn fields(message: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let tag = read_varint(message, &mut at)?;
        let value = read_varint(message, &mut at)?;
        let payload = match tag & 7 {
            VARINT => None,
            LENGTH_DELIMITED => {
                let payload = at;
                at = at.checked_add(usize::try_from(value).ok()?)?;
                Some(payload)
            }
            _ => return None,
        };
        if at > message.len() || tag >> 3 == 0 {
            return None;
        }
        fields.push(Field { number: tag >> 3, start, payload, end: at });
    }
    Some(fields)
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut rest = bytes.get(*at..)?;
    let before = rest.len();
    let value = prost::encoding::decode_varint(&mut rest).ok()?;
    *at += before - rest.len();
    Some(value)
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}
