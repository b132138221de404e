//! The answers of records that were sent together, and the futures that wait for them.
//!
//! A [`Lot`] has the answers of up to some thousand records: a record costs a place in it instead of a channel of its own,
//! and a task that waits for many is woken once for all that are told at once.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::outcome::{Delivered, SendFailure};
use super::record::ProducerRecord;
use super::room::Room;
use super::watch::Watch;
use crate::client::{Answers, Unsent, Written};

/// What becomes of a record given to [`Producer::enqueue`](crate::Producer::enqueue). Dropping it does not take the record
/// back: it is written or not, and nobody is told.
///
/// Two words; its answer lies with those of the records enqueued about the same time (24 bytes each, up to some thousand of
/// them), which are kept as long as one of their futures is.
#[must_use = "it tells whether the record was written"]
pub struct DeliveryFuture {
    lot: Arc<Lot>,
    place: u32,
}

impl Future for DeliveryFuture {
    type Output = Result<Delivered, SendFailure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.lot.poll(self.place, cx)
    }
}

impl fmt::Debug for DeliveryFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeliveryFuture")
    }
}

/// The answers of records that were sent together.
pub(super) struct Lot {
    /// What they took room of; `None`: none.
    room: Option<Arc<Room>>,
    watch: Arc<Watch>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    fates: Vec<Fate>,
    /// Copies for those who watch, by place; none where nobody did when the record came.
    watched: Vec<Option<ProducerRecord>>,
}

/// What became of a record. 24 bytes.
enum Fate {
    /// Nothing yet; how many bytes of room it has.
    Open(u32),
    /// The same, and a task waits for it.
    Awaited(Waker, u32),
    /// Partition, offset and time; less than 0 where they are not known.
    Written(i32, i64, i64),
    Failed(SendFailure),
}
const _: () = assert!(size_of::<Fate>() == 24);

impl Lot {
    pub(super) fn new(room: Option<Arc<Room>>, watch: Arc<Watch>) -> Self {
        Self { room, watch, places: Mutex::default() }
    }

    /// A place for the answer of one more record, of which a copy is kept if it is watched.
    pub(super) fn add(self: &Arc<Self>, bytes: usize, watched: Option<ProducerRecord>) -> DeliveryFuture {
        let mut places = self.places();
        let place = places.fates.len();
        places.fates.push(Fate::Open(u32::try_from(bytes).unwrap_or(u32::MAX)));
        if watched.is_some() {
            places.watched.resize(place, None);
            places.watched.push(watched);
        }
        DeliveryFuture { lot: self.clone(), place: place as u32 }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, place: u32, cx: &mut Context<'_>) -> Poll<Result<Delivered, SendFailure>> {
        let mut places = self.places();
        let fate = &mut places.fates[place as usize];
        match fate {
            Fate::Open(bytes) => *fate = Fate::Awaited(cx.waker().clone(), *bytes),
            Fate::Awaited(waker, _) => waker.clone_from(cx.waker()),
            Fate::Written(partition, offset, timestamp) => {
                let known = |number: i64| (number >= 0).then_some(number);
                let (offset, timestamp_millis) = (known(*offset), known(*timestamp));
                return Poll::Ready(Ok(Delivered { partition: *partition, offset, timestamp_millis }));
            }
            Fate::Failed(failure) => return Poll::Ready(Err(failure.clone())),
        }
        Poll::Pending
    }

    /// Tells those who watch, with nothing locked: they may do what they like.
    fn tell_watchers(&self, written: &[(u32, Written)], failed: &[(u32, SendFailure)]) {
        let take = |place: u32| self.places().watched.get_mut(place as usize).and_then(Option::take);
        for (place, at) in written {
            if let Some(record) = take(*place) {
                self.watch.written(record, Delivered::from(*at));
            }
        }
        for (place, failure) in failed {
            if take(*place).is_some() {
                self.watch.failed(failure);
            }
        }
    }
}

impl Answers for Lot {
    fn told(&self, written: &[(u32, Written)], failed: Vec<(u32, Unsent)>) {
        let failed: Vec<_> = failed.into_iter().map(|(place, unsent)| (place, SendFailure::from(unsent))).collect();
        if !self.places().watched.is_empty() {
            self.tell_watchers(written, &failed);
        }
        let number = |known: Option<i64>| known.unwrap_or(-1);
        let written = written
            .iter()
            .map(|(place, at)| (*place, Fate::Written(at.partition, number(at.offset), number(at.timestamp))));
        let failed = failed.into_iter().map(|(place, failure)| (place, Fate::Failed(failure)));
        let mut wakers: Vec<Waker> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let mut places = self.places();
        for (place, told) in written.chain(failed) {
            let fate = &mut places.fates[place as usize];
            let (waker, size) = match fate {
                Fate::Open(size) => (None, *size),
                Fate::Awaited(waker, size) => (Some(std::mem::replace(waker, Waker::noop().clone())), *size),
                Fate::Written(..) | Fate::Failed(_) => continue,
            };
            *fate = told;
            (records, bytes) = (records + 1, bytes + size as usize);
            // Of a task that waits for several, one is enough.
            wakers.extend(waker.filter(|waker| wakers.last().is_none_or(|last| !last.will_wake(waker))));
        }
        drop(places);
        if let Some(room) = &self.room {
            room.free(records, bytes);
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(offset: i64) -> Written {
        Written { partition: 3, offset: Some(offset), timestamp: None }
    }

    #[test]
    fn a_task_that_waits_for_many_is_woken_once_for_what_is_told_at_once() {
        let lot = Arc::new(Lot::new(None, Arc::default()));
        let mut futures: Vec<_> = (0..100).map(|_| lot.add(1, None)).collect();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(futures.iter_mut().all(|future| Pin::new(future).poll(&mut cx).is_pending()));
        let told: Vec<_> = (0..50).map(|place| (place, at(i64::from(place)))).collect();
        lot.told(&told, Vec::new());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        for (place, future) in futures.iter_mut().enumerate() {
            match Pin::new(future).poll(&mut cx) {
                Poll::Ready(sent) => assert_eq!(sent.unwrap().offset, Some(place as i64)),
                Poll::Pending => assert!(place >= 50),
            }
        }
    }

    #[test]
    fn a_place_is_told_once_and_its_room_freed_once() {
        let room = Arc::new(Room::new(1, 10));
        room.take(5).unwrap();
        let lot = Arc::new(Lot::new(Some(room.clone()), Arc::default()));
        let mut future = lot.add(5, None);
        lot.told(&[(0, at(7))], Vec::new());
        lot.told(&[(0, at(8))], Vec::new());
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(Delivered { partition: 3, offset: Some(7), timestamp_millis: None }))));
        room.take(10).unwrap();
        assert!(room.take(0).is_err());
    }

    #[test]
    fn a_future_is_two_words() {
        assert_eq!(size_of::<DeliveryFuture>(), 16);
    }
}
