//! What was asked for once: answers kept, refusals kept for a while, and one request at a time for each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::error::RegistryError;

/// Entries at most. Ids come from records: someone who writes garbage could name any number of them.
const MOST: usize = 10_000;

/// How long a refusal is kept that may pass by itself: long enough that records in work do not each ask again.
const SOON: Duration = Duration::from_millis(500);

/// Answers by what was asked for.
pub(super) struct Cache<K, V> {
    slots: Mutex<HashMap<K, Arc<Slot<V>>>>,
    /// How long an answer is kept; `None`: for good.
    keep: Option<Duration>,
    /// How long it is kept that there is no answer.
    keep_refused: Duration,
}

struct Slot<V> {
    /// Held by whoever asks.
    asking: tokio::sync::Mutex<()>,
    known: RwLock<Option<Known<V>>>,
}

struct Known<V> {
    answer: Result<V, RegistryError>,
    until: Option<Instant>,
}

impl<V: Clone> Slot<V> {
    fn known(&self) -> Option<Result<V, RegistryError>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref()?;
        known.until.is_none_or(|until| Instant::now() < until).then(|| known.answer.clone())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(keep: Option<Duration>, keep_refused: Duration) -> Self {
        Self { slots: Mutex::new(HashMap::new()), keep, keep_refused }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Arc<Slot<V>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known by now.
    pub(super) fn known(&self, key: &K) -> Option<Result<V, RegistryError>> {
        let slot = self.slots().get(key).cloned()?;
        slot.known()
    }

    /// What is known, or what `ask` answers. Of callers that come together one asks and the others wait for its answer; if
    /// its future is dropped, the next one asks.
    pub(super) async fn get<F>(&self, key: &K, ask: impl FnOnce() -> F) -> Result<V, RegistryError>
    where
        F: Future<Output = Result<V, RegistryError>>,
    {
        let slot = self.slot(key);
        let _asking = slot.asking.lock().await;
        if let Some(known) = slot.known() {
            return known;
        }
        let answer = ask().await;
        let keep = match &answer {
            Ok(_) => self.keep,
            Err(error) if error.is_retriable() => Some(SOON),
            Err(_) => Some(self.keep_refused),
        };
        // A time beyond the clock's end is for good.
        let until = keep.and_then(|keep| Instant::now().checked_add(keep));
        *slot.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Known { answer: answer.clone(), until });
        answer
    }

    fn slot(&self, key: &K) -> Arc<Slot<V>> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        if slots.len() >= MOST {
            // What is being asked for goes too: its askers hold on to it, and later ones ask anew.
            slots.retain(|_, slot| slot.known().is_some_and(|answer| answer.is_ok()));
            if slots.len() >= MOST {
                slots.clear();
            }
        }
        let slot = Arc::new(Slot { asking: tokio::sync::Mutex::new(()), known: RwLock::new(None) });
        slots.insert(key.clone(), slot.clone());
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::super::error::RegistryErrorKind;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn concurrent_asks_make_one_request() {
        let cache = Cache::new(None, SOON);
        let asked = AtomicUsize::new(0);
        let ask = || async {
            cache
                .get(&7, || async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(SOON).await;
                    Ok("seven")
                })
                .await
        };
        let answers = join_all((0..100).map(|_| ask())).await;
        assert!(answers.iter().all(|answer| *answer == Ok("seven")));
        assert_eq!((asked.load(Ordering::Relaxed), cache.known(&7)), (1, Some(Ok("seven"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_asked_for_again_when_its_time_is_up() {
        let cache: Cache<u32, ()> = Cache::new(None, 10 * SOON);
        let refuse = |kind| async move { Err(RegistryError::new(kind, "no")) };
        assert!(cache.get(&1, || refuse(RegistryErrorKind::NotFound)).await.is_err());
        assert!(cache.get(&2, || refuse(RegistryErrorKind::Unreachable)).await.is_err());
        tokio::time::advance(2 * SOON).await;
        assert!(matches!(cache.known(&1), Some(Err(_))));
        assert!(cache.known(&2).is_none());
        tokio::time::advance(10 * SOON).await;
        assert_eq!(cache.get(&1, || async { Ok(()) }).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_asker_that_is_dropped_leaves_the_question_to_the_next() {
        let cache = Cache::new(None, SOON);
        {
            let first = cache.get(&1, std::future::pending::<Result<u8, _>>);
            let _ = tokio::time::timeout(SOON, first).await;
        }
        assert_eq!(cache.get(&1, || async { Ok(1) }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_unknown_ids_takes_bounded_memory() {
        let cache: Cache<usize, ()> = Cache::new(None, 10 * SOON);
        cache.get(&0, || async { Ok(()) }).await.unwrap();
        for id in 1..2 * MOST {
            let refused = cache.get(&id, || async { Err(RegistryError::new(RegistryErrorKind::NotFound, "no")) });
            assert!(refused.await.is_err());
        }
        assert!(cache.slots().len() <= MOST);
        assert_eq!(cache.known(&0), Some(Ok(())), "what is known stays");
    }
}
