//! Lanes: the order of records within a partition.
//!
//! A lane is what runs one record at a time. With [`Order::Key`] every key is a lane of its own (known by a 64-bit hash
//! of the key; two keys that collide share one, which costs speed and never order), with [`Order::Partition`] the whole
//! partition is one, with [`Order::None`] there are none. A record without a key belongs to no lane; an empty key is a
//! key. A lane exists only while it has a record in work.
//!
//! Owns **I2**: within one assignment, records of a key run one at a time in offset order, retries included.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

/// Which records wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// Records of one key, in a partition.
    #[default]
    Key,
    /// All records of a partition.
    Partition,
    /// None.
    None,
}

/// The lane of a record: a key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(pub u64);

impl Order {
    /// The lane of a record with this key; `None` where it waits for nobody.
    pub fn lane(self, key: Option<&[u8]>) -> Option<LaneKey> {
        match (self, key) {
            (Order::Key, Some(key)) => Some(LaneKey(foldhash::quality::FixedState::default().hash_one(key))),
            (Order::Partition, _) => Some(LaneKey(0)),
            (Order::Key, None) | (Order::None, _) => None,
        }
    }
}

/// A record that waits for its lane: which batch, which record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The batch's place among those held.
    pub batch: u32,
    /// The record's place in it.
    pub index: u32,
}

/// What follows the record that runs.
#[derive(Debug, Default)]
pub struct Lane {
    /// Records held in memory, in offset order.
    pub queue: VecDeque<Waiting>,
    /// Offsets after those in `queue`, asked for and on their way.
    pub requested: VecDeque<i64>,
    /// Offsets after those in `requested`, kept without their records.
    pub deferred: VecDeque<i64>,
    /// The record at the head runs, waits for its retry, or is being settled. Else the lane is in `ready`, or waits for
    /// records that are read again.
    pub busy: bool,
}

impl Lane {
    /// Whether nothing of the lane is left.
    fn is_idle(&self) -> bool {
        !self.busy && self.queue.is_empty() && self.requested.is_empty() && self.deferred.is_empty()
    }

    /// Whether some of its records are kept as offsets only.
    pub fn is_spilled(&self) -> bool {
        !self.requested.is_empty() || !self.deferred.is_empty()
    }
}

/// The lanes of one partition that have records in work.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<LaneKey, Lane, foldhash::fast::FixedState>,
    /// Lanes that are not busy and have a record in `queue`, in the order they became so.
    ready: VecDeque<LaneKey>,
}

impl Lanes {
    /// Whether the next record of this lane may start at once: nothing of the lane is in work.
    pub fn is_free(&self, key: LaneKey) -> bool {
        self.lanes.is_empty() || !self.lanes.contains_key(&key)
    }

    /// A lane that has records in work.
    pub fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&key)
    }

    /// All lanes that have records in work, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&LaneKey, &mut Lane)> {
        self.lanes.iter_mut()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Appends a record to a lane that is there.
    pub fn queue(&mut self, key: LaneKey, waiting: Waiting) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.queue.push_back(waiting);
        }
    }

    /// The lane's head begins to run.
    pub fn occupy(&mut self, key: LaneKey) {
        self.lanes.entry(key).or_default().busy = true;
    }

    /// The lane's head needs no more work: its next record becomes ready, or the lane ends.
    pub fn vacate(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.busy = false;
        if lane.is_idle() {
            self.lanes.remove(&key);
        } else if !lane.queue.is_empty() {
            self.ready.push_back(key);
        }
    }

    /// Appends a record that was read again. The lane becomes ready if it waited for that.
    pub fn arrive(&mut self, key: LaneKey, waiting: Waiting) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.queue.push_back(waiting);
        if !lane.busy && lane.queue.len() == 1 {
            self.ready.push_back(key);
        }
    }

    /// Ends the lane if nothing of it is left, after its offsets proved to be gone.
    pub fn prune(&mut self, key: LaneKey) {
        if self.lanes.get(&key).is_some_and(Lane::is_idle) {
            self.lanes.remove(&key);
        }
    }

    /// The lane whose turn it is.
    pub fn peek_ready(&self) -> Option<LaneKey> {
        self.ready.front().copied()
    }

    /// Takes the record whose turn it is; its lane is busy from now on.
    pub fn take_ready(&mut self) -> Option<(LaneKey, Waiting)> {
        let key = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let waiting = lane.queue.pop_front()?;
        lane.busy = true;
        Some((key, waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LaneKey = LaneKey(1);
    const B: LaneKey = LaneKey(2);

    fn w(index: u32) -> Waiting {
        Waiting { batch: 0, index }
    }

    #[test]
    fn a_null_key_has_no_lane_and_an_empty_key_has_one() {
        assert_eq!(Order::Key.lane(None), None);
        assert_eq!(Order::Key.lane(Some(b"")), Order::Key.lane(Some(b"")));
        assert_ne!(Order::Key.lane(Some(b"")), None);
        assert_ne!(Order::Key.lane(Some(b"a")), Order::Key.lane(Some(b"b")));
        assert_eq!(Order::Partition.lane(None), Order::Partition.lane(Some(b"a")));
        assert_eq!(Order::None.lane(Some(b"a")), None);
    }

    #[test]
    fn a_lane_yields_its_next_record_only_when_the_one_before_is_done() {
        let mut lanes = Lanes::default();
        lanes.occupy(A);
        lanes.get_mut(A).unwrap().queue.extend([w(1), w(2)]);
        assert_eq!(lanes.take_ready(), None);
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), Some((A, w(1))));
        assert_eq!(lanes.take_ready(), None, "the second waits for the first");
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), Some((A, w(2))));
        lanes.vacate(A);
        assert_eq!(lanes.len(), 0, "an idle key costs nothing");
        assert!(lanes.is_free(A));
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = Lanes::default();
        for key in [A, B] {
            lanes.occupy(key);
            lanes.get_mut(key).unwrap().queue.push_back(w(key.0 as u32));
        }
        lanes.vacate(B);
        lanes.vacate(A);
        assert_eq!(lanes.take_ready().map(|(k, _)| k), Some(B));
        assert_eq!(lanes.take_ready().map(|(k, _)| k), Some(A));
    }

    #[test]
    fn a_lane_whose_records_are_read_again_keeps_its_place() {
        let mut lanes = Lanes::default();
        lanes.occupy(A);
        lanes.get_mut(A).unwrap().requested.push_back(5);
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), None);
        assert!(!lanes.is_free(A), "a later record must not overtake offset 5");
        lanes.get_mut(A).unwrap().requested.pop_front();
        lanes.arrive(A, w(5));
        assert_eq!(lanes.take_ready(), Some((A, w(5))));
    }
}
