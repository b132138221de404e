//! Brings together when each record should have been sent and when its end was seen, in whichever order the two come.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use super::schedule::Schedule;

/// The longest latency told apart, in microseconds; longer ones count as this.
const LONGEST: u64 = 3_600_000_000;
/// Offsets above a partition's first one in which records of ours may lie beyond their own number: others may write, too.
const STRANGERS: u64 = 1_000_000;

/// What is known of an offset.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Unknown,
    /// Its record's number; its end was not seen yet.
    Sent(u64),
    /// When its end was seen; not known yet which record it is.
    Seen(Duration),
    /// Both are known.
    Done,
}

/// A partition, from a record on that was written before the consumer began.
#[derive(Debug)]
struct Lane {
    /// The first record's offset; its end shows that the partition is being read.
    probe: i64,
    is_read: bool,
    /// The first slot's offset; below, all is known.
    base: i64,
    slots: VecDeque<Slot>,
}

/// All partitions, and the latencies so far.
pub(super) struct Pairs {
    lanes: Vec<Lane>,
    schedule: Schedule,
    /// When the first record was due; times count from the same moment as those of the ends.
    begun: Duration,
    histogram: Histogram<u64>,
    /// Records whose end was seen, warm-up included.
    paired: u64,
    /// Ends of offsets that can be none of ours.
    strays: u64,
}

impl Pairs {
    /// `probes`: each partition's offset from which on it is looked at.
    pub(super) fn new(schedule: Schedule, probes: &[i64]) -> Result<Self, CreationError> {
        let lane = |&probe: &i64| Lane { probe, is_read: false, base: probe + 1, slots: VecDeque::new() };
        Ok(Self {
            lanes: probes.iter().map(lane).collect(),
            schedule,
            begun: Duration::ZERO,
            histogram: Histogram::new_with_max(LONGEST, 3)?,
            paired: 0,
            strays: 0,
        })
    }

    /// The first record is due at that time.
    pub(super) fn begin(&mut self, at: Duration) {
        self.begun = at;
    }

    /// Partitions whose first record was not seen yet.
    pub(super) fn unread(&self) -> usize {
        self.lanes.iter().filter(|lane| !lane.is_read).count()
    }

    /// The brokers wrote that record there.
    pub(super) fn sent(&mut self, partition: i32, offset: i64, record: u64) {
        let Some(slot) = self.slot(partition, offset) else {
            self.strays += 1;
            return;
        };
        match *slot {
            Slot::Seen(at) => {
                *slot = Slot::Done;
                self.pair(record, at);
            }
            _ => *slot = Slot::Sent(record),
        }
        self.forget(partition);
    }

    /// A handler ended; its line was read at that time.
    pub(super) fn seen(&mut self, partition: i32, offset: i64, at: Duration) {
        let lane = usize::try_from(partition).ok().and_then(|index| self.lanes.get_mut(index));
        if let Some(lane) = lane
            && offset < lane.base
        {
            // The first one, one that came before it, or one more time.
            lane.is_read |= offset == lane.probe;
            return;
        }
        let Some(slot) = self.slot(partition, offset) else {
            self.strays += 1;
            return;
        };
        match *slot {
            Slot::Sent(record) => {
                *slot = Slot::Done;
                self.pair(record, at);
            }
            Slot::Unknown => *slot = Slot::Seen(at),
            Slot::Seen(_) | Slot::Done => {}
        }
        self.forget(partition);
    }

    fn slot(&mut self, partition: i32, offset: i64) -> Option<&mut Slot> {
        let most = self.schedule.total + STRANGERS;
        let lane = self.lanes.get_mut(usize::try_from(partition).ok()?)?;
        let from_probe = u64::try_from(offset.checked_sub(lane.probe)?).ok()?;
        let index = usize::try_from(offset.checked_sub(lane.base)?).ok()?;
        if from_probe > most {
            return None;
        }
        if lane.slots.len() <= index {
            lane.slots.resize(index + 1, Slot::Unknown);
        }
        lane.slots.get_mut(index)
    }

    fn pair(&mut self, record: u64, seen: Duration) {
        self.paired += 1;
        if self.schedule.counts(record) {
            let due = self.begun + self.schedule.due(record);
            let micros = u64::try_from(seen.saturating_sub(due).as_micros()).unwrap_or(LONGEST);
            self.histogram.saturating_record(micros);
        }
    }

    /// Lets go of what is known at a partition's beginning.
    fn forget(&mut self, partition: i32) {
        let Some(lane) = usize::try_from(partition).ok().and_then(|index| self.lanes.get_mut(index)) else { return };
        while let Some(Slot::Done) = lane.slots.front() {
            lane.slots.pop_front();
            lane.base += 1;
        }
    }

    pub(super) fn paired(&self) -> u64 {
        self.paired
    }

    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    /// Latencies in microseconds.
    pub(super) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The first record that the brokers have and whose end was not seen, by partition: partition and offset.
    pub(super) fn first_unseen(&self) -> Option<(usize, i64)> {
        self.lanes.iter().enumerate().find_map(|(partition, lane)| {
            let index = lane.slots.iter().position(|slot| matches!(slot, Slot::Sent(_)))?;
            Some((partition, lane.base + index as i64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten records a second, the first one of them not counted; partitions that are looked at from 5 and from 0 on.
    fn pairs() -> Pairs {
        let schedule = Schedule::new(10, Duration::from_millis(100), Duration::from_millis(300));
        let mut pairs = Pairs::new(schedule, &[5, 0]).unwrap();
        pairs.begin(ms(1_000));
        pairs
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_latency_is_from_when_its_record_was_due() {
        let mut pairs = pairs();
        // Whichever comes first, and in any order of offsets.
        pairs.sent(0, 7, 1);
        pairs.seen(0, 7, ms(1_105));
        pairs.seen(0, 6, ms(1_209));
        pairs.sent(0, 6, 2);
        // The first one is not counted.
        pairs.sent(1, 1, 0);
        pairs.seen(1, 1, ms(1_500));
        assert_eq!((pairs.paired(), pairs.histogram().len(), pairs.strays()), (3, 2, 0));
        assert_eq!((pairs.histogram().min() / 10, pairs.histogram().max() / 10), (500, 900));
        assert_eq!(pairs.lanes.iter().map(|lane| (lane.base, lane.slots.len())).collect::<Vec<_>>(), [(8, 0), (2, 0)]);
    }

    #[test]
    fn an_end_counts_once() {
        let mut pairs = pairs();
        pairs.sent(0, 7, 1);
        for at in [1_110, 1_120] {
            pairs.seen(0, 7, ms(at));
        }
        pairs.seen(0, 6, ms(1_300));
        pairs.seen(0, 6, ms(1_400));
        pairs.sent(0, 6, 2);
        pairs.seen(0, 6, ms(1_500));
        pairs.seen(0, 7, ms(1_500));
        assert_eq!((pairs.paired(), pairs.histogram().max() / 1_000), (2, 100));
    }

    #[test]
    fn what_was_there_before_and_what_cannot_be_is_left_out() {
        let mut pairs = pairs();
        assert_eq!(pairs.unread(), 2);
        for (partition, offset) in [(0, 2), (0, 5), (1, -4), (0, i64::MIN)] {
            pairs.seen(partition, offset, ms(1));
        }
        assert_eq!((pairs.unread(), pairs.strays()), (1, 0));
        for (partition, offset) in [(2, 0), (-1, 0), (0, i64::MAX), (1, 2_000_000)] {
            pairs.seen(partition, offset, ms(1));
        }
        pairs.sent(9, 0, 0);
        assert_eq!((pairs.strays(), pairs.paired(), pairs.first_unseen()), (5, 0, None));
        pairs.seen(1, 0, ms(1));
        assert_eq!(pairs.unread(), 0);
        pairs.sent(1, 3, 2);
        assert_eq!(pairs.first_unseen(), Some((1, 3)));
    }
}
