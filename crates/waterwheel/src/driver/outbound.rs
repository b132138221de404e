//! Records out, one by one or many at once, on top of the producer port.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::client::{Outgoing, Producer, Report, SendError};
use crate::error::{KafkaError, code};

/// What became of a send: partition and offset, or why not.
pub(crate) type Sent = Result<(i32, i64), SendError>;

/// The failed ones of many records sent at once, by their place.
pub(crate) type SentAll = Vec<(usize, SendError)>;

/// Tickets of records sent many at once have this bit; below it their send's number, and in the lowest [`PLACE_BITS`] bits
/// their place in it.
const MANY: u64 = 1 << 63;
const PLACE_BITS: u32 = 24;

/// Most records that can be sent at once.
pub(crate) const MOST_AT_ONCE: usize = 1 << PLACE_BITS;

/// Many records sent at once.
struct Many {
    unanswered: usize,
    failed: SentAll,
    answer: oneshot::Sender<SentAll>,
}

struct State {
    next_ticket: u64,
    waiting: HashMap<u64, oneshot::Sender<Sent>>,
    many: HashMap<u64, Many>,
    /// Refused because the queue was full; sent when reports make room.
    refused: VecDeque<(u64, Outgoing)>,
}

struct Shared {
    producer: Arc<dyn Producer>,
    state: Mutex<State>,
    /// Told when nothing is unanswered any more.
    answered: Notify,
}

/// Sends records one by one and tells each one's fate. Cheap to clone; the last clone ends the client.
#[derive(Clone)]
pub(crate) struct Outbound {
    shared: Arc<Shared>,
    _reports: Arc<AbortOnDrop>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Outbound {
    pub(crate) fn new(producer: Arc<dyn Producer>) -> Self {
        let state = State { next_ticket: 1, waiting: HashMap::new(), many: HashMap::new(), refused: VecDeque::new() };
        let shared = Arc::new(Shared { producer, state: Mutex::new(state), answered: Notify::new() });
        let task = super::spawn(report(shared.clone()));
        Self { shared, _reports: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// Puts a record in the send queue. Dropping the receiver does not take it back.
    pub(crate) fn send(&self, record: Outgoing) -> oneshot::Receiver<Sent> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.insert(ticket, answer);
        state.refused.push_back((ticket, record));
        self.shared.push(&mut state);
        receiver
    }

    /// Puts many records in the send queue, at most [`MOST_AT_ONCE`]; one answer for all. Dropping the receiver takes
    /// none of them back.
    pub(crate) fn send_all(&self, records: impl ExactSizeIterator<Item = Outgoing>) -> oneshot::Receiver<SentAll> {
        debug_assert!(records.len() <= MOST_AT_ONCE, "places would overlap");
        let (answer, receiver) = oneshot::channel();
        if records.len() == 0 {
            // The receiver is right here.
            let _ = answer.send(Vec::new());
            return receiver;
        }
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.next_ticket;
        state.next_ticket += 1;
        state.many.insert(number, Many { unanswered: records.len(), failed: Vec::new(), answer });
        let ticket = MANY | number << PLACE_BITS;
        state.refused.extend(records.enumerate().map(|(place, record)| (ticket | place as u64, record)));
        self.shared.push(&mut state);
        receiver
    }

    /// Records not reported yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).unanswered()
    }

    /// Waits until no record is unanswered.
    pub(crate) async fn answered(&self) {
        loop {
            let told = self.shared.answered.notified();
            if self.unanswered() == 0 {
                return;
            }
            told.await;
        }
    }

    /// Ends the client; what is not acknowledged by then is reported as failed.
    pub(crate) async fn close(&self) -> Result<(), KafkaError> {
        let left = self.shared.producer.queue_len();
        if left > 0 {
            tracing::warn!(records = left, "the producer ends with records unanswered");
        }
        self.shared.producer.close().await
    }
}

impl State {
    fn unanswered(&self) -> usize {
        self.waiting.len() + self.many.values().map(|m| m.unanswered).sum::<usize>()
    }

    /// Tells whoever waits for it; the caller may have gone, then nobody wants to know.
    fn answer(&mut self, ticket: u64, result: Sent) {
        if ticket & MANY == 0 {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                let _ = waiting.send(result);
            }
            return;
        }
        let number = (ticket & !MANY) >> PLACE_BITS;
        let Some(many) = self.many.get_mut(&number) else { return };
        many.unanswered -= 1;
        if let Err(error) = result {
            many.failed.push(((ticket & (MOST_AT_ONCE as u64 - 1)) as usize, error));
        }
        if many.unanswered == 0
            && let Some(many) = self.many.remove(&number)
        {
            let _ = many.answer.send(many.failed);
        }
    }
}

impl Shared {
    /// Hands over what waits for room.
    fn push(&self, state: &mut State) {
        while !state.refused.is_empty() {
            let mut batch: Vec<_> = state.refused.drain(..).collect();
            let before = batch.len();
            let refusal = self.producer.enqueue(&mut batch);
            let took_some = batch.len() < before;
            state.refused.extend(batch);
            match refusal {
                Ok(()) if state.refused.is_empty() || !took_some => return,
                Ok(()) => {}
                Err(error) => {
                    let Some((ticket, _)) = state.refused.pop_front() else { return };
                    state.answer(ticket, Err(SendError { error, possibly_written: false }));
                }
            }
        }
    }
}

/// Gives each report to whoever waits for it.
async fn report(shared: Arc<Shared>) {
    let mut reports: Vec<Report> = Vec::new();
    loop {
        poll_fn(|cx| shared.producer.poll_reports(cx, &mut reports)).await;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports.drain(..) {
            state.answer(report.ticket, report.result);
        }
        shared.push(&mut state);
        if state.waiting.is_empty() && state.many.is_empty() {
            shared.answered.notify_waiters();
        }
    }
}

/// The answer of a send whose client ended first.
pub(crate) fn client_ended() -> SendError {
    let error = KafkaError::new(code::LOCAL_DESTROYED, "the producer was closed", "");
    SendError { error, possibly_written: true }
}
