//! One entry of a table, as one allocation: partition, offset and the key's length, each in as many bytes as it needs, then
//! the key, then the value.

use std::fmt;

use crate::record::Record;

/// A key with its last value.
#[derive(Clone)]
pub struct TableEntry(Box<[u8]>);

impl TableEntry {
    /// `None` for a null value; a null key counts as an empty one.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let (key, value) = (record.key().unwrap_or_default(), record.value()?);
        let numbers = [record.partition().unsigned_abs().into(), record.offset().unsigned_abs(), key.len() as u64];
        let room = numbers.iter().map(|n| width(*n)).sum::<usize>() + key.len() + value.len();
        let mut bytes = Vec::with_capacity(room);
        numbers.into_iter().for_each(|n| push(&mut bytes, n));
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Some(Self(bytes.into_boxed_slice()))
    }

    fn parts(&self) -> (u64, u64, &[u8], &[u8]) {
        let mut rest = &self.0[..];
        let (partition, offset, key_len) = (take(&mut rest), take(&mut rest), take(&mut rest));
        let (key, value) = rest.split_at_checked(key_len as usize).unwrap_or((rest, &[]));
        (partition, offset, key, value)
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.parts().2
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.parts().3
    }

    /// The partition of the record that set it.
    pub fn partition(&self) -> i32 {
        self.parts().0 as i32
    }

    /// The offset of the record that set it.
    pub fn offset(&self) -> i64 {
        self.parts().1 as i64
    }
}

/// Bytes that a number takes: seven bits in each.
fn width(n: u64) -> usize {
    (64 - n.leading_zeros() as usize).div_ceil(7).max(1)
}

fn push(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn take(bytes: &mut &[u8]) -> u64 {
    let (mut n, mut shift) = (0, 0);
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            break;
        }
    }
    n
}

/// Names the place only.
impl fmt::Debug for TableEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableEntry({}@{})", self.partition(), self.offset())
    }
}
