//! The words that the whole core speaks.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::tiers::Carried;

/// A partition's number within one worker: dense, and the same for as long as the worker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// The number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Counts the assignments of a worker; each assignment of a partition has one of its own, never used again.
///
/// A result that carries an epoch which is no longer its partition's changes nothing (invariant I4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// A reading of the driver's clock: time since a start of its own choosing.
///
/// The core never reads a clock; whoever drives it says what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Now {
    /// Half the size of a `Duration`, and good for 584 years.
    nanos: u64,
}

impl Now {
    /// The reading `since` after the clock's start.
    pub fn at(since: Duration) -> Self {
        Self { nanos: nanos(since) }
    }

    /// Time since the clock's start.
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Whole milliseconds since the clock's start.
    pub(crate) fn millis(self) -> i64 {
        (self.nanos / 1_000_000) as i64
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    pub fn since(self, earlier: Now) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Now {
    type Output = Now;

    fn add(self, d: Duration) -> Now {
        Now { nanos: self.nanos.saturating_add(nanos(d)) }
    }
}

impl Sub<Duration> for Now {
    type Output = Now;

    fn sub(self, d: Duration) -> Now {
        Now { nanos: self.nanos.saturating_sub(nanos(d)) }
    }
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since_start())
    }
}

/// Records of one partition and one assignment, in offset order, as the driver holds them.
///
/// The core keeps the handle (a cheap clone) for as long as one of its records is in work, and looks at offsets, keys and
/// sizes only.
pub trait Records: Clone {
    /// How many records.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset of record `index`; they ascend.
    fn offset(&self, index: usize) -> i64;

    /// The key of record `index`; `None` for a null key.
    fn key(&self, index: usize) -> Option<&[u8]>;

    /// The time of record `index` in milliseconds since the Unix epoch; `None` where it has none.
    fn time_ms(&self, index: usize) -> Option<i64>;

    /// What record `index` says in its headers of earlier attempts, elsewhere. Asked in retry tiers only.
    fn carried(&self, _index: usize) -> Carried {
        Carried::default()
    }

    /// The bytes that record `index` accounts for.
    fn size(&self, index: usize) -> usize;

    /// Bytes of memory held until the last handle is dropped.
    fn pinned_bytes(&self) -> usize;

    /// A copy of record `index` alone.
    fn detach(&self, index: usize) -> Self;
}
