//! Records from the input to the brokers, in their order, and what is answered of them.
//!
//! Bounded: what has no answer yet is at most [`UNANSWERED`] records and [`UNANSWERED_BYTES`] of them. Each record that was
//! handed to the client has its answer, or is counted as without one.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use tokio::time::{Instant, sleep_until};
use waterwheel::{Delivered, Producer, SendFailure};

use super::input::{Batch, Input, Place, Unit};
use super::pace::Pace;
use super::tally::{End, Tally, add};
use super::topics::Topics;
use super::unit::{Made, Problem};
use crate::body::OnError;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::records::Out;
use crate::stop::Asked;
use crate::words::grouped;

/// Records without an answer at a time.
const UNANSWERED: usize = 20_000;
/// Bytes of them; a record of more goes alone.
const UNANSWERED_BYTES: usize = 32 << 20;

/// What goes to stdout.
pub(super) enum Told {
    Nothing,
    /// What is sent, each followed by that.
    Tee(Out, Vec<u8>),
    /// A line of JSON for each answer.
    Answers(Out),
}

impl Told {
    /// Waits for whoever reads stdout, or until someone asks to stop.
    async fn room(&self, asked: &Asked) {
        let (Self::Tee(out, _) | Self::Answers(out)) = self else { return };
        tokio::select! {
            () = out.room() => {}
            () = asked.reach(1) => {}
        }
    }

    /// Waits until nobody reads stdout any more.
    async fn gone(&self) {
        match self {
            Self::Nothing => std::future::pending().await,
            Self::Tee(out, _) | Self::Answers(out) => out.gone().await,
        }
    }

    /// Waits until all is written.
    pub(super) async fn flush(&self) -> Result<(), Failure> {
        match self {
            Self::Nothing => Ok(()),
            Self::Tee(out, _) | Self::Answers(out) => out.flush().await,
        }
    }
}

pub(super) struct Flow<'a> {
    pub(super) producer: &'a Producer,
    pub(super) topics: Topics,
    pub(super) tally: &'a Tally,
    pub(super) progress: &'a Progress,
    pub(super) told: &'a Told,
    pub(super) on_error: OnError,
    pub(super) pace: Pace,
    /// Records that may still be sent.
    pub(super) left: u64,
}

/// Records that were handed to the client, in this order.
#[derive(Default)]
struct Window {
    sent: VecDeque<Sent>,
    bytes: usize,
}

struct Sent {
    place: Place,
    topic: Arc<str>,
    size: usize,
    answer: Answering,
}

type Answer = Result<Delivered, SendFailure>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Flow<'_> {
    /// Sends what the input has, until there is no more, something is wrong, or a signal comes; then waits for the answers,
    /// or for a second signal.
    pub(super) async fn run(mut self, mut input: Input, asked: &Asked) -> Result<End, Failure> {
        let (mut window, mut batch) = (Window::default(), Batch::default());
        let (mut end, mut goes_on, mut broken) = (End::default(), true, None);
        let began = Instant::now();
        loop {
            let mut due = None;
            while goes_on && due.is_none() && window.has_room() && !batch.units.is_empty() {
                let now = Instant::now();
                due = self.pace.due(now);
                if due.is_none()
                    && let Some(unit) = batch.units.pop_front()
                {
                    goes_on = self.hand_over(unit, &mut window, &mut end, asked).await?;
                    self.pace.took(now);
                }
            }
            if !goes_on && window.sent.is_empty() {
                break;
            }
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = asked.reach(2) => break,
                () = asked.reach(1), if goes_on => {
                    (end.interrupted, goes_on) = (true, false);
                    if !window.sent.is_empty() {
                        let unanswered = grouped(window.sent.len() as u64);
                        self.progress.say(format_args!("stopping: {unanswered} without an answer yet; once more ends at once"));
                    }
                }
                (sent, answer) = window.first(), if !window.sent.is_empty() => {
                    goes_on &= self.answered(&sent, answer);
                    while let Some((sent, answer)) = window.answered() {
                        goes_on &= self.answered(&sent, answer);
                    }
                    self.told.room(asked).await;
                }
                () = wait => {}
                read = input.next(), if goes_on && batch.units.is_empty() => match read {
                    Some(Ok(read)) => batch = self.take(read),
                    Some(Err(failure)) => (broken, goes_on) = (Some(failure), false),
                    None => goes_on = false,
                },
                () = self.told.gone(), if goes_on => (end.interrupted, goes_on) = (true, false),
            }
        }
        if end.next.is_none() {
            end.next = batch.units.pop_front().filter(|_| self.left > 0).map(|unit| unit.place);
        }
        (end.interrupted, end.took) = (end.interrupted || asked.times() > 0, began.elapsed());
        end.unanswered = window.sent.len() as u64;
        match broken {
            // What was read of it was sent, and is told.
            Some(failure) => {
                self.progress.clear();
                self.progress.say(self.tally.line(&end));
                Err(failure)
            }
            None => Ok(end),
        }
    }

    fn take(&self, read: Batch) -> Batch {
        self.tally.position.set(read.position);
        if let Some(warning) = &read.warning {
            self.progress.say(warning);
        }
        read
    }

    /// Hands a record to the client; whether to go on.
    async fn hand_over(
        &mut self,
        unit: Unit,
        window: &mut Window,
        end: &mut End,
        asked: &Asked,
    ) -> Result<bool, Failure> {
        let Unit { place, made, text } = unit;
        let checked = match made {
            Err(problem) => Err(problem),
            Ok(made) => tokio::select! {
                checked = self.topics.check(&made) => checked?.map(|()| made),
                () = asked.reach(1) => {
                    (end.interrupted, end.next) = (true, Some(place));
                    return Ok(false);
                }
            },
        };
        let Made { record, topic, size, .. } = match checked {
            Ok(made) => made,
            Err(Problem { text, exit, is_final }) => {
                self.tally.refuse(&place, &text, exit, self.progress);
                let goes_on = self.on_error == OnError::Skip && !is_final;
                if !goes_on {
                    end.next = Some(place);
                }
                return Ok(goes_on);
            }
        };
        let producer = self.producer.clone();
        window.push(place, topic, size, async move { producer.send(record).await });
        add(&self.tally.sent, 1);
        self.left -= 1;
        if let (Told::Tee(out, delimiter), Some(text)) = (self.told, text) {
            out.push(|bytes| bytes.extend([&text[..], &delimiter[..]].into_iter().flatten()));
            self.told.room(asked).await;
        }
        Ok(self.left > 0)
    }

    /// Counts an answer; whether to go on.
    fn answered(&self, sent: &Sent, answer: Answer) -> bool {
        if let Told::Answers(out) = self.told {
            let at = answer.as_ref().ok();
            let line = json!({
                "source": sent.place.source(),
                "line": sent.place.line(),
                "topic": &*sent.topic,
                "partition": at.map(|at| at.partition),
                "offset": at.and_then(|at| at.offset),
                "error": answer.as_ref().err().map(|failure| failure.error().to_string()),
                "possibly_written": answer.as_ref().is_err_and(SendFailure::possibly_written),
            });
            out.push(|bytes| bytes.extend_from_slice(format!("{line}\n").as_bytes()));
        }
        match answer {
            Ok(_) => {
                self.tally.acknowledge(sent.size);
                true
            }
            Err(failure) => {
                self.tally.fail(&sent.place, &failure, self.progress);
                // What has no way to the brokers, or no right, will not have it for the next one.
                let error = failure.error();
                self.on_error == OnError::Skip && !error.is_unreachable() && !error.is_unauthorised()
            }
        }
    }
}

impl Window {
    fn has_room(&self) -> bool {
        self.sent.is_empty() || self.sent.len() < UNANSWERED && self.bytes < UNANSWERED_BYTES
    }

    /// Takes a record, whose sending begins with this.
    fn push(
        &mut self,
        place: Place,
        topic: Arc<str>,
        size: usize,
        sending: impl Future<Output = Answer> + Send + 'static,
    ) {
        let mut answer: Answering = Box::pin(sending);
        if let Poll::Ready(at_once) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            answer = Box::pin(ready(at_once));
        }
        self.bytes += size;
        self.sent.push_back(Sent { place, topic, size, answer });
    }

    /// The first one and its answer, when that comes.
    async fn first(&mut self) -> (Sent, Answer) {
        poll_fn(|cx| self.poll_first(cx)).await
    }

    /// The first one and its answer, if that is there.
    fn answered(&mut self) -> Option<(Sent, Answer)> {
        match self.poll_first(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answered) => Some(answered),
            Poll::Pending => None,
        }
    }

    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<(Sent, Answer)> {
        let Some(mut sent) = self.sent.pop_front() else { return Poll::Pending };
        match sent.answer.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                self.bytes -= sent.size;
                Poll::Ready((sent, answer))
            }
            Poll::Pending => {
                self.sent.push_front(sent);
                Poll::Pending
            }
        }
    }
}
