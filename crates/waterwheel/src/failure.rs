//! Failures: what a handler says when it could not do its work.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use waterwheel_core::engine::Wish;

/// A boxed error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The class of a failure, as it stands in the dead-letter header `waterwheel-error-class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureClass {
    /// The handler returned an error.
    Handler,
    /// The handler panicked.
    Panic,
    /// The handler took longer than its timeout.
    Timeout,
    /// The body could not be decoded.
    Decode,
    /// A [`Delivery`](crate::Delivery) was dropped before it was finished.
    Dropped,
    /// It was not tried: an earlier record of its key is a dead letter, and it follows that
    /// ([`AfterDeadLetter::Follow`](crate::AfterDeadLetter::Follow)).
    Followed,
}

const CLASSES: [FailureClass; 6] = [
    FailureClass::Handler,
    FailureClass::Panic,
    FailureClass::Timeout,
    FailureClass::Decode,
    FailureClass::Dropped,
    FailureClass::Followed,
];

impl FailureClass {
    /// The word used in headers and metrics: `handler`, `panic`, `timeout`, `decode`, `dropped`, `followed`.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Handler => "handler",
            FailureClass::Panic => "panic",
            FailureClass::Timeout => "timeout",
            FailureClass::Decode => "decode",
            FailureClass::Dropped => "dropped",
            FailureClass::Followed => "followed",
        }
    }

    /// The class that has this word.
    pub(crate) fn named(word: &[u8]) -> Option<Self> {
        CLASSES.into_iter().find(|class| class.as_str().as_bytes() == word)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a record was not done, and what is to follow.
///
/// Made from any error (`?` works): then the worker's retry policy decides. Or made with a wish of its own. The error's
/// text is never logged, and enters a dead-letter header only if the worker is told so.
pub struct Failure {
    pub(crate) wish: Wish,
    pub(crate) class: FailureClass,
    pub(crate) source: BoxError,
    /// The record could not be run at all: the attempt does not count.
    pub(crate) again: Option<Duration>,
}

impl Failure {
    fn new(wish: Wish, source: impl Into<BoxError>) -> Self {
        Self { wish, class: FailureClass::Handler, source: source.into(), again: None }
    }

    /// Try again by the worker's policy.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self::new(Wish::Policy, source)
    }

    /// Try again after that time instead of the policy's back-off. The attempt counts.
    pub fn retry_after(after: Duration, source: impl Into<BoxError>) -> Self {
        Self::new(Wish::RetryAfter(after), source)
    }

    /// To the dead-letter topic at once. Without one the record is parked: tried again at the longest back-off, for ever.
    pub fn dead_letter(source: impl Into<BoxError>) -> Self {
        Self::new(Wish::DeadLetter, source)
    }

    /// Needs no more work: the record counts as finished, and is reported as skipped.
    pub fn skip(source: impl Into<BoxError>) -> Self {
        Self::new(Wish::Skip, source)
    }

    /// Stop the worker. The record is not finished.
    pub fn stop(source: impl Into<BoxError>) -> Self {
        Self::new(Wish::Stop, source)
    }

    /// The record could not be given to whoever does the work, through no fault of its own: try again after that time,
    /// and do not count the attempt.
    pub fn uncounted(after: Duration, source: impl Into<BoxError>) -> Self {
        Self { again: Some(after), ..Self::new(Wish::Policy, source) }
    }

    /// The attempt took too long: by the worker's policy, with the class `timeout`. For handlers that know better than the
    /// worker's handler timeout when an attempt began.
    pub fn timed_out(source: impl Into<BoxError>) -> Self {
        Self::of_class(FailureClass::Timeout, Wish::Policy, source)
    }

    /// The body cannot be decoded: to the dead-letter topic at once, with the class `decode`. For handlers that decode by
    /// themselves.
    pub fn undecodable(source: impl Into<BoxError>) -> Self {
        Self::of_class(FailureClass::Decode, Wish::DeadLetter, source)
    }

    pub(crate) fn of_class(class: FailureClass, wish: Wish, source: impl Into<BoxError>) -> Self {
        Self { class, ..Self::new(wish, source) }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        self.class
    }

    /// The error behind it.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(source: E) -> Self {
        Self::new(Wish::Policy, source)
    }
}

impl fmt::Debug for Failure {
    /// Names class and wish, not the error's text, which may quote the record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({}, {:?})", self.class, self.wish)
    }
}
