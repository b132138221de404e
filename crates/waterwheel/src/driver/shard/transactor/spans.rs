//! The spans of what goes out in transactions, each until it is known what became of its transaction. Where nobody asked for
//! any, two empty lists.

use waterwheel_core::PartitionId;

use crate::error::KafkaError;
use crate::spans::{CUT_OFF, Span};

/// Spans of outputs and letters. One that is dropped was cut off.
#[derive(Default)]
pub(super) struct Sends {
    /// Of what is in no transaction yet, and of which partition it is.
    waiting: Vec<(PartitionId, Span)>,
    /// Of what is in the transaction that is open, or being committed.
    open: Vec<Span>,
}

impl Sends {
    pub(super) fn take(&mut self, id: PartitionId, spans: impl IntoIterator<Item = Span>) {
        self.waiting.extend(spans.into_iter().map(|span| (id, span)));
    }

    /// What waits of a partition is not sent.
    pub(super) fn forget(&mut self, id: PartitionId) {
        self.waiting.retain(|(of, _)| *of != id);
    }

    /// What waits is in the transaction.
    pub(super) fn hand_over(&mut self) {
        self.open.extend(self.waiting.drain(..).map(|(_, span)| span));
    }

    /// The transaction is committed, or will not be.
    pub(super) fn end(&mut self, error: Option<&KafkaError>) {
        let error = error.map(kind_of);
        self.open.drain(..).for_each(|span| span.end(error.as_deref()));
    }
}

/// An error as spans name it: its code. Without one it is no error of Kafka's: a partition left.
pub(super) fn kind_of(error: &KafkaError) -> String {
    match error.code() {
        0 => CUT_OFF.to_owned(),
        code => code.to_string(),
    }
}
