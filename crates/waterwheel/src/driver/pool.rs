//! The worker's pool of credits, from which its shards borrow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// The attempts that may run at once in a worker and that no shard has taken.
pub(crate) struct Pool {
    state: Mutex<State>,
    shards: usize,
    /// The shard that waits, [`NOBODY`] or [`SEVERAL`]; read without the lock, once a turn.
    who_waits: AtomicUsize,
}

/// No shard's number.
const NOBODY: usize = usize::MAX;
/// Nor this.
const SEVERAL: usize = usize::MAX - 1;

struct State {
    /// All that there are, with the shards or here.
    credits: usize,
    free: usize,
    /// Those that the shards have to give back because there are fewer now.
    owed: usize,
    /// Shards that want credits, by their number, in the order in which they asked.
    waiting: VecDeque<(usize, Waker)>,
}

impl Pool {
    /// `concurrency` credits for `shards` shards.
    pub(crate) fn new(concurrency: usize, shards: usize) -> Self {
        let state = State { credits: concurrency, free: concurrency, owed: 0, waiting: VecDeque::new() };
        Self { state: Mutex::new(state), shards: shards.max(1), who_waits: AtomicUsize::new(NOBODY) }
    }

    /// Takes up to `wanted` credits, a chunk at most. Where there are none, or only as many as shards that asked before,
    /// the shard is woken at its turn: one that always has work cannot keep the credits from another one.
    pub(crate) fn take(&self, shard: usize, wanted: usize, waker: &Waker) -> usize {
        if wanted == 0 && self.who_waits.load(Ordering::Relaxed) == NOBODY {
            return 0;
        }
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let place = state.waiting.iter().position(|(s, _)| *s == shard);
        let before = place.unwrap_or(state.waiting.len());
        // A quarter of an even share at a time: few locks, and what is lent out to a shard that needs little stays small.
        let chunk = (state.credits / self.shards / 4).max(1);
        let n = wanted.min(chunk).min(state.free.saturating_sub(before));
        state.free -= n;
        match place {
            Some(place) if n > 0 || wanted == 0 => drop(state.waiting.remove(place)),
            Some(place) => state.waiting[place].1.clone_from(waker),
            None if n == 0 && wanted > 0 => state.waiting.push_back((shard, waker.clone())),
            None => {}
        }
        self.wake_next(state);
        n
    }

    /// Gives credits back.
    pub(crate) fn give(&self, credits: usize) {
        if credits == 0 {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.add(credits);
        self.wake_next(&mut state);
    }

    /// Makes them more, or fewer: those that are lent out then come back as attempts end.
    pub(crate) fn resize(&self, credits: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.credits, credits);
        if credits >= before {
            state.add(credits - before);
        } else {
            let fewer = before - credits;
            let at_once = fewer.min(state.free);
            state.free -= at_once;
            state.owed += fewer - at_once;
        }
        self.wake_next(&mut state);
    }

    /// Wakes those whose turn it is. They stay in the queue until they have come to take.
    fn wake_next(&self, state: &mut State) {
        let who = match (state.waiting.len(), state.waiting.front()) {
            _ if state.owed > 0 => SEVERAL,
            (1, Some((shard, _))) => *shard,
            (0, _) => NOBODY,
            _ => SEVERAL,
        };
        self.who_waits.store(who, Ordering::Relaxed);
        state.waiting.iter().take(state.free).for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Whether another shard waits for credits, or there are to be fewer.
    pub(crate) fn is_wanted_by_others(&self, shard: usize) -> bool {
        ![NOBODY, shard].contains(&self.who_waits.load(Ordering::Relaxed))
    }
}

impl State {
    fn add(&mut self, credits: usize) {
        let paid = credits.min(self.owed);
        self.owed -= paid;
        self.free += credits - paid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_credit_goes_round_among_the_shards() {
        let pool = Pool::new(1, 2);
        assert_eq!(pool.take(0, 9, Waker::noop()), 1);
        assert_eq!(pool.take(1, 9, Waker::noop()), 0);
        assert!(pool.is_wanted_by_others(0) && !pool.is_wanted_by_others(1));
        pool.give(1);
        assert_eq!(pool.take(0, 9, Waker::noop()), 0, "the other one asked first");
        assert_eq!(pool.take(1, 9, Waker::noop()), 1);
        pool.give(1);
        assert_eq!(pool.take(1, 9, Waker::noop()), 0, "and now it is the first one's turn");
        assert_eq!(pool.take(0, 9, Waker::noop()), 1);
    }

    /// A shard that waits in front, and lives on what its own attempts give back, must not keep the others behind it.
    #[test]
    fn those_behind_a_shard_that_waits_are_seen_by_it() {
        let pool = Pool::new(1, 2);
        assert_eq!(pool.take(0, 9, Waker::noop()), 1);
        assert_eq!((pool.take(0, 9, Waker::noop()), pool.take(1, 9, Waker::noop())), (0, 0));
        assert!(pool.is_wanted_by_others(0) && pool.is_wanted_by_others(1));
        pool.give(1);
        assert_eq!((pool.take(1, 9, Waker::noop()), pool.take(0, 9, Waker::noop())), (0, 1));
        assert!(pool.is_wanted_by_others(0) && !pool.is_wanted_by_others(1));
    }

    #[test]
    fn who_wants_no_more_makes_room_for_the_next() {
        let pool = Pool::new(1, 3);
        assert_eq!(pool.take(0, 1, Waker::noop()), 1);
        assert_eq!((pool.take(1, 1, Waker::noop()), pool.take(2, 1, Waker::noop())), (0, 0));
        pool.give(1);
        assert_eq!(pool.take(1, 0, Waker::noop()), 0);
        assert_eq!(pool.take(2, 1, Waker::noop()), 1);
        assert!(!pool.is_wanted_by_others(0));
    }

    #[test]
    fn fewer_credits_are_waited_for_and_more_are_there_at_once() {
        let pool = Pool::new(40, 2);
        let taken: usize = (0..8).map(|shard| pool.take(shard % 2, 5, Waker::noop())).sum();
        assert_eq!(taken, 40);
        pool.resize(10);
        assert!(pool.is_wanted_by_others(0) && pool.is_wanted_by_others(1), "both have to give some back");
        pool.give(29);
        assert_eq!(pool.take(0, 5, Waker::noop()), 0, "one is owed yet");
        pool.give(3);
        assert_eq!(pool.take(0, 5, Waker::noop()), 1, "chunks are smaller with few");
        pool.resize(30);
        let taken: usize = (0..20).map(|_| pool.take(0, 30, Waker::noop())).sum();
        assert_eq!(taken, 21);
    }

    #[test]
    fn never_more_than_there_are() {
        let pool = Pool::new(100, 2);
        let taken: usize = (0..50).map(|_| pool.take(0, 100, Waker::noop())).sum();
        assert_eq!(taken, 100);
    }
}
