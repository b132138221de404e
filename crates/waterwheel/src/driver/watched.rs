//! Attempts that are looked on at: by hooks, spans, and the histogram of their times. Nothing of it is there, and nothing is
//! looked at, where nobody does.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use metrics::Histogram;
use pin_project_lite::pin_project;
use waterwheel_core::Now;
use waterwheel_core::breaker::Verdict;

use super::attempt::{Attempts, Output};
use super::classes::Passed;
use super::clock::Clock;
use super::gate::end_of;
use super::hooking::Hooking;
use crate::batch::{Batch, Outcomes};
use crate::body::Decode;
use crate::failure::{Failure, FailureClass};
use crate::handler::Message;
use crate::hooks::{AttemptEnd, AttemptOutcome, AttemptPlace, Moment};
use crate::spans::{CUT_OFF, Span, Spans};

/// Who looks on at a worker's attempts.
pub(crate) struct Watch {
    pub(crate) clock: Clock,
    pub(crate) hooks: Option<Arc<Hooking>>,
    pub(crate) spans: Option<Spans>,
    pub(crate) group: Arc<str>,
    pub(crate) times: Option<Times>,
}

/// The histogram of attempts' times, taken from the program's recorder when the first attempt ends.
pub(crate) struct Times {
    histogram: OnceLock<Histogram>,
    make: Box<dyn Fn() -> Histogram + Send + Sync>,
}

impl Times {
    pub(crate) fn new(make: impl Fn() -> Histogram + Send + Sync + 'static) -> Self {
        Self { histogram: OnceLock::new(), make: Box::new(make) }
    }
}

/// An attempt that is looked on at. It has ended when it is dropped.
struct Begun {
    watch: Arc<Watch>,
    place: AttemptPlace,
    at: Now,
    span: Option<Span>,
    passed: Option<Box<Passed>>,
    /// `None`: it was cut off, or panicked.
    outcome: Option<(AttemptOutcome, Verdict)>,
}

impl Watch {
    /// An attempt begins, at the first of these messages and the others.
    fn begin<T>(self: &Arc<Self>, messages: &[Message<T>], passed: Option<Box<Passed>>) -> Option<Begun> {
        let message = messages.first()?;
        let place = AttemptPlace {
            partition: message.topic_partition().clone(),
            offset: message.offset(),
            attempt: message.attempt(),
            records: messages.len(),
        };
        let records = messages.iter().map(Message::record);
        let spans = self.spans.as_ref();
        let span = spans.and_then(|spans| spans.process(&self.group, place.attempt, records));
        if let Some(hooks) = &self.hooks {
            hooks.tell(Moment::Before(place.clone()));
        }
        Some(Begun { watch: self.clone(), place, at: self.clock.now(), span, passed, outcome: None })
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Self { watch, place, at, span, passed, outcome } = self;
        let took = watch.clock.now().since(*at);
        // One that unwinds is dropped by that.
        let panicked = || (AttemptOutcome::Failed(FailureClass::Panic), Verdict::Failed);
        let told = outcome.or_else(|| std::thread::panicking().then(panicked));
        if let Some(mut passed) = passed.take() {
            match told {
                Some((_, verdict)) => passed.end(verdict),
                None => passed.cut_after(took),
            }
        }
        let outcome = told.map_or(AttemptOutcome::CutOff, |(outcome, _)| outcome);
        if let Some(span) = span.take() {
            span.end(match outcome {
                AttemptOutcome::Ok => None,
                AttemptOutcome::Failed(class) => Some(class.as_str()),
                AttemptOutcome::CutOff => Some(CUT_OFF),
            });
        }
        if let Some(times) = &watch.times {
            times.histogram.get_or_init(&times.make).record(took.as_secs_f64());
        }
        if let Some(hooks) = &watch.hooks {
            hooks.tell(Moment::After(AttemptEnd { place: place.clone(), outcome, took }));
        }
    }
}

/// What an attempt gives, as to whether it ended well.
pub(crate) trait Told {
    fn outcome(&self) -> AttemptOutcome;

    /// The same to a breaker.
    fn verdict(&self) -> Verdict;

    /// What it makes gets spans, of that attempt.
    fn trace(&mut self, _spans: &Spans, _attempt: &Span) {}
}

impl<O: Output> Told for Result<O, Failure> {
    fn outcome(&self) -> AttemptOutcome {
        self.as_ref().err().map_or(AttemptOutcome::Ok, |failure| AttemptOutcome::Failed(failure.class()))
    }

    fn verdict(&self) -> Verdict {
        self.as_ref().err().map_or(Verdict::Succeeded, end_of)
    }

    fn trace(&mut self, spans: &Spans, attempt: &Span) {
        if let Ok(output) = self {
            output.trace(spans, attempt);
        }
    }
}

impl Told for Outcomes {
    fn outcome(&self) -> AttemptOutcome {
        self.first_failure().map_or(AttemptOutcome::Ok, |failure| AttemptOutcome::Failed(failure.class()))
    }

    /// A batch has records of many classes, and so none itself.
    fn verdict(&self) -> Verdict {
        Verdict::Nothing
    }
}

/// Attempts that are looked on at, if anybody does.
pub(crate) struct Watched<A> {
    inner: A,
    watch: Option<Arc<Watch>>,
}

impl<A> Watched<A> {
    pub(crate) fn new(inner: A, watch: Option<Arc<Watch>>) -> Self {
        Self { inner, watch }
    }
}

impl<T: Decode, A: Attempts<T>> Attempts<T> for Watched<A> {
    type Output = A::Output;
    type Future = WatchedAttempt<A::Future>;

    #[inline]
    fn attempt(&self, message: Message<T>, passed: Option<Box<Passed>>) -> Self::Future {
        let begun = self.watch.as_ref().and_then(|watch| watch.begin(std::slice::from_ref(&message), passed));
        WatchedAttempt::new(begun, || self.inner.attempt(message, None))
    }
}

/// The attempt at a batch.
pub(crate) fn watched_batch<T, F>(
    watch: Option<&Arc<Watch>>,
    batch: Batch<T>,
    handle: impl FnOnce(Batch<T>) -> F,
) -> WatchedAttempt<F> {
    let begun = watch.and_then(|watch| watch.begin(&batch, None));
    WatchedAttempt::new(begun, || handle(batch))
}

/// Does something while the attempt's span is the current one.
fn within<T>(begun: &Begun, act: impl FnOnce() -> T) -> T {
    let _current = begun.span.as_ref().map(Span::enter);
    act()
}

pin_project! {
    /// An attempt's future, as it is where nobody looks on. It is kept in a place that may be empty, and whether it is takes
    /// the room of which kind it is: so it takes no more. (A pointer beside it took a twelfth of what a record in work does.)
    #[project = Attempted]
    pub(crate) enum WatchedAttempt<F> {
        Bare {
            #[pin]
            inner: F,
        },
        Seen {
            seen: Pin<Box<SeenAttempt<F>>>,
        },
    }
}

pin_project! {
    /// An attempt's future, and who looks on at it.
    pub(crate) struct SeenAttempt<F> {
        #[pin]
        inner: F,
        begun: Option<Begun>,
    }
}

impl<F> WatchedAttempt<F> {
    /// Always inlined: a future that nobody looks on at is made where it stays.
    #[inline(always)]
    fn new(begun: Option<Begun>, make: impl FnOnce() -> F) -> Self {
        match begun {
            None => Self::Bare { inner: make() },
            Some(begun) => {
                let inner = within(&begun, make);
                Self::Seen { seen: Box::pin(SeenAttempt { inner, begun: Some(begun) }) }
            }
        }
    }
}

impl<F: Future<Output: Told>> Future for WatchedAttempt<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            Attempted::Bare { inner } => inner.poll(cx),
            Attempted::Seen { seen } => seen.as_mut().poll(cx),
        }
    }
}

impl<F: Future<Output: Told>> Future for SeenAttempt<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Taken out meanwhile, so that a panic drops it. It is there until the end.
        let Some(mut begun) = this.begun.take() else { return Poll::Pending };
        match within(&begun, || this.inner.poll(cx)) {
            Poll::Ready(mut told) => {
                begun.outcome = Some((told.outcome(), told.verdict()));
                if let Some((spans, attempt)) = begun.watch.spans.as_ref().zip(begun.span.as_ref()) {
                    told.trace(spans, attempt);
                }
                Poll::Ready(told)
            }
            Poll::Pending => {
                *this.begun = Some(begun);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Raw;
    use crate::driver::attempt::Handling;

    fn sizes<A: Attempts<Raw>>(_: &A) -> [usize; 2] {
        // As they are kept: in a place that may be empty.
        [size_of::<Option<A::Future>>(), size_of::<Option<<Watched<A> as Attempts<Raw>>::Future>>()]
    }

    #[test]
    fn an_attempt_takes_no_more_room_for_that_it_may_be_looked_on_at() {
        let waits = |message: Message<Raw>| async move {
            tokio::task::yield_now().await;
            drop(message);
            Ok::<_, Failure>(())
        };
        let [alone, watched] = sizes(&Handling(waits));
        assert_eq!(watched, alone);
    }
}
