//! What waits in lanes, for whoever asks. Walks what is there: for questions, not for the path of a record.

use super::{BUSY, LaneKey, Lanes, Waiting};

/// One lane, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// A record of it runs, waits for its retry, or is being settled.
    pub is_busy: bool,
    /// The records of its queue, in order.
    pub queued: Vec<Waiting>,
    /// The offsets behind those, of records that are read again when their turn comes, in order.
    pub kept: Vec<i64>,
}

impl Lanes {
    /// A lane that has records in work.
    pub fn look(&self, key: LaneKey) -> Option<LaneView> {
        let lane = self.lanes.get(&key)?;
        let queued = if lane.len() > 0 { self.queues.iter(lane.last).collect() } else { Vec::new() };
        let kept = self.spilled.get(&key).map_or_else(Vec::new, |spilled| spilled.iter().collect());
        Some(LaneView { is_busy: lane.is(BUSY), queued, kept })
    }

    /// The lane in whose queue a record waits.
    pub fn lane_with(&self, mut is: impl FnMut(Waiting) -> bool) -> Option<LaneKey> {
        let mut waiting = self.lanes.iter().filter(|(_, lane)| lane.len() > 0);
        waiting.find(|(_, lane)| self.queues.iter(lane.last).any(&mut is)).map(|(key, _)| *key)
    }

    /// The lane that keeps only the offset of a record.
    pub fn lane_keeping(&self, offset: i64) -> Option<LaneKey> {
        self.spilled.iter().find(|(_, spilled)| spilled.has(offset)).map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_lane_shows_its_queue_and_the_offsets_behind_it() {
        let key = LaneKey(NonZeroU64::MIN);
        let w = |index| Waiting { batch: 7, index };
        let mut lanes = Lanes::default();
        assert_eq!(lanes.look(key), None);
        lanes.occupy(key);
        for n in 1..5 {
            lanes.queue(key, i64::from(n), w(n), 2);
        }
        let view = LaneView { is_busy: true, queued: vec![w(1), w(2)], kept: vec![3, 4] };
        assert_eq!(lanes.look(key), Some(view));
        assert_eq!((lanes.lane_with(|at| at == w(2)), lanes.lane_with(|at| at == w(3))), (Some(key), None));
        assert_eq!((lanes.lane_keeping(3), lanes.lane_keeping(2)), (Some(key), None));
    }
}
