//! The producer: orders at a steady rate, each acknowledgement noted for the audit.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use waterwheel::{Delivered, Producer, ProducerRecord, SendFailure};

use super::plan::{MARK, Orders, PARTITION_LIMIT, PARTITIONS, Plan, RECORD_BYTES, TOPIC};

/// How often orders are sent that have become due.
const TICK: Duration = Duration::from_millis(20);
/// How long acknowledgements may take in the end.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What the brokers have acknowledged so far; written by the producer, read by whoever watches.
#[derive(Default)]
pub(super) struct Produced {
    acknowledged: AtomicU64,
    /// For each partition, the end of its log as far as it is ours.
    ends: [AtomicI64; PARTITIONS],
}

impl Produced {
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    pub(super) fn end(&self, partition: usize) -> i64 {
        self.ends[partition].load(Relaxed)
    }

    fn note(&self, partition: i32, offset: i64) {
        self.acknowledged.fetch_add(1, Relaxed);
        if let Some(end) = usize::try_from(partition).ok().and_then(|partition| self.ends.get(partition)) {
            end.fetch_max(offset + 1, Relaxed);
        }
    }

    /// Whether another record could push an older one out of its partition.
    fn is_full(&self) -> bool {
        (0..PARTITIONS).any(|p| u64::try_from(self.end(p)).unwrap_or(0) * RECORD_BYTES > PARTITION_LIMIT)
    }
}

/// How producing ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Records that were not acknowledged.
    pub(super) failed: u64,
    /// Whether it ended early because a partition was full.
    pub(super) full: bool,
}

/// Sends orders until told to stop, and waits for their acknowledgements. Each one is a line of `list`.
pub(super) async fn produce(
    producer: Producer,
    plan: Plan,
    produced: &Produced,
    list: &Path,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<Ended> {
    let mut list = BufWriter::new(File::create(list)?);
    let mut orders = Orders::new(plan.clone());
    let mut unanswered = FuturesUnordered::new();
    let mut ended = Ended::default();
    let (begun, mut sent) = (Instant::now(), 0u64);
    let mut tick = interval(TICK);
    // What became due while nothing ran is sent by the next tick.
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // An error: whoever could say stop is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            Some((key, answer)) = unanswered.next() => note(&mut list, produced, &mut ended, key, answer)?,
            _ = tick.tick() => {
                if produced.is_full() {
                    ended.full = true;
                    break;
                }
                let due = (begun.elapsed().as_secs_f64() * plan.rate) as u64;
                for _ in sent..due {
                    let (key, value) = orders.next();
                    let mark = format!("{:x}", plan.seed);
                    let record = ProducerRecord::to(TOPIC).key(&key).value(value).header(MARK, mark);
                    let producer = &producer;
                    unanswered.push(async move { (key, producer.send(record).await) });
                }
                sent = due.max(sent);
            }
        }
    }
    let rest = async {
        while let Some((key, answer)) = unanswered.next().await {
            note(&mut list, produced, &mut ended, key, answer)?;
        }
        Ok::<_, std::io::Error>(())
    };
    match timeout(LAST_ANSWERS, rest).await {
        Ok(noted) => noted?,
        Err(_) => ended.failed += unanswered.len() as u64,
    }
    drop(unanswered);
    producer.close(Duration::from_secs(1)).await;
    list.flush()?;
    Ok(ended)
}

fn note(
    list: &mut impl Write,
    produced: &Produced,
    ended: &mut Ended,
    key: String,
    answer: Result<Delivered, SendFailure>,
) -> std::io::Result<()> {
    match answer {
        Ok(Delivered { partition, offset: Some(offset), .. }) => {
            // First the list: who sees the count may rely on it.
            writeln!(list, "{partition} {offset} {key}")?;
            produced.note(partition, offset);
        }
        Ok(_) => {
            ended.failed += 1;
            tracing::warn!("an order was acknowledged without its offset");
        }
        Err(failure) => {
            ended.failed += 1;
            tracing::warn!("an order was not acknowledged: {failure}");
        }
    }
    Ok(())
}
