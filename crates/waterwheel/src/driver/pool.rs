//! The worker's pool of credits, from which its shards borrow.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// The attempts that may run at once in a worker and that no shard has taken.
pub(crate) struct Pool {
    state: Mutex<State>,
    chunk: usize,
}

struct State {
    free: usize,
    /// Shards that want credits, by their number.
    waiting: Vec<(usize, Waker)>,
}

impl Pool {
    /// `concurrency` credits for `shards` shards.
    pub(crate) fn new(concurrency: usize, shards: usize) -> Self {
        // A quarter of an even share at a time: few locks, and what is lent out to a shard that needs little stays small.
        let chunk = (concurrency / shards.max(1) / 4).max(1);
        Self { state: Mutex::new(State { free: concurrency, waiting: Vec::new() }), chunk }
    }

    /// Takes up to `wanted` credits, a chunk at most. With none left, the shard is woken when there are some.
    pub(crate) fn take(&self, shard: usize, wanted: usize, waker: &Waker) -> usize {
        if wanted == 0 {
            return 0;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let n = wanted.min(self.chunk).min(state.free);
        state.free -= n;
        match state.waiting.iter_mut().find(|(s, _)| *s == shard) {
            _ if n > 0 => state.waiting.retain(|(s, _)| *s != shard),
            Some((_, known)) => known.clone_from(waker),
            None => state.waiting.push((shard, waker.clone())),
        }
        n
    }

    /// Gives credits back.
    pub(crate) fn give(&self, credits: usize) {
        if credits == 0 {
            return;
        }
        let woken = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.free += credits;
            std::mem::take(&mut state.waiting)
        };
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Whether a shard waits for credits.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.is_empty()
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
        assert!(pool.is_wanted());
        pool.give(1);
        assert!(!pool.is_wanted());
        assert_eq!(pool.take(1, 9, Waker::noop()), 1);
    }

    #[test]
    fn never_more_than_there_are() {
        let pool = Pool::new(100, 2);
        let taken: usize = (0..50).map(|_| pool.take(0, 100, Waker::noop())).sum();
        assert_eq!(taken, 100);
    }
}
