//! What became of the records: counted, told on stderr as it happens, and summed up at the end.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::SendFailure;

use super::input::Place;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::words::{about, bytes, grouped};

/// Records of which it is told one by one what is wrong with them; those beyond are only counted.
const TOLD: u64 = 20;

/// Counts so far, which the progress shows meanwhile.
#[derive(Default)]
pub(super) struct Tally {
    /// Handed to the client, and what was answered of these.
    pub(super) sent: Cell<u64>,
    pub(super) acknowledged: Cell<u64>,
    pub(super) acknowledged_bytes: Cell<u64>,
    failed: Cell<u64>,
    possibly_written: Cell<u64>,
    /// Units that are no record.
    unusable: Cell<u64>,
    /// How far the input was read.
    pub(super) position: Cell<u64>,
    /// `acks=0`: nobody answers what becomes of records.
    without_acknowledgement: bool,
    /// Of the first record that failed, or unit that is none.
    exit: Cell<Option<Exit>>,
}

/// How it ended.
#[derive(Default)]
pub(super) struct End {
    /// Asked to stop by a signal.
    pub(super) interrupted: bool,
    /// The first record that was not sent, where that is known.
    pub(super) next: Option<Place>,
    /// Records that have no answer.
    pub(super) unanswered: u64,
    pub(super) took: Duration,
}

impl Tally {
    pub(super) fn new(without_acknowledgement: bool) -> Self {
        Self { without_acknowledgement, ..Self::default() }
    }

    pub(super) fn acknowledge(&self, size: usize) {
        add(&self.acknowledged, 1);
        add(&self.acknowledged_bytes, size as u64);
    }

    /// A record was not acknowledged.
    pub(super) fn fail(&self, place: &Place, failure: &SendFailure, progress: &Progress) {
        add(&self.failed, 1);
        if failure.possibly_written() {
            add(&self.possibly_written, 1);
        }
        let exit = Failure::from(failure.error().clone()).exit();
        self.tell(exit, format_args!("{place}: {failure}"), progress);
    }

    /// A unit cannot be sent.
    pub(super) fn refuse(&self, place: &Place, problem: &str, exit: Exit, progress: &Progress) {
        add(&self.unusable, 1);
        self.tell(exit, format_args!("{place}: {problem}"), progress);
    }

    fn tell(&self, exit: Exit, problem: std::fmt::Arguments<'_>, progress: &Progress) {
        if self.exit.get().is_none() {
            self.exit.set(Some(exit));
        }
        match self.wrong() {
            ..=TOLD => progress.say(format_args!("error: {problem}")),
            n if n == TOLD + 1 => progress.say("error: there are more; they are counted"),
            _ => {}
        }
    }

    /// Records that failed and units that are none.
    pub(super) fn wrong(&self) -> u64 {
        self.failed.get() + self.unusable.get()
    }

    /// The code that it ends with.
    pub(super) fn exit(&self, end: &End) -> Exit {
        match self.exit.get() {
            Some(exit) => exit,
            None if end.interrupted => Exit::DrainedLate,
            None => Exit::Done,
        }
    }

    /// One line for people.
    pub(super) fn line(&self, end: &End) -> String {
        let (records, seconds) = (self.acknowledged.get(), end.took.as_secs_f64().max(0.001));
        let mut line = format!(
            "{} record{} ({}) {} in {}, {}/s",
            grouped(records),
            if records == 1 { "" } else { "s" },
            bytes(self.acknowledged_bytes.get()),
            if self.without_acknowledgement { "sent without acknowledgement" } else { "acknowledged" },
            about(end.took),
            grouped((records as f64 / seconds) as u64),
        );
        let mut also = |n: u64, what: &str| {
            if n > 0 {
                line.push_str(&format!("; {} {what}", grouped(n)));
            }
        };
        also(self.failed.get(), "not acknowledged");
        also(self.possibly_written.get(), "of these may be written all the same");
        also(end.unanswered, "without an answer, which may be written or not");
        also(self.unusable.get(), "of the input left out");
        if let Some(next) = &end.next {
            line.push_str(&format!("; nothing sent from {next} on"));
        }
        line
    }

    /// The same for programs.
    pub(super) fn as_json(&self, end: &End) -> Value {
        let seconds = end.took.as_secs_f64();
        json!({
            "records": self.acknowledged.get(),
            "bytes": self.acknowledged_bytes.get(),
            "failed": self.failed.get(),
            "possibly_written": self.possibly_written.get(),
            "unanswered": end.unanswered,
            "left_out": self.unusable.get(),
            "seconds": seconds,
            "rate": self.acknowledged.get() as f64 / seconds.max(0.001),
            "interrupted": end.interrupted,
            "next": end.next.as_ref().map(|place| json!({"source": place.source(), "line": place.line()})),
        })
    }
}

pub(super) fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}
