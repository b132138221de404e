//! Whether everything that was there when reading began has been handled (I10).
//!
//! Decided by position alone: a partition is caught up when all its records below its target are finished, whether the
//! offsets in between hold records, transaction markers, or nothing any more. Once caught up, always caught up.

use std::collections::BTreeMap;

/// What has been handled of each partition, and what of it there was.
#[derive(Clone, Debug)]
pub struct Targets<P> {
    partitions: BTreeMap<P, Target>,
    /// Partitions that have not reached their targets.
    behind: usize,
    captured: bool,
    caught_up: bool,
}

/// One partition's way to its target. Offsets are of the log: between two of them may be no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where reading began.
    pub start: i64,
    /// Everything below is handled.
    pub position: i64,
    /// The partition is caught up at this position.
    pub target: i64,
    reached: bool,
}

impl Target {
    /// Offsets to go; none once the target has been reached.
    pub fn remaining(&self) -> u64 {
        if self.reached { 0 } else { self.target.saturating_sub(self.position).max(0).unsigned_abs() }
    }

    /// Whether the target has been reached, ever.
    pub fn is_reached(&self) -> bool {
        self.reached
    }
}

impl<P> Default for Targets<P> {
    fn default() -> Self {
        Self { partitions: BTreeMap::new(), behind: 0, captured: false, caught_up: false }
    }
}

impl<P: Ord> Targets<P> {
    /// A partition is read from `start`, and its target is `end`. No effect on one that is known already.
    pub fn capture(&mut self, partition: P, start: i64, end: i64) {
        self.partitions.entry(partition).or_insert_with(|| {
            let reached = start >= end;
            self.behind += usize::from(!reached);
            Target { start, position: start, target: end, reached }
        });
    }

    /// The partitions that there are have all been captured. Those captured later count as well, if they come in time.
    pub fn all_captured(&mut self) {
        self.captured = true;
    }

    /// Everything of a partition below `position` is handled; it may lie below an earlier one, if the log was cut off.
    pub fn handled(&mut self, partition: &P, position: i64) {
        self.change(partition, |target| target.position = position);
    }

    /// The partition's log ends here now. A target beyond it would never be reached: the log was cut off or made again.
    pub fn ends(&mut self, partition: &P, end: i64) {
        self.change(partition, |target| {
            if !target.reached {
                target.target = target.target.min(end);
            }
        });
    }

    fn change(&mut self, partition: &P, change: impl FnOnce(&mut Target)) {
        let Some(target) = self.partitions.get_mut(partition) else { return };
        change(target);
        if !target.reached && target.position >= target.target {
            target.reached = true;
            self.behind -= 1;
        }
    }

    /// Whether this is the moment in which everything is caught up: true once.
    pub fn fires(&mut self) -> bool {
        let fires = self.captured && self.behind == 0 && !self.caught_up;
        self.caught_up |= fires;
        fires
    }

    /// Whether everything is caught up, or has been.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// A partition's way, if it is known.
    pub fn get(&self, partition: &P) -> Option<&Target> {
        self.partitions.get(partition)
    }

    /// All partitions known so far.
    pub fn iter(&self) -> impl Iterator<Item = (&P, &Target)> {
        self.partitions.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_to_read_is_caught_up_as_soon_as_that_is_known() {
        let mut targets = Targets::default();
        assert!(!targets.fires(), "nobody has looked yet");
        targets.capture(0, 7, 7);
        targets.capture(1, 0, 0);
        assert!(!targets.fires(), "there may be more");
        targets.all_captured();
        assert!(targets.fires());
        assert!(!targets.fires() && targets.is_caught_up());
    }

    #[test]
    fn a_topic_without_partitions_is_caught_up() {
        let mut targets = Targets::<i32>::default();
        targets.all_captured();
        assert!(targets.fires());
    }

    #[test]
    fn a_position_counts_and_not_the_record_before_the_target() {
        let mut targets = Targets::default();
        targets.capture(0, 0, 10);
        targets.all_captured();
        targets.handled(&0, 9);
        assert!(!targets.fires());
        targets.handled(&0, 14);
        assert!(targets.fires(), "past the target without ever being at it");
    }

    #[test]
    fn what_is_added_in_time_counts_and_what_comes_later_does_not() {
        let mut targets = Targets::default();
        targets.capture(0, 0, 10);
        targets.all_captured();
        targets.capture(1, 0, 1);
        targets.handled(&0, 10);
        assert!(!targets.fires(), "partition 1 was there before");
        targets.handled(&1, 1);
        assert!(targets.fires());
        targets.capture(2, 0, 100);
        assert!(!targets.fires() && targets.is_caught_up());
    }

    #[test]
    fn a_log_that_was_cut_off_is_caught_up_at_its_new_end() {
        let mut targets = Targets::default();
        targets.capture(0, 0, 100);
        targets.all_captured();
        targets.handled(&0, 50);
        targets.ends(&0, 40);
        assert!(targets.fires(), "everything that is left has been handled");
        let mut made_again = Targets::default();
        made_again.capture(0, 0, 100);
        made_again.all_captured();
        made_again.handled(&0, 60);
        made_again.handled(&0, 0);
        made_again.ends(&0, 70);
        assert!(!made_again.fires());
        made_again.handled(&0, 70);
        assert!(made_again.fires());
        made_again.ends(&0, 10);
        assert_eq!(made_again.iter().next().unwrap().1.target, 70, "the past does not change");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Capture(u8, i64, i64),
        All,
        Handled(u8, i64),
        Ends(u8, i64),
    }

    proptest! {
        /// It fires once, and not before every partition known by then has been at or past a target of its own.
        #[test]
        fn it_fires_once_and_never_early(steps in prop::collection::vec(prop_oneof![
            (0u8..4, 0i64..20, 0i64..20).prop_map(|(p, start, end)| Step::Capture(p, start, end)),
            Just(Step::All),
            (0u8..4, 0i64..25).prop_map(|(p, position)| Step::Handled(p, position)),
            (0u8..4, 0i64..25).prop_map(|(p, end)| Step::Ends(p, end)),
        ], 0..60)) {
            let mut targets = Targets::default();
            // By partition: the lowest end seen while it was behind, and whether a position has been there.
            let mut model: BTreeMap<u8, (i64, i64, bool)> = BTreeMap::new();
            let (mut all, mut fired) = (false, 0);
            for step in steps {
                match step {
                    Step::Capture(p, start, end) => {
                        targets.capture(p, start, end);
                        model.entry(p).or_insert((start, end, start >= end));
                    }
                    Step::All => {
                        targets.all_captured();
                        all = true;
                    }
                    Step::Handled(p, position) => {
                        targets.handled(&p, position);
                        if let Some((at, end, reached)) = model.get_mut(&p) {
                            (*at, *reached) = (position, *reached || position >= *end);
                        }
                    }
                    Step::Ends(p, now) => {
                        targets.ends(&p, now);
                        if let Some((at, end, reached)) = model.get_mut(&p) {
                            *end = (*end).min(now);
                            *reached |= *at >= *end;
                        }
                    }
                }
                let fires = targets.fires();
                fired += usize::from(fires);
                let complete = all && model.values().all(|(_, _, reached)| *reached);
                prop_assert_eq!(fires, complete && fired == 1 && fires);
                prop_assert!(!complete || fired > 0, "everything is caught up and nobody was told");
                prop_assert!(fired <= 1);
            }
        }
    }
}
