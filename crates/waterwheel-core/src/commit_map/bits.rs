//! Bits in bytes, lowest first: runs of one value, Rice and Elias gamma codes.

use super::MapRefusal;

/// Bits, lowest first, at the end of `out`.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u128,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, count: 0 }
    }

    /// The lowest `count` bits of `value`, which has no others; at most 64.
    fn put(&mut self, value: u64, count: u32) {
        self.held |= u128::from(value) << self.count;
        self.count += count;
        if self.count >= 64 {
            self.out.extend((self.held as u64).to_le_bytes());
            self.held >>= 64;
            self.count -= 64;
        }
    }

    pub(super) fn put_many(&mut self, bit: bool, mut count: u64) {
        let word = if bit { u64::MAX } else { 0 };
        while count > 64 {
            self.put(word, 64);
            count -= 64;
        }
        if count > 0 {
            self.put(word >> (64 - count), count as u32);
        }
    }

    /// `zeros` zeros and a one.
    fn put_unary(&mut self, zeros: u64) {
        self.put_many(false, zeros);
        self.put(1, 1);
    }

    pub(super) fn put_rice(&mut self, value: u64, low: u32) {
        self.put_unary((value - 1) >> low);
        self.put((value - 1) & low_bits(low), low);
    }

    pub(super) fn put_gamma(&mut self, value: u64) {
        let low = value.ilog2();
        self.put_unary(u64::from(low));
        self.put(value & low_bits(low), low);
    }

    /// Fills the last byte up with zeros.
    pub(super) fn end(self) {
        let bytes = (self.held as u64).to_le_bytes();
        self.out.extend(&bytes[..self.count.div_ceil(8) as usize]);
    }
}

/// Bits, lowest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BitReader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl BitReader<'_> {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() * 8
    }

    /// At least 57 bits from `at` on, zeros after the last.
    fn peek(&self, at: usize) -> u64 {
        let from = at / 8;
        let word = match self.bytes.get(from..from + 8).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => self.bytes.iter().skip(from).rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        word >> (at % 8)
    }

    /// Where the next one is; the length if there is none.
    pub(super) fn next_one(&self) -> usize {
        let mut at = self.at;
        while at < self.len() {
            match self.peek(at) {
                0 => at += 56,
                word => return at + word.trailing_zeros() as usize,
            }
        }
        self.len()
    }

    /// Where the next zero is; the length if there is none.
    pub(super) fn next_zero(&self) -> usize {
        let mut at = self.at;
        while at < self.len() {
            let ones = self.peek(at).trailing_ones() as usize;
            if ones < 56 {
                return (at + ones).min(self.len());
            }
            at += 56;
        }
        self.len()
    }

    /// Zeros up to the next one.
    fn unary(&mut self) -> Result<u64, MapRefusal> {
        let one = self.next_one();
        if one == self.len() {
            return Err(MapRefusal::Malformed);
        }
        let zeros = one - self.at;
        self.at = one + 1;
        Ok(zeros as u64)
    }

    /// `count` bits, at most 63.
    fn bits(&mut self, count: u32) -> Result<u64, MapRefusal> {
        let end = self.at + count as usize;
        if end > self.len() {
            return Err(MapRefusal::Malformed);
        }
        let low = count.min(32);
        let bits = self.peek(self.at) & low_bits(low) | (self.peek(self.at + 32) & low_bits(count - low)) << 32;
        self.at = end;
        Ok(bits)
    }

    /// A Rice code, less one.
    pub(super) fn rice(&mut self, low: u32) -> Result<u64, MapRefusal> {
        let high = self.unary()?;
        if high > u64::MAX >> low {
            return Err(MapRefusal::Malformed);
        }
        Ok(high << low | self.bits(low)?)
    }

    /// An Elias gamma code, less one.
    pub(super) fn gamma(&mut self) -> Result<u64, MapRefusal> {
        let low = self.unary()?;
        if low > 63 {
            return Err(MapRefusal::Malformed);
        }
        Ok((1 << low | self.bits(low as u32)?) - 1)
    }
}

/// The lowest `count` bits, at most 63.
fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}
