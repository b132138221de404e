//! The thread that sends each record when it is due. It waits for nothing else: answers are somebody else's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use waterwheel::{Delivered, Producer, ProducerRecord, SendFailure};

use super::Clock;
use super::schedule::{Kept, Schedule};

/// Longest sleep, so that it ends soon when asked to.
const NAP: Duration = Duration::from_millis(50);

type Answer = Pin<Box<dyn Future<Output = (u64, Result<Delivered, SendFailure>)> + Send>>;

/// Sends until all is sent or it is dropped.
pub(super) struct Sender {
    stop: Arc<AtomicBool>,
    /// For each record sent, its number and what becomes of it.
    pub(super) answers: mpsc::Receiver<Answer>,
    pub(super) kept: oneshot::Receiver<Kept>,
}

impl Sender {
    /// Begins: the first record is due at `begun`. `records` come in turn.
    pub(super) fn start(
        producer: Producer,
        records: Vec<ProducerRecord>,
        schedule: Schedule,
        begun: Duration,
        clock: Clock,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // Room for all: a full channel would hold up the next record. It takes memory only for what is in it.
        let room = usize::try_from(schedule.total).unwrap_or(usize::MAX).clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        let (give, answers) = mpsc::channel(room);
        let (tell, kept) = oneshot::channel();
        let send = move || {
            let mut kept = Kept::default();
            let next = |record: u64| records[(record % records.len() as u64) as usize].clone();
            for number in 0..schedule.total {
                let due = begun + schedule.due(number);
                let mut now = clock.now();
                while now < due {
                    if stopped.load(Relaxed) {
                        break;
                    }
                    sleep((due - now).min(NAP));
                    now = clock.now();
                }
                if stopped.load(Relaxed) {
                    break;
                }
                kept.note(&schedule, number, now.saturating_sub(begun));
                let (producer, record) = (producer.clone(), next(number));
                let mut answer: Answer = Box::pin(async move { (number, producer.send(record).await) });
                // The first poll sends.
                if let Poll::Ready(answer_) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    answer = Box::pin(std::future::ready(answer_));
                }
                if give.try_send(answer).is_err() {
                    // Given up.
                    break;
                }
            }
            // Nobody listens where the run was given up.
            let _ = tell.send(kept);
        };
        std::thread::Builder::new().name("bench-send".to_owned()).spawn(send)?;
        Ok(Self { stop, answers, kept })
    }

    /// Sends no more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "a runtime's timer is exact to a millisecond, this to a tenth of it")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
