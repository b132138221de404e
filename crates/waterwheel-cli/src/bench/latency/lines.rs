//! Whole lines out of what single reads bring, which may end anywhere.

use crate::audit::Line;

/// A line longer than this is none of a journal (a key may be long).
const LONGEST: usize = 1 << 20;

/// The beginning of a line that is not whole yet.
#[derive(Default)]
pub(super) struct Lines {
    part: Vec<u8>,
    /// The line under way is too long: the rest of it is passed over.
    is_too_long: bool,
    /// Lines that are none of a journal.
    pub(super) garbage: u64,
}

impl Lines {
    /// Takes what a read brought; gives partition and offset of each handler that ended.
    pub(super) fn take(&mut self, mut read: &[u8], mut ended: impl FnMut(i32, i64)) {
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            if self.part.is_empty() && !self.is_too_long {
                self.whole(&read[..end], &mut ended);
            } else {
                self.keep(&read[..end]);
                let line = std::mem::take(&mut self.part);
                if !std::mem::take(&mut self.is_too_long) {
                    self.whole(&line, &mut ended);
                }
                self.part = line;
                self.part.clear();
            }
            read = &read[end + 1..];
        }
        self.keep(read);
    }

    fn whole(&mut self, line: &[u8], ended: &mut impl FnMut(i32, i64)) {
        match Line::parse(line) {
            Ok(Line::End { partition, offset, .. }) => ended(partition, offset),
            Ok(_) => {}
            Err(_) => self.garbage += 1,
        }
    }

    fn keep(&mut self, part: &[u8]) {
        if self.is_too_long {
            return;
        }
        if self.part.len() + part.len() > LONGEST {
            self.is_too_long = true;
            self.garbage += 1;
            self.part = Vec::new();
            return;
        }
        self.part.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(lines: &mut Lines, reads: &[&[u8]]) -> Vec<(i32, i64)> {
        let mut ends = Vec::new();
        for read in reads {
            lines.take(read, |partition, offset| ends.push((partition, offset)));
        }
        ends
    }

    #[test]
    fn lines_torn_anywhere_are_put_together() {
        let text = b"S 0 7 k1\nE 0 7 k1\n# commit 0 8 9\nE 12 345 \nE 1 2 a key with spaces\n";
        let expected = [(0, 7), (12, 345), (1, 2)];
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let reads: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(ends(&mut lines, &reads), expected, "reads of {size}");
            assert_eq!((lines.garbage, lines.part.len()), (0, 0));
        }
    }

    #[test]
    fn garbage_is_counted_and_passed_over() {
        let mut lines = Lines::default();
        let text = b"\n\nE\nE 1\nE 1 x k\nE 99999999999 0 k\nE -1 5 k\nX 0 0\n\xff\xfe\0\nE 3 4 k\nE 5 6";
        assert_eq!(ends(&mut lines, &[text]), [(-1, 5), (3, 4)]);
        assert_eq!((lines.garbage, &*lines.part), (8, &b"E 5 6"[..]));
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let mut lines = Lines::default();
        let part = vec![b'E'; LONGEST / 2 + 1];
        assert_eq!(ends(&mut lines, &[&part, &part, &part, b"\nE 1 2 k\n"]), [(1, 2)]);
        assert_eq!((lines.garbage, lines.part.capacity() < LONGEST), (1, true));
    }
}
