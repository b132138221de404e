//! What stands before a payload, or in a header beside it: which schema it is of.
//!
//! | where | bytes |
//! |---|---|
//! | prefix | `0`, the schema's id (4 bytes, big-endian), for Protobuf the message's indexes, the payload |
//! | prefix | `1`, the schema's GUID (16 bytes), indexes and payload as above |
//! | header `__value_schema_id`, `__key_schema_id` | `1`, GUID, indexes; the value or key is the payload alone |
//!
//! Indexes are zigzag varints: a count, then so many; a count of 0 stands for the one index 0.

use std::fmt;

use crate::body::DecodeError;

/// Deeper than messages are nested in any sensible schema.
const MOST_INDEXES: i64 = 64;

const BY_ID: u8 = 0;
const BY_GUID: u8 = 1;

/// How a record names its schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaId {
    /// By its number in the registry.
    Id(u32),
    /// By the GUID that all registries give it alike.
    Guid([u8; 16]),
}

impl SchemaId {
    /// The GUID of that text, with or without hyphens; `None` where it is none.
    pub fn from_guid(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = (digits.len() == 32 && digits.is_ascii()).then(|| u128::from_str_radix(&digits, 16).ok())??;
        Some(Self::Guid(number.to_be_bytes()))
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaId::Id(id) => write!(f, "{id}"),
            SchemaId::Guid(guid) => {
                let hex = format!("{:032x}", u128::from_be_bytes(*guid));
                write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
            }
        }
    }
}

impl fmt::Debug for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key or value taken apart.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub(crate) id: SchemaId,
    /// What follows the id.
    rest: &'a [u8],
    /// The payload, where it is not what follows: the id is in a header.
    apart: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// `header`: the value of the header that may name the schema.
    pub(crate) fn of(bytes: &'a [u8], header: Option<&'a [u8]>) -> Result<Self, DecodeError> {
        let named = header.unwrap_or(bytes);
        let short = || DecodeError::new("too short to name its schema");
        let (magic, rest) = named.split_first().ok_or_else(short)?;
        let (id, rest) = match *magic {
            BY_ID => {
                let (id, rest) = rest.split_first_chunk().ok_or_else(short)?;
                (SchemaId::Id(u32::from_be_bytes(*id)), rest)
            }
            BY_GUID => {
                let (guid, rest) = rest.split_first_chunk().ok_or_else(short)?;
                (SchemaId::Guid(*guid), rest)
            }
            _ => return Err(DecodeError::new("does not begin with a schema's id (byte 0 is neither 0 nor 1)")),
        };
        Ok(Self { id, rest, apart: header.map(|_| bytes) })
    }

    /// The payload of a format without indexes.
    pub(crate) fn payload(self) -> &'a [u8] {
        self.apart.unwrap_or(self.rest)
    }

    /// The indexes of a Protobuf message, and its payload.
    pub(crate) fn message(self) -> Result<(Vec<usize>, &'a [u8]), DecodeError> {
        let mut rest = self.rest;
        let count = varint(&mut rest)?;
        let indexes = match count {
            0 => vec![0],
            1..=MOST_INDEXES => (0..count).map(|_| index(&mut rest)).collect::<Result<_, _>>()?,
            _ => return Err(DecodeError::new("a Protobuf message without its indexes")),
        };
        Ok((indexes, self.apart.unwrap_or(rest)))
    }
}

fn index(rest: &mut &[u8]) -> Result<usize, DecodeError> {
    usize::try_from(varint(rest)?).map_err(|_| DecodeError::new("an index of a Protobuf message below zero"))
}

fn varint(rest: &mut &[u8]) -> Result<i64, DecodeError> {
    let mut number = 0_u64;
    for (place, byte) in rest.iter().take(5).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    Err(DecodeError::new("a Protobuf message without its indexes"))
}

/// The bytes that name a schema, and a message in it where `indexes` are told.
pub(crate) fn name(id: SchemaId, indexes: Option<&[usize]>) -> Vec<u8> {
    let mut bytes = match id {
        SchemaId::Id(id) => [&[BY_ID][..], &id.to_be_bytes()].concat(),
        SchemaId::Guid(guid) => [&[BY_GUID][..], &guid].concat(),
    };
    match indexes {
        None => {}
        Some([0]) => bytes.push(0),
        Some(indexes) => {
            for number in std::iter::once(indexes.len()).chain(indexes.iter().copied()) {
                let mut zigzag = (number as u64) << 1;
                while zigzag > 0x7f {
                    bytes.push(0x80 | (zigzag & 0x7f) as u8);
                    zigzag >>= 7;
                }
                bytes.push(zigzag as u8);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Confluent's own example: GUID and its 17 bytes.
    const GUID: &str = "89791762-2336-186f-9674-299b90a802e2";

    #[test]
    fn a_prefix_names_its_schema_and_leaves_the_payload() {
        let bytes = [&name(SchemaId::Id(0x01020304), None)[..], b"payload"].concat();
        assert_eq!(bytes[..5], [0, 1, 2, 3, 4]);
        let frame = Frame::of(&bytes, None).unwrap();
        assert_eq!((frame.id, frame.payload()), (SchemaId::Id(0x01020304), &b"payload"[..]));
    }

    #[test]
    fn a_header_names_the_schema_of_a_payload_that_stands_alone() {
        let id = SchemaId::from_guid(GUID).unwrap();
        assert_eq!(id.to_string(), GUID);
        let header = name(id, Some(&[2, 1]));
        assert_eq!((header.len(), header[0], &header[17..]), (20, 1, &[4, 4, 2][..]));
        let frame = Frame::of(b"payload", Some(&header)).unwrap();
        assert_eq!((frame.id, frame.payload()), (id, &b"payload"[..]));
        assert_eq!(frame.message().unwrap(), (vec![2, 1], &b"payload"[..]));
    }

    #[test]
    fn the_first_message_takes_one_byte() {
        let bytes = [&name(SchemaId::Id(7), Some(&[0]))[..], b"m"].concat();
        assert_eq!(bytes, [0, 0, 0, 0, 7, 0, b'm']);
        assert_eq!(Frame::of(&bytes, None).unwrap().message().unwrap(), (vec![0], &b"m"[..]));
    }

    #[test]
    fn garbage_is_an_error_that_quotes_nothing() {
        for garbage in [&b""[..], b"{\"a\":1}", b"\0\0\0", b"\x01123", b"\x02xxxxxxxxxxxxxxxxx"] {
            assert!(Frame::of(garbage, None).is_err(), "{garbage:?}");
        }
        for indexes in [&[][..], &[0x80], &[2], &[2, 1], &[1], &[0xff; 12]] {
            let bytes = [&[0, 0, 0, 0, 1][..], indexes].concat();
            assert!(Frame::of(&bytes, None).unwrap().message().is_err(), "{indexes:?}");
        }
    }
}
