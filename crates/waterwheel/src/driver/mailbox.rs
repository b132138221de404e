//! A mailbox: many write, one task reads all there is at once.
//!
//! Used where a bounded channel could make its writer wait for a reader that waits for it. It is bounded by what may be
//! under way: one message for each control action, or one for each attempt that runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;

struct Inner<T> {
    letters: Mutex<Vec<T>>,
    reader: AtomicWaker,
}

/// Both ends of a mailbox; cheap to clone.
pub(crate) struct Mailbox<T>(Arc<Inner<T>>);

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { letters: Mutex::new(Vec::new()), reader: AtomicWaker::new() }))
    }

    /// Adds a letter and wakes the reader.
    pub(crate) fn post(&self, letter: T) {
        let first = {
            let mut letters = self.0.letters.lock().unwrap_or_else(PoisonError::into_inner);
            letters.push(letter);
            letters.len() == 1
        };
        if first {
            self.0.reader.wake();
        }
    }

    /// Whether anyone else holds an end of it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Adds a letter and does not wake the reader; how many there are now.
    pub(crate) fn post_quietly(&self, letter: T) -> usize {
        let mut letters = self.0.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter);
        letters.len()
    }

    /// Wakes the reader.
    pub(crate) fn wake(&self) {
        self.0.reader.wake();
    }

    /// Moves all letters to `into` (which has to be empty) and sees to it that the next one wakes the task of `cx`.
    pub(crate) fn take(&self, cx: &mut Context<'_>, into: &mut Vec<T>) {
        debug_assert!(into.is_empty(), "letters would get lost");
        self.0.reader.register(cx.waker());
        let mut letters = self.0.letters.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *letters, into);
    }
}
