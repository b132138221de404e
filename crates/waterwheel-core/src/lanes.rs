//! Lanes: the order of records within a partition.
//!
//! A lane is what runs one record at a time. With [`Order::Key`] every key is a lane of its own (known by a 64-bit hash
//! of the key; two keys that collide share one, which costs speed and never order), with [`Order::Partition`] the whole
//! partition is one, with [`Order::None`] there are none. A record without a key belongs to no lane; an empty key is a
//! key. A lane exists only while it has a record in work.
//!
//! Owns **I2**: within one assignment, records of a key run one at a time in offset order, retries included.

mod look;
mod queues;
mod spilled;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::num::NonZeroU64;

pub use look::LaneView;
use queues::Queues;
pub use spilled::Arrival;
use spilled::Spilled;

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
pub struct LaneKey(NonZeroU64);

impl Order {
    /// The lane of a record with this key; `None` where it waits for nobody.
    pub fn lane(self, key: Option<&[u8]>) -> Option<LaneKey> {
        match (self, key) {
            (Order::Key, Some(key)) => {
                let hash = foldhash::quality::FixedState::default().hash_one(key);
                Some(LaneKey(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX)))
            }
            (Order::Partition, _) => Some(LaneKey(NonZeroU64::MIN)),
            (Order::Key, None) | (Order::None, _) => None,
        }
    }
}

/// The hash of a lane's key is the key: it is one already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not reached: a lane's key is one number.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type ByLane<T> = HashMap<LaneKey, T, BuildHasherDefault<AsIs>>;

/// A record that waits for its lane: which batch, which record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The batch's place among those held.
    pub batch: u32,
    /// The record's place in it.
    pub index: u32,
}

/// What follows the record that runs. Eight bytes, because every key with a record in work has one.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// The last record of its queue, if there is one.
    last: u32,
    /// [`QUEUED`] for each record of its queue, [`SPILLED`], [`BUSY`].
    state: u32,
}

/// The record at the head runs, waits for its retry, or is being settled. Else the lane is in `ready`, or waits for records
/// that are read again.
const BUSY: u32 = 1;
/// Offsets after those of the queue are in `spilled`.
const SPILLED: u32 = 2;
/// It is busy, and its next record may join the one at the head in its batch.
const OPEN: u32 = 4;
const QUEUED: u32 = 8;

impl Lane {
    fn is(self, flag: u32) -> bool {
        self.state & flag != 0
    }

    fn len(self) -> usize {
        (self.state / QUEUED) as usize
    }

    /// Whether the first of its queue may start.
    fn is_ready(self) -> bool {
        self.len() > 0 && (!self.is(BUSY) || self.is(OPEN))
    }

    /// Appends a record to its queue.
    fn push(&mut self, queues: &mut Queues, waiting: Waiting) {
        self.last = queues.push((self.len() > 0).then_some(self.last), waiting);
        self.state += QUEUED;
    }
}

/// What was kept of a record that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The record.
    Record,
    /// Its offset.
    Offset,
}

/// The lanes of one partition that have records in work.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: ByLane<Lane>,
    queues: Queues,
    /// Boxed, so that the table is small where many lanes have a few.
    spilled: ByLane<Box<Spilled>>,
    /// How many records hold a lane beside the first: those of a batch, in which a lane has several.
    companions: ByLane<u32>,
    /// The sum of those.
    joined: usize,
    /// Lanes of which the first in the queue may start, in the order they became so.
    ready: VecDeque<LaneKey>,
    /// Entries of `ready` whose lane was closed since.
    stale: usize,
}

impl Lanes {
    /// Whether every lane is free.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether the next record of this lane may start at once: nothing of the lane is in work, or all of it is in the batch
    /// that is being gathered, and fewer than `room` have joined others.
    pub fn is_free(&self, key: LaneKey, room: usize) -> bool {
        self.lanes.get(&key).is_none_or(|lane| lane.state == BUSY | OPEN && self.joined < room)
    }

    /// Records that have joined another one of their lane in a batch: they may come back to the queues all at once.
    pub fn joined(&self) -> usize {
        self.joined
    }

    /// The lane's head begins to run, or its next record joins the head.
    pub fn occupy(&mut self, key: LaneKey) {
        let lane = self.lanes.entry(key).or_default();
        self.joined += hold(lane, key, &mut self.companions);
    }

    // ---- several records of a lane in one batch -----------------------------------------------------------------------

    /// The record that was occupied or taken last waits for its batch to be full: the next one of its lane may join it.
    pub fn open(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is(BUSY) && !lane.is(OPEN)) else { return };
        lane.state |= OPEN;
        if lane.len() > 0 {
            self.ready.push_back(key);
        }
    }

    /// No more records of the lane may join: it is free when all that hold it are done with. Whether it was open.
    pub fn close(&mut self, key: LaneKey) -> bool {
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is(OPEN)) else { return false };
        lane.state &= !OPEN;
        self.stale += usize::from(lane.len() > 0);
        true
    }

    /// Puts records back before all that wait in a lane, which is busy: they did not run, because one before them failed.
    pub fn put_back(&mut self, key: LaneKey, records: &[Waiting]) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        for waiting in records.iter().rev() {
            if lane.len() == 0 {
                lane.push(&mut self.queues, *waiting);
            } else {
                self.queues.push_front(lane.last, *waiting);
                lane.state += QUEUED;
            }
        }
    }

    /// Appends the record at `offset` to a lane that is not free, if no more than `room` wait there, else only its offset.
    pub fn queue(&mut self, key: LaneKey, offset: i64, waiting: Waiting, room: usize) -> Kept {
        let lane = self.lanes.entry(key).or_default();
        if lane.is(SPILLED) || lane.len() >= room {
            lane.state |= SPILLED;
            match self.spilled.entry(key) {
                Entry::Occupied(mut spilled) => spilled.get_mut().push(offset),
                Entry::Vacant(none) => drop(none.insert(Box::new(Spilled::of(offset)))),
            }
            return Kept::Offset;
        }
        lane.push(&mut self.queues, waiting);
        Kept::Record
    }

    /// The lane's head needs no more work: its next record becomes ready, or the lane ends. Where several hold it, with the
    /// last of them.
    pub fn vacate(&mut self, key: LaneKey) {
        if !self.companions.is_empty()
            && let Entry::Occupied(mut others) = self.companions.entry(key)
        {
            self.joined -= 1;
            *others.get_mut() -= 1;
            if *others.get() == 0 {
                others.remove();
            }
            return;
        }
        let Entry::Occupied(mut lane) = self.lanes.entry(key) else { return };
        let open = lane.get().is(OPEN);
        lane.get_mut().state &= !(BUSY | OPEN);
        if lane.get().state == 0 {
            lane.remove();
        } else if lane.get().len() > 0 && !open {
            self.ready.push_back(key);
        }
    }

    /// The lane whose turn it is.
    pub fn peek_ready(&mut self) -> Option<LaneKey> {
        while self.stale > 0 {
            let key = self.ready.front()?;
            if self.lanes.get(key).is_some_and(|lane| lane.is_ready()) {
                break;
            }
            self.ready.pop_front();
            self.stale -= 1;
        }
        self.ready.front().copied()
    }

    /// The first record in the queue of a lane that is open.
    pub fn first_of_open(&self, key: LaneKey) -> Option<Waiting> {
        let lane = self.lanes.get(&key).filter(|lane| lane.is(OPEN) && lane.len() > 0)?;
        Some(self.queues.first(lane.last))
    }

    /// Takes the record whose turn it is; its lane is busy from now on.
    pub fn take_ready(&mut self) -> Option<(LaneKey, Waiting)> {
        self.peek_ready()?;
        let key = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&key).filter(|lane| lane.len() > 0)?;
        self.joined += hold(lane, key, &mut self.companions);
        lane.state -= QUEUED;
        Some((key, self.queues.pop(lane.last)))
    }

    // ---- records that are kept as offsets ---------------------------------------------------------------------------

    /// The offsets of a lane to read again now that its queue runs low, if some are kept: at most half of `room`, but at
    /// least one where nothing else would come.
    pub fn ask(&mut self, key: LaneKey, room: usize) -> Vec<i64> {
        if self.spilled.is_empty() {
            return Vec::new();
        }
        let queued = self.lanes.get(&key).map_or(0, |lane| lane.len());
        // One of which a batch holds several is asked about again when they are done with.
        let runs_dry = queued == 0 && !self.companions.contains_key(&key);
        let most = (room / 2).max(usize::from(runs_dry));
        match self.spilled.get_mut(&key) {
            Some(spilled) if queued <= most / 4 => spilled.ask(most),
            _ => Vec::new(),
        }
    }

    /// A record was read again. The lane becomes ready if it waited for that.
    pub fn arrive(&mut self, key: LaneKey, offset: i64, waiting: Waiting) -> Arrival {
        let (Some(lane), Some(spilled)) = (self.lanes.get_mut(&key), self.spilled.get_mut(&key)) else {
            return Arrival::Unasked;
        };
        let arrival = spilled.arrive(offset);
        if arrival == Arrival::Queued {
            if spilled.is_empty() {
                self.spilled.remove(&key);
                lane.state &= !SPILLED;
            }
            lane.push(&mut self.queues, waiting);
            if lane.is_ready() && lane.len() == 1 {
                self.ready.push_back(key);
            }
        }
        arrival
    }

    /// Records that were to be read again are no longer there. Shows each that was asked for; returns how many those were,
    /// and their lanes.
    pub fn lose(&mut self, gone: &HashSet<i64>, mut lost: impl FnMut(i64)) -> (usize, Vec<LaneKey>) {
        let (mut count, mut touched) = (0, Vec::new());
        for (key, spilled) in &mut self.spilled {
            let before = count;
            count += spilled.lose(gone, &mut lost);
            if count > before {
                touched.push(*key);
            }
        }
        self.spilled.retain(|_, spilled| !spilled.is_empty());
        for key in &touched {
            let Entry::Occupied(mut lane) = self.lanes.entry(*key) else { continue };
            if !self.spilled.contains_key(key) {
                lane.get_mut().state &= !SPILLED;
            }
            if lane.get().state == 0 {
                lane.remove();
            }
        }
        (count, touched)
    }

    // ---- all that wait ----------------------------------------------------------------------------------------------

    /// Shows each record in a queue.
    pub fn for_each_waiting(&mut self, mut look: impl FnMut(&mut Waiting)) {
        for lane in self.lanes.values().filter(|lane| lane.len() > 0) {
            self.queues.for_each(lane.last, &mut look);
        }
    }

    /// Forgets all that waits. Lanes that are busy stay.
    pub fn clear_waiting(&mut self) {
        self.lanes.retain(|_, lane| {
            lane.state &= BUSY;
            lane.state != 0
        });
        self.queues.clear();
        self.spilled.clear();
        self.ready.clear();
        self.stale = 0;
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }
}

/// One more record holds a lane, which is closed behind it. How many have joined others by that.
fn hold(lane: &mut Lane, key: LaneKey, companions: &mut ByLane<u32>) -> usize {
    let joins = lane.is(OPEN);
    if joins {
        *companions.entry(key).or_default() += 1;
    }
    lane.state = (lane.state | BUSY) & !OPEN;
    usize::from(joins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LaneKey = LaneKey(NonZeroU64::MIN);
    const B: LaneKey = LaneKey(NonZeroU64::MAX);

    fn w(index: u32) -> Waiting {
        Waiting { batch: 0, index }
    }

    /// Queues record `n` at offset `n`.
    fn queue(lanes: &mut Lanes, key: LaneKey, n: u32) {
        assert_eq!(lanes.queue(key, i64::from(n), w(n), usize::MAX), Kept::Record);
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
        queue(&mut lanes, A, 1);
        queue(&mut lanes, A, 2);
        assert_eq!(lanes.take_ready(), None);
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), Some((A, w(1))));
        assert_eq!(lanes.take_ready(), None, "the second waits for the first");
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), Some((A, w(2))));
        lanes.vacate(A);
        assert_eq!(lanes.len(), 0, "an idle key costs nothing");
        assert!(lanes.is_free(A, 9));
    }

    #[test]
    fn what_waits_is_forgotten_and_what_is_busy_stays() {
        let mut lanes = Lanes::default();
        for key in [A, B] {
            lanes.occupy(key);
            queue(&mut lanes, key, 1);
        }
        lanes.vacate(B);
        lanes.clear_waiting();
        assert_eq!((lanes.is_free(A, 9), lanes.is_free(B, 9), lanes.take_ready()), (false, true, None));
        lanes.vacate(A);
        assert!(lanes.is_free(A, 9) && lanes.is_empty());
        assert_eq!(lanes.take_ready(), None, "what waited is gone");
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = Lanes::default();
        for key in [A, B] {
            lanes.occupy(key);
            queue(&mut lanes, key, 1);
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
        assert_eq!(lanes.queue(A, 5, w(5), 0), Kept::Offset);
        assert_eq!(lanes.ask(A, 0), [5], "at least one");
        assert_eq!(lanes.ask(A, 9), [], "once");
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), None);
        assert!(!lanes.is_free(A, 9), "a later record must not overtake offset 5");
        assert_eq!(lanes.queue(A, 6, w(6), 9), Kept::Offset, "nor be queued before it");
        assert_eq!(lanes.arrive(A, 6, w(6)), Arrival::Unasked);
        assert_eq!(lanes.arrive(A, 5, w(5)), Arrival::Queued);
        assert_eq!(lanes.take_ready(), Some((A, w(5))));
    }

    #[test]
    fn an_open_lane_yields_the_next_record_before_the_one_before_is_done() {
        let mut lanes = Lanes::default();
        lanes.occupy(A);
        queue(&mut lanes, A, 1);
        queue(&mut lanes, A, 2);
        queue(&mut lanes, A, 3);
        lanes.open(A);
        assert_eq!(lanes.take_ready(), Some((A, w(1))));
        assert_eq!(lanes.take_ready(), None, "the one that was taken does not wait for its batch yet");
        lanes.open(A);
        assert_eq!(lanes.take_ready(), Some((A, w(2))));
        lanes.open(A);
        assert!(lanes.close(A) && !lanes.close(A));
        assert_eq!(lanes.peek_ready(), None, "closed while its next one was ready");
        lanes.vacate(A);
        lanes.vacate(A);
        assert_eq!((lanes.peek_ready(), lanes.is_free(A, 9)), (None, false), "one of three still runs");
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), Some((A, w(3))));
        lanes.vacate(A);
        assert!(lanes.is_empty() && lanes.companions.is_empty() && lanes.joined() == 0);
    }

    #[test]
    fn an_open_lane_without_a_queue_is_free() {
        let mut lanes = Lanes::default();
        lanes.occupy(A);
        lanes.open(A);
        assert!(lanes.is_free(A, 1) && !lanes.is_free(A, 0));
        lanes.occupy(A);
        assert!(!lanes.is_free(A, 9), "the second is not in the batch yet");
        lanes.open(A);
        queue(&mut lanes, A, 1);
        assert!(!lanes.is_free(A, 9), "a later record must not overtake one that waits");
    }

    #[test]
    fn what_is_put_back_comes_before_all_that_waits_and_in_order() {
        let mut lanes = Lanes::default();
        lanes.occupy(A);
        queue(&mut lanes, A, 4);
        lanes.put_back(A, &[w(2), w(3)]);
        lanes.put_back(A, &[w(1)]);
        for n in 1..5 {
            lanes.vacate(A);
            assert_eq!(lanes.take_ready(), Some((A, w(n))));
        }
        lanes.put_back(A, &[w(5), w(6)]);
        lanes.vacate(A);
        assert_eq!(lanes.take_ready(), Some((A, w(5))));
    }

    #[test]
    fn queues_share_their_memory_and_keep_their_order() {
        let mut lanes = Lanes::default();
        let keys: Vec<LaneKey> = (1..8).map(|n| LaneKey(NonZeroU64::new(n).unwrap())).collect();
        let mut model: Vec<VecDeque<u32>> = vec![VecDeque::new(); keys.len()];
        keys.iter().for_each(|key| lanes.occupy(*key));
        for n in 0..10_000u32 {
            let one = (n.wrapping_mul(0x9E37_79B9) >> 16) as usize % keys.len();
            if n % 5 < 2 || n > 9_000 {
                lanes.vacate(keys[one]);
                let taken = lanes.take_ready();
                assert_eq!(taken, model[one].pop_front().map(|n| (keys[one], w(n))));
                lanes.occupy(keys[one]);
            } else {
                queue(&mut lanes, keys[one], n);
                model[one].push_back(n);
            }
            let (mut seen, left) = (0, model.iter().map(VecDeque::len).sum::<usize>());
            lanes.for_each_waiting(|_| seen += 1);
            assert_eq!(seen, left);
        }
        lanes.clear_waiting();
        assert_eq!(lanes.len(), keys.len(), "busy ones stay");
    }
}
