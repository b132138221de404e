//! The payload around the coded offsets: length, flags, topic id, base, leader epoch, failing records, check sum.

use std::num::NonZeroU128;

use super::codings::Coding;
use super::{Failing, MAX_FAILING, MapHead, MapRefusal};

/// Bytes of the length, of the count of failing records, of the check sum.
pub(super) const LENGTH: usize = 4;
pub(super) const COUNT: usize = 1;
pub(super) const CHECKSUM: usize = 8;

const CODING_BITS: u8 = 0b0111;
const HAS_TOPIC: u8 = 0b1000;
const HAS_EPOCH: u8 = 0b1_0000;
const HAS_FOLLOWED: u8 = 0b10_0000;

/// The version of the format that a payload with these flags is of: readers of the first one know of no followed keys, and
/// are to refuse the map rather than to do without them unnoticed.
pub(super) fn version(flags: u8) -> char {
    if flags & HAS_FOLLOWED == 0 { '1' } else { '2' }
}

/// How a payload begins.
pub(super) struct Opening {
    pub(super) head: MapHead,
    /// How its finished offsets are coded.
    pub(super) coding: Option<Coding>,
    pub(super) has_followed: bool,
}

/// The beginning of a payload; [`seal`] fills in its length and the other flags.
pub(super) fn write(head: &MapHead) -> Vec<u8> {
    let mut payload = vec![0; LENGTH];
    let topic = if head.topic_id.is_some() { HAS_TOPIC } else { 0 };
    let epoch = if head.leader_epoch.is_some() { HAS_EPOCH } else { 0 };
    payload.push(topic | epoch);
    if let Some(topic) = head.topic_id {
        payload.extend(topic.get().to_be_bytes());
    }
    put_signed(&mut payload, head.base);
    if let Some(epoch) = head.leader_epoch {
        put_signed(&mut payload, i64::from(epoch));
    }
    payload
}

/// The failing records that fit `room`, lowest offsets first: how many, and their bytes.
pub(super) fn write_failing(base: i64, failing: &[Failing], room: usize) -> (usize, Vec<u8>) {
    let (mut count, mut bytes) = (0, Vec::new());
    let (mut lowest, mut since) = (Some(base), 0i64);
    for record in failing {
        let Some(low) = lowest else { break };
        if record.offset < low {
            continue;
        }
        let before = bytes.len();
        put(&mut bytes, record.offset.wrapping_sub(low) as u64);
        put(&mut bytes, u64::from(record.attempts));
        put_signed(&mut bytes, record.first_failed_ms.wrapping_sub(since));
        put_signed(&mut bytes, record.next_try_ms.wrapping_sub(record.first_failed_ms));
        if bytes.len() > room || count == MAX_FAILING {
            bytes.truncate(before);
            break;
        }
        count += 1;
        lowest = record.offset.checked_add(1);
        since = record.first_failed_ms;
    }
    (count, bytes)
}

/// Fills in the flags of what followed the beginning, and the length, and adds the check sum.
pub(super) fn seal(payload: &mut Vec<u8>, coding: Option<Coding>, has_followed: bool) {
    let followed = if has_followed { HAS_FOLLOWED } else { 0 };
    payload[LENGTH] |= coding.map_or(0, Coding::tag) | followed;
    let len = (payload.len() + CHECKSUM) as u32;
    payload[..LENGTH].copy_from_slice(&len.to_le_bytes());
    payload.extend(crc64(payload).to_le_bytes());
}

/// What lies between length and check sum, if that fits.
pub(super) fn open(payload: &[u8]) -> Result<Bytes<'_>, MapRefusal> {
    let (content, sum) = payload.split_last_chunk().ok_or(MapRefusal::Length)?;
    let body = content.get(LENGTH..).ok_or(MapRefusal::Length)?;
    if crc64(content) != u64::from_le_bytes(*sum) {
        return Err(MapRefusal::Checksum);
    }
    Ok(Bytes(body))
}

/// What the map was written for, and what is in it.
pub(super) fn read(body: &mut Bytes<'_>, written: char) -> Result<Opening, MapRefusal> {
    let flags = body.byte()?;
    // The check sum covers the flags, not the version.
    if flags & !(CODING_BITS | HAS_TOPIC | HAS_EPOCH | HAS_FOLLOWED) != 0 || version(flags) != written {
        return Err(MapRefusal::Malformed);
    }
    let coding = match flags & CODING_BITS {
        0 => None,
        tag => Some(Coding::of(tag).ok_or(MapRefusal::Malformed)?),
    };
    let topic_id = match flags & HAS_TOPIC {
        0 => None,
        _ => Some(NonZeroU128::new(u128::from_be_bytes(body.array()?)).ok_or(MapRefusal::Malformed)?),
    };
    let base = body.signed()?;
    let leader_epoch = match flags & HAS_EPOCH {
        0 => None,
        _ => Some(i32::try_from(body.signed()?).map_err(|_| MapRefusal::Malformed)?),
    };
    let head = MapHead { topic_id, base, leader_epoch };
    Ok(Opening { head, coding, has_followed: flags & HAS_FOLLOWED != 0 })
}

pub(super) fn read_failing(body: &mut Bytes<'_>, base: i64) -> Result<Vec<Failing>, MapRefusal> {
    let count = usize::from(body.byte()?);
    if count > MAX_FAILING {
        return Err(MapRefusal::Malformed);
    }
    let mut failing = Vec::with_capacity(count);
    let (mut lowest, mut since) = (Some(base), 0i64);
    for _ in 0..count {
        let offset =
            lowest.and_then(|low| low.checked_add_unsigned(body.varint().ok()?)).ok_or(MapRefusal::Malformed)?;
        let attempts = u32::try_from(body.varint()?).map_err(|_| MapRefusal::Malformed)?;
        let first_failed_ms = since.wrapping_add(body.signed()?);
        let next_try_ms = first_failed_ms.wrapping_add(body.signed()?);
        failing.push(Failing { offset, attempts, first_failed_ms, next_try_ms });
        lowest = offset.checked_add(1);
        since = first_failed_ms;
    }
    Ok(failing)
}

/// Bytes being read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn byte(&mut self) -> Result<u8, MapRefusal> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MapRefusal> {
        let (array, rest) = self.0.split_first_chunk().ok_or(MapRefusal::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    /// LEB128: 7 bits a byte, lowest first.
    pub(super) fn varint(&mut self) -> Result<u64, MapRefusal> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(MapRefusal::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MapRefusal::Malformed)
    }

    pub(super) fn signed(&mut self) -> Result<i64, MapRefusal> {
        let folded = self.varint()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }
}

/// LEB128: 7 bits a byte, lowest first.
pub(super) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// How many bytes [`put`] takes.
pub(super) fn varint_len(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize
}

/// A signed number folded (0, −1, 1, −2, …), then as [`put`].
pub(super) fn put_signed(bytes: &mut Vec<u8>, value: i64) {
    put(bytes, ((value << 1) ^ (value >> 63)) as u64);
}

/// CRC-64/XZ: finds every change within 64 neighbouring bits, and all but one in 2⁶⁴ of the others.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ byte)])
}

static CRC_TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xC96C_5795_D787_0F42 } else { 0 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};
