//! A stream of bytes cut at a delimiter, held in as much memory as the longest record that can be sent.

use std::io::{self, Read};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// Cuts what a reader gives. What stands behind the last delimiter is a record, unless nothing does.
pub(super) struct Frames<R> {
    reader: R,
    delimiter: Vec<u8>,
    /// Bytes of a record at most; of a longer one nothing is kept.
    most: usize,
    buffer: Vec<u8>,
    /// Where the next record begins in the buffer, and up to where no delimiter begins behind that.
    begin: usize,
    searched: usize,
    /// Bytes of the next record that were thrown away.
    dropped: u64,
    read: u64,
    ended: bool,
}

/// What stood before a delimiter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Record(&'a [u8]),
    /// So many bytes, too many.
    TooLong(u64),
}

impl<R: Read> Frames<R> {
    /// The delimiter has at least one byte.
    pub(super) fn new(reader: R, delimiter: &[u8], most: usize) -> Self {
        Self {
            reader,
            delimiter: delimiter.to_vec(),
            most,
            buffer: Vec::new(),
            begin: 0,
            searched: 0,
            dropped: 0,
            read: 0,
            ended: false,
        }
    }

    /// The next record, if all of it was read.
    pub(super) fn take(&mut self) -> Option<Frame<'_>> {
        let (begin, end) = match self.find() {
            Some(end) => {
                let begin = std::mem::replace(&mut self.begin, end + self.delimiter.len());
                self.searched = self.begin;
                (begin, end)
            }
            None if self.ended && (self.begin < self.buffer.len() || self.dropped > 0) => {
                let end = self.buffer.len();
                self.searched = end;
                (std::mem::replace(&mut self.begin, end), end)
            }
            None => {
                self.searched = self.searched.max((self.buffer.len() + 1).saturating_sub(self.delimiter.len()));
                return None;
            }
        };
        let length = std::mem::take(&mut self.dropped) + (end - begin) as u64;
        if length > self.most as u64 {
            return Some(Frame::TooLong(length));
        }
        Some(Frame::Record(&self.buffer[begin..end]))
    }

    /// Reads on, which may wait; whether there is more to be had by [`take`](Self::take).
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.buffer.len() - self.begin > self.most + self.delimiter.len() {
            self.dropped += (self.searched - self.begin) as u64;
            self.begin = self.searched;
        }
        self.buffer.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        let from = self.buffer.len();
        self.buffer.resize(from + CHUNK, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[from..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(from + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.read += read as u64;
        self.ended = read == 0;
        Ok(true)
    }

    /// Bytes up to the end of what was taken.
    pub(super) fn position(&self) -> u64 {
        self.read - (self.buffer.len() - self.begin) as u64
    }

    /// Where the first delimiter begins.
    fn find(&self) -> Option<usize> {
        let (first, rest) = self.delimiter.split_first()?;
        let mut from = self.searched;
        loop {
            let at = from + self.buffer[from..].iter().position(|byte| byte == first)?;
            if self.buffer[at + 1..].starts_with(rest) {
                return Some(at);
            }
            from = at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    /// Texts of records, and lengths of those that are too long.
    fn cut(bytes: &[u8], delimiter: &str, most: usize, at_a_time: usize) -> Vec<Result<String, u64>> {
        let mut frames = Frames::new(Slow(bytes, at_a_time), delimiter.as_bytes(), most);
        let mut records = Vec::new();
        loop {
            while let Some(frame) = frames.take() {
                records.push(match frame {
                    Frame::Record(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
                    Frame::TooLong(length) => Err(length),
                });
            }
            let held = frames.buffer.capacity();
            assert!(held <= 2 * (most + CHUNK) + 16, "{held} bytes held");
            if !frames.fill().expect("a slice can be read") {
                assert_eq!(frames.position(), bytes.len() as u64);
                return records;
            }
        }
    }

    #[test]
    fn records_are_what_stands_between_delimiters_and_behind_the_last() {
        let table: [(&str, &str, &[&str]); 7] = [
            ("", "\n", &[]),
            ("\n", "\n", &[""]),
            ("a\nb\n", "\n", &["a", "b"]),
            ("a\n\nb", "\n", &["a", "", "b"]),
            ("a\r\nb\r\n", "\n", &["a\r", "b\r"]),
            ("a\r\nb\rc\r\n", "\r\n", &["a", "b\rc"]),
            ("a--b---c", "--", &["a", "b", "-c"]),
        ];
        for (text, delimiter, expected) in table {
            let expected: Vec<_> = expected.iter().map(|text| Ok((*text).to_owned())).collect();
            for at_a_time in [1, 2, 3, 100] {
                assert_eq!(cut(text.as_bytes(), delimiter, 10, at_a_time), expected, "{text:?} {at_a_time}");
            }
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_counted_and_not_kept() {
        let text = format!("short\n{}\nthen\n{}", "x".repeat(1 << 20), "y".repeat(11));
        let expected = [Ok("short".to_owned()), Err(1 << 20), Ok("then".to_owned()), Err(11)];
        for at_a_time in [1 << 10, 1 << 16] {
            assert_eq!(cut(text.as_bytes(), "\n", 10, at_a_time), expected);
        }
    }

    proptest! {
        /// However the bytes come, they are cut alike, and nothing is lost.
        #[test]
        fn what_is_cut_is_what_was_there(text in "[ab-]{0,60}", delimiter in "-|--|-a|--a", at_a_time in 1..9usize) {
            let whole: Vec<String> = cut(text.as_bytes(), &delimiter, 100, 100).into_iter().map(Result::unwrap).collect();
            let pieces: Vec<String> = cut(text.as_bytes(), &delimiter, 100, at_a_time).into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(&whole, &pieces);
            let mut expected: Vec<&str> = text.split(&delimiter).collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            prop_assert_eq!(whole, expected);
        }
    }
}
