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

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BitWriter<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        write(&mut writer);
        writer.end();
        bytes
    }

    #[test]
    fn runs_of_any_length_are_read_as_they_were_written() {
        for count in [1, 7, 8, 63, 64, 65, 127, 128, 129, 1_000] {
            let bytes = written(|bits| {
                bits.put_many(true, 3);
                bits.put_many(false, count);
                bits.put_many(true, count);
                bits.put_many(false, 1);
            });
            let count = count as usize;
            let at = |at| BitReader { bytes: &bytes, at };
            assert_eq!((at(0).next_zero(), at(3).next_one(), at(3 + count).next_zero()), (3, 3 + count, 3 + 2 * count));
            assert_eq!(bytes.len(), (4 + 2 * count).div_ceil(8));
        }
    }

    #[test]
    fn codes_are_read_as_they_were_written() {
        let mut values: Vec<u64> = (0..64).flat_map(|bit| [1 << bit, (1 << bit) + 1]).collect();
        values.extend([3, 77, 12_345]);
        values.push(u64::MAX);
        let gammas = written(|bits| values.iter().for_each(|value| bits.put_gamma(*value)));
        let mut reader = BitReader { bytes: &gammas, at: 0 };
        for value in &values {
            assert_eq!(reader.gamma(), Ok(value - 1));
        }
        for low in [0, 1, 5, 20, 33, 62] {
            // With fewer low bits, the zeros before these would be many.
            let values: Vec<u64> = values.iter().copied().filter(|value| (value - 1) >> low < 5_000).collect();
            let rices = written(|bits| values.iter().for_each(|value| bits.put_rice(*value, low)));
            let mut reader = BitReader { bytes: &rices, at: 0 };
            for value in &values {
                assert_eq!(reader.rice(low), Ok(value - 1), "{low} low bits");
            }
        }
    }

    #[test]
    fn codes_that_end_too_soon_or_are_too_large_are_refused() {
        let gamma_of_64_zeros = written(|bits| bits.put_unary(64));
        let reader = |bytes| BitReader { bytes, at: 0 };
        let long = [&gamma_of_64_zeros[..], &[0xFF; 16]].concat();
        assert_eq!(reader(&long).gamma(), Err(MapRefusal::Malformed));
        assert_eq!(reader(&[0, 0]).gamma(), Err(MapRefusal::Malformed), "no one");
        assert_eq!(reader(&[0b1000]).gamma(), Ok((1 << 3) - 1));
        assert_eq!(reader(&[0b1000_0000]).gamma(), Err(MapRefusal::Malformed), "its low bits are not there");
        assert_eq!(reader(&[0b1100]).rice(62), Err(MapRefusal::Malformed));
        let two_zeros_of_four = [&[0b1_0000][..], &[0; 16]].concat();
        assert_eq!(reader(&two_zeros_of_four).rice(62), Err(MapRefusal::Malformed), "beyond 64 bits");
        assert_eq!(reader(&[&[0b1000][..], &[0; 16]].concat()).rice(62), Ok(3 << 62));
    }
}
