//! Credits: how many attempts may run.
//!
//! A worker has one pool of `concurrency` credits; its shards borrow from the pool in chunks and give back what they do
//! not need, so that the sum over all shards never exceeds it. Within a shard each partition keeps a reserve of its own
//! as soon as it can get one, so that partitions whose handlers hang do not take the credits of the others; what is beyond
//! the reserves goes to whoever asks first.
//!
//! Owns the first half of **I6**: attempts that run stay under the budget, and each partition gets its share. (The second
//! half, records and bytes that wait, is in `engine`.)

/// The share of `concurrency` that is reserved, a quarter: enough that no partition starves, little enough that one
/// partition with all the work reaches three quarters of the concurrency beside any number of idle ones.
const RESERVED_DIVISOR: usize = 4;

/// The credits that each of `partitions` partitions keeps for itself. Zero where there are too few to go round.
pub fn reserve(concurrency: usize, partitions: usize) -> usize {
    concurrency / RESERVED_DIVISOR / partitions.max(1)
}

/// The credits of one partition.
#[derive(Debug, Default)]
pub struct Share {
    /// Credits kept by the partition, used or not.
    reserved: usize,
    /// Credits beyond the reserve, all in use.
    borrowed: usize,
    in_use: usize,
}

/// The credits of one shard that no partition has.
#[derive(Debug, Default)]
pub struct Credits {
    free: usize,
    reserve: usize,
}

impl Credits {
    /// Adds credits from the worker's pool.
    pub fn grant(&mut self, n: usize) {
        self.free += n;
    }

    /// Takes what no partition needs, to give it back to the pool.
    pub fn surrender(&mut self) -> usize {
        std::mem::take(&mut self.free)
    }

    /// Credits that no partition has.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Sets what each partition keeps for itself; [`reserve`] says how much that should be.
    pub fn set_reserve(&mut self, reserve: usize) {
        self.reserve = reserve;
    }

    /// Credits that the partition would like to have as its reserve.
    pub fn missing_reserve(&self, share: &Share) -> usize {
        self.reserve.saturating_sub(share.reserved)
    }

    /// Fills the partition's reserve from free credits.
    pub fn fill_reserve(&mut self, share: &mut Share) {
        let n = self.missing_reserve(share).min(self.free);
        self.free -= n;
        share.reserved += n;
    }

    /// Whether one more attempt of the partition may run.
    pub fn may_start(&self, share: &Share) -> bool {
        share.in_use < share.reserved + share.borrowed || self.free > 0
    }

    /// One more attempt of the partition runs. Only after [`may_start`](Self::may_start) said so.
    pub fn start(&mut self, share: &mut Share) {
        if share.in_use == share.reserved + share.borrowed {
            debug_assert!(self.free > 0, "started without a credit");
            self.free = self.free.saturating_sub(1);
            if share.reserved < self.reserve {
                share.reserved += 1;
            } else {
                share.borrowed += 1;
            }
        }
        share.in_use += 1;
    }

    /// One attempt of the partition ended.
    pub fn end(&mut self, share: &mut Share) {
        share.in_use = share.in_use.saturating_sub(1);
        if share.borrowed > 0 {
            share.borrowed -= 1;
            if share.reserved < self.reserve {
                share.reserved += 1;
            } else {
                self.free += 1;
            }
        } else if share.reserved > self.reserve {
            share.reserved -= 1;
            self.free += 1;
        }
    }

    /// Gives back the part of the reserve that is above the target and not in use.
    pub fn trim_reserve(&mut self, share: &mut Share) {
        let idle = (share.reserved + share.borrowed).saturating_sub(share.in_use);
        let n = share.reserved.saturating_sub(self.reserve).min(idle);
        share.reserved -= n;
        self.free += n;
    }

    /// The partition leaves. Credits of attempts that still run stay out until [`end_ghost`](Self::end_ghost).
    pub fn leave(&mut self, share: Share) {
        self.free += (share.reserved + share.borrowed).saturating_sub(share.in_use);
    }

    /// An attempt ended whose partition has left.
    pub fn end_ghost(&mut self) {
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(c: &Credits, shares: &[Share]) -> usize {
        c.free + shares.iter().map(|s| s.reserved + s.borrowed).sum::<usize>()
    }

    #[test]
    fn a_reserve_is_a_quarter_of_the_concurrency_shared_out() {
        assert_eq!((reserve(1000, 8), reserve(1, 24), reserve(100, 0)), (31, 0, 25));
    }

    #[test]
    fn hung_partitions_leave_each_other_partition_its_reserve() {
        let mut c = Credits::default();
        let mut shares = [Share::default(), Share::default(), Share::default()];
        c.set_reserve(reserve(24, 3));
        c.grant(24);
        shares.iter_mut().for_each(|s| c.fill_reserve(s));
        for hog in &mut shares[..2] {
            while c.may_start(hog) {
                c.start(hog);
            }
        }
        assert_eq!((shares[0].in_use, shares[1].in_use), (20, 2));
        assert!(c.may_start(&shares[2]), "the third still has its two");
        c.start(&mut shares[2]);
        c.start(&mut shares[2]);
        assert!(!c.may_start(&shares[2]));
        assert_eq!(total(&c, &shares), 24);
    }

    #[test]
    fn credits_are_neither_made_nor_lost() {
        let mut c = Credits::default();
        let mut shares = [Share::default(), Share::default()];
        c.set_reserve(4);
        c.grant(10);
        for step in 0..200usize {
            let s = &mut shares[step % 2];
            if step % 7 < 4 && c.may_start(s) {
                c.start(s);
            } else if s.in_use > 0 {
                c.end(s);
            }
            if step == 90 {
                c.set_reserve(1);
                shares.iter_mut().for_each(|s| c.trim_reserve(s));
            }
            assert_eq!(total(&c, &shares), 10, "step {step}");
            assert!(shares.iter().all(|s| s.in_use <= s.reserved + s.borrowed));
        }
        let [a, b] = shares;
        let ghosts = a.in_use + b.in_use;
        c.leave(a);
        c.leave(b);
        (0..ghosts).for_each(|_| c.end_ghost());
        assert_eq!(c.surrender(), 10);
    }
}
