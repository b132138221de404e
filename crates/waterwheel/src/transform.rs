//! Transforms: what a user writes whose worker makes records of records, exactly once.

use futures_util::FutureExt;
use futures_util::future::Map;

use crate::body::Decode;
use crate::client::Outgoing;
use crate::failure::Failure;
use crate::handler::Message;
use crate::producer::ProducerRecord;
use crate::spans::{Span, Spans};

/// Makes records of one record after another.
///
/// Implemented for every `Fn(Message<T>) -> impl Future<Output = Result<O, E>>` where `O` converts into [`Outputs`] (one
/// [`ProducerRecord`], an `Option`, a `Vec` or an array of them, or nothing) and `E` is a [`Failure`] or any error that
/// converts into a boxed one. What becomes of the future is told at [`Handler`](crate::Handler). It may run more often than
/// its outputs are seen: when its transaction is aborted, its record comes again.
pub trait Transform<T: Decode>: Send + Sync + 'static {
    /// The work on one record.
    type Future: Future<Output = Result<Outputs, Failure>> + Send + 'static;

    /// Begins the work on one record. Must not block, unless [`Execution::Blocking`](crate::Execution) is set.
    fn transform(&self, message: Message<T>) -> Self::Future;
}

impl<T, F, Fut, O, E> Transform<T> for F
where
    T: Decode,
    F: Fn(Message<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Outputs> + 'static,
    E: Into<Failure> + 'static,
{
    type Future = Map<Fut, fn(Result<O, E>) -> Result<Outputs, Failure>>;

    fn transform(&self, message: Message<T>) -> Self::Future {
        self(message).map(|result| result.map(O::into).map_err(E::into))
    }
}

/// The records that a [`Transform`] makes of one record, in their order. None by default.
#[derive(Default)]
pub struct Outputs {
    made: Made,
    /// Those of each, where there are any.
    spans: Vec<Span>,
}

#[derive(Default)]
enum Made {
    #[default]
    None,
    One(Outgoing),
    Many(Vec<Outgoing>),
}

impl Outputs {
    pub(crate) fn as_slice(&self) -> &[Outgoing] {
        match &self.made {
            Made::None => &[],
            Made::One(record) => std::slice::from_ref(record),
            Made::Many(records) => records,
        }
    }

    /// Each gets a span, of that attempt.
    pub(crate) fn trace(&mut self, spans: &Spans, attempt: &Span) {
        let records = match &mut self.made {
            Made::None => &mut [],
            Made::One(record) => std::slice::from_mut(record),
            Made::Many(records) => &mut records[..],
        };
        self.spans = records.iter_mut().map(|record| spans.output(attempt, record)).collect();
    }

    /// The spans of what was made.
    pub(crate) fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    pub(crate) fn for_each(self, mut take: impl FnMut(Outgoing)) {
        match self.made {
            Made::None => {}
            Made::One(record) => take(record),
            Made::Many(records) => records.into_iter().for_each(take),
        }
    }
}

impl std::fmt::Debug for Outputs {
    /// Counts only (promise R9).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outputs({})", self.as_slice().len())
    }
}

impl From<()> for Outputs {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<ProducerRecord> for Outputs {
    fn from(record: ProducerRecord) -> Self {
        Self { made: Made::One(record.into_outgoing()), spans: Vec::new() }
    }
}

impl From<Option<ProducerRecord>> for Outputs {
    fn from(record: Option<ProducerRecord>) -> Self {
        record.map(Self::from).unwrap_or_default()
    }
}

impl From<Vec<ProducerRecord>> for Outputs {
    fn from(records: Vec<ProducerRecord>) -> Self {
        records.into_iter().collect()
    }
}

impl<const N: usize> From<[ProducerRecord; N]> for Outputs {
    fn from(records: [ProducerRecord; N]) -> Self {
        records.into_iter().collect()
    }
}

impl FromIterator<ProducerRecord> for Outputs {
    fn from_iter<I: IntoIterator<Item = ProducerRecord>>(records: I) -> Self {
        let made = Made::Many(records.into_iter().map(ProducerRecord::into_outgoing).collect());
        Self { made, spans: Vec::new() }
    }
}
