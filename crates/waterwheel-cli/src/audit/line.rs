//! One line of a journal or a produced list, written and read.

use std::io::{BufRead, Write as _};

use super::AuditError;

/// A line of a journal; the module `audit` tells what each means and when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the words of the module's table")]
pub enum Line<'a> {
    /// A handler starts.
    Start { partition: i32, offset: i64, key: &'a [u8] },
    /// A handler ended.
    End { partition: i32, offset: i64, key: &'a [u8] },
    /// The attempt whose end comes next did not succeed.
    Failed { partition: i32, offset: i64 },
    /// A handler was dropped unfinished.
    Cut { partition: i32, offset: i64 },
    /// A record needs no more work although no handler succeeded.
    Finished { partition: i32, offset: i64, how: Finish },
    /// A partition is the member's from now on.
    Assigned { partition: i32, epoch: u64, start: i64, ns: u64 },
    /// The member is about to give a partition back.
    Revoked { partition: i32, epoch: u64, ns: u64 },
    /// The member learned that a partition was no longer its own.
    Lost { partition: i32, epoch: u64, ns: u64 },
    /// A commit is about to be sent.
    Commit { partition: i32, offset: i64, ns: u64 },
    /// Anything else after a `#`.
    Remark,
}

/// How a record finished without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The dead-letter topic acknowledged it.
    DeadLetter,
    /// It was skipped by policy.
    Skip,
}

impl<'a> Line<'a> {
    /// Reads a line without its line feed, or tells what is wrong with it.
    pub fn parse(line: &'a [u8]) -> Result<Self, &'static str> {
        let mut words = Words(line);
        match words.next() {
            Some(b"S") => Ok(Line::Start { partition: words.number()?, offset: words.number()?, key: words.rest() }),
            Some(b"E") => Ok(Line::End { partition: words.number()?, offset: words.number()?, key: words.rest() }),
            Some(b"#") => Self::parse_comment(words),
            _ => Err("not a line of a journal"),
        }
    }

    fn parse_comment(mut words: Words<'a>) -> Result<Self, &'static str> {
        let line = match words.next() {
            Some(b"failed") => Line::Failed { partition: words.number()?, offset: words.number()? },
            Some(b"cut") => Line::Cut { partition: words.number()?, offset: words.number()? },
            Some(b"finished") => {
                let (partition, offset) = (words.number()?, words.number()?);
                let how = match words.next() {
                    Some(b"dead-letter") => Finish::DeadLetter,
                    Some(b"skip") => Finish::Skip,
                    _ => return Err("a finished record is dead-letter or skip"),
                };
                Line::Finished { partition, offset, how }
            }
            Some(b"assigned") => Line::Assigned {
                partition: words.number()?,
                epoch: words.number()?,
                start: words.number()?,
                ns: words.number()?,
            },
            Some(b"revoked") => {
                Line::Revoked { partition: words.number()?, epoch: words.number()?, ns: words.number()? }
            }
            Some(b"lost") => Line::Lost { partition: words.number()?, epoch: words.number()?, ns: words.number()? },
            Some(b"commit") => {
                Line::Commit { partition: words.number()?, offset: words.number()?, ns: words.number()? }
            }
            _ => return Ok(Line::Remark),
        };
        if words.0.is_empty() { Ok(line) } else { Err("more words than the line should have") }
    }

    /// Appends the line with its line feed, to be written with one `write(2)`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = match *self {
            Line::Start { partition, offset, key } => return encode_keyed(out, b'S', partition, offset, key),
            Line::End { partition, offset, key } => return encode_keyed(out, b'E', partition, offset, key),
            Line::Failed { partition, offset } => writeln!(out, "# failed {partition} {offset}"),
            Line::Cut { partition, offset } => writeln!(out, "# cut {partition} {offset}"),
            Line::Finished { partition, offset, how: Finish::DeadLetter } => {
                writeln!(out, "# finished {partition} {offset} dead-letter")
            }
            Line::Finished { partition, offset, how: Finish::Skip } => {
                writeln!(out, "# finished {partition} {offset} skip")
            }
            Line::Assigned { partition, epoch, start, ns } => {
                writeln!(out, "# assigned {partition} {epoch} {start} {ns}")
            }
            Line::Revoked { partition, epoch, ns } => writeln!(out, "# revoked {partition} {epoch} {ns}"),
            Line::Lost { partition, epoch, ns } => writeln!(out, "# lost {partition} {epoch} {ns}"),
            Line::Commit { partition, offset, ns } => writeln!(out, "# commit {partition} {offset} {ns}"),
            Line::Remark => writeln!(out, "#"),
        };
    }
}

fn encode_keyed(out: &mut Vec<u8>, letter: u8, partition: i32, offset: i64, key: &[u8]) {
    out.push(letter);
    let _ = write!(out, " {partition} {offset} ");
    for (n, part) in key.split(|byte| *byte == b'\n').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// The words of a line, parted by single spaces.
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().position(|byte| *byte == b' ') {
            Some(at) => {
                let word = &self.0[..at];
                self.0 = &self.0[at + 1..];
                Some(word)
            }
            None => Some(self.rest()),
        }
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn number<N: std::str::FromStr>(&mut self) -> Result<N, &'static str> {
        let word = self.next().ok_or("a number is missing")?;
        std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).ok_or("a word is not a number in its range")
    }
}

/// Gives every whole line of `input` to `each`; returns the number of torn lines, 0 or 1.
pub(super) fn each_line(
    mut input: impl BufRead,
    file: &str,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), &'static str>,
) -> Result<u64, AuditError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        read.map_err(|cause| AuditError::Read { file: file.to_owned(), cause })?;
        match line.split_last() {
            None => return Ok(0),
            Some((b'\n', line)) => {
                each(number, line).map_err(|fault| AuditError::Line { file: file.to_owned(), line: number, fault })?;
            }
            Some(_) => return Ok(1),
        }
    }
    Ok(0)
}
