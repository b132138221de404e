//! The acts of a measurement.
//!
//! ```text
//! a record in every partition ─▶ the consumer starts ─▶ it has read them all ─▶ warm-up ─▶ records that count ─▶ last ends
//! ```

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval};
use waterwheel::{Producer, ProducerRecord};

use super::schedule::{Kept, Schedule};
use super::sender::Sender;
use super::{Clock, Shared, interrupted, lock};
use crate::bench::child::{Child, ending};
use crate::bench::place::Brokers;
use crate::exit::{Exit, Failure, say};
use crate::stop::Asked;

/// How often it is looked at what was seen.
const TICK: Duration = Duration::from_millis(20);
/// From when the consumer is ready to when the first record is due.
const LEAD: Duration = Duration::from_millis(100);

/// What is done, and how long anything may take.
pub(super) struct Measurement {
    pub(super) schedule: Schedule,
    pub(super) patience: Duration,
    pub(super) is_quiet: bool,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) kept: Kept,
    /// Before all was sent.
    pub(super) is_interrupted: bool,
}

impl Measurement {
    /// A producer that has written a record to every partition, and where these are: their ends show that the consumer
    /// reads them all, and the connections to the brokers are there.
    pub(super) async fn probe(
        &self,
        brokers: &Brokers,
        topic: &str,
        partitions: usize,
    ) -> Result<(Producer, Vec<i64>), Failure> {
        let producer = brokers.client_without_linger()?.producer()?;
        let probe = |partition| {
            let record = ProducerRecord::to(topic).key("probe").value("").partition(partition as i32);
            producer.send(record)
        };
        let probes = try_join_all((0..partitions).map(probe)).await.map_err(unsent)?;
        let offsets = probes.into_iter().map(offset_of).collect::<Result<_, _>>()?;
        Ok((producer, offsets))
    }

    /// Waits for the consumer, sends, and waits until all ends were seen or their time is over.
    pub(super) async fn run(
        &self,
        child: &mut Child,
        producer: &Producer,
        records: Vec<ProducerRecord>,
        shared: &Shared,
        clock: Clock,
        asked: &Asked,
    ) -> Result<Ended, Failure> {
        tokio::select! {
            ready = self.await_ready(shared) => ready?,
            status = child.ended() => return Err(gone(status)),
            () = asked.reach(1) => return Err(interrupted()),
        }
        if !self.is_quiet {
            let seconds = |records: u64| records / self.schedule.rate;
            say(format_args!(
                "the consumer reads; sending for {} s, the first {} s of them to warm up",
                seconds(self.schedule.total),
                seconds(self.schedule.warm_up),
            ));
        }
        let begun = clock.now() + LEAD;
        lock(shared).begin(begun);
        let mut sender = Sender::start(producer.clone(), records, self.schedule, begun, clock)?;
        let is_interrupted = tokio::select! {
            sent = self.await_ends(&mut sender, shared) => sent.map(|()| false)?,
            status = child.ended() => return Err(gone(status)),
            () = asked.reach(1) => {
                sender.stop();
                true
            }
        };
        let kept = (&mut sender.kept)
            .await
            .map_err(|_| Failure::new(Exit::Failed, "the thread that sends has ended before its time"))?;
        Ok(Ended { kept, is_interrupted })
    }

    async fn await_ready(&self, shared: &Shared) -> Result<(), Failure> {
        let end = Instant::now() + self.patience;
        let mut tick = interval(TICK);
        loop {
            tick.tick().await;
            let unread = lock(shared).unread();
            if unread == 0 {
                return Ok(());
            }
            if Instant::now() >= end {
                let message = format!(
                    "the consumer has not read {unread} of the topic's partitions within {}",
                    humantime::format_duration(self.patience)
                );
                return Err(Failure::new(Exit::ConditionNotMet, message).hint(
                    "its journal must have their first records; a longer --timeout lets it read what is there first",
                ));
            }
        }
    }

    /// Until the ends of all records were seen, or the last ones' time is over.
    async fn await_ends(&self, sender: &mut Sender, shared: &Shared) -> Result<(), Failure> {
        let mut unanswered = FuturesUnordered::new();
        let mut new = Vec::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Once all are sent.
        let mut end = None;
        loop {
            tokio::select! {
                _ = sender.answers.recv_many(&mut new, 1024), if end.is_none() => {
                    if new.is_empty() {
                        end = Some(Instant::now() + self.patience);
                    }
                    unanswered.extend(new.drain(..));
                }
                Some((record, answer)) = unanswered.next() => {
                    let delivered: waterwheel::Delivered = answer_of(answer)?;
                    let (partition, offset) = (delivered.partition, offset_of(delivered)?);
                    lock(shared).sent(partition, offset, record);
                }
                _ = tick.tick() => {
                    let all = lock(shared).paired() == self.schedule.total;
                    if all || end.is_some_and(|end| Instant::now() >= end) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Records are told apart by their offsets.
fn offset_of(delivered: waterwheel::Delivered) -> Result<i64, Failure> {
    delivered.offset.ok_or_else(|| Failure::new(Exit::Failed, "a broker acknowledged a record without its offset"))
}

fn answer_of<T>(answer: Result<T, waterwheel::SendFailure>) -> Result<T, Failure> {
    answer.map_err(unsent)
}

fn unsent(failure: waterwheel::SendFailure) -> Failure {
    Failure::from(failure.error().clone()).about("a record was not acknowledged")
}

/// The consumer has ended by itself.
fn gone(status: std::io::Result<std::process::ExitStatus>) -> Failure {
    Failure::new(Exit::Failed, format!("the consumer ended before it was told to: {}", ending(status)))
}
