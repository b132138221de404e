//! Finished offsets as bytes: four codings, of which the smallest is taken.
//!
//! All of them tell runs: a gap of unfinished offsets, then a length of finished ones, both at least 1. So whatever the
//! bytes are, what is read ascends, lies above the base, and neither overlaps nor touches.

use std::iter::Peekable;
use std::ops::Range;

use super::MapRefusal;
use super::bits::{BitReader, BitWriter};
use super::head::{Bytes, put};

/// How runs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// A bit an offset: for windows with as much finished as not, in no pattern.
    Bitmap,
    /// Pairs of varints: for few, long runs.
    Varints,
    /// Pairs of Rice codes, fitted to the mean gap and length: for many runs of like size.
    Rice,
    /// Pairs of Elias gamma codes: for many runs of very unlike sizes.
    Gamma,
}

impl Coding {
    const ALL: [Coding; 4] = [Coding::Bitmap, Coding::Varints, Coding::Rice, Coding::Gamma];

    pub(super) fn tag(self) -> u8 {
        match self {
            Coding::Bitmap => 1,
            Coding::Varints => 2,
            Coding::Rice => 3,
            Coding::Gamma => 4,
        }
    }

    pub(super) fn of(tag: u8) -> Option<Self> {
        Coding::ALL.into_iter().find(|coding| coding.tag() == tag)
    }
}

/// A gap of unfinished offsets, then finished ones from `start` to below `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    gap: u64,
    start: i64,
    end: i64,
}

impl Run {
    fn len(&self) -> u64 {
        self.end.wrapping_sub(self.start) as u64
    }
}

/// Ranges as runs above a base. What is empty, out of order or not above the base is left out, what touches is joined.
struct Runs<I: Iterator<Item = Range<i64>>> {
    ranges: Peekable<I>,
    /// Not finished; the next gap begins here.
    at: i64,
}

impl<I: Iterator<Item = Range<i64>>> Iterator for Runs<I> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            let Range { start, mut end } = self.ranges.next()?;
            while let Some(touching) = self.ranges.next_if(|next| next.start <= end && start < end) {
                end = end.max(touching.end);
            }
            let start = start.max(self.at.saturating_add(1));
            if start < end {
                let gap = start.wrapping_sub(self.at) as u64;
                self.at = end;
                return Some(Run { gap, start, end });
            }
        }
    }
}

/// The runs of `ranges` above `base`, and one more at most than can fit `budget` bytes.
pub(super) fn runs(ranges: impl Iterator<Item = Range<i64>>, base: i64, budget: usize) -> Vec<Run> {
    // No coding has less than two bits for a run.
    Runs { ranges: ranges.peekable(), at: base }.take(budget.saturating_mul(4).saturating_add(1)).collect()
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// `None` when there is nothing to write, or no room for any of it.
    pub(super) coding: Option<Coding>,
    runs: usize,
    rice: Rice,
    /// One past the last finished offset that is written.
    pub(super) reach: i64,
    /// Whether that is all of them.
    pub(super) whole: bool,
}

/// The coding that reaches farthest within `budget` bytes; of those that reach as far, the smallest.
pub(super) fn plan(runs: &[Run], budget: usize) -> Plan {
    let low = runs.first().map_or(i64::MIN, |run| run.start);
    let rice = Rice::fitted(runs);
    let [first, others @ ..] = Coding::ALL.map(|coding| {
        let mut gauge = Gauge { coding, rice, bits: 0, runs: 0, reach: low, full: false };
        runs.iter().take_while(|run| gauge.take(**run, budget as u64)).for_each(drop);
        gauge
    });
    let best = others.into_iter().fold(first, |best, gauge| {
        let better = gauge.reach > best.reach || gauge.reach == best.reach && gauge.bytes() < best.bytes();
        if better { gauge } else { best }
    });
    let coding = (best.runs > 0).then_some(best.coding);
    Plan { coding, runs: best.runs, rice, reach: best.reach, whole: !best.full }
}

/// The size of the runs so far in one coding, as far as they fit.
#[derive(Clone, Copy, Debug)]
struct Gauge {
    coding: Coding,
    rice: Rice,
    bits: u64,
    runs: usize,
    /// One past the last offset taken; where the first run starts, before there is one.
    reach: i64,
    full: bool,
}

impl Gauge {
    fn bytes(&self) -> u64 {
        let count = match self.coding {
            Coding::Bitmap | Coding::Varints => 0,
            Coding::Rice => 2 + varint_len(self.runs as u64),
            Coding::Gamma => varint_len(self.runs as u64),
        };
        self.bits.div_ceil(8).saturating_add(count)
    }

    /// Takes the run in if it fits `budget` bytes, of a bitmap's last run as much as fits; whether there may be room.
    fn take(&mut self, mut run: Run, budget: u64) -> bool {
        let bits = match self.coding {
            Coding::Bitmap => {
                let gap = if self.runs == 0 { 8 * varint_len(run.gap - 1) } else { run.gap };
                let room = budget.saturating_mul(8).saturating_sub(self.bits).saturating_sub(gap);
                if run.len() > room {
                    self.full = true;
                    run.end = run.start.saturating_add_unsigned(room);
                }
                if run.start == run.end {
                    return false;
                }
                gap + run.len()
            }
            Coding::Varints => 8 * (varint_len(run.gap - 1) + varint_len(run.len() - 1)),
            Coding::Rice => rice_len(run.gap, self.rice.gap).saturating_add(rice_len(run.len(), self.rice.len)),
            Coding::Gamma => u64::from(2 * run.gap.ilog2() + 1 + 2 * run.len().ilog2() + 1),
        };
        let taken = Gauge { bits: self.bits.saturating_add(bits), runs: self.runs + 1, reach: run.end, ..*self };
        if taken.bytes() > budget {
            self.full = true;
        } else {
            *self = taken;
        }
        !self.full
    }
}

/// The bits of gap and length that are written as they are; what is above them in unary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rice {
    gap: u32,
    len: u32,
}

impl Rice {
    /// The parameters for the mean gap and length.
    fn fitted(runs: &[Run]) -> Self {
        let (count, mut gaps, mut lens) = (runs.len() as u128, 0u128, 0u128);
        for run in runs {
            gaps += u128::from(run.gap - 1);
            lens += u128::from(run.len() - 1);
        }
        // ln 2 × mean: what the bits written as they are should hold, if sizes spread as chance has it.
        let fitted = |sum: u128| ((sum * 693 / 1000 + count) / count.max(1)).max(1).ilog2().min(63);
        Self { gap: fitted(gaps), len: fitted(lens) }
    }
}

fn rice_len(value: u64, low: u32) -> u64 {
    ((value - 1) >> low).saturating_add(1 + u64::from(low))
}

fn varint_len(value: u64) -> u64 {
    u64::from((value | 1).ilog2() / 7 + 1)
}

/// Appends what `plan` has chosen of the runs that it was made for.
pub(super) fn write(plan: Plan, runs: &[Run], out: &mut Vec<u8>) {
    let runs = &runs[..plan.runs];
    match plan.coding {
        None => {}
        Some(Coding::Bitmap) => write_bitmap(runs, plan.reach, out),
        Some(Coding::Varints) => {
            for run in runs {
                put(out, run.gap - 1);
                put(out, run.len() - 1);
            }
        }
        Some(Coding::Rice) => {
            let rice = plan.rice;
            out.extend([rice.gap as u8, rice.len as u8]);
            put(out, runs.len() as u64);
            let mut bits = BitWriter::new(out);
            for run in runs {
                bits.put_rice(run.gap, rice.gap);
                bits.put_rice(run.len(), rice.len);
            }
            bits.end();
        }
        Some(Coding::Gamma) => {
            put(out, runs.len() as u64);
            let mut bits = BitWriter::new(out);
            for run in runs {
                bits.put_gamma(run.gap);
                bits.put_gamma(run.len());
            }
            bits.end();
        }
    }
}

/// The last run may end beyond `reach`.
fn write_bitmap(runs: &[Run], reach: i64, out: &mut Vec<u8>) {
    let Some(first) = runs.first() else { return };
    put(out, first.gap - 1);
    let mut bits = BitWriter::new(out);
    for (n, run) in runs.iter().enumerate() {
        if n > 0 {
            bits.put_many(false, run.gap);
        }
        bits.put_many(true, Run { end: run.end.min(reach), ..*run }.len());
    }
    bits.end();
}

/// The finished offsets of coded bytes, read as they are asked for; the first error ends them.
#[derive(Clone, Debug)]
pub(super) struct Spans<'a> {
    coding: Coding,
    bits: BitReader<'a>,
    rice: Rice,
    /// Runs still to come, where their number is written.
    left: u64,
    /// The end of the last run, or the base. In a bitmap, where its first bit is.
    at: i64,
    failed: bool,
}

impl<'a> Spans<'a> {
    pub(super) fn new(coding: Coding, bytes: &'a [u8], base: i64) -> Self {
        let mut bytes = Bytes(bytes);
        let mut spans =
            Self { coding, bits: BitReader::default(), rice: Rice::default(), left: 0, at: base, failed: false };
        spans.failed = spans.begin(&mut bytes).is_err();
        spans.bits.bytes = bytes.rest();
        spans
    }

    /// What stands before the runs.
    fn begin(&mut self, bytes: &mut Bytes<'_>) -> Result<(), MapRefusal> {
        match self.coding {
            Coding::Bitmap => self.at = above(self.at, bytes.varint()?)?,
            Coding::Varints => {}
            Coding::Rice => {
                self.rice = Rice { gap: u32::from(bytes.byte()?), len: u32::from(bytes.byte()?) };
                if self.rice.gap.max(self.rice.len) > 63 {
                    return Err(MapRefusal::Malformed);
                }
                self.left = bytes.varint()?;
            }
            Coding::Gamma => self.left = bytes.varint()?,
        }
        Ok(())
    }

    /// Reads all: whether every run makes sense, and nothing but padding follows.
    pub(super) fn check(mut self) -> Result<(), MapRefusal> {
        for span in &mut self {
            span?;
        }
        let rest = self.bits.len() - self.bits.at;
        let padded = rest < 8 && self.bits.next_one() == self.bits.len();
        if self.failed || !padded { Err(MapRefusal::Malformed) } else { Ok(()) }
    }

    fn read(&mut self) -> Result<Option<Range<i64>>, MapRefusal> {
        let (gap, len) = match self.coding {
            Coding::Bitmap => return self.read_bitmap(),
            Coding::Varints => {
                let mut bytes = Bytes(&self.bits.bytes[self.bits.at / 8..]);
                if bytes.rest().is_empty() {
                    return Ok(None);
                }
                let pair = (bytes.varint()?, bytes.varint()?);
                self.bits.at = self.bits.len() - 8 * bytes.rest().len();
                pair
            }
            Coding::Rice | Coding::Gamma if self.left == 0 => return Ok(None),
            Coding::Rice => (self.bits.rice(self.rice.gap)?, self.bits.rice(self.rice.len)?),
            Coding::Gamma => (self.bits.gamma()?, self.bits.gamma()?),
        };
        self.left = self.left.saturating_sub(1);
        let start = above(self.at, gap)?;
        self.at = above(start, len)?;
        Ok(Some(start..self.at))
    }

    fn read_bitmap(&mut self) -> Result<Option<Range<i64>>, MapRefusal> {
        let start = self.bits.next_one();
        if start == self.bits.len() {
            return Ok(None);
        }
        self.bits.at = start;
        let end = self.bits.next_zero();
        self.bits.at = end;
        let place = |bit: usize| self.at.checked_add_unsigned(bit as u64).ok_or(MapRefusal::Malformed);
        Ok(Some(place(start)?..place(end)?))
    }
}

/// The offset that a gap or a length, written less one, ends at.
fn above(at: i64, less_one: u64) -> Result<i64, MapRefusal> {
    at.checked_add_unsigned(less_one).and_then(|at| at.checked_add(1)).ok_or(MapRefusal::Malformed)
}

impl Iterator for Spans<'_> {
    type Item = Result<Range<i64>, MapRefusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}
