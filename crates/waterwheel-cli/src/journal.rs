//! The journal of one worker, for the offline checker ([`audit`](crate::audit) states the format).
//!
//! Starts and ends come from a wrapper around the handler, [`Journaled`]; what concerns partitions and commits from the
//! worker itself, which tells its [`Witness`] in place: so the order of the lines is the order of what happened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use rustix::time::{ClockId, clock_gettime};
use waterwheel::{Decode, Failure, Handler, Message, Record, Settled, TopicPartition, Witness};

use crate::audit::{Finish, Line};

/// A file of lines, each written with one `write(2)`.
#[derive(Debug)]
pub struct Journal {
    file: File,
    broken: OnceLock<io::Error>,
}

impl Journal {
    /// Opens or makes the file (or opens a FIFO, waiting for its reader); what is there already stays.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, broken: OnceLock::new() })
    }

    /// Why the journal ends before the run did; nothing was written since.
    pub fn broken(&self) -> Option<&io::Error> {
        self.broken.get()
    }

    fn write(&self, line: Line<'_>) {
        if self.broken.get().is_some() {
            return;
        }
        let mut bytes = Vec::with_capacity(64);
        line.encode(&mut bytes);
        if let Err(error) = (&self.file).write_all(&bytes) {
            tracing::error!(%error, "the journal cannot be written: it ends here");
            self.broken.get_or_init(|| error);
        }
    }
}

fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

impl Witness for Journal {
    fn assigned(&self, partition: &TopicPartition, epoch: u64, start: i64) {
        self.write(Line::Assigned { partition: partition.partition, epoch, start, ns: now_ns() });
    }

    fn revoked(&self, partition: &TopicPartition, epoch: u64) {
        self.write(Line::Revoked { partition: partition.partition, epoch, ns: now_ns() });
    }

    fn lost(&self, partition: &TopicPartition, epoch: u64) {
        self.write(Line::Lost { partition: partition.partition, epoch, ns: now_ns() });
    }

    fn committing(&self, partition: &TopicPartition, offset: i64) {
        self.write(Line::Commit { partition: partition.partition, offset, ns: now_ns() });
    }

    fn settled(&self, partition: &TopicPartition, offset: i64, how: Settled) {
        let how = match how {
            Settled::DeadLettered => Finish::DeadLetter,
            Settled::Skipped => Finish::Skip,
            // A way to finish that this file does not know: without a line it looks unfinished, not finished.
            _ => return,
        };
        self.write(Line::Finished { partition: partition.partition, offset, how });
    }
}

/// A handler whose starts and ends are journaled, if there is a journal.
pub struct Journaled<H> {
    handler: H,
    journal: Option<Arc<Journal>>,
}

impl<H> Journaled<H> {
    /// That handler, and the journal it is told in.
    pub fn new(handler: H, journal: Option<Arc<Journal>>) -> Self {
        Self { handler, journal }
    }
}

impl<T: Decode, H: Handler<T>> Handler<T> for Journaled<H> {
    type Future = Attempt<H::Future>;

    fn handle(&self, message: Message<T>) -> Self::Future {
        let entry = self.journal.as_ref().map(|journal| Entry::start(journal.clone(), message.record().clone()));
        Attempt { future: self.handler.handle(message), entry }
    }
}

pin_project! {
    /// An attempt that writes its end.
    pub struct Attempt<F> {
        #[pin]
        future: F,
        entry: Option<Entry>,
    }
}

impl<F: Future<Output = Result<(), Failure>>> Future for Attempt<F> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = std::task::ready!(this.future.poll(cx));
        if let Some(entry) = this.entry.take() {
            entry.end(result.is_ok());
        }
        Poll::Ready(result)
    }
}

/// A start that is written, and its end that is not.
struct Entry {
    journal: Arc<Journal>,
    record: Record,
    ended: bool,
}

impl Entry {
    fn start(journal: Arc<Journal>, record: Record) -> Self {
        let (partition, offset) = (record.partition(), record.offset());
        journal.write(Line::Start { partition, offset, key: record.key().unwrap_or_default() });
        Self { journal, record, ended: false }
    }

    fn end(mut self, succeeded: bool) {
        self.ended = true;
        let (partition, offset) = (self.record.partition(), self.record.offset());
        if !succeeded {
            self.journal.write(Line::Failed { partition, offset });
        }
        self.journal.write(Line::End { partition, offset, key: self.record.key().unwrap_or_default() });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            let (partition, offset) = (self.record.partition(), self.record.offset());
            self.journal.write(Line::Cut { partition, offset });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_commits_are_written_in_the_words_of_the_audit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        let partition = TopicPartition::new("t", 3);
        journal.assigned(&partition, 7, 40);
        journal.settled(&partition, 41, Settled::DeadLettered);
        journal.committing(&partition, 42);
        journal.revoked(&partition, 7);
        journal.lost(&partition, 8);

        let text = std::fs::read_to_string(&path).unwrap();
        let words: Vec<&str> = text.lines().map(|line| line.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
        let expected =
            ["# assigned 3 7 40 ", "# finished 3 41 dead-letter", "# commit 3 42 ", "# revoked 3 7 ", "# lost 3 8 "];
        assert_eq!(words, expected);
        assert!(journal.broken().is_none());
    }

    #[test]
    fn a_journal_that_cannot_be_written_says_so() {
        let journal = Journal::open(Path::new("/dev/full")).unwrap();
        journal.lost(&TopicPartition::new("t", 3), 8);
        assert!(journal.broken().is_some());
    }
}
