//! The room of a producer's queue: how many records and bytes may be unanswered, and who waits for some.
//!
//! Whoever waits does so in the order in which they came, and what comes after them waits, too.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

/// The room.
pub(super) struct Room {
    most_records: usize,
    most_bytes: usize,
    records: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    /// Who waits; one at a time watches `freed`.
    waiting: AtomicUsize,
    turn: Mutex<()>,
    freed: Notify,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    Closed,
}

impl Room {
    pub(super) fn new(most_records: usize, most_bytes: usize) -> Self {
        Self {
            most_records,
            most_bytes,
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            turn: Mutex::new(()),
            freed: Notify::new(),
        }
    }

    pub(super) fn most_records(&self) -> usize {
        self.most_records
    }

    /// Takes the room of one record, unless someone waits for it already.
    pub(super) fn take(&self, bytes: usize) -> Result<(), NoRoom> {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return Err(if self.is_closed() { NoRoom::Closed } else { NoRoom::Full });
        }
        let taken = self.take_any(bytes);
        if taken.is_err() {
            // Who came meanwhile may have seen what this took for a moment.
            self.wake();
        }
        taken
    }

    /// Waits for the room of one record, then has `then` use it, before anybody who came later. Dropping the future takes
    /// none.
    pub(super) async fn take_in_turn<T>(&self, bytes: usize, then: impl FnOnce() -> T) -> Result<T, NoRoom> {
        let _counted = Counted::new(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            match self.take_any(bytes) {
                Ok(()) => return Ok(then()),
                Err(NoRoom::Closed) => return Err(NoRoom::Closed),
                Err(NoRoom::Full) => self.freed.notified().await,
            }
        }
    }

    /// Gives back what records took.
    pub(super) fn free(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Nobody takes room from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.freed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn take_any(&self, bytes: usize) -> Result<(), NoRoom> {
        if self.is_closed() {
            return Err(NoRoom::Closed);
        }
        let one_more = |records| (records < self.most_records).then_some(records + 1);
        if self.records.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_err() {
            return Err(NoRoom::Full);
        }
        // A record larger than the whole goes alone.
        let more = |held: usize| {
            let sum = held.saturating_add(bytes);
            (held == 0 || sum <= self.most_bytes).then_some(sum)
        };
        if self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err() {
            self.records.fetch_sub(1, Ordering::SeqCst);
            return Err(NoRoom::Full);
        }
        Ok(())
    }
}

/// One more in a counter, for as long as this lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn room_is_bounded_in_records_and_in_bytes() {
        let room = Room::new(2, 100);
        assert_eq!(room.take(1_000), Ok(()), "alone, whatever its size");
        assert_eq!(room.take(1), Err(NoRoom::Full));
        room.free(1, 1_000);
        assert_eq!((room.take(60), room.take(50), room.take(40)), (Ok(()), Err(NoRoom::Full), Ok(())));
        assert_eq!(room.take(0), Err(NoRoom::Full));
        room.free(1, 60);
        room.close();
        assert_eq!(room.take(1), Err(NoRoom::Closed));
    }

    #[test]
    fn who_waits_first_is_served_first_and_nobody_passes_them() {
        let room = Room::new(1, 100);
        room.take(1).unwrap();
        let mut first = Box::pin(room.take_in_turn(1, || "first"));
        let mut second = Box::pin(room.take_in_turn(1, || "second"));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        room.free(1, 1);
        assert_eq!(room.take(1), Err(NoRoom::Full), "two wait for it");
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(first.as_mut().now_or_never(), Some(Ok("first")));
        room.free(1, 1);
        drop(first);
        assert_eq!(second.as_mut().now_or_never(), Some(Ok("second")));
    }

    #[test]
    fn a_future_that_is_dropped_takes_no_room_and_holds_up_nobody() {
        let room = Room::new(1, 100);
        room.take(1).unwrap();
        let mut dropped = Box::pin(room.take_in_turn(1, || ()));
        let mut other = Box::pin(room.take_in_turn(1, || ()));
        assert!(dropped.as_mut().now_or_never().is_none() && other.as_mut().now_or_never().is_none());
        room.free(1, 1);
        drop(dropped);
        assert_eq!(other.as_mut().now_or_never(), Some(Ok(())));
        drop(other);
        room.free(1, 1);
        assert_eq!(room.take(1), Ok(()));
    }

    #[test]
    fn closing_ends_all_waits() {
        let room = Room::new(1, 100);
        room.take(1).unwrap();
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(room.take_in_turn(1, || ()))).collect();
        for wait in &mut waits {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        room.close();
        for mut wait in waits {
            assert_eq!(wait.as_mut().now_or_never(), Some(Err(NoRoom::Closed)));
        }
    }
}
