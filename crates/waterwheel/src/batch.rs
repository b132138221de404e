//! Batches: many records for one call of a handler, and what became of each.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{self, Map, select_all};

use crate::body::Decode;
use crate::failure::{BoxError, Failure};
use crate::handler::Message;

/// Works on one batch of records after another.
///
/// Implemented for every `Fn(Batch<T>) -> impl Future<Output = R>` where `R` is [`Outcomes`], or `Result<(), E>`: one
/// outcome for all. `E` is a [`Failure`] or any error that converts into a boxed one, which then means: by the worker's
/// policy.
///
/// # What is in a batch
///
/// Records of any of the worker's partitions, in the order of each key (or each partition, by the worker's
/// [`Order`](crate::Order)); several of one key, one behind the other. A key whose records are in a batch waits for its
/// end. A record that cannot be decoded is not shown; it fails when the batch ends.
///
/// # What follows a failure
///
/// Each record that failed is tried again by the worker's policy, with its own attempts, **in a batch of its own**. Of a
/// key (or a partition) the first that failed makes its later records in the batch *not run*, whatever was reported for
/// them: they come again behind it, in order, and the attempt does not count. Those of them that were reported as failed
/// too run alone then. So what fails a batch fails it once for each key, and does not keep the others from being done. A
/// record that is skipped ([`Failure::skip`]) is no failure to those behind it.
///
/// A handler that has effects outside (it writes to a database, say) should therefore do a batch as a whole, or stop at
/// the first record of a key that fails: what it does for those behind is done again.
///
/// A panic and a time-out of the handler are failures of every record in the batch.
///
/// # What becomes of the future
///
/// It runs as a task (or on a thread where it may block: [`Execution::Blocking`](crate::Execution)). It is **dropped**
/// before it ends when the handler timeout passes, counted from the beginning of the batch; and when all its partitions
/// are lost or have passed their drain's deadline. If only some have, it goes on for the others, and what it says of those
/// that are gone changes nothing: their records come again, here or at another member. A partition that drains waits for
/// the batches that have records of it; what is still being gathered for it does not run here.
pub trait BatchHandler<T: Decode>: Send + Sync + 'static {
    /// The work on one batch.
    type Future: Future<Output = Outcomes> + Send + 'static;

    /// Begins the work on one batch, which has at least one record.
    fn handle(&self, batch: Batch<T>) -> Self::Future;
}

impl<T, F, Fut, R> BatchHandler<T> for F
where
    T: Decode,
    F: Fn(Batch<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
    R: Into<Outcomes> + 'static,
{
    type Future = Map<Fut, fn(R) -> Outcomes>;

    fn handle(&self, batch: Batch<T>) -> Self::Future {
        self(batch).map(R::into)
    }
}

/// Records for one call of a [`BatchHandler`]. Gives them by dereferencing to a slice, or by value as an iterator.
pub struct Batch<T> {
    messages: Vec<Message<T>>,
}

impl<T> Batch<T> {
    pub(crate) fn new(messages: Vec<Message<T>>) -> Self {
        Self { messages }
    }

    /// The decoded bodies, by value.
    pub fn into_bodies(self) -> impl Iterator<Item = T> {
        self.messages.into_iter().map(Message::into_body)
    }

    /// Until when the first of its partitions to be drained waits; `None` while none is.
    pub fn deadline(&self) -> Option<Instant> {
        self.messages.iter().filter_map(Message::deadline).min()
    }

    /// Ends when one of its partitions begins to drain (a rebalance or a stop). Dropping the future has no effect.
    pub async fn cancelled(&self) {
        let mut partitions: Vec<&Message<T>> = self.messages.iter().collect();
        partitions.sort_by(|a, b| a.topic_partition().cmp(b.topic_partition()));
        partitions.dedup_by(|a, b| a.topic_partition() == b.topic_partition());
        match partitions.len() {
            // A batch has a record; without one nothing cancels it.
            0 => future::pending().await,
            _ => drop(select_all(partitions.into_iter().map(|message| Box::pin(message.cancelled()))).await),
        }
    }
}

impl<T> Deref for Batch<T> {
    type Target = [Message<T>];

    fn deref(&self) -> &[Message<T>] {
        &self.messages
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = Message<T>;
    type IntoIter = std::vec::IntoIter<Message<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a Message<T>;
    type IntoIter = std::slice::Iter<'a, Message<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.iter()
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} records)", self.messages.len())
    }
}

/// What became of the records of a [`Batch`]: one outcome for all but those that are named by their place, from 0.
///
/// Or collected from a `Result<(), E>` for each record, in their order. Outcomes that do not fit their batch (a place that
/// is not there, too few or too many results) are a failure of every record in it.
///
/// ```
/// use waterwheel::{Failure, Outcomes};
///
/// let mut outcomes = Outcomes::ok();
/// outcomes.fail(3, "a duplicate");
/// outcomes.fail(5, Failure::dead_letter("no such account"));
///
/// let each: Outcomes = [Ok(()), Err("not now"), Ok(())].into_iter().collect();
/// ```
#[must_use]
pub struct Outcomes {
    others: Result<(), Failure>,
    failed: BTreeMap<usize, Failure>,
    /// How many records it is about; `None`: as many as there are.
    about: Option<usize>,
}

impl Outcomes {
    /// All are done.
    pub fn ok() -> Self {
        Self { others: Ok(()), failed: BTreeMap::new(), about: None }
    }

    /// None is done.
    pub fn failed(why: impl Into<Failure>) -> Self {
        Self { others: Err(why.into()), ..Self::ok() }
    }

    /// The record at that place of the batch is not done, and why.
    pub fn fail(&mut self, place: usize, why: impl Into<Failure>) {
        self.failed.insert(place, why.into());
    }

    /// The first that failed, if one did.
    pub(crate) fn first_failure(&self) -> Option<&Failure> {
        self.failed.values().next().or(self.others.as_ref().err())
    }

    /// Why all of them failed, where one failure is all that was told.
    #[cfg(feature = "tower")]
    pub(crate) fn into_result(self) -> Result<Self, Failure> {
        match self {
            Self { others: Err(failure), failed, about: None } if failed.is_empty() => Err(failure),
            outcomes => Ok(outcomes),
        }
    }

    /// The outcome of each of `records` records.
    pub(crate) fn of_each(mut self, records: usize) -> Vec<Result<(), Failure>> {
        let last = self.failed.last_key_value().map_or(0, |(place, _)| place + 1);
        if self.about.is_some_and(|about| about != records) || last > records {
            self = Self::failed(format!(
                "the outcomes of {} records for a batch of {records}",
                self.about.unwrap_or(last)
            ));
        }
        let others = self.others.map_err(repeat);
        let each = |place| match (self.failed.remove(&place), &others) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            (None, Err(repeated)) => Err(repeated()),
        };
        (0..records).map(each).collect()
    }
}

impl<E: Into<Failure>> From<Result<(), E>> for Outcomes {
    fn from(of_all: Result<(), E>) -> Self {
        Self { others: of_all.map_err(E::into), ..Self::ok() }
    }
}

impl<E: Into<Failure>> FromIterator<Result<(), E>> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Result<(), E>>>(each: I) -> Self {
        let mut outcomes = Self::ok();
        let mut about = 0;
        for (place, result) in each.into_iter().enumerate() {
            about = place + 1;
            if let Err(why) = result {
                outcomes.fail(place, why);
            }
        }
        Self { about: Some(about), ..outcomes }
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outcomes({:?}, {:?})", self.others, self.failed)
    }
}

/// The same failure, of any number of records.
fn repeat(failure: Failure) -> impl Fn() -> Failure {
    let Failure { wish, class, source, again } = failure;
    let shared = Arc::new(source);
    move || Failure { wish, class, source: Box::new(Shared(shared.clone())), again }
}

/// An error that several failures have in common.
struct Shared(Arc<BoxError>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(outcomes: Outcomes, records: usize) -> Vec<String> {
        let text = |result: Result<(), Failure>| result.err().map_or("ok".to_owned(), |f| f.error().to_string());
        outcomes.of_each(records).into_iter().map(text).collect()
    }

    #[test]
    fn an_outcome_for_all_is_one_for_each() {
        assert_eq!(texts(Outcomes::from(Ok::<(), BoxError>(())), 2), ["ok", "ok"]);
        assert_eq!(texts(Outcomes::from(Err("down")), 2), ["down", "down"]);
    }

    #[test]
    fn named_records_differ_from_the_others() {
        let mut outcomes = Outcomes::ok();
        outcomes.fail(1, "bad");
        assert_eq!(texts(outcomes, 3), ["ok", "bad", "ok"]);
        let mut outcomes = Outcomes::failed("down");
        outcomes.fail(0, "bad");
        assert_eq!(texts(outcomes, 2), ["bad", "down"]);
    }

    #[test]
    fn results_are_those_of_the_records_in_their_order() {
        assert_eq!(texts([Ok(()), Err("bad")].into_iter().collect(), 2), ["ok", "bad"]);
    }

    #[test]
    #[cfg(feature = "tower")]
    fn one_failure_for_all_is_an_error_and_all_else_are_outcomes() {
        assert!(Outcomes::failed("down").into_result().is_err_and(|why| why.error().to_string() == "down"));
        let mut some = Outcomes::ok();
        some.fail(0, "bad");
        assert_eq!(texts(some.into_result().unwrap(), 2), ["bad", "ok"]);
        let each: Outcomes = [Err("bad"), Err("bad")].into_iter().collect();
        assert_eq!(texts(each.into_result().unwrap(), 2), ["bad", "bad"]);
    }

    #[test]
    fn outcomes_that_do_not_fit_fail_every_record() {
        let few: Outcomes = [Ok::<(), BoxError>(())].into_iter().collect();
        assert_eq!(texts(few, 2), ["the outcomes of 1 records for a batch of 2"; 2]);
        let mut beyond = Outcomes::ok();
        beyond.fail(2, "bad");
        assert_eq!(texts(beyond, 2), ["the outcomes of 3 records for a batch of 2"; 2]);
    }
}
